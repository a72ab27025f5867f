"""Commands that make runs are ended by a signal at any task: the host is as it was, and what is left is honest.

`make test` draws some moments by a seed that is printed; FLOODMARK_SEED repeats a draw. `make test-nemesis` takes all
moments of run-case.yml and more of the other commands, and writes what came of each into results/nemesis.csv.
"""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pytest

from floodmark.errors import RunError
from floodmark.runs.folders import RunFolder
from tests.conftest import environment, free_port
from tests.testbed.conftest import ROOT, SHORT, evidence, play, verdict_of
from tests.testbed.test_promises import generators, wait_until, without_raw_files

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# all, or all/2 for every second one, and all/2+1 for the others: so two checkouts share a sweep.
SHARE = re.fullmatch(r"all(?:/(\d)(?:\+(\d))?)?", os.environ.get("FLOODMARK_INJECTIONS", ""))


@dataclass(frozen=True)
class Command:
    """A command that makes runs.

    Attributes:
        line: the command.
        playbook: whose tasks are its moments.
        drawn: how many moments are drawn of it; a sweep takes so many more.
        last: the task at which it waits to be ended, by Ctrl-C with status 0; without one it ends by itself.
    """

    line: Sequence[str]
    playbook: str = "run-case.yml"
    drawn: int = 1
    last: str = "0"

    def __str__(self) -> str:
        return " ".join(self.line[:2])


SUITE = """
title: Is it left as it was?
cases: [2]
parameters: {baseline_s: 1, drain_s: 1, proxy_read_timeout_s: 1, proxy_connect_timeout_s: 1}
repetitions: 1
"""
EVERY_LINE = (*SHORT, "-e", "case=2", "-e", "provision=always")
RUN_CASE = Command(("ansible-playbook", "run-case.yml", *EVERY_LINE), drawn=8)
# The points of a lab and of the study are runs; the first one is ended.
COMMANDS = (
    RUN_CASE,
    Command(("floodmark", "lab", "active-over-somaxconn", *SHORT)),
    Command(("ansible-playbook", "run-lab.yml", "-e", "lab=active-over-somaxconn", *SHORT)),
    Command(("floodmark", "suite")),
    Command(("ansible-playbook", "study.yml", "-e", "new=true")),
    Command(
        ("ansible-playbook", "web-ui.yml", *EVERY_LINE, "-e", f"web_port={free_port()}"), "web-ui.yml",
        last="Hold | Wait until the case is to be left",
    ),
)  # fmt: skip
# A sweep takes so many moments of each command other than run-case.yml.
SWEPT = 12
# Moments at which something was left once: they are always among those that are drawn.
FOUND = (("Write the kernel parameters", signal.SIGTERM),)
# How long a host may take to be as it was (s), counted from the end of the command.
RESTORED_S = {signal.SIGINT: 5, signal.SIGTERM: 5, signal.SIGKILL: 20}
# What a shell calls them.
STATUS = {one: 128 + one for one in SIGNALS}


@dataclass(frozen=True)
class Injection:
    """A fault, when it came, and what became of it.

    Attributes:
        command: that was ended.
        task: that had just begun.
        fault: the signal.
        status: of the command.
        restored_s: time from the end of the command until the host was as it was.
        left: what there is of the run.
    """

    command: str
    task: str
    fault: str
    status: int
    restored_s: float
    left: str


def injected(
    command: Command, moment: str, fault: signal.Signals, folder: Path
) -> tuple[int, list[str], Sequence[Path]]:
    """Start a command that gets a signal; return its status, the tasks that began, and the folders of its runs.

    Args:
        command: what is started.
        moment: the number of the task at which the signal comes, or its name; 0 is never.
        fault: the signal.
        folder: of this test, empty.
    """
    known = set(ROOT.glob("results/*-case*-unix"))
    line = list(command.line)
    if command.line[-1] == "suite":
        (folder / f"{folder.parent.name}-{folder.name}.yml").write_text(SUITE)
        line.append(str(folder / f"{folder.parent.name}-{folder.name}.yml"))
    callbacks = f"{ROOT}/plugins/callback:{Path(__file__).parent}/nemesis"
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            ["env", "--default-signal=INT", *line],
            cwd=ROOT, stdout=said, stderr=subprocess.STDOUT,
            env=environment(
                FLOODMARK_NEMESIS=f"{fault.name} {folder} {command.playbook} {moment}",
                ANSIBLE_CALLBACK_PLUGINS=callbacks,
                ANSIBLE_CALLBACKS_ENABLED="floodmark_failures,floodmark_signals,nemesis",
            ),
        )  # fmt: skip
        (folder / "pid").write_text(str(process.pid))
        try:
            status = process.wait(timeout=180)
        finally:
            process.kill()  # nothing happens where it has ended
    # Nobody else makes runs meanwhile on this testbed, but those of another one have their results here as well.
    return (
        status,
        (folder / "tasks").read_text().splitlines(),
        sorted(path for path in set(ROOT.glob("results/*-case*-unix")) - known if is_of_this_testbed(RunFolder(path))),
    )


