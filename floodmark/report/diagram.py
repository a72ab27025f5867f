"""The study's diagram with the numbers of a run in it: where connections are, at any moment.

The study draws the accept queue (Q) in front of nginx's listen(), and what workers have accepted (A) behind it. Behind
nginx there is a queue again, that of the upstream. Each number is a line over time, and at any moment it is the last
one that was read before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import duckdb
import numpy as np
import numpy.typing as npt

from collectors.fields import ACCEPT_QUEUE, STUB_STATUS, UPSTREAM_CONNS
from floodmark.report.figures import FRONT_SUM, KEPT, LEAST_COLUMNS, Figure, reader
from floodmark.report.series import TICK_S, Line, Numbers, Span, collapse, in_ticks, rates_of, thin
from floodmark.values import ParameterValues
from floodmark.verdict.views import PERIODS_OF_A_MOMENT

# What is the deepest queue, where there is one; otherwise another moment that shows something.
MOMENTS = {
    "queue": ("deepest queue", "the upstream's queue is deepest"),
    "front": ("deepest queue", "nginx's own queue is deepest"),
    "active": ("highest Active", "Active is highest"),
    "in_front": ("most clients", "most clients are connected"),
}
# The places of a queue are drawn one by one up to so many.
MOST_PLACES = 40
# Which numbers are Q and A of Active = Q + A + 1: as the study draws them, and as they are at the upstream.
READINGS = {"study": ("front", "held"), "upstream": ("queue", "accepted")}
# Active, and the lines that Q + A + 1 is the sum of.
RESTS_ON = {"study": ("active", "in_front"), "upstream": ("active", "queue", "accepted")}
# The sources that stand side by side in it; the slowest says how old a number may be.
READ = (ACCEPT_QUEUE.name, STUB_STATUS.name, UPSTREAM_CONNS.name)


@dataclass(frozen=True)
class Diagram:
    """The numbers of the diagram over time, and the moment that it shows while nobody points at another.

    Attributes:
        lines: in_front (Q + A + 1 as the study draws it), front and front_limit, active, queue and limit, accepted.
        at: the moment, in ticks.
        name: of the moment, in short.
        when: what it is the moment of.
        settled_s: how far apart in time the last readings of two numbers may be.
        notes: what a reader has to know.
    """

    lines: Mapping[str, Line]
    at: int
    name: str
    when: str
    settled_s: float
    notes: Sequence[str]

    @property
    def at_s(self) -> float:
        """The moment on the axis (s)."""
        return self.at * TICK_S

    @cached_property
    def numbers(self) -> dict[str, int | None]:
        """All numbers at that moment; held is what workers have accepted. None for what was not read."""
        read = {name: _whole(_at(line, np.array([self.at]))[0][0]) for name, line in self.lines.items()}
        in_front, front = read["in_front"], read["front"]
        clients = None if in_front is None else in_front - 1
        # A busy client learns later than the kernel that it is connected.
        held = clients - front if clients is not None and front is not None and front <= clients else None
        return {**read, "clients": clients, "held": held}

    def holds(self, reading: str) -> bool | None:
        """Return whether Active is Q + A + 1; None where numbers have changed so lately that one cannot tell.

        Args:
            reading: of Q and A, one of READINGS.
        """
        if any(self.numbers[name] is None for name in ("active", *READINGS[reading])):
            return None
        active, *parts = (_range(self.lines[name], self.at, self.settled_s) for name in RESTS_ON[reading])
        low, high = (sum(ends) + (reading == "upstream") for ends in zip(*parts, strict=True))
        if active[1] < low or high < active[0]:
            return False
        return True if active == (low, high) and low == high else None

    def places(self, limit: str) -> int:
        """Return how many places of a queue are drawn: one more than its limit, or 1 where there are too many."""
        conns = self.numbers[limit]
        return conns + 1 if conns is not None and conns < MOST_PLACES else 1

    def share(self, depth: str, limit: str) -> float:
        """Return which share of a queue's places is taken."""
        conns, most = self.numbers[depth], self.numbers[limit]
        return 0.0 if conns is None or most is None else round(min(conns / (most + 1), 1), 4)


