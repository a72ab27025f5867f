"""Action that floods a host: runs floodmark.runner.fleet, which ends with the process that runs the playbook."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.owner import Owner
from floodmark.paths import ROOT
from floodmark.runner.fleet import ENDED

# Names that Ansible has for one variable; what was typed after --ask-become-pass comes behind them.
PASSWORDS = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")


class ActionModule(ActionBase):
    """Takes what a fleet consists of; returns its `rc`, `stdout` and `stderr`.

    Locust's own status says whether any request failed, which here is what is studied: 0 it is. A flood that took too
    long was ended, and what was cut off is counted in load.N.json and makes the run invalid.
    """

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        owner = Owner.of_this_task()
        fleet = {**self._task.args, "owner": dataclasses.asdict(owner)}
        # A password is in no result of a task, which others may keep or print.
        fleet["generators"] = [{**one, "secret": self._secret(one, task_vars or {})} for one in fleet["generators"]]
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "floodmark.runner.fleet"],
            input=json.dumps(fleet),
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, pass_fds=owner.descriptors,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        result.update(changed=True, rc=done.returncode, stdout=done.stdout, stderr=done.stderr)
        if done.returncode not in (0, 124, ENDED):
            result.update(failed=True, msg=f"the flood ended with status {done.returncode}: {done.stderr.strip()}")
        return result

    def _secret(self, generator: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """Return the password that the user of a load generator needs to become root, empty if none is known."""
        if not generator["reach"]:
            return ""
        variables = task_vars["hostvars"][generator["name"]]
        given = next((variables[name] for name in PASSWORDS if name in variables), self._play_context.become_pass)
        return str(given or "")
