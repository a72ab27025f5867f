"""When requests are to start: times that are planned before anything is sent, or that follow from answers.

An open loop does not care whether earlier requests were answered. That is how the users of a web site arrive, and it
is the only load in which a stall is seen by all who arrive meanwhile; in a closed loop each client waits for its
answer, and a stall costs each of them one request ("coordinated omission").
"""

from __future__ import annotations

import heapq
import math
import random
import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple, Protocol

NS = 1_000_000_000


class Step(NamedTuple):
    """A part of an open loop.

    Attributes:
        first_rate: requests per second at its beginning.
        last_rate: and at its end.
        seconds: how long it lasts.
    """

    first_rate: float
    last_rate: float
    seconds: float

    @property
    def arrivals(self) -> float:
        """How many requests it has, on average if they come at random."""
        return (self.first_rate + self.last_rate) / 2 * self.seconds

    def when(self, arrivals: float) -> float:
        """Return after how many seconds so many requests have come: the rate's integral, inverted."""
        if not arrivals:
            return 0.0
        slope = (self.last_rate - self.first_rate) / self.seconds
        # arrivals = first_rate * t + slope / 2 * t²; written so that a slope of 0 is no special case
        root = math.sqrt(max(0.0, self.first_rate**2 + 2 * slope * arrivals))
        return 2 * arrivals / (self.first_rate + root)


_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
STEP = re.compile(rf"(?P<first>{_NUMBER})(?:-(?P<last>{_NUMBER}))?(?::(?P<seconds>{_NUMBER}))?")


def parse_steps(text: str, duration_s: float) -> list[Step]:
    """Read a rate, or steps and ramps: `100:10 100-500:20` is ten seconds at 100 per second, then twenty up to 500.

    Args:
        text: what was given.
        duration_s: how long a step takes that does not say so.

    Raises:
        ValueError: what is wrong with it.
    """
    steps = []
    for part in text.split():
        found = STEP.fullmatch(part)
        if not found:
            raise ValueError(f"'{part}' is no step of RATE:SECONDS or RATE-RATE:SECONDS")
        first, last, seconds = (
            float(found["first"]),
            float(found["last"] or found["first"]),
            float(found["seconds"] or duration_s),
        )
        if not (max(first, last) > 0 and seconds > 0):
            raise ValueError(f"'{part}': a step needs a rate and a time above 0")
        steps.append(Step(first, last, seconds))
    if not steps:
        raise ValueError("no step was given")
    return steps


def planned(steps: Sequence[Step], *, seed: int | None = None, share: int = 0, of: int = 1) -> Iterator[int]:
    """Yield when each request of an open loop is to start.

    Args:
        steps: the rates.
        seed: of arrivals that come at random (a Poisson process); None is evenly spaced ones.
        share: which of several generators this is.
        of: how many there are; each plans its part by itself, together they have all of it.

    Yields:
        Nanoseconds since the beginning, in order.
    """
    begin_s, before = 0.0, 0.0
    units = _at_random(random.Random(f"{seed}/{share}"), of) if seed is not None else count(share, of)
    unit = next(units)
    for step in steps:
        while unit < before + step.arrivals:
            yield round((begin_s + step.when(unit - before)) * NS)
            unit = next(units)
        begin_s, before = begin_s + step.seconds, before + step.arrivals


def _at_random(draw: random.Random, of: int) -> Iterator[float]:
    """Yield the times of a Poisson process that has one arrival in `of` units of time."""
    at = 0.0
    while True:
        at += draw.expovariate(1 / of)
        yield at


def spread(requests: int, spread_ns: int, *, share: int = 0, of: int = 1) -> Iterator[int]:
    """Yield when so many requests start that are spread evenly over a time, as those of a shell's loop are.

    Args:
        requests: how many, of all generators together.
        spread_ns: the time.
        share: which of several generators this is.
        of: how many there are.
    """
    for turn in range(share, requests, of):
        yield turn * spread_ns // requests


def bursts(count: int, every_ns: int, first: Sequence[int]) -> Iterator[int]:
    """Yield when the requests of several bursts start.

    Args:
        count: how many bursts.
        every_ns: from the beginning of one to that of the next, longer than one takes.
        first: when the requests of the first one start.
    """
    for burst in range(count):
        for offset in first:
            yield burst * every_ns + offset


class Load(Protocol):
    """Says when requests are to start."""

    def due_ns(self) -> int | None:
        """Return when the next request is to start, or None while none is planned."""

    def take(self) -> int:
        """Return the same, and go on to the one after."""

    def ended(self, end_ns: int) -> None:
        """Learn that a request has ended."""

    @property
    def is_over(self) -> bool:
        """Whether no request will be planned any more."""


class OpenLoop:
    """Requests start when they were planned to, whatever has become of earlier ones.

    Args:
        offsets: when, in nanoseconds since the beginning.
        begin_ns: the beginning, on the monotonic clock.
    """

    def __init__(self, offsets: Iterator[int], begin_ns: int) -> None:
        self._offsets = offsets
        self._begin_ns = begin_ns
        self._due_ns: int | None = None
        self._go_on()

    def due_ns(self) -> int | None:
        """Return when the next request is to start, or None after the last."""
        return self._due_ns

    def take(self) -> int:
        """Return the same, and go on to the one after."""
        assert self._due_ns is not None
        due_ns = self._due_ns
        self._go_on()
        return due_ns

    def ended(self, _end_ns: int) -> None:
        """Nothing follows from an answer."""

    def change(self, offsets: Iterator[int], begin_ns: int) -> None:
        """Go on with other times, and forget the ones that were left."""
        self._offsets, self._begin_ns = offsets, begin_ns
        self._go_on()

    @property
    def is_over(self) -> bool:
        """Whether the last request was taken."""
        return self._due_ns is None

    def _go_on(self) -> None:
        offset = next(self._offsets, None)
        self._due_ns = None if offset is None else self._begin_ns + offset


class ClosedLoop:
    """Each of a number of users sends again when it was answered and has thought about it.

    Args:
        first: when each of them sends for the first time, in nanoseconds since the beginning.
        begin_ns: the beginning, on the monotonic clock.
        think_ns: the pause after an answer.
        end_ns: nobody sends again after this time; None is for ever.
    """

    def __init__(self, first: Iterator[int], begin_ns: int, think_ns: int, end_ns: int | None) -> None:
        self._due = [begin_ns + offset for offset in first]  # sorted, and so a heap
        self._think_ns = think_ns
        self._end_ns = end_ns
        self._surplus = 0

    def due_ns(self) -> int | None:
        """Return when the next user sends, or None while all of them wait."""
        return self._due[0] if self._due else None

    def take(self) -> int:
        """Return the same, and go on to the next user."""
        return heapq.heappop(self._due)

    def ended(self, end_ns: int) -> None:
        """Plan the next request of the user who was answered, unless it is one too many."""
        due_ns = end_ns + self._think_ns
        if self._surplus:
            self._surplus -= 1
        elif self._end_ns is None or due_ns < self._end_ns:
            heapq.heappush(self._due, due_ns)

    def add(self, now_ns: int) -> None:
        """Let one more user send from now on."""
        if self._surplus:
            self._surplus -= 1
        else:
            heapq.heappush(self._due, now_ns)

    def remove(self) -> None:
        """Let one user less send, after its answer."""
        self._surplus += 1

    @property
    def is_over(self) -> bool:
        """Whether nobody is going to send unless somebody is answered first."""
        return not self._due
