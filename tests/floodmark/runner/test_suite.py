"""A suite in a project of its own: real processes and a real ansible-runner, but a run is two tasks."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from floodmark.model.stored import save
from floodmark.runner.suite import list_inventory, load_suite
from floodmark.runs.folders import RunFolder
from floodmark.show.suite import Bar, estimate_s, in_words
from tests.floodmark.made_up_runs import record_of

# `floodmark`, but in another project. A program that a shell starts in the background ignores SIGINT, and so do its
# children: the tests must not depend on how they are started.
FLOODMARK = """
import signal
import sys
from pathlib import Path
from floodmark.runner import suite as suite_runner
suite_runner.ROOT = Path(sys.argv.pop(1))
suite_runner.RESULTS = suite_runner.ROOT / "results"
from floodmark.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
PLAN = """
from pathlib import Path
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        results = Path(task_vars["playbook_dir"]) / "results"
        folder = results / f"run{len(list(results.glob('run*'))) + 1}"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(f"{task_vars['case']} {task_vars['somaxconn']} {task_vars['run_order']}")
        result["plan"] = {"folder": str(folder)}
        return result
"""
# The first `finish` runs end, later ones hang.
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Check | Make a plan
      floodmark_plan:
      register: floodmark
    - name: Flood | Take a while
      ansible.builtin.shell:
        cmd: |
          test ! -e broken || { echo the pump is broken >&2; exit 1; }
          test "$(ls -d results/run* | wc -l)" -le "$(cat finish)" || sleep 300
          cp record.json {{ floodmark.plan.folder }}/run.json
        chdir: "{{ playbook_dir }}"
