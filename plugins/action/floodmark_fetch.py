"""Action that fetches what a host has packed, and keeps the SHA-256 that the host has computed beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action.fetch import ActionModule as Fetch

from floodmark.runs.archive import write_checksum


class ActionModule(Fetch):
    """Takes `src` and `dest` of one file as ansible.builtin.fetch does, and `sha256`."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._task.args["flat"] = True
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not result.get("failed"):
            write_checksum(Path(self._task.args["dest"]), self._task.args["sha256"])
        return result
