"""What people see of a suite: its plan, how far it is, and how long it still takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from floodmark.inputs.suites import Suite, SuiteRun
from floodmark.paths import relative
from floodmark.runs.journal import Finished, Journal
from floodmark.show.progress import step_of

# What a run takes beside its phases, until the first ones have been timed (s); per host.
ASSUMED_OVERHEAD_S = {"once": 10, "block": 30, "run": 40}


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


# --- a suite under way ----------------------------------------------------------------------------


class Named(Protocol):
    """Something that is run, under a name."""

    @property
    def name(self) -> str:
        """What it is called."""


@dataclass
class Bar:
    """How far a series of runs is; on a terminal a bar moves below the lines of finished runs."""

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

    def begin(self, run: Named, left_s: list[float]) -> None:
        """Say that a run begins, and how long it and those after it will take."""
        self._what, self._step, self.left_s, self._begun = run.name, "", left_s, time.monotonic()
        self.draw()

    def step(self, task: str) -> None:
        """Say what the run is at."""
        self._step = step_of(task) or self._step
        self.draw()

    def end(self, run: Named, done: Finished) -> None:
        """Print the line of a finished run, and how long the others will take."""
        self.done += 1
        later_s = sum(self.left_s[1:])
        left = f"  about {in_words(later_s)} left" if later_s else ""
        self.say(
            f"{_verdict(done)} {self.done:>{len(str(self.total))}}/{self.total}  {escape(run.name)}  "
            f"[dim]{in_words(done.took_s or 0)}  {done.run.run_id}{left}[/]"
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


# --- a suite before and after ---------------------------------------------------------------------


def print_plan(console: Console, suite: Suite, journal: Journal) -> None:
    """Print all runs of a suite in their order, and how long they will take."""
    runs = list(suite.runs())
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


def print_summary(console: Console, journal: Journal, runs: Sequence[SuiteRun]) -> bool:
    """Say what came of a suite; return whether all is well."""
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
