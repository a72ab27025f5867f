"""Shows a run as its steps instead of Ansible's tasks; `-v` or -e shows Ansible's own output again."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from rich.console import Console

from floodmark.errors import FloodmarkError
from floodmark.runs.folders import LabFolder, RunFolder
from floodmark.show.lab import print_lab
from floodmark.show.progress import is_rescued, message_of, step_of
from floodmark.show.run import print_run
from floodmark.web.control import ask

DOCUMENTATION = r"""
name: floodmark
type: stdout
short_description: Shows a run as its steps
description:
  - A task called C(Step | What it does) belongs to a step; one line is shown for each step, with a bar for the flood.
  - With C(-v) it is Ansible's default output.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""


class CallbackModule(DefaultCallback):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "floodmark"

    def __init__(self):
        super().__init__()
        self._painter = None
        self._step = ""
        self._plan = None
        self._lab = None
        self._failed = False
        self._rescued = False
        self._changes = 0
        self._problems = []

    # --- the painter ----------------------------------------------------------------------------

    @property
    def _verbose(self):
        return self._display.verbosity > 0

    def _send(self, **event):
        if self._painter is None:
            self._painter = subprocess.Popen(
                [sys.executable, "-m", "floodmark.show.progress"],
                stdin=subprocess.PIPE,
                stdout=sys.stdout,  # named, because Ansible keeps its own streams from being inherited
                stderr=sys.stderr,
            )
        try:
            self._painter.stdin.write(json.dumps(event).encode() + b"\n")
            self._painter.stdin.flush()
        except BrokenPipeError:
            self._painter = None  # it was stopped; the next event starts another

    def _end_step(self, note=""):
        if self._step:
            if not note and self._step in ("testbed", "provision"):
                note = "" if self._changes else "nothing to do"
            self._send(end=self._step, ok=not self._failed, note=note)
        self._step, self._failed, self._rescued, self._changes = "", False, False, 0

    def _begin_step(self, step):
        event = {"begin": step}
        if step == "flood" and self._plan:
            parameters = self._plan["parameters"]
            event["expect_s"] = parameters["baseline_s"] + self._plan["flood_at_most_s"]
            event["watch"] = str(Path(self._plan["folder"]) / "load")
        elif step == "lab" and self._lab:
            event["follow"] = str(self._lab.path / "progress.txt")
        elif step == "drain" and self._plan:
            event["expect_s"] = self._plan["parameters"]["drain_s"]
        self._send(**event)
        self._step = step

    @staticmethod
    def _end_gently(control):
        """Let the first Ctrl-C end what is held up, and the playbook go on to restore the host."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def end(_number, _frame):
            for number, handler in before.items():
                signal.signal(number, handler)
            with contextlib.suppress(FloodmarkError):  # then it has ended already
                ask(control, {"end": True})

        for number in before:
            signal.signal(number, end)

    # --- Ansible's events -----------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook):
        if self._verbose:
            super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play):
        if self._verbose:
            super().v2_playbook_on_play_start(play)

    def v2_playbook_on_task_start(self, task, is_conditional):
        if self._verbose:
            super().v2_playbook_on_task_start(task, is_conditional)
            return
        step = step_of(task.get_name())
        if step and step != self._step:
            self._end_step()
            self._begin_step(step)

    v2_playbook_on_handler_task_start = v2_playbook_on_cleanup_task_start = lambda *_: None

    def v2_playbook_on_include(self, included_file):
        if self._verbose:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_start(self, host, task):
        if self._verbose:
            super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result):
        if "plan" in result.result and result.task.action == "floodmark_plan":
            self._plan = result.result["plan"]
        if result.task.action == "floodmark_lab":
            self._lab = LabFolder(Path(result.result["lab"]))
        if result.task.action == "floodmark_web_ui" and "control" in result.result:
            self._end_gently(result.result["control"])
        if self._verbose:
            super().v2_runner_on_ok(result)
            return
        if "say" in result.result:
            self._send(say=result.result["say"])
        if self._rescued:  # what was tried at first failed, and another way was found
            self._failed = self._rescued = False
        if result.result.get("changed"):
            self._changes += 1

    def v2_runner_on_skipped(self, result):
        if self._verbose:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result):
        if self._verbose:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result):
        if self._verbose:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_retry(self, result):
        if self._verbose:
            super().v2_runner_retry(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if self._verbose:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._failed = True
        if is_rescued(result.task):
            self._rescued = True
            return
        judged = result.task.get_name().startswith(("Judge | ", "Lab | ")) and result.result.get("rc") == 1
        if not judged and not ignore_errors:  # a verdict that is not good is shown as a table
            self._problems.append(self._explain(result))

    def v2_runner_on_unreachable(self, result):
        if self._verbose:
            super().v2_runner_on_unreachable(result)
            return
        self._failed = True
        self._problems.append(
            f"host {result.host.get_name()} cannot be reached: {message_of(result.result)}. Check its ansible_host, "
            "ansible_user and ssh key in the inventory; 'ansible proxies -m ping' tries just that."
        )

    def v2_runner_item_on_failed(self, result):
        if self._verbose:
            super().v2_runner_item_on_failed(result)

    def v2_playbook_on_no_hosts_matched(self):
        if self._verbose:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_stats(self, stats):
        if self._verbose:
            super().v2_playbook_on_stats(stats)
        self._end_step()
        if self._painter:
            self._painter.stdin.close()
            self._painter.wait()
        sys.stdout.flush()
        for problem in dict.fromkeys(self._problems):
            print("floodmark:", problem, file=sys.stderr)
        self._show_verdict()

    def _explain(self, result):
        host = result.host.get_name()
        message = message_of(result.result)
        return message if host == "localhost" or host in message else f"host {host}: {message}"

    def _show_verdict(self):
        if self._lab and self._lab.read().overall is not None:
            print_lab(Console(), self._lab)
        if not self._plan:
            return
        run = RunFolder(Path(self._plan["folder"]))
        try:
            if self._plan["web"]:
                print(f"What the floods of the web page logged is in {run.path.parent}/*/load.")
            elif run.record.exists():
                print_run(Console(), run)
            else:
                print(
                    f"floodmark: run {run.run_id} is not complete; what there is of it is in {run.path}",
                    file=sys.stderr,
                )
        except FloodmarkError as error:
            print("floodmark:", error, file=sys.stderr)
