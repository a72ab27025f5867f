"""Action that says how a load generator is reached: by the ssh command with all that the inventory has for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from floodmark.paths import ROOT


class ActionModule(ActionBase):
    """Takes the host's `name` and `home`, where Locust is there; returns `generator` as floodmark.fleet wants it."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        name, home = self._task.args["name"], self._task.args["home"]
        connection = self._connection
        if connection.transport == "local":
            locust = Path(sys.executable).parent / "locust"
            result["generator"] = {"name": name, "reach": [], "host": "", "home": str(ROOT), "locust": str(locust)}
            return result
        if connection.transport != "ssh":
            raise AnsibleActionFail(
                f"{name}: a load generator is reached by ssh or is the control node, and its ansible_connection is "
                f"{connection.transport}."
            )
        connection.host = connection.get_option("host") or self._play_context.remote_addr
        command = connection._build_command(connection.get_option("ssh_executable"), "ssh")  # noqa: SLF001
        result["generator"] = {
            "name": name,
            "reach": [part.decode() for part in command],
            "host": connection.host,
            "home": home,
            "locust": f"{home}/venv/bin/locust",
        }
        return result
