"""Action that waits for some time, or until the run is to end."""

from __future__ import annotations

import select
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.owner import Owner


class ActionModule(ActionBase):
    """Takes the `seconds`."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        select.select(Owner.of_this_task().descriptors, [], [], float(self._task.args["seconds"]))
        return result
