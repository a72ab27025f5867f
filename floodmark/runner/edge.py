"""Finds the highest rate at which a case still holds: raises it until something breaks, then closes in.

Each probe is an ordinary run with an open flood and a seed of its own. Near the edge chance decides whether a rate
holds, so a single probe only says where to look next. A rate is said to hold when it did in twenty probes in a row; one
that breaks meanwhile is given up for a lower one, each time twice as far below. Where the chance to break rises by a
factor of e within 4 % of the rate, the rate that is said to hold does so again in nine of ten probes in 94 of 100
searches (tests/floodmark/runner/test_edge.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from floodmark.disk import make_folder
from floodmark.errors import FloodmarkError
from floodmark.inputs.given import without_secrets
from floodmark.model.check import Severity
from floodmark.model.metrics import Metrics
from floodmark.model.stored import write_json
from floodmark.model.verdict import Verdict
from floodmark.paths import ROOT
from floodmark.runner.case_player import Play, Stop, need_setpriv
from floodmark.runs.folders import RESULTS, RunFolder
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.progress import step_of
from floodmark.show.tables import BAD, GOOD, table_of
from floodmark.values import Variables
from floodmark.verdict.rules import GENERATOR_AT_ITS_END

FOLDER = RESULTS / "edge"
SCRATCH = FOLDER / "ansible-runner"
# A rate holds when so many probes in a row did: one that holds in nine of ten would not, in 88 of 100 searches.
PROBES_TO_HOLD = 20
# The lowest rate that breaks has done so more than once, or after it seemed to hold.
BREAKS_TO_BREAK = 2
MOST_PROBES = 120
# The ratio of a rate that was given up to the next one is at most this.
WIDEST_STEP = 2.0
LEAST_RATE = 1.0
# An invalid run says nothing about its rate. It is made again, so often.
INVALID_ALLOWED = 2


# --- the search -----------------------------------------------------------------------------------


@dataclass
class Search:
    """A bracket that closes in on the edge; it knows nothing of runs.

    Args:
        start: rate of the first probe, per second.
        most: rate that is not exceeded.
        precision: how close the ends of the bracket come to each other, as a share.
        confirm: so many probes in a row have to hold.
    """

    start: float
    most: float
    precision: float
    confirm: int = PROBES_TO_HOLD
    _held: Counter[float] = field(default_factory=Counter)
    _broke: Counter[float] = field(default_factory=Counter)
    _in_a_row: Counter[float] = field(default_factory=Counter)
    _given_up: set[float] = field(default_factory=set)

    def note(self, rate: float, *, held: bool) -> None:
        """Learn what came of a probe."""
        if held:
            self._held[rate] += 1
            self._in_a_row[rate] += 1
            return
        if self._is_closed and rate == self.holds:
            self._given_up.add(rate)
        self._broke[rate] += 1
        self._in_a_row[rate] = 0

    def n(self, rate: float | None) -> int:
        """Return how many probes there were at a rate."""
        return 0 if rate is None else self._held[rate] + self._broke[rate]

    def broke(self, rate: float | None) -> int:
        """Return in how many probes a rate broke."""
        return 0 if rate is None else self._broke[rate]

    def exceed_no_more(self, rate: float) -> None:
        """Learn that a rate cannot be probed, because the load generator is at its end."""
        self.most = min(self.most, max((one for one in self._rates if one < rate), default=LEAST_RATE))

    @property
    def _rates(self) -> set[float]:
        return self._held.keys() | self._broke.keys()

    def _seems_to_hold(self, rate: float) -> bool:
        return rate not in self._given_up and self._held[rate] > self._broke[rate]

    @property
    def breaks(self) -> float | None:
        """The lowest rate that does not seem to hold."""
        return min((rate for rate in self._rates if not self._seems_to_hold(rate)), default=None)

    @property
    def holds(self) -> float | None:
        """The highest rate below that which seems to hold."""
        below = self.breaks or math.inf
        return max((rate for rate in self._rates if self._seems_to_hold(rate) and rate < below), default=None)

    @property
    def _is_closed(self) -> bool:
        """Whether the ends of the bracket are as close as was asked for, but for rounding."""
        if self.holds is None:
            return False
        if self.breaks is None or self.breaks > self.most:
            return self.holds >= self.most
        step = self._step if self.breaks in self._given_up else 1 + self.precision
        return self.breaks / self.holds <= step * 1.01

    @property
    def _step(self) -> float:
        """How far below a rate that was given up the next one is, as their ratio: twice as far each time, up to half.

        Where chance decides over a wide range of rates, many small steps would not come to its end.
        """
        doublings = min(len(self._given_up) - 1, 9)
        return min(math.exp(2.0**doublings * math.log1p(self.precision)), WIDEST_STEP)

    @property
    def is_certain(self) -> bool:
        """Whether the rate that is said to hold has held often enough."""
        return self.holds is not None and self._in_a_row[self.holds] >= self.confirm

    def next(self) -> float | None:
        """Return the rate of the next probe, or None when the edge is found or there is none to find."""
        holds, breaks = self.holds, self.breaks
        if holds is None:
            if breaks is None:
                return min(self.start, self.most)
            return max(breaks / 2, LEAST_RATE) if breaks > LEAST_RATE else self._to_break(breaks)
        if not self._is_closed:
            if breaks is None or breaks > self.most:
                return min(holds * 2, self.most)
            return _rounded(breaks / self._step if breaks in self._given_up else math.sqrt(holds * breaks))
        again = None if breaks is None else self._to_break(breaks)
        return again or (None if self.is_certain else holds)

    def _to_break(self, rate: float) -> float | None:
        """Return a rate again that has broken but once."""
        sure = rate in self._given_up or rate > self.most or self._broke[rate] >= BREAKS_TO_BREAK
        return None if sure else rate


def _rounded(rate: float) -> float:
    """Return a rate that people can say; three digits are finer than any precision that is allowed."""
    return float(f"{rate:.3g}")


# --- what breaks ----------------------------------------------------------------------------------


def what_broke(metrics: Metrics, p99_ms: float) -> str:
    """Say what a run has broken; nothing when it held.

    Anything but a complete answer with status 200 breaks: an error page, a connection that was reset or closed, half of
    an answer, a request that was given up or never sent.

    Args:
        metrics: of its verdict.
        p99_ms: how long one request of a hundred may take.
    """
    bad = {status: n for status, n in metrics.status.items() if status != "200"} | metrics.errors
    if bad:
        return ", ".join(f"{n} × {what}" for what, n in bad.items())
    if metrics.dropped:
        return f"{metrics.dropped} dropped"
    if metrics.request_p99_s is None:
        return "p99 is not known"
    if metrics.request_p99_s * 1000 > p99_ms:
        return f"p99 {metrics.request_p99_s * 1000:,.0f} ms"
    deepest, limit = metrics.accept_queue_max, metrics.queue_limit
    if deepest is None or limit is None:
        return "the queue was not seen"
    return f"queue of {deepest}, limit {limit}" if deepest > limit / 2 else ""


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
        n_breaks: probes at the second.
        broke: in how many of these it broke.
        why: what ended the search when it was not the edge.
        certain: whether the first was probed often enough to be said to hold.
        confirm: how often in a row that is.
        probes: all of them, in their order.
    """

    holds: float | None
    breaks: float | None
    n_holds: int
    n_breaks: int
    broke: int
    why: str
    certain: bool
    confirm: int
    probes: list[Probe]

    def sentence(self) -> str:
        """Say it."""
        if self.holds is None and self.breaks is None:
            return f"No rate was probed: {self.why}."
        if self.holds is None:
            return f"No rate holds: {self.breaks:g} a second is too much already (n = {self.n_breaks})."
        if not self.certain:
            return (
                f"No rate is certain to hold: {self.holds:g} requests a second seem to (n = {self.n_holds}), and "
                f"{self.confirm} probes in a row have to. The search was ended: {self.why}."
            )
        if self.breaks is None:
            return f"{self.holds:g} requests a second hold (n = {self.n_holds}), and no edge was found: {self.why}."
        end = f" The search was ended: {self.why}." if self.why else ""
        return (
            f"The highest rate that holds is {self.holds:g} requests a second (n = {self.n_holds}); {self.breaks:g} do "
            f"not, they broke in {self.broke} of {self.n_breaks} probes.{end}"
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
    while (rate := search.next()) is not None:
        if len(probes) == MOST_PROBES:
            why = f"{MOST_PROBES} probes were made"
            break
        made = probe(rate, len(probes) + 1)
        if isinstance(made, str):
            why = f"at {rate:g} a second {made}"
            if search.holds is None:
                break
            search.exceed_no_more(rate)
            continue
        search.note(rate, held=not made.broke)
        probes.append(made)
        note(made)
    if not why and search.breaks is None:
        why = f"{search.most:g} a second is the most that may be tried"
    holds, breaks = search.holds, search.breaks
    return Edge(
        holds,
        breaks,
        search.n(holds),
        search.n(breaks),
        search.broke(breaks),
        why,
        search.is_certain,
        search.confirm,
        probes,
    )


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
        marked: names of secrets among `extra`.
    """

    console: Console
    inventory: Path
    host: str
    extra: Variables
    p99_ms: float
    stop: Stop
    marked: Collection[str] = ()
    log: Path = FOLDER / "ansible.txt"

    def probe(self, rate: float, seed: int) -> Probe | str:
        """Make one run.

        Returns:
            What came of it, or a sentence when the load generator could not do it.

        Raises:
            FloodmarkError: no valid run could be made, or one did not come to its end.
            Interrupted: a signal came.
        """
        why = ""
        for attempt in range(INVALID_ALLOWED + 1):
            run = self._run(rate, seed + attempt * MOST_PROBES)
            judged = judge_probe(_verdict_of(run, self.host), rate, self.p99_ms)
            if not isinstance(judged, Invalid):
                return judged
            why = f"{run.run_id}: {judged.why}"
        raise FloodmarkError(f"{INVALID_ALLOWED + 1} runs at {rate:g} a second are invalid, the last one is {why}")

    def _run(self, rate: float, seed: int) -> RunFolder:
        with self.console.status(f"{rate:g} a second") as status:
            play = Play(
                lambda _: None,
                lambda task: status.update(f"{rate:g} a second  {step_of(task)}"),
                lambda: None,
                self.stop,
            )
            extra = {"load_shape": "open", "rate": f"{rate:g}", "arrival_seed": seed, **self.extra}
            run = play.make(ROOT, self.inventory.resolve(), [self.host], extra, SCRATCH, self.log)
        if self.stop.wanted_at is not None:
            raise self.stop.end("interrupted: the runs that were made are kept, and the search begins again")
        if run is None:
            raise FloodmarkError(
                f"a run at {rate:g} a second has no verdict: {play.why}. {self.log} has what Ansible said."
            )
        return run


def _verdict_of(run: RunFolder, host: str) -> Verdict:
    return next(one for one in read_verdicts(run) if one.host == host)


@dataclass(frozen=True)
class Invalid:
    """A run that says nothing about its rate, and why."""

    why: str


def judge_probe(verdict: Verdict, rate: float, p99_ms: float) -> Probe | str | Invalid:
    """Return what a run says of its rate.

    Args:
        verdict: of the run.
        rate: requests per second.
        p99_ms: how long one request of a hundred may take.

    Returns:
        The probe; a sentence when the load generator was at its end; or why the run says nothing.
    """
    broken = verdict.failed(Severity.INVALID)
    at_its_end = [one.sentence for one in broken if one.id in GENERATOR_AT_ITS_END]
    if at_its_end:
        return at_its_end[0]
    metrics = verdict.seen
    if broken or metrics is None:
        return Invalid("; ".join(verdict.reasons))
    p99_s = metrics.request_p99_s
    broke = what_broke(metrics, p99_ms)
    return Probe(rate, verdict.run_id, None if p99_s is None else p99_s * 1000, metrics.accept_queue_max, broke)


def run_edge(console: Console, search: Search, prober: Prober) -> Edge:
    """Find the edge, show how it goes, and write down what was found.

    Raises:
        FloodmarkError: a run is of no use.
        Interrupted: a signal came.
    """
    need_setpriv()
    with prober.stop.listen():
        edge = find_edge(search, prober.probe, lambda one: console.print(_line(one), highlight=False))
    path = FOLDER / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-case{prober.extra['case']}.json"
    make_folder(path.parent, exist_ok=True)
    given = without_secrets(prober.extra, prober.marked)
    content = {"host": prober.host, "extra": given, "p99_ms": prober.p99_ms, **asdict(edge)}
    write_json(path, content)
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
