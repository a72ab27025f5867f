"""Sends ansible-playbook a signal when its n-th task begins, so that a test may end a run at each of its moments."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ansible.playbook.task import Task
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: nemesis
type: notification
short_description: Sends ansible-playbook a signal when a task begins
description:
  - C(FLOODMARK_NEMESIS) is C(N SIGNAL FILE). The names of all tasks that have begun are written to the file. The signal
    comes with the N-th, and with 0 never.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "nemesis"

    def __init__(self) -> None:
        super().__init__()
        number, name, file = os.environ["FLOODMARK_NEMESIS"].split(" ", 2)
        self._number, self._signal, self._file = int(number), signal.Signals[name], Path(file)
        self._begun = 0

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: ARG002
        self._begun += 1
        with self._file.open("a", encoding="utf-8") as file:
            file.write(task.get_name() + "\n")
        if self._begun == self._number:
            os.kill(os.getpid(), self._signal)
