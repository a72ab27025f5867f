"""What is drawn of one host in one run: figures with their lines, what they rest on, and why they have gaps."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np

from floodmark.inputs.labs import Picture
from floodmark.report.series import COLUMNS, Line, Numbers, Span, collapse, counted, rates_of, readings, thin
from floodmark.text import many
from floodmark.values import ParameterValues
from floodmark.verdict.metrics import MESSAGE_CLASS
from floodmark.verdict.tables import FAULTY_SQL
from floodmark.verdict.views import client_conns, same_moment

# Steps in which events are counted (s), and how many of them a figure has at most.
STEPS_S = (1, 2, 5, 10, 30, 60, 300, 600, 3600)
MOST_STEPS = 2000
# Workers whose memory is drawn, and kinds of answers and errors: no legend can hold more.
MOST_WORKERS = 4
MOST_KINDS = 6
WORKER_COLOURS = ("queue", "state-02", "state-03", "active")
# Active = Q + A + 1, where Q and A are those of the study, and where they are those of the upstream.
FRONT_SUM, UPSTREAM_SUM = "Q + A + 1 in front of nginx", "Q + A + 1 at the upstream"
KEPT = (
    "Clients keep their connections after an answer, and no log says until when: how many are connected is not known."
)
# However many share a page.
LEAST_COLUMNS = 500
# Requests that are drawn each by itself; of more, those of each group that took the longest and the shortest.
MOST_REQUESTS = 3000
GROUPS = 400
# Points of a curve of latencies; the slowest hundred are always among them.
CURVE_POINTS = 1000
# How a request ended, as people count it: `200`, `200 truncated`, `timeout`.
OUTCOME = "concat_ws(' ', status, error)"
# How nginx's errors are told apart.
ERROR_CLASS = f"coalesce(CAST(errno AS VARCHAR), {MESSAGE_CLASS})"
# Beside the colours of the statuses that have one of their own.
STATUSES = ("200", "500", "502", "504")
CLASS_COLOURS = ("status-502", "status-504", "queue", "active", "state-03", "state-01")

# Makes a line of a column; see `reader`.
ReadLine = Callable[..., Line]


@dataclass(frozen=True)
class Bars:
    """Requests that ended in one way, each a bar from its start to its end."""

    label: str
    colour: str
    start: Numbers
    end: Numbers
    number: Numbers
    n: int


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes:
        name: permanent.
        title: what is seen.
        unit: of the vertical axis.
        lines: what is drawn.
        notes: what it rests on, and why there are gaps.
        bars: single requests, of the figure that has them.
        kind: what the horizontal axis is: time, or latency.
        tall: whether it is the most important one.
    """

    name: str
    title: str
    unit: str
    lines: Sequence[Line] = ()
    notes: Sequence[str] = ()
    bars: Sequence[Bars] = ()
    kind: str = "time"
    tall: bool = False
    highest: float = field(init=False)

    def __post_init__(self) -> None:
        tops = [float(np.nanmax(one.y)) for one in self.lines if not np.isnan(one.y).all()]
        tops += [float(one.number.max()) + 1 for one in self.bars]
        object.__setattr__(self, "highest", max(tops, default=0.0))

    @property
    def legend(self) -> list[tuple[str, str, bool]]:
        """Label and colour of everything in it, and whether it is dashed."""
        lines = [(one.label, one.colour, one.dashed) for one in self.lines]
        return lines + [(one.label, one.colour, False) for one in self.bars]

    @property
    def drawn(self) -> bool:
        """Whether there is anything to see."""
        return any(one.x.size for one in self.lines) or bool(self.bars)


def colour_of(outcome: str) -> str:
    """Return the colour of an answer."""
    status = outcome.partition(" ")[0]
    return f"status-{status}" if status in STATUSES else "status-other" if status.isdigit() else "status-none"


