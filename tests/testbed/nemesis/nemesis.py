"""Sends a command a signal when the n-th task of its playbook begins, so that a test may end it at any moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ansible.playbook import Playbook
from ansible.playbook.task import Task
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: nemesis
type: notification
short_description: Sends a command a signal when a task begins
description:
  - C(FLOODMARK_NEMESIS) is C(SIGNAL FOLDER PLAYBOOK MOMENT). The names of all tasks of the playbook that have begun are
    written to C(FOLDER/tasks). At the moment, which is the number of a task or its name, the process whose id is in
    C(FOLDER/pid) gets the signal; with 0 it never does.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "nemesis"

    def __init__(self) -> None:
        super().__init__()
        name, folder, self._playbook, self._moment = os.environ["FLOODMARK_NEMESIS"].split(" ", 3)
        self._signal, self._folder = signal.Signals[name], Path(folder)
        self._begun = 0
        self._counts = False

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        self._counts = Path(playbook._file_name).name == self._playbook

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: ARG002
        if self._counts:
            self._begun += 1
            with (self._folder / "tasks").open("a", encoding="utf-8") as file:
                file.write(task.get_name() + "\n")
            if self._moment in (str(self._begun), task.get_name()):
                os.kill(int((self._folder / "pid").read_text(encoding="ascii")), self._signal)