def is_of_this_testbed(run: RunFolder) -> bool:
    """Tell whether a run has measured the host of this testbed; one without a plan has measured nothing."""
    try:
        known = run.read_run() if run.record.exists() else run.read_plan()
    except RunError:
        return False
    return known.hosts.proxies == ["proxy1"]


@cache
def tasks(command: Command, folder: Path) -> Sequence[str]:
    """Return the names of all tasks of a command, which is not ended before the last of them."""
    folder.mkdir()
    status, names, _ = injected(command, command.last, signal.SIGINT, folder)
    assert status == 0, (folder / "said").read_text()
    # What comes after the last one is what restores the host.
    return names if command.last == "0" else names[: names.index(command.last) + 1]


def moments(folder: Path) -> Iterator[tuple[Command, int, signal.Signals]]:
    """Yield which command gets which signal at which of its tasks: all that there are, or as many as are drawn."""
    seed = int(os.environ.get("FLOODMARK_SEED") or time.time())
    print(f"FLOODMARK_SEED={seed}")
    chance = random.Random(seed)
    # Most runs of labs, suites and the study find their host provisioned.
    plain = tasks(Command(("ansible-playbook", "run-case.yml", *SHORT, "-e", "case=2")), folder / "plain")
    for command in COMMANDS:
        if command is RUN_CASE:
            names = tasks(command, folder / "provisioned")
            yield from ((command, names.index(task) + 1, fault) for task, fault in FOUND)
        else:
            names = tasks(command, folder / command.playbook) if command.playbook != RUN_CASE.playbook else plain
        everything = [(command, number, fault) for number in range(1, len(names) + 1) for fault in SIGNALS]
        if not SHARE:
            yield from chance.sample(everything, command.drawn)
        else:
            swept = everything if command is RUN_CASE else chance.sample(everything, SWEPT)
            yield from swept[int(SHARE[2] or 0) :: int(SHARE[1] or 1)]


@pytest.fixture
def tidy() -> Iterator[None]:
    """Remove the labs, studies and suites that were begun."""

    def known() -> set[Path]:
        return {*ROOT.glob("results/*-lab-*"), *ROOT.glob("results/suites/test_a_command*")}

    before = known()
    yield
    for path in known() - before:
        shutil.rmtree(path)


@pytest.mark.usefixtures("tidy")
@pytest.mark.timeout(9000)
def test_a_command_that_is_ended_at_any_task_leaves_the_host_as_it_was(
    tmp_path: Path, testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    made: list[Injection] = []
    wrong: list[str] = []
    everything = list(moments(tmp_path))
    before = without_raw_files(snapshot())
    for command, number, fault in everything:
        folder = tmp_path / f"{COMMANDS.index(command)}-{number}-{fault.name}"
        folder.mkdir(exist_ok=True)
        status, begun, runs = injected(command, str(number), fault, folder)
        ended = time.monotonic()
        if len(begun) < number:
            wrong.append(f"{command}: it has no task {number}, it ended with {status}")
            continue
        task = begun[number - 1]
        where = f"{command}: {fault.name} at task {number} ({task}), status {status}"
        try:
            wait_until(lambda: without_raw_files(snapshot()) == before, RESTORED_S[fault], "the host is as it was")
            restored_s = round(time.monotonic() - ended, 1)
            wait_until(lambda: not generators(), RESTORED_S[fault], "nobody floods")
        except AssertionError as error:
            wrong.append(f"{where}: {error}\n{snapshot()}\ninstead of\n{before}")
            continue
        if status not in (STATUS[fault], -fault, *([0] if fault == signal.SIGINT and command.last != "0" else [])):
            wrong.append(f"{where}: {STATUS[fault]} was expected\n{(folder / 'said').read_text()[-2000:]}")
        left = [what_is_left(run) for run in runs] or ["nothing"]
        wrong += [f"{where}: {one}" for one in left if one.startswith("wrong")]
        made.append(Injection(str(command), task, fault.name, status, restored_s, ", ".join(left)))
    report(made)
    done = play("-e", "case=2")
    assert done.returncode == 0, evidence(done)
    assert verdict_of(done)["metrics"]["status"] == {"502": 23, "504": 9}
    testbed("rm -rf /var/lib/floodmark/runs/*")
    assert not wrong, "\n\n".join(wrong)


def what_is_left(path: Path) -> str:
    """Say what there is of a run: a plan, or a verdict that is honest."""
    run = RunFolder(path)
    try:
        if not run.record.exists():
            run.read_plan()
            return "the plan"
        record = run.read_run()
    except RunError as error:
        return f"wrong: {error}"
    if run.ended_by is None:
        return "a verdict, the signal came after it" if record.valid else "a verdict, not valid"
    return "wrong: it is valid, and was ended" if record.valid else "a verdict that says what ended it"


def report(made: Sequence[Injection]) -> None:
    """Write what came of each injection, if all of them were made."""
    if SHARE and made:
        with (ROOT / "results/nemesis.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(asdict(made[0])))
            table.writeheader()
            table.writerows(asdict(one) for one in made)