def draw_host(
    database: duckdb.DuckDBPyConnection,
    span: Span,
    parameters: ParameterValues,
    share: int,
    only: Collection[Picture] = (),
) -> Iterator[Figure]:
    """Yield all figures of one host.

    Args:
        database: its tables.
        span: what is drawn of time.
        parameters: of the run.
        share: among how many the columns of a page are shared.
        only: these alone, if it names any.
    """
    line = reader(database, span, parameters, share)
    figures: dict[Picture, Callable[[], Figure]] = {
        "accept-queue": lambda: accept_queue(line),
        "states": lambda: _states(line),
        "active": lambda: _active(database, line, span, parameters),
        "answers": lambda: _answers(database, span),
        "errors": lambda: _errors(database, span),
        "memory": lambda: _memory(database, line),
        "own-memory": lambda: _own_memory(database, line),
        "bodies": lambda: _bodies(database, line),
        "requests": lambda: _requests(database, span),
        "latency": lambda: latency(database),
    }
    if parameters.get("transport") == "tcp":
        del figures["states"]
    for name, make in figures.items():
        if not only or name in only:
            try:
                yield make()
            except FAULTY_SQL:
                raise
            except duckdb.Error as error:  # a table may be damaged where nobody has looked yet
                why = str(error).splitlines()[0]
                yield Figure(name, name.replace("-", " ").capitalize(), "", [], [f"It cannot be drawn: {why}"])


