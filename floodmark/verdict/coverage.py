"""What the agent's sources cover: for each source and phase the readings that should exist, those that do, and gaps.

A run in which a source was blind for a while says nothing of what happened meanwhile. So readings are counted against
the rate that was asked for, those with a value against those that were made, and the longest time without a value is
held against the time between two readings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt

from collectors.fields import ACCEPT_QUEUE, AGENT, PROCESS, TABLES, Table
from floodmark.model.check import Check, Severity
from floodmark.model.metrics import PHASES
from floodmark.text import percent
from floodmark.verdict.rules import SOURCE_ANSWERED, SOURCE_GAP, SOURCE_READ, Rule

Numbers = npt.NDArray[np.int64]

# What tells the readings of one source apart where one reading has several rows.
STREAMS = {ACCEPT_QUEUE.name: "listener", PROCESS.name: "pid"}
# The agent's own ledger: every 100 ms a row for what it cost.
LEDGER_HZ = 10
# Where the kernel has no unix_diag the queue is counted in /proc/net/unix, and no more often than this.
PROC_HZ = 10
# What a source that is complete may lack in a phase: a reading at either edge, and what is late by no more than this in
# all. Readings lost one by one leave the phase seen from end to end at a lower rate: `agent_punctual` says so, and
# only fewer than half of them are too few.
EDGE_READINGS = 2
LATE_S = 0.02
# The longest time without a value, as a time and in periods of the source.
LONGEST_GAP_NS = 100_000_000
LONGEST_GAP_PERIODS = 3.5
# Readings that have a value. nginx gives the status page when it has time, and the agent waits a second for it.
ANSWERED_SHARE = 0.99
SLOW_ANSWERS = {"stub_status": (0.5, 1_100_000_000)}


@dataclass(frozen=True)
class Window:
    """What a phase was asked to cover, on the host's monotonic clock (ns)."""

    name: str
    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class Coverage:
    """How well one stream of a source covers one phase.

    Attributes:
        source: name of the table.
        stream: listener or process; empty where a source has but one.
        phase: name of the phase.
        expected: readings that should exist.
        made: readings that do.
        good: of these, the ones with a value.
        may_lack: readings that may be missing without a hole.
        gap_ns: longest time without a value that lies in the phase, or reaches into it.
        gap_limit_ns: how long it may be.
        reason: why a reading has no value, the most frequent one.
    """

    source: str
    stream: str
    phase: str
    expected: int
    made: int
    good: int
    may_lack: int
    gap_ns: int
    gap_limit_ns: int
    reason: str | None

    @property
    def subject(self) -> str:
        """What is covered: `accept_queue of upstream in the flood`."""
        of = f" of {'process ' if self.source == PROCESS.name else ''}{self.stream}" if self.stream else ""
        return f"{self.source}{of} in the {self.phase}"

    @property
    def read_share(self) -> float:
        """Share of the readings that should exist that do; 1 where no more are missing than may be."""
        return 1.0 if self.expected - self.made <= self.may_lack else self.made / self.expected

    @property
    def answered_share(self) -> float | None:
        """Share of the readings made that have a value; 1 where no more fail than may be, None where none was made."""
        if not self.made:
            return None
        return 1.0 if self.good and self.made - self.good <= self.may_lack else self.good / self.made

    def checks(self, severity: Severity | None = None) -> Iterator[Check]:
        """Yield the checks of this coverage.

        Args:
            severity: instead of that of the rules.
        """
        answered_limit, _ = SLOW_ANSWERS.get(self.source, (ANSWERED_SHARE, 0))
        gap = f"{self.gap_ns / 1e6:.0f} ms"

        def check(rule: Rule, value: float, **more: float | str) -> Check:
            return rule.check(value, subject=self.subject, severity=severity, **more)  # type: ignore[arg-type]

        yield check(SOURCE_READ, self.read_share, made=str(self.made), expected=str(self.expected), gap=gap)
        if self.answered_share is not None:
            yield check(
                SOURCE_ANSWERED, self.answered_share, limit=answered_limit, good=str(self.good), made=str(self.made),
                gap=gap, why=self.reason or "no reason was given",
            )  # fmt: skip
        share = percent(min(self.good / self.expected, 1.0)) if self.expected else "none or all"
        yield check(SOURCE_GAP, round(self.gap_ns / 1e6, 3), limit=round(self.gap_limit_ns / 1e6, 3), share=share)

    @property
    def has_hole(self) -> bool:
        """Whether something is missing that should be there."""
        return not all(one.ok for one in self.checks())


def coverage_of(
    database: duckdb.DuckDBPyConnection, rates_hz: Mapping[str, float], windows: list[Window]
) -> list[Coverage]:
    """Return how well each source covers each phase.

    Args:
        database: with the tables of the sources.
        rates_hz: source -> readings a second that were asked for.
        windows: the phases, in order and without gaps between them.
    """
    asked = {**rates_hz, AGENT.name: LEDGER_HZ}
    return [each for name, hz in asked.items() for each in _coverage(database, TABLES[name], hz, windows)]


@dataclass(frozen=True)
class _Buckets:
    """Readings of one stream, those of a short time together: when the first and the last with a value were."""

    made: Numbers
    good: Numbers
    at_ns: Numbers
    first_ns: Numbers
    last_ns: Numbers


