"""From millions of readings to lines of some thousand points, in DuckDB over the Parquet files of a host.

A line is divided into columns of time, and of each column the first, the last, the least and the greatest reading are
kept, each at its own time: as long as a column is no wider than a pixel, the picture is that of all readings.

Source: Jugel et al., M4: A Visualization-Oriented Time Series Data Aggregation, VLDB 2014
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from collectors.fields import TABLES
from floodmark.runs.folders import HostFolder
from floodmark.text import many
from floodmark.values import ParameterValues
from floodmark.verdict.tables import SQL_TYPES, sql_text
from floodmark.verdict.views import create_queue_views

Numbers = npt.NDArray[np.float64]
# Columns of a line, which all hosts of a run share: more than a wide screen has pixels, so that there is room to zoom.
COLUMNS = 4000
# Scripts get times as whole numbers of this length.
TICK_S = 1e-5
# Where so many readings in turn are missing, a line breaks.
GAP_PERIODS = 10
# Reasons that are named.
MOST_REASONS = 3


@dataclass(frozen=True)
class Span:
    """What is drawn of time: from the first sample to the last, on the host's monotonic clock.

    Attributes:
        start_ns: the first sample.
        end_ns: the last sample.
        zero_ns: where the axis has its 0: the first request, or the first sample where there was none.
    """

    start_ns: int
    end_ns: int
    zero_ns: int

    def seconds(self, t_ns: npt.NDArray[Any]) -> Numbers:
        """Return times as the axis has them."""
        return np.asarray((t_ns - self.zero_ns) / 1e9, dtype=np.float64)

    @property
    def low_s(self) -> float:
        """Where the axis begins."""
        return (self.start_ns - self.zero_ns) / 1e9

    @property
    def high_s(self) -> float:
        """Where the axis ends."""
        return (self.end_ns - self.zero_ns) / 1e9


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        label: its name in the legend.
        colour: name of a colour of the style sheet.
        x: places on the axis, rising.
        y: values; NaN where the line breaks.
        dashed: how it is drawn.
        n: readings that it stands for.
        gaps: sentences that say why it breaks.
    """

    label: str
    colour: str
    x: Numbers
    y: Numbers
    dashed: bool = False
    n: int = 0
    gaps: tuple[str, ...] = field(default=())


# --- the tables ---------------------------------------------------------------------------------


def rates_of(parameters: ParameterValues) -> dict[str, float]:
    """Return source -> how often a second it was read, of those whose rate the run recorded."""
    return {
        name.removesuffix("_hz"): value
        for name, value in parameters.items()
        if name.endswith("_hz") and isinstance(value, (int, float)) and value > 0
    }