def columns_for(share: int) -> int:
    """Return into how many columns the time of each of so many hosts is divided."""
    return max(COLUMNS // share, LEAST_COLUMNS)


def reader(database: duckdb.DuckDBPyConnection, span: Span, parameters: ParameterValues, share: int) -> ReadLine:
    """Return a function that makes a line of a column: given a table, an expression, the source's name, and how.

    Args:
        database: the tables.
        span: what is drawn of time.
        parameters: of the run; they say how often a source is read.
        share: among how many the columns of a page are shared.
    """
    columns = columns_for(share)
    rates_hz = rates_of(parameters)

    def line(table: str, column: str, source: str, **how: Any) -> Line:
        period_s = 1 / rates_hz[source] if source in rates_hz else None
        return readings(database, table, column, span, columns=columns, period_s=period_s, **how)

    return line


def _figure(name: str, title: str, unit: str, lines: Sequence[Line], said: str, **more: Any) -> Figure:
    """Return a figure of readings, with how many they are and why some are missing."""
    counts = sorted({one.n for one in lines} or {0})
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    if len(lines) == len(counts) == 2:
        n = " and ".join(f"{one.n:,} ({one.label})" for one in lines)
    gaps = dict.fromkeys(gap for one in lines for gap in one.gaps)
    return Figure(name, title, unit, lines, [f"{said}; n = {n} readings.", *(f"Gap: {gap}." for gap in gaps)], **more)


def accept_queue(line: ReadLine) -> Figure:
    """Return depth and limit of the upstream's queue."""
    upstream = "(SELECT * FROM accept_queue WHERE listener = 'upstream' OR listener IS NULL)"
    return _figure(
        "accept-queue",
        "Accept queue of the upstream",
        "connections",
        [
            line(upstream, "depth_conns", "accept_queue", label="queue", colour="queue"),
            line(upstream, "limit_conns", "accept_queue", label="limit", colour="limit", dashed=True),
        ],
        "sock_diag; limit + 1 connections fit",
        tall=True,
    )


def _states(line: ReadLine) -> Figure:
    states = {
        "00 free": ("free_socks", "status-none"),
        "01 unconnected": ("unconnected_socks", "state-01"),
        "02 connecting": ("connecting_socks", "state-02"),
        "03 connected": ("connected_socks", "state-03"),
        "04 disconnecting": ("disconnecting_socks", "status-500"),
    }
    lines = [
        line("unix_states", column, "unix_states", label=label, colour=colour)
        for label, (column, colour) in states.items()
    ]
    rare = ("00 free", "04 disconnecting")
    seen = [one for one in lines if one.label not in rare or np.nansum(one.y)]
    title = "Sockets on the upstream's path, by state"
    return _figure("states", title, "sockets", seen, "Rows of /proc/net/unix")


def _active(database: duckdb.DuckDBPyConnection, line: ReadLine, span: Span, parameters: ParameterValues) -> Figure:
    """Return Active beside both readings of Q and A: that of the study, in front of nginx, and that at the upstream."""
    database.execute(
        "CREATE OR REPLACE TEMP TABLE sum_at_upstream AS "
        "SELECT t_ns, depth_conns + accepted_conns + 1 AS expected_conns, NULL AS reason "
        f"FROM ({same_moment(rates_of(parameters))}) "
        "UNION ALL SELECT t_ns, NULL, reason FROM upstream_conns WHERE reason IS NOT NULL"
    )
    active = line("stub_status", "active_conns", "stub_status", label="Active", colour="active")
    upstream = line(
        "sum_at_upstream", "expected_conns", "upstream_conns", label=UPSTREAM_SUM, colour="expected", dashed=True
    )
    figure = _figure(
        "active",
        "Active of nginx, beside Q + A + 1",
        "connections",
        [active, upstream],
        "stub_status, its own poll included; at the upstream Q and A by sock_diag, at the moments of A",
    )
    keepalive = parameters.get("keepalive") is True
    front = _in_front(database, span, keepalive=keepalive)
    if front is None:
        return replace(figure, notes=[*figure.notes, *([KEPT] if keepalive else [])])
    note = f"In front of nginx Q and A are the clients that are connected, by Locust; n = {front.n:,} connections."
    return replace(figure, lines=[active, front, upstream], notes=[*figure.notes, note])


def _in_front(database: duckdb.DuckDBPyConnection, span: Span, *, keepalive: bool) -> Line | None:
    """Return Q + A + 1 as the study draws it, whenever a client comes or goes; None where requests do not tell."""
    found = database.execute(client_conns(keepalive=keepalive)).fetchnumpy()
    # One number for each change, its time and then whether it begins: numbers are sorted faster than rows.
    changes = np.concatenate([2 * found["connected_ns"] + 1, 2 * found["end_ns"]])
    if not changes.size:
        return None
    changes.sort()
    t_ns, sums = changes >> 1, 1.0 + np.cumsum((changes & 1) * 2 - 1)
    last = np.append(t_ns[1:] != t_ns[:-1], True)
    x = np.concatenate([[span.low_s], span.seconds(t_ns[last]), [span.high_s]])
    y = np.concatenate([[1.0], sums[last], sums[-1:]])
    # They come and go at any time, so that their number may be another one in each column.
    return Line(FRONT_SUM, "in-front", *thin(*collapse(x, y), LEAST_COLUMNS), dashed=True, n=t_ns.size // 2)


def _memory(database: duckdb.DuckDBPyConnection, line: ReadLine) -> Figure:
    """Return PSS and RSS of each worker, or of those that had the most."""
    return _of_processes(
        database,
        line,
        Figure("memory", "Memory of nginx's workers", "MB"),
        ("nginx-worker",),
        {"PSS": "pss_bytes", "RSS": "rss_bytes"},
        "smaps_rollup; RSS counts shared pages in each process, PSS divides them",
    )


def _own_memory(database: duckdb.DuckDBPyConnection, line: ReadLine) -> Figure:
    """Return what master and workers have written themselves, beside VmSize, which the study looked at."""
    return _of_processes(
        database,
        line,
        Figure("own-memory", "Private memory of nginx, beside VmSize", "MB"),
        ("nginx-master", "nginx-worker"),
        {"Private_Dirty": "private_dirty_bytes", "VmSize": "vmsize_bytes"},
        "smaps_rollup and status; VmSize counts addresses, whether or not there is memory behind them",
    )


def _bodies(database: duckdb.DuckDBPyConnection, line: ReadLine) -> Figure:
    """Return what waits outside of nginx's memory: in files without a name, and in the kernel's sockets."""
    empty = Figure("bodies", "Bodies that wait outside of nginx's memory", "MB")
    said = "fstat() of open files without a name"
    in_files = _of_processes(database, line, empty, ("nginx-worker",), {"temporary files": "deleted_bytes"}, said)
    columns = {
        "sent to unix sockets, not received": ("unix_sent_bytes", "state-01"),
        "TCP, received and not read": ("tcp_unread_bytes", "status-502"),
        "TCP, written and not acknowledged": ("tcp_unsent_bytes", "expected"),
    }
    lines = [
        line("socket_memory", f"{column} / 1e6", "socket_memory", label=label, colour=colour)
        for label, (column, colour) in columns.items()
    ]
    said = "SK_MEMINFO of all sockets of the host, with the kernel's overhead"
    in_sockets = _figure(empty.name, empty.title, empty.unit, lines, said)
    return replace(empty, lines=[*in_files.lines, *lines], notes=[*in_files.notes, *in_sockets.notes])


def _of_processes(
    database: duckdb.DuckDBPyConnection,
    line: ReadLine,
    empty: Figure,
    roles: Sequence[str],
    columns: Mapping[str, str],
    said: str,
) -> Figure:
    """Return a figure of processes of nginx; of more workers than can be told apart those with the most memory.

    Args:
        database: the tables.
        line: makes a line.
        empty: the figure without its lines.
        roles: of the processes.
        columns: label -> column (bytes); all but the first are dashed.
        said: where they come from.
    """
    found = database.execute(
        "SELECT pid, any_value(role) FROM process WHERE role IN (SELECT unnest($roles)) AND pid IS NOT NULL "
        "GROUP BY pid ORDER BY any_value(role), max(rss_bytes) DESC NULLS LAST, pid",
        {"roles": list(roles)},
    ).fetchall()
    if not found:
        why = database.execute("SELECT reason, count(*) FROM process WHERE reason IS NOT NULL GROUP BY 1").fetchall()
        notes = [f"{many(count, 'reading')} failed: {reason}." for reason, count in why]
        return replace(empty, notes=notes or ["No process of nginx was seen."])
    masters = [(pid, "master", "expected") for pid, role in found if role == "nginx-master"][:1]
    workers = [pid for pid, role in found if role == "nginx-worker"]
    shown = sorted(workers[:MOST_WORKERS])
    processes = [*masters, *((pid, "worker", one) for pid, one in zip(shown, WORKER_COLOURS, strict=False))]
    lines = [
        line(
            f"(SELECT * FROM process WHERE pid = {pid})",
            f"{column} / 1e6",
            "process",
            label=f"{label} of {role} {pid}",
            colour=colour,
            dashed=number > 0,
        )
        for pid, role, colour in processes
        for number, (label, column) in enumerate(columns.items())
    ]
    if len(workers) > len(shown):
        said += f"; {len(shown)} of {len(workers)} workers, those with the most"
    return _figure(empty.name, empty.title, empty.unit, lines, said)


def _step_s(span: Span) -> int:
    """Return in steps of how many seconds events are counted."""
    return next((one for one in STEPS_S if (span.high_s - span.low_s) / one <= MOST_STEPS), STEPS_S[-1])


def _in_steps(span: Span) -> str:
    return "" if _step_s(span) == 1 else f", counted in steps of {_step_s(span)} s"


def _answers(database: duckdb.DuckDBPyConnection, span: Span) -> Figure:
    """Return answers per second."""
    answers, rarer = counted(
        database,
        f"SELECT {OUTCOME} AS kind, end_ns AS t_ns FROM requests",
        span,
        width_s=_step_s(span),
        most=MOST_KINDS,
    )
    lines = [Line(kind, colour_of(kind), x, y, " " in kind, n) for kind, x, y, n in sorted(answers)]
    said = f"Locust, at the end of each request{_in_steps(span)}: {_how_many(lines, rarer)}."
    note = said if lines else "No request ended within the samples."
    return Figure("answers", "What clients got, by status", "per second", lines, [note])


def _errors(database: duckdb.DuckDBPyConnection, span: Span) -> Figure:
    """Return nginx's errors per second."""
    # Its log knows the second of the wall clock, and its own seconds are what can be counted.
    seconds = _at_seconds_of_the_log(database, span)
    errors, rarer = counted(
        database,
        f"SELECT {ERROR_CLASS} AS kind, end_ns AS t_ns FROM nginx_errors",
        seconds,
        width_s=_step_s(span),
        most=MOST_KINDS,
    )
    zero_s = (seconds.zero_ns - span.zero_ns) / 1e9
    lines = [
        Line(class_name(kind), colour, np.clip(x + zero_s, span.low_s, span.high_s), y, n=n)
        for (kind, x, y, n), colour in zip(errors, CLASS_COLOURS, strict=False)
    ]
    said = _how_many(lines, rarer)
    early = database.execute(
        "SELECT count(*) FROM nginx_errors WHERE end_ns NOT BETWEEN $start AND $end",
        {"start": span.start_ns, "end": span.end_ns},
    ).fetchone()
    if early and early[0]:
        said += f"{'; ' if said else ''}{many(early[0], 'line')} from before or after the samples not drawn"
    note = f"error.log, which knows the second{_in_steps(span)}: {said or 'no line'}."
    return Figure("errors", "Errors that nginx logged, by class", "per second", lines, [note])


def _how_many(lines: Sequence[Line], rarer: int) -> str:
    """Say how many there were of each kind."""
    said = ", ".join(f"{one.n:,} × {one.label}" for one in lines)
    return f"{said}; and {many(rarer, 'rarer kind')}, not drawn" if rarer else said


def _at_seconds_of_the_log(database: duckdb.DuckDBPyConnection, span: Span) -> Span:
    """Return the span with a zero that is a second of the log, at or before the real one."""
    row = database.execute("SELECT any_value(end_ns) FROM nginx_errors").fetchone()
    if row is None or row[0] is None:
        return span
    return Span(span.start_ns, span.end_ns, span.zero_ns - (span.zero_ns - row[0]) % 1_000_000_000)


def class_name(kind: str) -> str:
    """Return how a class of errors is called: `11 EAGAIN`, or the message where no call had failed."""
    if kind.isdigit():
        return f"{kind} {errno.errorcode.get(int(kind), '')}".strip()
    return kind if len(kind) <= 60 else f"{kind[:59]}…"


def _requests(database: duckdb.DuckDBPyConnection, span: Span) -> Figure:
    """Return single requests, each from its start to its end."""
    n, unknown = database.execute(
        "SELECT count(*) FILTER (start_ns IS NOT NULL AND end_ns IS NOT NULL), "
        "count(*) FILTER (start_ns IS NULL OR end_ns IS NULL) FROM requests"
    ).fetchone() or (0, 0)
    numbered = (
        f"SELECT {OUTCOME} AS outcome, start_ns, end_ns, row_number() OVER (ORDER BY start_ns, id) - 1 AS number "
        "FROM requests WHERE start_ns IS NOT NULL AND end_ns IS NOT NULL"
    )
    if n > MOST_REQUESTS:
        extreme = "struct_pack(start_ns, end_ns, number), end_ns - start_ns"
        numbered = f"""
            SELECT DISTINCT outcome, one.start_ns, one.end_ns, one.number FROM (
                SELECT outcome, unnest([arg_min({extreme}), arg_max({extreme})]) AS one
                FROM ({numbered}) GROUP BY outcome, number * {GROUPS} // {n}
            )
        """
    found = database.execute(f"SELECT * FROM ({numbered}) ORDER BY number").fetchnumpy()
    outcomes = np.asarray(found["outcome"], dtype=object)
    counts = dict(
        database.execute(f"SELECT {OUTCOME}, count(*) FROM requests GROUP BY 1 ORDER BY 1").fetchall()
    )  # fmt: skip
    bars = []
    for outcome, count in counts.items():
        of_it = outcomes == outcome
        start, end = (span.seconds(found[name][of_it].astype(np.int64)) for name in ("start_ns", "end_ns"))
        bars.append(Bars(outcome, colour_of(outcome), start, end, found["number"][of_it].astype(np.float64), count))
    bars = [one for one in bars if one.start.size]
    note = f"Every one of {n:,} requests, in the order of their starts."
    if n > MOST_REQUESTS:
        note = (
            f"{sum(one.start.size for one in bars):,} of {n:,} requests, in the order of their starts: of each of "
            f"{GROUPS} groups, and of each kind of answer in it, the shortest and the longest."
        )
    if not n:
        note = "No request is drawn." if unknown else "No request was sent."
    notes = [note, *([f"{unknown:,} more have no start or no end."] if unknown else [])]
    return Figure("requests", "Single requests, from start to end", "number", bars=bars, notes=notes)


def latency(database: duckdb.DuckDBPyConnection) -> Figure:
    """Return how long requests took: of all of them, the share that had ended, with each answer, within so long.

    What the client gave up is only known to take longer, so it is in no curve and in every denominator.
    """
    rows = database.execute(
        f"""
        WITH ended AS (
            SELECT {OUTCOME} AS outcome, (end_ns - intended_ns) / 1e9 AS s
            FROM requests WHERE error IS DISTINCT FROM 'timeout' AND end_ns IS NOT NULL AND intended_ns IS NOT NULL
        ),
        ranked AS (
            SELECT outcome, s, row_number() OVER (PARTITION BY outcome ORDER BY s) AS rank,
                   count(*) OVER (PARTITION BY outcome) AS n FROM ended
            UNION ALL
            SELECT NULL, s, row_number() OVER (ORDER BY s), count(*) OVER () FROM ended
        )
        SELECT outcome, s, rank, n FROM ranked
        WHERE rank = 1 OR n - rank < 100 OR rank * {CURVE_POINTS} // n <> (rank - 1) * {CURVE_POINTS} // n
        ORDER BY outcome NULLS FIRST, rank
        """
    ).fetchall()
    sent, given_up, unknown = database.execute(
        "SELECT count(*), count(*) FILTER (error = 'timeout'), "
        "count(*) FILTER (error IS DISTINCT FROM 'timeout' AND (end_ns IS NULL OR intended_ns IS NULL)) FROM requests"
    ).fetchone() or (0, 0, 0)
    lines = []
    outcomes = list(dict.fromkeys(row[0] for row in rows))
    # All of them are drawn last, and dashed: often they coincide with one kind.
    for outcome in [*outcomes[1:], None] if len(outcomes) > 2 else outcomes[:1]:
        points = [row for row in rows if row[0] == outcome]
        # Six digits are more than the clock has; of several requests with one value the last has the share.
        shares = {float(f"{max(s, 1e-6):.6g}"): rank / sent for _, s, rank, _ in points}
        x, y = np.array([min(shares), *shares]), np.array([0.0, *shares.values()])
        label = "all" if outcome is None else outcome
        colour = "text" if outcome is None else colour_of(outcome)
        dashed = len(outcomes) > 2 if outcome is None else " " in outcome
        lines.append(Line(label, colour, x, y * 100, dashed, points[0][3]))
    notes = [f"Of n = {sent:,} requests, the share that had ended within so long; from the intended start, raw values."]
    if given_up:
        notes.append(f"{given_up:,} were given up by the client and took longer than any that is drawn.")
    if unknown:
        notes.append(f"Of {unknown:,} requests it is not known how long they took: a time is missing.")
    if given_up or unknown:
        notes.append(f"So the curve ends at {1 - (given_up + unknown) / sent:.1%}.")
    title = "How long requests took"
    return Figure("latency", title, "% of requests", lines, notes if sent else ["No request was sent."], kind="latency")
