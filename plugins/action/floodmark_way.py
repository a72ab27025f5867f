"""Action that says how a host is reached besides Ansible, to those that are not of Ansible."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.errors import FloodmarkError
from floodmark.paths import ROOT
from floodmark.runner.way import way_of


class ActionModule(ActionBase):
    """Takes the host's `name` and `home`, where Locust is there; returns `generator` as the fleet wants it."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        name, home = self._task.args["name"], self._task.args["home"]
        try:
            way = way_of(name, self._connection, self._play_context.remote_addr)
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
            return result
        locust = f"{home}/venv/bin/locust" if way.ssh else str(Path(sys.executable).parent / "locust")
        result["generator"] = {
            "name": name,
            "reach": way.ssh,
            "host": way.host,
            "home": home if way.ssh else str(ROOT),
            "locust": locust,
        }
        return result