def draw_diagram(
    database: duckdb.DuckDBPyConnection,
    span: Span,
    parameters: ParameterValues,
    share: int,
    figures: Sequence[Figure],
) -> Diagram | None:
    """Return the diagram of one host; None where nothing was read that it could show.

    Args:
        database: its tables.
        span: what is drawn of time.
        parameters: of the run.
        share: among how many the columns of a page are shared.
        figures: that have been drawn; their lines are used again.
    """
    line = reader(database, span, parameters, share)
    drawn = {one.label: one for figure in figures for one in figure.lines if figure.name in ("accept-queue", "active")}
    of_front = "(SELECT * FROM accept_queue WHERE listener = 'front')"
    front = _thin(line(of_front, "depth_conns", ACCEPT_QUEUE.name, label="", colour=""))
    # The same readings have it, and only listen() changes it.
    (limit,) = database.execute("SELECT max(limit_conns) FROM front_queue").fetchone() or (None,)
    front_limit = np.where(np.isnan(front.y), np.nan, np.nan if limit is None else limit)
    nothing = Line("", "", np.array([]), np.array([]))
    lines = {
        "in_front": drawn.get(FRONT_SUM, nothing),
        "front": front,
        "front_limit": Line("", "", *collapse(front.x, front_limit)),
        "active": drawn.get("Active", nothing),
        "queue": drawn.get("queue", nothing),
        "limit": drawn.get("limit", nothing),
        "accepted": _thin(line(UPSTREAM_CONNS.name, "accepted_conns", UPSTREAM_CONNS.name, label="", colour="")),
    }
    rates_hz = rates_of(parameters)
    settled_s = PERIODS_OF_A_MOMENT * max((1 / rates_hz[source] for source in READ if source in rates_hz), default=0.1)
    found = _moment(lines, settled_s)
    return Diagram(lines, *found, settled_s, [KEPT] if parameters.get("keepalive") is True else []) if found else None


def _thin(line: Line) -> Line:
    """Return a line that no figure draws with no more points than a pointer can find."""
    x, y = thin(line.x, line.y, LEAST_COLUMNS)
    return replace(line, x=x, y=y)


# --- a moment -------------------------------------------------------------------------------------


def _moment(lines: Mapping[str, Line], settled_s: float) -> tuple[int, str, str] | None:
    """Return the moment that shows most, in ticks, its name, and what it is the moment of.

    Of all moments with the deepest queue it is the first of those with the highest Active at which no number changes.
    """
    for name, called in MOMENTS.items():
        height = lines[name].y
        if height.size and np.nan_to_num(height).max() > 0:
            ticks = np.unique(np.concatenate([_settling(one, settled_s) for one in lines.values()]))
            depth = np.nan_to_num(_at(lines[name], ticks)[0], nan=-1)
            ticks = ticks[depth == depth.max()]
            still = np.sum([_settled(one, ticks, settled_s) for one in lines.values()], axis=0)
            active = np.nan_to_num(_at(lines["active"], ticks)[0], nan=-1)
            return int(ticks[np.lexsort((ticks, -active, -still))[0]]), *called
    return None


def _settling(line: Line, settled_s: float) -> npt.NDArray[np.int64]:
    """Return the ticks at which a line changes, and at which it has stood still since."""
    ticks = in_ticks(line.x)
    return np.concatenate([ticks, ticks + _ticks_of(settled_s)])


def _ticks_of(seconds: float) -> int:
    return int(in_ticks(np.array([seconds]))[0])


def _at(line: Line, ticks: npt.NDArray[np.int64]) -> tuple[Numbers, npt.NDArray[np.int64]]:
    """Return the values of a line at some moments, and since when it has had each; NaN where nothing was read."""
    if not line.x.size:
        return np.full(ticks.size, np.nan), np.zeros(ticks.size, dtype=np.int64)
    x = in_ticks(line.x)
    new = np.concatenate([[True], ~(line.y[1:] == line.y[:-1])])
    since = np.maximum.accumulate(np.where(new, x, x[0]))
    index = np.searchsorted(x, ticks, side="right") - 1
    known = (index >= 0) & (ticks <= x[-1])
    return np.where(known, line.y[index], np.nan), since[index]


def _settled(line: Line, ticks: npt.NDArray[np.int64], settled_s: float) -> npt.NDArray[np.bool_]:
    """Return at which moments a line has had its value for so long."""
    value, since = _at(line, ticks)
    return ~np.isnan(value) & (ticks - since >= _ticks_of(settled_s))


def _range(line: Line, at: int, settled_s: float) -> tuple[float, float]:
    """Return the least and the greatest value of a line in the time before a moment; NaN where one was not read."""
    x = in_ticks(line.x)
    first, last = (int(np.searchsorted(x, tick, side="right")) - 1 for tick in (at - _ticks_of(settled_s), at))
    values = line.y[max(first, 0) : last + 1]
    return float(values.min()), float(values.max())


def _whole(value: float) -> int | None:
    return None if np.isnan(value) else int(value)
