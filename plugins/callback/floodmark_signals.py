"""Lets the first signal end a run in order: flood ended, host restored, what was measured kept and judged."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.task import Task
from ansible.plugins.callback import CallbackBase

from floodmark.owner import prepare_wish, wish_to_end
from floodmark.runs.folders import RunFolder

DOCUMENTATION = r"""
name: floodmark_signals
type: notification
short_description: Lets the first signal end a run in order
description:
  - Before a host is held by the run a signal ends the playbook at once. From then on the first one ends the flood, has
    the hosts restored, and the run judged. The second one ends the playbook, and the keepers of the leases restore the
    hosts.
"""

# What ends a process that people or systems have had enough of.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long Ansible may take to end (s) when there is nothing to restore. It gives its workers 5. It also kills them, and
# if one of them held the lock of its queue it waits for ever (cleanup() in ansible/plugins/strategy/__init__.py).
LONGEST_END_S = 10
# What a person calls them.
CALLED = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "floodmark_signals"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        prepare_wish()
        self._run: RunFolder | None = None
        self._is_measured = True
        self._holds = False
        self._ended_by: int | None = None
        self._before: dict[int, Any] = {}

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if "plan" in result.result and result.task.action == "floodmark_plan":
            plan = result.result["plan"]
            self._run = RunFolder(Path(plan["folder"]))
            self._is_measured = not (plan["hold"] or plan["web"])
            self._take_signals()
        elif result.task.action == "floodmark_lab":
            # A lab is made by a process that ends in order by itself when this one ends.
            self._take_signals()

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: ARG002
        if task.action == "floodmark_lease":
            self._holds = True

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:  # noqa: ARG002
        # A case that was held has no other end.
        if self._ended_by is not None and (self._is_measured or self._ended_by != signal.SIGINT):
            sys.stdout.flush()
            raise SystemExit(128 + self._ended_by)

    def _take_signals(self) -> None:
        """Be told of signals; Ansible's own handlers, which end its tasks, are there only now."""
        for number in SIGNALS:
            handler = signal.getsignal(number)
            # What is ignored stays so: nohup(1) wants to live on when its terminal has gone.
            if handler not in (signal.SIG_IGN, self._end):
                self._before[number] = handler
                signal.signal(number, self._end)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        """End the run: in order the first time, at once the second time, and when there is nothing to restore."""
        first = self._ended_by is None
        self._ended_by = self._ended_by or number
        if first and self._holds and self._run:
            wish_to_end()
            if self._is_measured:
                self._run.note_end(CALLED[signal.Signals(number)])
            self._display.warning("ending the run and restoring its hosts; the same again leaves at once")
            return
        for one, handler in self._before.items():
            signal.signal(one, handler)
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
        signal.alarm(LONGEST_END_S)
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise SystemExit(128 + number) from None