def open_tables(
    folder: HostFolder, names: Iterable[str] = tuple(TABLES)
) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    """Open the tables of one host where they lie.

    Args:
        folder: the host's results.
        names: of the tables that are wanted; `accept_queue` is among them, from which views are made.

    Returns:
        A database that has these tables, and sentences about what is missing in them: a table that
        is missing or damaged is empty, a column that an older run does not have is empty.
    """
    database = duckdb.connect()
    missing, losses = [], []
    for table in (TABLES[name] for name in names):
        path = folder.table(table.name)
        source = sql_text(path)
        there: set[str] = set()
        try:
            there = {row[0] for row in database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        except duckdb.Error as error:
            if path.exists():
                losses.append(f"the table {table.name} is damaged: {str(error).splitlines()[0]}")
            else:
                missing.append(table.name)
        columns = {one.name: SQL_TYPES[one.type] for one in table.fields} | {"phase": "VARCHAR"}
        lacking = [name for name in columns if name not in there and name != "phase"]
        if there and lacking:
            losses.append(f"the table {table.name} is of another version of Floodmark, it has no {', '.join(lacking)}")
        taken = ", ".join(
            f"CAST({name if name in there else 'NULL'} AS {type_}) AS {name}" for name, type_ in columns.items()
        )
        database.execute(
            f"CREATE VIEW {table.name} AS SELECT {taken} " + (f"FROM {source}" if there else "WHERE false")
        )
    create_queue_views(database)
    if missing:
        losses.append(f"these tables were not written or are gone: {', '.join(missing)}")
    return database, losses


def find_span(
    database: duckdb.DuckDBPyConnection, sources: Sequence[str] = ("accept_queue", "stub_status")
) -> tuple[Span, int | None] | None:
    """Return what there is to draw of time, and when the last request ended; None where nothing was sampled.

    Args:
        database: the tables.
        sources: those whose samples count; the second one is for when the first is missing.
    """
    samples = " UNION ALL ".join(f"SELECT t_ns FROM {name}" for name in sources)
    row = database.execute(
        f"""
        WITH samples AS ({samples}),
        sampled AS (SELECT min(t_ns) AS first, max(t_ns) AS last FROM samples),
        load AS (SELECT min(start_ns) AS begun, max(end_ns) AS ended FROM requests)
        SELECT least(first, begun), greatest(last, ended), begun, ended FROM sampled, load
        """
    ).fetchone()
    first, last, begun, ended = row or (None,) * 4
    if first is None or last is None or last <= first:
        return None
    return Span(first, last, first if begun is None else begun), ended


# --- lines --------------------------------------------------------------------------------------


def readings(
    database: duckdb.DuckDBPyConnection,
    source: str,
    column: str,
    span: Span,
    *,
    columns: int,
    period_s: float | None,
    **how: Any,
) -> Line:
    """Return the readings of one column as a line.

    Args:
        database: the tables.
        source: a table, or a query in brackets, with `t_ns` and `reason`.
        column: an expression over it.
        span: what is drawn of time.
        columns: into how many columns it is divided.
        period_s: how often the source is read; None where it has no beat.
        how: label, colour, dashed.
    """
    within = "t_ns BETWEEN $start AND $end"
    values = {"start": span.start_ns, "end": span.end_ns}
    bucket = f"(t_ns - $start) * {columns} // ($end - $start + 1)"
    found = database.execute(
        f"""
        SELECT seen, every, unnest([min(t_ns), arg_min(t_ns, v), arg_max(t_ns, v), max(t_ns)]) AS t_ns,
               unnest([arg_min(v, t_ns), min(v), max(v), arg_max(v, t_ns)]) AS v
        FROM (SELECT t_ns, CAST({column} AS DOUBLE) AS v, {bucket} AS bucket FROM {source} WHERE {within}),
             (SELECT count({column}) AS seen, count(*) AS every FROM {source} WHERE {within})
        WHERE v IS NOT NULL
        GROUP BY bucket, seen, every ORDER BY t_ns
        """,
        values,
    ).fetchnumpy()
    n = int(found["seen"][0]) if found["seen"].size else 0
    gaps: list[str] = []
    broken = np.empty(0, np.int64)
    if not n or n < found["every"][0]:  # most tables have no reading that failed, and need not be read once more
        failed = f"{source} WHERE {within} AND ({column}) IS NULL"
        broken = database.execute(
            f"SELECT unnest([min(t_ns), max(t_ns)]) AS t_ns FROM {failed} GROUP BY {bucket}", values
        ).fetchnumpy()["t_ns"]
        gaps += _reasons(database, failed, values)
    t_ns = np.concatenate([found["t_ns"], broken]).astype(np.int64)
    y = np.concatenate([found["v"].astype(np.float64), np.full(broken.size, np.nan)])
    if period_s and t_ns.size > 1:
        there = np.sort(t_ns)
        # Between the points of one column there may be readings that are not points.
        apart = np.diff((there - span.start_ns) * columns // (span.end_ns - span.start_ns + 1)) > 0
        silent = there[:-1][apart & (np.diff(there) > GAP_PERIODS * period_s * 1e9)] + 1
        t_ns, y = np.concatenate([t_ns, silent]), np.concatenate([y, np.full(silent.size, np.nan)])
        if silent.size:
            gaps.append(f"{silent.size:,} × nothing was read for more than {GAP_PERIODS} periods")
    order = np.argsort(t_ns, kind="stable")
    x, y = collapse(span.seconds(t_ns[order]), y[order])
    return Line(x=x, y=y, n=n, gaps=tuple(gaps), **how)


def _reasons(database: duckdb.DuckDBPyConnection, failed: str, values: dict[str, int]) -> Iterator[str]:
    """Yield why readings failed; reasons that differ in numbers alone are one."""
    rows = database.execute(
        f"""
        SELECT coalesce(min(reason), 'no value was written'), count(DISTINCT reason), count(*) FROM {failed}
        GROUP BY regexp_replace(reason, '[0-9]+', '', 'g') ORDER BY 3 DESC, 1
        """,
        values,
    ).fetchall()
    for reason, variants, count in rows[:MOST_REASONS]:
        yield f"{many(count, 'reading')} failed: {reason}" + (", and alike" if variants > 1 else "")
    rest = sum(count for _, _, count in rows[MOST_REASONS:])
    if rest:
        yield f"{many(rest, 'reading')} failed for {many(len(rows) - MOST_REASONS, 'other reason')}"


def counted(
    database: duckdb.DuckDBPyConnection, query: str, span: Span, *, width_s: float, most: int
) -> tuple[list[tuple[str, Numbers, Numbers, int]], int]:
    """Count events of several kinds in steps of time.

    Args:
        database: the tables.
        query: gives `kind` and `t_ns` of each event.
        span: what is drawn of time.
        width_s: length of the steps.
        most: kinds that are counted.

    Returns:
        Of each of the most frequent kinds: its name, a line of steps with how many there were in a second, and how
        many altogether; and how many other kinds there are.
    """
    database.execute(
        f"CREATE OR REPLACE TEMP TABLE events AS SELECT kind, "
        f"CAST(floor((t_ns - {span.zero_ns}) / 1e9 / {width_s}) AS BIGINT) AS step, count(*) AS n "
        f"FROM ({query}) WHERE t_ns BETWEEN {span.start_ns} AND {span.end_ns} GROUP BY ALL"
    )
    kinds = database.execute("SELECT kind, sum(n) FROM events GROUP BY kind ORDER BY 2 DESC, kind").fetchall()
    first, last = int(np.floor(span.low_s / width_s)), int(np.floor(span.high_s / width_s))
    x = np.clip(np.arange(first, last + 2) * width_s, span.low_s, span.high_s)
    # The span cuts off a part of the first step and of the last.
    shown_s = np.append(np.diff(x), x[-1] - x[-2])
    shown_s[shown_s < width_s / 10] = width_s
    lines = []
    for kind, n in kinds[:most]:
        counts = np.zeros(last - first + 2)
        # A damaged file may lie about what is in it, and so give events beyond the span.
        of_kind = "SELECT step, n FROM events WHERE kind = ? AND step BETWEEN ? AND ?"
        for step, count in database.execute(of_kind, [kind, first, last]).fetchall():
            counts[step - first] = count
        counts[-1] = counts[-2]  # the last step has an end
        lines.append((kind, *collapse(x, counts / shown_s), int(n)))
    return lines, len(kinds) - len(lines)


def in_ticks(x: Numbers) -> npt.NDArray[np.int64]:
    """Return places on the axis of time as a script has them."""
    return np.rint(x / TICK_S).astype(np.int64)


def collapse(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Leave out the points that are like the one before and the one after, and what stands there twice."""
    if x.size < 2:
        return x, y
    value = np.where(np.isnan(y), -np.inf, y)
    twice = np.concatenate([[False], (x[1:] == x[:-1]) & (value[1:] == value[:-1])])
    x, y, value = x[~twice], y[~twice], value[~twice]
    if x.size < 3:
        return x, y
    inside = (value[1:-1] == value[:-2]) & (value[1:-1] == value[2:])
    keep = np.concatenate([[True], ~inside, [True]])
    return x[keep], y[keep]


def thin(x: Numbers, y: Numbers, columns: int) -> tuple[Numbers, Numbers]:
    """Return a line with the first, last, least and greatest point of each column, and its gaps."""
    if x.size <= 4 * columns:
        return x, y
    broken = np.isnan(y)
    column = ((x - x[0]) / (x[-1] - x[0]) * columns).astype(np.int64) + np.cumsum(broken) * (columns + 2)
    keep = broken.copy()
    for order in (np.arange(x.size), np.lexsort((np.where(broken, 0, y), column))):
        sorted_column = column[order]
        edge = np.concatenate([[True], sorted_column[1:] != sorted_column[:-1]])
        keep[order[edge]] = True
        keep[order[np.concatenate([edge[1:], [True]])]] = True
    return x[keep], y[keep]