def _coverage(
    database: duckdb.DuckDBPyConnection, table: Table, hz: float, windows: list[Window]
) -> Iterator[Coverage]:
    if table is ACCEPT_QUEUE and _is_counted_in_proc(database):
        hz = min(hz, PROC_HZ)
    _, answer_gap_ns = SLOW_ANSWERS.get(table.name, (0, LONGEST_GAP_NS))
    gap_limit_ns = max(answer_gap_ns, round(LONGEST_GAP_PERIODS * 1e9 / hz))
    # A gap that is too long is longer than a bucket, so it lies between two of them.
    for stream, buckets in _read(database, table, gap_limit_ns // 2, windows[0].start_ns, windows[-1].end_ns):
        reason = _reason(database, table, stream)
        starts, ends = _gaps(buckets, windows[0].start_ns, windows[-1].end_ns)
        for window in windows:
            inside = (buckets.at_ns >= window.start_ns) & (buckets.at_ns < window.end_ns)
            reaching = (ends > window.start_ns) & (starts < window.end_ns)
            yield Coverage(
                source=table.name,
                stream=stream,
                phase=window.name,
                expected=int(window.seconds * hz),
                made=int(buckets.made[inside].sum()),
                good=int(buckets.good[inside].sum()),
                may_lack=max(EDGE_READINGS, round(LATE_S * hz)),
                gap_ns=int((ends - starts)[reaching].max(initial=0)),
                gap_limit_ns=gap_limit_ns,
                reason=reason,
            )


def _is_counted_in_proc(database: duckdb.DuckDBPyConnection) -> bool:
    row = database.execute("SELECT count(*) FROM accept_queue WHERE via = 'proc'").fetchone()
    return row is not None and row[0] > 0


def _read(
    database: duckdb.DuckDBPyConnection, table: Table, bucket_ns: int, start_ns: int, end_ns: int
) -> Iterator[tuple[str, _Buckets]]:
    """Yield each stream of a source with its buckets, in the order of time; a source without rows has one without any.

    Buckets end at the edges of phases too, so that each lies in one of them. To look at single rows would take a
    second for some millions of them.
    """
    stream = f"CAST({STREAMS[table.name]} AS VARCHAR)" if table.name in STREAMS else "''"
    only = "WHERE source = 'agent'" if table is AGENT else ""
    found = database.execute(
        f"""
        SELECT coalesce({stream}, '') AS stream, count(*) AS made, count(*) FILTER (reason IS NULL) AS good,
               min(t_ns) AS at_ns, min(t_ns) FILTER (reason IS NULL) AS first_ns,
               max(t_ns) FILTER (reason IS NULL) AS last_ns
        FROM {table.name} {only} GROUP BY stream, phase, t_ns < {start_ns}, t_ns < {end_ns}, t_ns // {bucket_ns}
        ORDER BY stream, at_ns
        """
    ).fetchnumpy()
    streams = np.asarray(found["stream"])
    names = sorted({str(one) for one in streams})
    # A process that could not be found has no number; where others were, its rows are about no stream.
    seen = [name for name in names if name] or names or [""]
    for name in seen:
        mine = streams == name
        good = np.asarray(found["good"][mine], dtype=np.int64)
        there = good > 0
        yield (
            name,
            _Buckets(
                made=np.asarray(found["made"][mine], dtype=np.int64),
                good=good,
                at_ns=np.asarray(found["at_ns"][mine], dtype=np.int64),
                first_ns=np.asarray(found["first_ns"][mine][there], dtype=np.int64),
                last_ns=np.asarray(found["last_ns"][mine][there], dtype=np.int64),
            ),
        )


def _gaps(buckets: _Buckets, start_ns: int, end_ns: int) -> tuple[Numbers, Numbers]:
    """Return when each time without a value began and ended, from the start of the first phase to the end of the last.

    A value counts from before the first phase and after the last one; without any the whole time is one gap.
    """
    edges = np.array([start_ns, end_ns], dtype=np.int64)
    if not buckets.first_ns.size:
        return edges[:1], edges[1:]
    first, last = buckets.first_ns, buckets.last_ns
    starts = np.concatenate([edges[:1], last])
    ends = np.concatenate([first, edges[1:]])
    return starts, np.maximum(starts, ends)


def _reason(database: duckdb.DuckDBPyConnection, table: Table, stream: str) -> str | None:
    where = f"AND CAST({STREAMS[table.name]} AS VARCHAR) = $stream" if stream else ""
    row = database.execute(
        f"SELECT mode(reason) FROM {table.name} WHERE reason IS NOT NULL {where}", {"stream": stream} if stream else {}
    ).fetchone()
    return row[0] if row else None


def windows_of(flood_start_ns: int, flood_end_ns: int, baseline_s: float, drain_s: float) -> list[Window]:
    """Return what the phases were asked to cover, around the flood as it was."""
    edges = (
        flood_start_ns - round(baseline_s * 1e9), flood_start_ns, flood_end_ns, flood_end_ns + round(drain_s * 1e9),
    )  # fmt: skip
    return [Window(name, start, end) for name, start, end in zip(PHASES, edges[:-1], edges[1:], strict=True)]
