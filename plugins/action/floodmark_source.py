"""Action that says from which address a load generator sends to a target, as its own kernel chooses it."""

from __future__ import annotations

import shlex
import sys
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

# To connect a datagram socket sends nothing: the kernel looks for a way, and binds the socket to where that begins.
PROGRAM = (
    "import socket, sys\n"
    "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:\n"
    "    one.connect((sys.argv[1], int(sys.argv[2])))\n"
    "    print(one.getsockname()[0])\n"
)


class ActionModule(ActionBase):
    """Takes the `target`, a URL; returns `address`. It runs on the load generator that it is delegated to."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        target = urlsplit(self._task.args["target"])
        python = sys.executable if self._connection.transport == "local" else "/usr/bin/python3"
        command = shlex.join([python, "-c", PROGRAM, str(target.hostname), str(target.port or 80)])
        try:
            done = self._low_level_execute_command(command, sudoable=False)
        except AnsibleConnectionFailure as error:
            raise AnsibleActionFail(f"{self._task.delegate_to} cannot be reached, which is to flood: {error}") from None
        if done["rc"] != 0:
            said = (done["stderr"].strip().splitlines() or ["it said nothing"])[-1]
            raise AnsibleActionFail(
                f"{self._task.delegate_to} finds no way to {self._task.args['target']}: {said}. The proxy host's "
                "proxy_address or ansible_host says where it is."
            )
        result["address"] = done["stdout"].strip()
        return result
