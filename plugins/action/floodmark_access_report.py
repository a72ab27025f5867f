"""Action that lets GoAccess make a report of the access log of each host of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from floodmark.runs.folders import RunFolder
from floodmark.web.goaccess import make_reports


class ActionModule(ActionBase):
    """Takes the folder of a `run` and its `hosts`. What there is no report of is said, and is no failure."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        said = make_reports(RunFolder(Path(self._task.args["run"])), self._task.args["hosts"])
        return {**result, "say": "\n".join(said)} if said else result
