"""Notes with a run why Ansible gave up one of its hosts, whatever shows the run's output."""

from __future__ import annotations

from pathlib import Path

from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback import CallbackBase

from floodmark.disk import make_folder, write
from floodmark.runs.folders import HostFolder, RunFolder
from floodmark.show.progress import is_rescued, message_of

DOCUMENTATION = r"""
name: floodmark_failures
type: notification
short_description: Notes with a run why a host of it failed
description:
  - A host that is given up before it is measured leaves nothing from which the verdict could tell the reason.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "floodmark_failures"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._hosts: dict[str, HostFolder] = {}

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if "plan" in result.result and result.task.action == "floodmark_plan":
            run = RunFolder(Path(result.result["plan"]["folder"]))
            self._hosts = {name: run.host(name) for name in result.result["plan"]["hosts"]["proxies"]}

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        if not ignore_errors and not is_rescued(result.task):
            self._note(result, message_of(result.result))

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        self._note(result, f"the host could not be reached: {message_of(result.result)}")

    def _note(self, result: CallbackTaskResult, why: str) -> None:
        host = self._hosts.get(result.host.get_name())
        if host and not host.failure.exists():  # what failed first is the reason
            make_folder(host.path, exist_ok=True)
            write(host.failure, f"{result.task.get_name().rpartition(' : ')[2]}: {why}\n")
