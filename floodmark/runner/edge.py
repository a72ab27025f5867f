"""Finds the highest rate at which a case still holds: raises it until something breaks, then closes in.

Each probe is an ordinary run with an open flood of its own seed. Near the edge chance decides, so each end of the
bracket is probed until it has held, or broken, two times more often than the other.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from floodmark.errors import FloodmarkError
from floodmark.model.check import Severity
from floodmark.model.metrics import Metrics
from floodmark.paths import ROOT
from floodmark.runner.case_player import Interrupted, Play, Stop, need_setpriv
from floodmark.runs.folders import RESULTS, RunFolder
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.progress import step_of
from floodmark.show.tables import BAD, GOOD, table_of
from floodmark.verdict.rules import RULES, About

# So many more probes must have gone one way than the other before an end of the bracket is believed.
LEAD = 2
MOST_PROBES = 40
LEAST_RATE = 1.0


# --- the search -----------------------------------------------------------------------------------


@dataclass
class Search:
    """A bracket that closes in on the edge; it knows nothing of runs.

    Args:
        start: rate of the first probe, per second.
        most: rate that is not exceeded.
        precision: how close the ends of the bracket come to each other, as a share.
    """

    start: float
    most: float
    precision: float
    _balance: Counter[float] = field(default_factory=Counter)
    _n: Counter[float] = field(default_factory=Counter)

    def note(self, rate: float, *, held: bool) -> None:
        """Learn what came of a probe."""
        self._balance[rate] += 1 if held else -1
        self._n[rate] += 1

    def n(self, rate: float | None) -> int:
        """Return how many probes there were at a rate."""
        return 0 if rate is None else self._n[rate]

    @property
    def breaks(self) -> float | None:
        """The lowest rate that broke at least as often as it held."""
        return min((rate for rate in self._n if self._balance[rate] <= 0), default=None)

    @property
    def holds(self) -> float | None:
        """The highest rate below that which held more often than it broke."""
        below = self.breaks or math.inf
        return max((rate for rate in self._n if self._balance[rate] > 0 and rate < below), default=None)

    def next(self) -> float | None:
        """Return the rate of the next probe, or None when the edge is found or there is none to find."""
        holds, breaks = self.holds, self.breaks
        if breaks is None:
            if holds is None:
                return self.start
            return self._doubtful(holds) if holds >= self.most else min(holds * 2, self.most)
        if holds is None:
            return max(breaks / 2, LEAST_RATE) if breaks > LEAST_RATE else self._doubtful(breaks)
        if breaks / holds > 1 + self.precision:
            return _rounded(math.sqrt(holds * breaks))
        return self._doubtful(holds) or self._doubtful(breaks)

    def _doubtful(self, rate: float) -> float | None:
        """Return a rate again that has not been probed often enough to be believed."""
        return rate if abs(self._balance[rate]) < LEAD else None


def _rounded(rate: float) -> float:
    """Return a rate that people can say; three digits are finer than any precision that is allowed."""
    return float(f"{rate:.3g}")


# --- what breaks ----------------------------------------------------------------------------------


def what_broke(metrics: Metrics, p99_ms: float) -> str:
    """Say what a run has broken; nothing when it held.

    Args:
        metrics: of its verdict.
        p99_ms: how long one request of a hundred may take.
    """
    p99_s, limit, deepest = metrics.request_p99_s, metrics.queue_limit, metrics.accept_queue_max
    if metrics.status.get("502"):
        return f"{metrics.status['502']} × 502"
    if p99_s is None or p99_s * 1000 > p99_ms:
        said = "beyond the client's timeout" if p99_s is None else f"{p99_s * 1000:,.0f} ms"
        return f"p99 {said}"
    if deepest is None or limit is None:
        return "the queue was not seen"
    if deepest > limit / 2:
        return f"queue of {deepest}, limit {limit}"
    if metrics.dropped:
        return f"{metrics.dropped} dropped"
    return ""


# --- the runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """One run at one rate.

    Attributes:
        rate: requests per second.
        run_id: of the run.
        p99_ms: of its requests, None beyond the client's timeout.
        queue_max: deepest queue that was seen (connections).
        broke: what broke, empty when nothing did.
    """

    rate: float
    run_id: str
    p99_ms: float | None
    queue_max: int | None
    broke: str


@dataclass(frozen=True)
class Edge:
    """What a search has found.

    Attributes:
        holds: highest rate that held (1/s), None when none did.
        breaks: lowest rate that broke (1/s), None when none did.
        n_holds: probes at the first.
        n_breaks: and at the second.
        why: what ended the search when it was not the edge.
        probes: all of them, in their order.
    """

    holds: float | None
    breaks: float | None
    n_holds: int
    n_breaks: int
    why: str
    probes: list[Probe]

    def sentence(self) -> str:
        """Say it."""
        if self.holds is None:
            return f"No rate holds: {self.breaks:g} a second is too much already (n = {self.n_breaks})."
        if self.breaks is None:
            return f"{self.holds:g} requests a second hold (n = {self.n_holds}), and no edge was found: {self.why}."
        end = f" The search was ended: {self.why}." if self.why else ""
        return (
            f"The highest rate that holds is {self.holds:g} requests a second (n = {self.n_holds}); {self.breaks:g} "
            f"break (n = {self.n_breaks}). The edge lies between.{end}"
        )


def find_edge(search: Search, probe: Callable[[float, int], Probe | str], note: Callable[[Probe], None]) -> Edge:
    """Probe until the edge is found.

    Args:
        search: where to look.
        probe: makes a run at a rate with a seed; a sentence instead says why the load generator cannot do it.
        note: is given each probe.
    """
    probes: list[Probe] = []
    why = ""
    while (rate := search.next()) is not None and not why:
        if len(probes) == MOST_PROBES:
            why = f"{MOST_PROBES} probes were made"
            break
        made = probe(rate, len(probes) + 1)
        if isinstance(made, str):
            why = f"at {rate:g} a second {made}"
            break
        search.note(rate, held=not made.broke)
        probes.append(made)
        note(made)
    if not why and search.breaks is None:
        why = f"{search.most:g} a second is the most that may be tried"
    holds, breaks = search.holds, search.breaks
    return Edge(holds, breaks, search.n(holds), search.n(breaks), why, probes)


@dataclass
class Prober:
    """Makes the runs.

    Args:
        console: where progress is shown.
        inventory: where the host is described.
        host: the proxy host.
        extra: what else `-e` gives: the case and its parameters.
        p99_ms: how long one request of a hundred may take.
        stop: ends it.
    """

    console: Console
    inventory: Path
    host: str
    extra: Mapping[str, Any]
    p99_ms: float
    stop: Stop
    log: Path = RESULTS / "edge/ansible.txt"

    def probe(self, rate: float, seed: int) -> Probe | str:
        """Make one run.

        Returns:
            What came of it, or a sentence when the load generator could not do it.

        Raises:
            FloodmarkError: the run is invalid for another reason, or did not come to its end.
            Interrupted: a signal came.
        """
        with self.console.status(f"{rate:g} a second") as status:
            play = Play(
                lambda _: None,
                lambda task: status.update(f"{rate:g} a second  {step_of(task)}"),
                lambda: None,
                self.stop,
            )
            extra = {"load_shape": "open", "rate": f"{rate:g}", "arrival_seed": seed, **self.extra}
            run = play.make(ROOT, self.inventory, [self.host], extra, RESULTS / "edge/ansible-runner", self.log)
        if self.stop.wanted_at is not None:
            raise Interrupted("interrupted: the runs that were made are kept, and the search begins anew")
        if run is None:
            raise FloodmarkError(
                f"a run at {rate:g} a second has no verdict: {play.why}. {self.log} has what Ansible said."
            )
        return self._judge(run, rate)

    def _judge(self, run: RunFolder, rate: float) -> Probe | str:
        (verdict,) = (one for one in read_verdicts(run) if one.host == self.host)
        broken = verdict.failed(Severity.INVALID)
        of_the_generator = [one for one in broken if RULES[one.id].about is About.FLOOD]
        if of_the_generator:
            return of_the_generator[0].sentence
        metrics = verdict.seen
        if broken or metrics is None:
            raise FloodmarkError(f"run {run.run_id} at {rate:g} a second is invalid: {'; '.join(verdict.reasons)}")
        p99_s = metrics.request_p99_s
        return Probe(
            rate,
            run.run_id,
            None if p99_s is None else p99_s * 1000,
            metrics.accept_queue_max,
            what_broke(metrics, self.p99_ms),
        )


def run_edge(console: Console, search: Search, prober: Prober) -> Edge:
    """Find the edge, show how it goes, and write down what was found.

    Raises:
        FloodmarkError: a run is of no use.
        Interrupted: a signal came.
    """
    need_setpriv()
    with prober.stop.listen():
        edge = find_edge(search, prober.probe, lambda one: console.print(_line(one), highlight=False))
    path = RESULTS / f"edge/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-case{prober.extra['case']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"host": prober.host, "extra": dict(prober.extra), "p99_ms": prober.p99_ms, **asdict(edge)}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print_edge(console, edge)
    console.print(f"[dim]{path.relative_to(ROOT)}[/]", highlight=False)
    return edge


def _line(probe: Probe) -> str:
    mark = f"[{BAD}]✗[/] {escape(probe.broke)}" if probe.broke else f"[{GOOD}]✓[/]"
    return f"{probe.rate:>8g} a second  {mark}  [dim]{probe.run_id}[/]"


def print_edge(console: Console, edge: Edge) -> None:
    """Print all rates that were probed, and what follows."""
    table = table_of(
        *((name, "right") for name in ("rate (1/s)", "held", "broke", "p99 (ms)", "deepest queue")), "first break"
    )
    for rate in sorted({one.rate for one in edge.probes}):
        probes = [one for one in edge.probes if one.rate == rate]
        broken = [one.broke for one in probes if one.broke]
        p99s = [math.inf if one.p99_ms is None else one.p99_ms for one in probes]
        table.add_row(
            f"{rate:g}", str(len(probes) - len(broken)), str(len(broken)),
            "-" if max(p99s) == math.inf else f"{max(p99s):.1f}",
            str(max(one.queue_max or 0 for one in probes)), escape(broken[0]) if broken else "",
        )  # fmt: skip
    console.print(table)
    console.print(edge.sentence(), highlight=False)
