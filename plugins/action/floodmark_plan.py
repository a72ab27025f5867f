"""Action of the task that plans a run: checks everything on the control node before a host is touched."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible.utils.vars import load_extra_vars

from floodmark.errors import FloodmarkError
from floodmark.runner.hold import hold_s_of, need_terminal
from floodmark.runner.plan import make_plan
from floodmark.web.options import WebOptions, check_port


class ActionModule(ActionBase):
    """Takes the extra variables as they were given; returns the plan as `plan`.

    `web` plans a case that is held up for Locust's web page, and `case` another one than was given.
    """

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            extra = load_extra_vars(self._loader)
            # This is a forked worker of the process that runs the playbook.
            web, case = bool(self._task.args.get("web")), self._task.args.get("case")
            if web and case is None:
                check_port(WebOptions.read(extra).port)
            if not web and hold_s_of(extra) is not None:
                need_terminal(os.getppid())
            planned = make_plan(
                extra, self._within_limit(task_vars or {}), ansible_pid=os.getppid(), web=web, case_number=case
            )
            result["plan"] = {**planned.plan.model_dump(mode="json"), "folder": str(planned.folder.path)}
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _within_limit(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Leave of the measured hosts those that --limit selects; Ansible itself leaves groups as they are."""
        if "ansible_limit" not in task_vars:
            return task_vars
        lookup = lookup_loader.get("inventory_hostnames", loader=self._loader, templar=self._templar)
        selected = lookup.run([task_vars["ansible_limit"]], variables=task_vars)
        groups = task_vars["groups"]
        proxies = [host for host in groups.get("proxies", []) if host in selected]
        if groups.get("proxies") and not proxies:
            raise FloodmarkError(
                f"--limit {task_vars['ansible_limit']} leaves none of the group 'proxies', the measured hosts "
                f"{', '.join(groups['proxies'])}: name one of them, the load generator and localhost, or leave it out."
            )
        return {**task_vars, "groups": {**groups, "proxies": proxies}}
