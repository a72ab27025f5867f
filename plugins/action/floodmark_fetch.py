"""Action that packs what a run wrote on a host, fetches it, and removes it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.runner.fetch import FetchError, Said, fetch


class ActionModule(ActionBase):
    """Takes the `folder` on the host, and the `archive` here; returns as `problem` why it is not here, if so."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        result["problem"] = ""
        try:
            fetch(self._say, self._task.args["folder"], Path(self._task.args["archive"]))
        except FetchError as error:
            # The verdict says it. A failure would end what restores the host.
            result["problem"] = str(error)
        return result

    def _say(self, line: str) -> Said:
        # With something to read there is no terminal, which would change what is written.
        done = self._low_level_execute_command(line, in_data=b"\n")
        return Said(done["rc"], done["stdout"], done["stderr"])
