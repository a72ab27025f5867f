"""Action of the task that begins a lab: checks all its points on the control node before a host is touched.

With `study: true` it is the study: the execution that was ended, or another one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from floodmark.errors import FloodmarkError
from floodmark.runner.lab import begin_lab
from floodmark.runner.study import begin_or_go_on


class ActionModule(ActionBase):
    """Takes the extra variables and the inventory as they were given; returns the folder of the execution as `lab`."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        extra = load_extra_vars(self._loader)
        try:
            inventory = self._inventory(task_vars or {})
            if self._task.args.get("study"):
                new = self._yes_or_no("new", extra.pop("new", False))
                result["lab"] = str(begin_or_go_on(inventory, extra, new=new).path)
            else:
                result["lab"] = str(begin_lab(extra.pop("lab", None), inventory, extra).path)
        except FloodmarkError as error:
            result.update(failed=True, msg=str(error))
        return result

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
