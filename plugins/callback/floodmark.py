"""Shows a run as its steps instead of Ansible's tasks; `-v` or -e shows Ansible's own output again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.inventory.host import Host
from ansible.playbook import Playbook
from ansible.playbook.included_file import IncludedFile
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

from floodmark.errors import FloodmarkError
from floodmark.inputs.labs import STUDY
from floodmark.model.run import Plan
from floodmark.runs.folders import LabFolder, RunFolder
from floodmark.show.lab import print_lab
from floodmark.show.progress import Event, is_rescued, message_of, step_of
from floodmark.show.run import print_run
from floodmark.show.study import print_study
from floodmark.show.terminal import Console

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

    def __init__(self) -> None:
        super().__init__()
        self._painter: subprocess.Popen[bytes] | None = None
        self._step = ""
        self._run: RunFolder | None = None
        self._plan: Plan | None = None
        self._lab: LabFolder | None = None
        self._failed = False
        self._rescued = False
        self._changes = 0
        self._problems: list[str] = []

    # --- the painter ----------------------------------------------------------------------------

    @property
    def _verbose(self) -> bool:
        return self._display.verbosity > 0

    def _send(self, event: Event) -> None:
        if self._painter is None:
            self._painter = subprocess.Popen(
                [sys.executable, "-m", "floodmark.show.progress"],
                stdin=subprocess.PIPE,
                stdout=sys.stdout,  # named, because Ansible keeps its own streams from being inherited
                stderr=sys.stderr,
            )
        assert self._painter.stdin
        try:
            self._painter.stdin.write(json.dumps(event).encode() + b"\n")
            self._painter.stdin.flush()
        except BrokenPipeError:
            self._painter = None  # it was stopped; the next event starts another

    def _end_step(self, note: str = "") -> None:
        if self._step:
            if not note and self._step in ("testbed", "provision"):
                note = "" if self._changes else "nothing to do"
            self._send({"end": self._step, "ok": not self._failed, "note": note})
        self._step, self._failed, self._rescued, self._changes = "", False, False, 0

    def _begin_step(self, step: str) -> None:
        event: Event = {"begin": step}
        if step == "flood" and self._run and self._plan:
            event["expect_s"] = float(self._plan.parameters["baseline_s"]) + self._plan.flood_at_most_s
            event["watch"] = str(self._run.path / "load")
        elif step == "lab" and self._lab:
            event["follow"] = str(self._lab.path / "progress.txt")
        elif step == "drain" and self._plan:
            event["expect_s"] = float(self._plan.parameters["drain_s"])
        self._send(event)
        self._step = step

    # --- Ansible's events -----------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        if self._verbose:
            super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Play) -> None:
        if self._verbose:
            super().v2_playbook_on_play_start(play)

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        if self._verbose:
            super().v2_playbook_on_task_start(task, is_conditional)
            return
        step = step_of(task.get_name())
        if step and step != self._step:
            self._end_step()
            self._begin_step(step)

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        pass

    def v2_playbook_on_include(self, included_file: IncludedFile) -> None:
        if self._verbose:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        if self._verbose:
            super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if "plan" in result.result and result.task.action == "floodmark_plan":
            self._run = RunFolder(Path(result.result["plan"]["folder"]))
            self._plan = self._run.read_plan()
        if "lab" in result.result and result.task.action == "floodmark_lab":
            self._lab = LabFolder(Path(result.result["lab"]))
        if self._verbose:
            super().v2_runner_on_ok(result)
            return
        if "say" in result.result:
            self._send({"say": result.result["say"]})
        if self._rescued:  # what was tried at first failed, and another way was found
            self._failed = self._rescued = False
        if result.result.get("changed"):
            self._changes += 1

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_retry(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_retry(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
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

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_on_unreachable(result)
            return
        self._failed = True
        self._problems.append(
            f"host {result.host.get_name()} cannot be reached: {message_of(result.result)}. Check its ansible_host, "
            "ansible_user and ssh key in the inventory; 'ansible proxies -m ping' tries just that."
        )

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_item_on_failed(result)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._verbose:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        if self._verbose:
            super().v2_playbook_on_stats(stats)
        self._end_step()
        if self._painter:
            assert self._painter.stdin
            self._painter.stdin.close()
            self._painter.wait()
        sys.stdout.flush()
        for problem in dict.fromkeys(self._problems):
            print("floodmark:", problem, file=sys.stderr)
        self._show_verdict()

    def _explain(self, result: CallbackTaskResult) -> str:
        host = result.host.get_name()
        message = message_of(result.result)
        return message if host == "localhost" or host in message else f"host {host}: {message}"

    def _show_verdict(self) -> None:
        try:
            if self._lab and self._lab.read().overall is not None:
                show = print_study if self._lab.read().lab == STUDY else print_lab
                show(Console(), self._lab)
            if self._run and self._plan:
                self._show_run(self._run, self._plan)
        except FloodmarkError as error:
            print("floodmark:", error, file=sys.stderr)

    @staticmethod
    def _show_run(run: RunFolder, plan: Plan) -> None:
        if plan.hold:
            return
        if plan.web:
            print(f"What the floods of the web page logged is in {run.path.parent}/*/load.")
        elif run.record.exists():
            print_run(Console(), run)
        else:
            print(f"floodmark: run {run.run_id} is not complete; what there is of it is in {run.path}", file=sys.stderr)
