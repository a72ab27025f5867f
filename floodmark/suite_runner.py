"""Runs the runs of a suite one after the other, each through ansible-runner, and goes on where it was ended.

Whatever ends this process ends Ansible too: a signal is passed on, and where there was no time for that (SIGKILL)
the kernel sends one. So no run goes on that nobody waits for.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import ansible_runner
import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from floodmark.cases import ROOT, relative
from floodmark.errors import SuiteError
from floodmark.journal import Finished, Journal, open_journal, read_journal
from floodmark.progress import message_of, step_of
from floodmark.runs import RESULTS, RunFolder
from floodmark.suites import Suite, SuiteRun, read_suite, resolve_suite

PROGRAMS = Path(sys.executable).parent
# A run that ended without a verdict is tried again once: a host that did not boot in time must not end a night's work.
ATTEMPTS = 2
# What a run takes beside its phases, until the first ones have been timed (s); per host.
ASSUMED_OVERHEAD_S = {"once": 10, "fresh": 40}
# How often the bar moves and a signal is seen (s), and how long Ansible may take to end.
TICK_S = 1
PATIENCE_S = 20
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - it is not an error, somebody wanted it
    """The suite was ended by a signal; its sentence says how to go on."""


# --- suite and inventory --------------------------------------------------------------------------


def load_suite(path: Path) -> Suite:
    """Read a suite file and resolve it against its inventory.

    Raises:
        FloodmarkError: the file, or the inventory that it names, is not as it must be.
    """
    # What can be said without Ansible is said at once.
    inventory = ROOT / read_suite(path).inventory
    if not inventory.exists():
        raise SuiteError(
            f"{relative(path)}: inventory = '{relative(inventory)}' does not exist: inventory/ has those of the "
            "testbed, inventory/example/ is to be copied for hosts of your own."
        )
    listing = _list_inventory(inventory)
    hostvars = listing["_meta"]["hostvars"]
    groups = {name: _hosts_in(name, listing) for name in ("proxies", "load_generators", "testbed")}
    # A run takes its variables from the host that plans it, the control node.
    return resolve_suite(path, groups, hostvars.get("localhost", {}))


def _list_inventory(inventory: Path) -> dict[str, Any]:
    done = subprocess.run(
        [PROGRAMS / "ansible-inventory", "--list", "-i", inventory],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SuiteError(f"inventory {relative(inventory)} cannot be read: {' '.join(done.stderr.split())}")
    return dict(json.loads(done.stdout))


def _hosts_in(group: str, listing: dict[str, Any]) -> list[str]:
    entry = listing.get(group, {})
    nested = [host for child in entry.get("children", []) for host in _hosts_in(child, listing)]
    return list(dict.fromkeys([*entry.get("hosts", []), *nested]))


# --- time -----------------------------------------------------------------------------------------


def estimate_s(suite: Suite, finished: dict[str, Finished], runs: Sequence[SuiteRun]) -> list[float]:
    """Return how long each of some runs will take (s).

    A run is its phases on each host and an overhead; of the overhead the median of finished runs is taken.
    """
    took = {name: done.took_s for name, done in finished.items() if done.took_s is not None}
    measured = [took[run.name] - _phases_s(suite, run) for run in suite.runs() if run.name in took]
    overhead = statistics.median(measured) if measured else ASSUMED_OVERHEAD_S[suite.file.boot] * len(suite.hosts)
    # A flood can be much shorter than its upper bound, so the overhead may be below nothing.
    return [max(1.0, _phases_s(suite, run) + overhead) for run in runs]


def _phases_s(suite: Suite, run: SuiteRun) -> int:
    parameters = run.combination.parameters
    return len(suite.hosts) * (parameters.baseline_s + parameters.flood_at_most_s + parameters.drain_s)


def in_words(seconds: float) -> str:
    """Say a time: `45 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


# --- one run --------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """One run as Ansible makes it: what is known of it from its events."""

    suite: Suite
    run: SuiteRun
    journal: Journal
    bar: Bar
    stop: Stop
    folder: RunFolder | None = None
    why: str = ""
    _log: TextIO | None = None

    def make(self) -> Finished | None:
        """Run Ansible until it ends; return what came of it if the run is complete."""
        begun = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="floodmark-suite-") as scratch,
            self.journal.log(self.run).open("a", encoding="utf-8") as self._log,
        ):
            ansible_runner.run(
                private_data_dir=scratch,
                project_dir=str(ROOT),
                # The kernel ends Ansible when this process is gone.
                binary="setpriv",
                cmdline=shlex.join(
                    ["--pdeathsig", "TERM", str(PROGRAMS / "ansible-playbook"), str(ROOT / "run-case.yml")]
                ),
                inventory=str(self.suite.inventory),
                limit=",".join([*self.suite.hosts, "load_generators", "localhost"]),
                extravars=self._extra_vars(),
                # ansible-runner would trust any host key, and keep facts from one run to the next.
                envvars={"ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_NOCOLOR": "True"},
                fact_cache_type="memory",
                settings={"pexpect_timeout": TICK_S, "suppress_output_file": True},
                suppress_env_files=True,
                quiet=True,
                event_handler=self._on_event,
                cancel_callback=self._on_tick,
            )
        if self.folder is None or not self.folder.run.exists():
            return None
        return self.journal.finish(self.run, self.folder, time.monotonic() - begun)

    def _extra_vars(self) -> dict[str, Any]:
        boot = {"testbed_boot": "fresh"} if self.suite.file.boot == "fresh" else {}
        return {
            "case": self.run.combination.case.number,
            **self.suite.file.parameters,
            **self.run.combination.varied,
            "run_order": self.run.host_order,
            **boot,
        }

    def _on_event(self, event: dict[str, Any]) -> bool:
        """Take what an event of Ansible says; it need not be kept."""
        data = event.get("event_data", {})
        result = data.get("res") or {}
        if event.get("stdout") and self._log:
            print(event["stdout"], file=self._log, flush=True)
        if event["event"] == "playbook_on_task_start":
            self.bar.step(data.get("task", ""))
        elif event["event"] == "runner_on_ok" and data.get("task_action") == "floodmark_plan":
            self.folder = RunFolder(Path(result["plan"]["folder"]))
            self.journal.begin(self.run, self.folder)
        elif event["event"] in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            self.why = f"host {data.get('host')}: {' '.join(message_of(result).split()).rstrip('.')}"
        return False

    def _on_tick(self) -> bool:
        """Move the bar, pass a signal on, and tell whether to end Ansible by force."""
        self.bar.draw()
        return self.stop.pass_on()


@dataclass
class Stop:
    """The wish to end, as a signal expresses it."""

    wanted_at: float | None = None
    _passed_on: bool = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take the signals that end a process, as long as the suite runs."""
        # What is ignored stays so: nohup(1) wants to live on when its terminal has gone.
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._want) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _want(self, _number: int, _frame: FrameType | None) -> None:
        self.wanted_at = self.wanted_at or time.monotonic()

    def pass_on(self) -> bool:
        """Ask Ansible to end, once; return True when it had time enough."""
        if self.wanted_at is None:
            return False
        if not self._passed_on:
            self._passed_on = True
            for child in psutil.Process().children():
                child.send_signal(signal.SIGTERM)
        return time.monotonic() - self.wanted_at > PATIENCE_S


# --- what people see ------------------------------------------------------------------------------


@dataclass
class Bar:
    """How far the suite is; on a terminal a bar moves below the lines of finished runs."""

    console: Console
    total: int
    done: int = 0
    left_s: list[float] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)
    _what: str = ""
    _step: str = ""

    def __post_init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[done]} of {task.total:.0f} runs"),
            BarColumn(24),
            TextColumn("{task.fields[left]} left  [dim]{task.description}[/]"),
            console=self.console,
            # No thread draws: Ansible is forked from this process.
            auto_refresh=False,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=self.total, done=0, left="")

    def begin(self, run: SuiteRun, left_s: list[float]) -> None:
        """Say that a run begins, and how long it and those after it will take."""
        self._what, self._step, self.left_s, self._begun = run.name, "", left_s, time.monotonic()
        self.draw()

    def step(self, task: str) -> None:
        """Say what the run is at."""
        self._step = step_of(task) or self._step
        self.draw()

    def end(self, run: SuiteRun, done: Finished) -> None:
        """Print the line of a finished run."""
        self.done += 1
        self.say(
            f"{_verdict(done)} {self.done:>{len(str(self.total))}}/{self.total}  {escape(run.name)}  "
            f"[dim]{in_words(done.took_s or 0)}  {done.run.run_id}[/]"
        )

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, highlight=False, soft_wrap=True)

    def draw(self) -> None:
        """Move what moves."""
        elapsed_s = time.monotonic() - self._begun
        current_s, later_s = self.left_s[0], sum(self.left_s[1:])
        self._progress.update(
            self._task,
            done=self.done,
            completed=self.done + min(elapsed_s / current_s, 1.0),
            description=escape("  ".join(part for part in (self._what, self._step) if part)),
            left=in_words(later_s + max(0.0, current_s - elapsed_s)),
        )
        self._progress.refresh()

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _verdict(done: Finished) -> str:
    if done.passed:
        return "[green]✓[/]"
    return "[bold red]✗[/]" if done.valid else "[bold red]invalid[/]"


def print_plan(console: Console, suite: Suite) -> None:
    """Print all runs of a suite in their order, and how long they will take."""
    runs = list(suite.runs())
    journal = read_journal(suite, RESULTS)
    estimates = dict(zip((run.name for run in runs), estimate_s(suite, journal.finished, runs), strict=True))
    table = Table(box=None, pad_edge=False)
    for column in ("block", "run", "half", "hosts in turn", "takes"):
        table.add_column(column)
    for run in runs:
        hosts = suite.hosts if run.host_order == "inventory" else suite.hosts[::-1]
        done = journal.finished.get(run.name)
        state = f"{_verdict(done)} {done.run.run_id}" if done else in_words(estimates[run.name])
        table.add_row(str(run.block), escape(run.combination.name), run.half, ", ".join(hosts), state)
    console.print(table)
    left_s = sum(estimates[run.name] for run in runs if run.name not in journal.finished)
    console.print(
        f"{suite.file.title}\n{len(runs)} run{'s' * (len(runs) > 1)}, {suite.file.repetitions} of each combination, on "
        f"{', '.join(suite.hosts)}; {len(journal.finished)} are finished, the others take about {in_words(left_s)}.",
        highlight=False,
        soft_wrap=True,
    )


# --- the suite ------------------------------------------------------------------------------------


def run_suite(console: Console, path: Path, suite: Suite) -> bool:
    """Make all runs of a suite that are not finished yet.

    Args:
        console: where progress is shown.
        path: its file, for messages.
        suite: the suite.

    Returns:
        Whether all its runs are valid and all expectations held in them.

    Raises:
        SuiteError: another process runs it, its journal does not fit, or a run ended without a verdict repeatedly.
        Interrupted: a signal came.
    """
    if shutil.which("setpriv") is None:
        raise SuiteError("the program setpriv is missing: it is part of util-linux, install that package.")
    runs = list(suite.runs())
    stop = Stop()
    with open_journal(suite, RESULTS) as journal, stop.listen(), Bar(console, len(runs)) as bar:
        left = [run for run in runs if run.name not in journal.finished]
        bar.done = len(runs) - len(left)
        if bar.done:
            bar.say(f"{bar.done} of {len(runs)} runs are finished already, as {relative(journal.path)} says.")
        for index, run in enumerate(left):
            bar.begin(run, estimate_s(suite, journal.finished, left[index:]))
            bar.end(run, _make_run(suite, run, journal, bar, stop, path))
    return _sum_up(console, journal, runs)


def _make_run(suite: Suite, run: SuiteRun, journal: Journal, bar: Bar, stop: Stop, path: Path) -> Finished:
    """Make one run, if need be in a second attempt."""
    how_to_go_on = f"go on with: floodmark suite {path}"
    for _ in range(ATTEMPTS):
        attempt = Attempt(suite, run, journal, bar, stop)
        done = attempt.make() if stop.wanted_at is None else None
        if done:
            return done
        if stop.wanted_at is not None:
            raise Interrupted(
                f"interrupted after {bar.done} of {bar.total} runs; {run.name} is the next one: {how_to_go_on}"
            )
        journal.fail(run, attempt.why)
        bar.say(f"[bold red]no verdict[/]  {escape(run.name)}  [dim]{escape(attempt.why)}[/]")
    raise SuiteError(
        f"{run.name} ended without a verdict {ATTEMPTS} times: {attempt.why or 'Ansible did not say why'}. What it "
        f"said is in {relative(journal.log(run))}; {bar.done} of {bar.total} runs are kept, {how_to_go_on}"
    )


def _sum_up(console: Console, journal: Journal, runs: Sequence[SuiteRun]) -> bool:
    finished = [journal.finished[run.name] for run in runs]
    invalid = sum(not one.valid for one in finished)
    failed = sum(one.valid and not one.passed for one in finished)
    console.print(
        f"All {len(runs)} runs are finished: {len(runs) - invalid - failed} valid with all expectations held, {failed} "
        f"valid but not all held, {invalid} invalid. Their names are in {relative(journal.path)}",
        highlight=False,
        soft_wrap=True,
    )
    return not invalid and not failed
