"""Action that begins the lease by which a run holds a host, and starts the process that keeps it."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.errors import FloodmarkError
from floodmark.owner import Owner
from floodmark.runner import keeper
from floodmark.runner.way import way_of


class ActionModule(ActionBase):
    """Takes what the module guard takes to arm a host, and `log`, a file here for what the keeper says."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        log = Path(arguments.pop("log"))
        try:
            way = way_of((task_vars or {})["inventory_hostname"], self._connection, self._play_context.remote_addr)
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
            return result
        arguments.update(state="armed", keeper=way.user or getpass.getuser())
        result.update(self._execute_module("guard", arguments, task_vars=task_vars))
        if not result.get("failed") and not result.get("unreachable"):
            keeping = keeper.Keeping(way.shell, arguments["program"], arguments["run_id"], Owner.of_this_task())
            keeper.start(keeping, log)
        return result