"""
INVENTORY = """
proxies: {hosts: {proxy1: {}}}
load_generators: {hosts: {localhost: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}}}
"""
SUITE = "{{title: 'Is it so?', inventory: {inventory}, cases: [1], vary: {{somaxconn: [8, 16, 32]}}, repetitions: 1}}"


class Project:
    """A project folder in which a suite of three runs can be started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.suite = folder / "mine.yml"
        self.started: list[subprocess.Popen[str]] = []
        (folder / "plugins").mkdir()
        (folder / "plugins/floodmark_plan.py").write_text(PLAN)
        (folder / "run-case.yml").write_text(PLAYBOOK)
        (folder / "inventory.yml").write_text(INVENTORY)
        save(folder / "record.json", record_of(RunFolder(folder)))
        (folder / "ansible.cfg").write_text("[defaults]\naction_plugins = plugins\n")
        self.suite.write_text(SUITE.format(inventory=folder / "inventory.yml"))
        self.finish(99)

    def finish(self, runs: int) -> None:
        (self.folder / "finish").write_text(str(runs))

    def start(self, *prefix: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", FLOODMARK, self.folder, "suite", self.suite],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        self.started.append(process)
        return process

    def journal(self, event: str) -> list[dict[str, Any]]:
        texts = [path.read_text() for path in self.folder.glob("results/suites/*/journal.jsonl")]
        lines = [line for text in texts for line in text.splitlines()]
        return [line for line in map(json.loads, lines) if line.get("event") == event]

    def complete_runs(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("results/run*/run.json"))

    def processes(self) -> list[str]:
        commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        return [command for command in commands if str(self.folder) in command]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def wait_for(what: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_a_suite_goes_on_after_sigkill_without_repeating_or_losing_a_run(project: Project) -> None:
    project.finish(1)
    killed = project.start()
    # The kernel tells Ansible to end; a task that it is just starting it would forget.
    wait_for(lambda: any("results/run2/" in command for command in project.processes()))
    killed.kill()
    killed.communicate()
    wait_for(lambda: not project.processes())  # whoever ends the suite ends Ansible
    assert not list(project.folder.rglob("extravars")), "what -e gives may be secret"

    project.finish(99)
    resumed = project.start()
    said, errors = resumed.communicate(timeout=60)
    assert (resumed.returncode, errors) == (0, "")
    assert "1 of 3 runs are finished already" in said
    assert "3 valid with all expectations held" in said

    finished = project.journal("finished")
    assert [line["run_id"] for line in finished] == ["run1", "run3", "run4"]
    assert len({line["run"] for line in finished}) == 3
    assert project.complete_runs() == ["run1", "run3", "run4"]
    assert (project.folder / "results/run2/plan.json").exists(), "what is left of the run that was cut off stays"

    for line in project.journal("began"):
        plan = (project.folder / "results" / line["run_id"] / "plan.json").read_text()
        assert plan == f"{line['case']} {line['varied']['somaxconn']} {line['host_order']}", "given to Ansible"

    again = project.start()
    assert "3 of 3 runs are finished already" in again.communicate(timeout=30)[0]
    assert (again.returncode, len(project.journal("began"))) == (0, 4)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_a_suite_runs_it_cannot_be_started_again_and_a_signal_says_how_to_go_on(
    project: Project, number: signal.Signals, status: int
) -> None:
    project.finish(0)
    first = project.start("nohup")
    wait_for(lambda: len(project.journal("began")) == 1)
    first.send_signal(signal.SIGHUP)  # which nohup asks to ignore

    second = project.start()
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 2
    assert f"suite mine is being run by another process (pid {first.pid}" in errors

    first.send_signal(number)
    _, errors = first.communicate(timeout=30)
    assert first.returncode == status
    assert errors.startswith("floodmark: interrupted after 0 of 3 runs; block1-case1-somaxconn=")
    assert f"go on with: floodmark suite {project.suite}" in errors
    assert project.processes() == []


def test_a_run_without_a_verdict_is_tried_twice_and_then_said(project: Project) -> None:
    (project.folder / "broken").touch()
    done = project.start()
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 2
    assert "ended without a verdict 2 times: host localhost: the pump is broken. What it said is in" in errors
    assert "0 of 3 runs are kept, go on with: floodmark suite" in errors
    assert "Traceback" not in errors
    assert [len(project.journal(event)) for event in ("began", "failed", "finished")] == [2, 2, 0]
    log = next(project.folder.glob("results/suites/*/logs/*.txt")).read_text()
    assert "the pump is broken" in log


def test_an_inventory_that_does_not_exist_is_said(project: Project) -> None:
    project.suite.write_text(SUITE.format(inventory="inventory/mine.yml"))
    done = project.start()
    assert "inventory/mine.yml' does not exist" in done.communicate(timeout=30)[1]
    assert done.returncode == 2


def test_the_control_node_has_what_an_inventory_says_of_all_even_where_it_is_no_load_generator(tmp_path: Path) -> None:
    script = tmp_path / "hosts.sh"  # what a script says is no template for Ansible, which marks its strings
    script.write_text("""#!/bin/sh
echo '{"all": {"vars": {"floodmark_caps": {"users": 5}, "floodmark_parameters": {"order": "nginx"}}},
       "proxies": {"hosts": ["a"]}, "load_generators": {"hosts": ["b"]}}'
""")
    script.chmod(0o700)
    listed = list_inventory(script)
    assert listed.groups == {"proxies": ["a"], "load_generators": ["b"], "testbed": []}
    for variables in (listed.variables, listed.host_variables["a"]):
        assert variables["floodmark_caps"] == {"users": 5}
        assert variables["floodmark_parameters"] == {"order": "nginx"}
    assert listed.sources == [str(script)]


def test_the_estimate_follows_what_runs_really_took(project: Project) -> None:
    suite = load_suite(project.suite)
    runs = list(suite.runs())
    phases = 2 + (1 + 5 + 2 * 5 + 5) + 2
    assert estimate_s(suite, {}, runs) == [phases + 10] * 3
    done: Any = [type("Done", (), {"took_s": took})() for took in (20.0, None, 50.0)]
    finished = {run.name: one for run, one in zip(runs, done, strict=True)}
    assert estimate_s(suite, finished, runs[1:]) == [35.0, 35.0]


@pytest.mark.parametrize(("seconds", "words"), [(45.4, "45 s"), (720, "12 min"), (11100, "3 h 05 min")])
def test_a_time_is_said_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_on_a_terminal_a_bar_says_how_far_it_is(project: Project) -> None:
    suite = load_suite(project.suite)
    runs = list(suite.runs())
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None)
    with Bar(terminal, len(runs), done=1) as bar:
        bar.begin(runs[1], [60.0, 660.0])
        bar.step("guard : Arm | Start the timer")
    assert "1 of 3 runs" in screen.getvalue()
    assert f"12 min left  {runs[1].name}  arm" in screen.getvalue()
