"""Action of the task that plans a run: checks everything on the control node before a host is touched."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from floodmark.errors import FloodmarkError
from floodmark.plan import make_plan


class ActionModule(ActionBase):
    """Takes the extra variables as they were given; returns the plan as `plan`."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            extra = load_extra_vars(self._loader)
            # This is a forked worker of the process that runs the playbook.
            result["plan"] = make_plan(extra, task_vars or {}, ansible_pid=os.getppid())
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
        return result
