"""Action of the tasks of a lab: checks all its points before a host is touched, and makes its runs."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from floodmark.errors import FloodmarkError
from floodmark.inputs.given import secrets_of
from floodmark.owner import Owner
from floodmark.runner.lab import begin_lab
from floodmark.runner.passwords import handed_on
from floodmark.runner.study import begin_or_go_on
from floodmark.runs.folders import LabFolder


class ActionModule(ActionBase):
    """Takes the extra variables and the inventory as they were given; returns the folder of the execution as `lab`.

    With `study: true` it is the study, the execution that was ended or another one. With `runs_of`, such a folder, it
    makes the runs of that one, and judges them.
    """

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        extra = load_extra_vars(self._loader)
        folder = self._task.args.get("runs_of")
        try:
            with self._passwords():
                result.update(
                    self._make_runs(folder, extra) if folder else {"lab": self._begin(extra, task_vars or {})}
                )
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _begin(self, extra: dict[str, Any], task_vars: dict[str, Any]) -> str:
        inventory = self._inventory(task_vars)
        if self._task.args.get("study"):
            new = self._yes_or_no("new", extra.pop("new", False))
            return str(begin_or_go_on(inventory, extra, new=new).path)
        return str(begin_lab(extra.pop("lab", None), inventory, extra).path)

    def _make_runs(self, folder: str, extra: dict[str, Any]) -> dict[str, Any]:
        """Let the command line make them, in a process that ends with the one that runs this playbook.

        It is told the secrets through a pipe: others see arguments and files.
        """
        secrets = secrets_of(extra, LabFolder(Path(folder)).read().secrets)
        command = [Path(sys.executable).parent / "floodmark", "study" if self._task.args.get("study") else "lab"]
        owner = Owner.of_this_task()
        with TemporaryFile("w+") as said:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command, "--quiet", "-e", "@/dev/stdin", folder],
                stdin=subprocess.PIPE, stdout=said, stderr=said, text=True,
            )  # fmt: skip
            assert process.stdin
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(secrets))
            ended = os.pidfd_open(process.pid)
            if ended not in select.select([ended, *owner.descriptors], [], [])[0]:
                process.terminate()
            status = process.wait()
            os.close(ended)
            said.seek(0)
            result = {"changed": True, "lab": folder, "rc": status, "stderr": said.read()}
        return {**result, **({"failed": True, "msg": "non-zero return code"} if status else {})}

    def _passwords(self) -> AbstractContextManager[None]:
        """Hand on what was typed, or read from a file, for this Ansible: each run is another one."""
        vault = getattr(self._loader, "_vault", None)
        secrets = [(name or "default", secret.bytes) for name, secret in getattr(vault, "secrets", None) or []]
        return handed_on(self._play_context.become_pass or "", secrets)

    @staticmethod
    def _yes_or_no(name: str, value: object) -> bool:
        try:
            return bool(boolean(value))
        except TypeError:
            raise FloodmarkError(f"-e: {name}={value} is not allowed: it must be true or false.") from None

    @staticmethod
    def _inventory(variables: dict[str, Any]) -> Path:
        if "ansible_limit" in variables:
            raise FloodmarkError("--limit: a lab measures all hosts of its inventory: leave it out.")
        sources = variables["ansible_inventory_sources"]
        if len(sources) != 1:
            raise FloodmarkError(f"-i: a lab has one inventory, a file or a folder, and {len(sources)} were given.")
        return Path(sources[0])
