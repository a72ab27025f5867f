"""Action that refuses a flood that a load generator elsewhere has no room for."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.errors import FloodmarkError
from floodmark.inputs.parameters import Parameters
from floodmark.runner.capacity import ASK, UNLIMITED, Capacity, check_capacity


class ActionModule(ActionBase):
    """Takes the `parameters` of the run."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        said = self._low_level_execute_command(ASK)
        # The unit of its workers raises what a process may open.
        capacity = dataclasses.replace(Capacity.parse(said["stdout"]), descriptors=UNLIMITED)
        try:
            check_capacity(
                (task_vars or {})["inventory_hostname"],
                capacity,
                Parameters.model_validate(self._task.args["parameters"]),
            )
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
        return result
