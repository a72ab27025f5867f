"""A run is ended by a signal at any of its tasks: the host is as it was, and what is left of the run is honest.

`make test` draws a dozen moments by a seed that is printed; FLOODMARK_SEED repeats a draw. `make test-nemesis` takes
all of them, and writes what came of each into results/nemesis.csv.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pytest

from floodmark.errors import RunError
from floodmark.runs.folders import RunFolder
from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT, evidence, play, verdict_of
from tests.testbed.test_promises import generators, wait_until, without_raw_files

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
DRAWN = 12
# Moments at which something was left once: they are always among those that are drawn.
FOUND = (("Write the kernel parameters", signal.SIGTERM),)
# How long a host may take to be as it was (s), counted from the end of ansible-playbook.
RESTORED_S = {signal.SIGINT: 5, signal.SIGTERM: 5, signal.SIGKILL: 20}
# What a shell calls them.
STATUS = {one: 128 + one for one in SIGNALS}


@dataclass(frozen=True)
class Injection:
    """A fault, when it came, and what became of it.

    Attributes:
        task: that had just begun.
        fault: the signal.
        status: of ansible-playbook.
        restored_s: time from the end of ansible-playbook until the host was as it was.
        left: what there is of the run.
    """

    task: str
    fault: str
    status: int
    restored_s: float
    left: str


def injected(number: int, fault: signal.Signals, folder: Path) -> tuple[int, list[str], Path | None]:
    """Make a run that gets a signal at its n-th task; return its status, the tasks that began, and its folder."""
    known, file = set(ROOT.glob("results/*-case2-*")), folder / "tasks"
    callbacks = f"{ROOT}/plugins/callback:{Path(__file__).parent}/nemesis"
    process = subprocess.Popen(
        ["env", "--default-signal=INT", "ansible-playbook", "run-case.yml", *SHORT, "-e", "case=2",
         "-e", "provision=always"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment(
            FLOODMARK_NEMESIS=f"{number} {fault.name} {file}", ANSIBLE_CALLBACK_PLUGINS=callbacks,
            ANSIBLE_CALLBACKS_ENABLED="floodmark_failures,floodmark_signals,nemesis",
        ),
    )  # fmt: skip
    status = process.wait(timeout=180)
    mine = [
        path for path in set(ROOT.glob("results/*-case2-unix")) - known if str(process.pid) in owner_of(RunFolder(path))
    ]
    return status, file.read_text().splitlines(), mine[0] if mine else None


def owner_of(run: RunFolder) -> str:
    """Return whose run it is."""
    try:
        return (run.read_run() if run.record.exists() else run.read_plan()).owner
    except RunError:
        return ""


@cache
def tasks(folder: Path) -> Sequence[str]:
    """Return the names of all tasks of a run."""
    folder.mkdir()
    status, names, _ = injected(0, signal.SIGINT, folder)
    assert status == 0
    return names


def moments(names: Sequence[str]) -> list[tuple[int, signal.Signals]]:
    """Return when which signal comes: all that there are, or as many as are drawn."""
    everything = [(number, fault) for number in range(1, len(names) + 1) for fault in SIGNALS]
    if os.environ.get("FLOODMARK_INJECTIONS") == "all":
        return everything
    seed = int(os.environ.get("FLOODMARK_SEED") or time.time())
    print(f"FLOODMARK_SEED={seed}")
    drawn = random.Random(seed).sample(everything, DRAWN)
    return [*((names.index(task) + 1, fault) for task, fault in FOUND), *drawn]


@pytest.mark.timeout(7200)
def test_a_run_that_is_ended_at_any_task_leaves_the_host_as_it_was(
    tmp_path: Path, testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    names = tasks(tmp_path / "all")
    before = without_raw_files(snapshot())
    made: list[Injection] = []
    wrong: list[str] = []
    for number, fault in moments(names):
        folder = tmp_path / f"{number}-{fault.name}"
        folder.mkdir()
        status, begun, results = injected(number, fault, folder)
        ended = time.monotonic()
        task = begun[min(number, len(begun)) - 1]
        where = f"{fault.name} at task {number} of {len(names)} ({task}), status {status}"
        try:
            wait_until(lambda: without_raw_files(snapshot()) == before, RESTORED_S[fault], "the host is as it was")
            restored_s = round(time.monotonic() - ended, 1)
            wait_until(lambda: not generators(), RESTORED_S[fault], "nobody floods")
        except AssertionError as error:
            wrong.append(f"{where}: {error}\n{snapshot()}\ninstead of\n{before}")
            continue
        if status not in (STATUS[fault], -fault):
            wrong.append(f"{where}: {STATUS[fault]} was expected")
        left = what_is_left(results)
        if left.startswith("wrong"):
            wrong.append(f"{where}: {left}")
        made.append(Injection(task, fault.name, status, restored_s, left))
    report(made)
    done = play("-e", "case=2")
    assert done.returncode == 0, evidence(done)
    assert verdict_of(done)["metrics"]["status"] == {"502": 23, "504": 9}
    testbed("rm -rf /var/lib/floodmark/runs/*")
    assert not wrong, "\n\n".join(wrong)


def what_is_left(results: Path | None) -> str:
    """Say what there is of a run: nothing, a plan, or a verdict that is honest."""
    if results is None:
        return "nothing"
    run = RunFolder(results)
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
    if os.environ.get("FLOODMARK_INJECTIONS") == "all" and made:
        with (ROOT / "results/nemesis.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(asdict(made[0])))
            table.writeheader()
            table.writerows(asdict(one) for one in made)
