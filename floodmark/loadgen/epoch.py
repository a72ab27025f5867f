"""One epoch for all processes of a flood: the moment at which they begin, whatever their clocks show.

Machines need not agree on the time. The leader sends each worker its own time; the worker sends that back at once,
with the time on its own monotonic clock. Of several such readings the one with the shortest round trip is used, as in
NTP (RFC 5905, section 8). Each worker is then told the epoch on its own clock.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

S = 1_000_000_000
# How far ahead the epoch is at least, so that all hear of it in time; two round trips to the farthest worker are added.
LEAD_NS = S // 4
# By how much two clocks may drift apart from the reading to the epoch (RFC 5905, section 7.2: TOLERANCE, 15e-6 s/s).
DRIFT_PPM = 15


class Epoch(NamedTuple):
    """When a flood begins, as one of its processes knows it.

    Attributes:
        begin_ns: on the monotonic clock of that process.
        error_ns: it is at most this far from the leader's epoch; 0 for a process that needs no leader.
    """

    begin_ns: int
    error_ns: int


class ClockReading(NamedTuple):
    """How far a worker's monotonic clock is ahead of the leader's.

    Attributes:
        error_ns: half of the round trip: the offset is at most this far from the truth, however the two ways differ.
        offset_ns: the worker's clock less the leader's.
        asked_ns: when the worker was asked, on the leader's clock.
    """

    error_ns: int
    offset_ns: int
    asked_ns: int


class SharedEpoch:
    """What a leader knows about the clocks of its workers, and the epoch it gives them."""

    def __init__(self) -> None:
        self.begin_ns: int | None = None
        self._readings: dict[str, ClockReading] = {}

    def note_reply(self, worker: str, *, sent_ns: int, worker_ns: int, received_ns: int) -> None:
        """Take a worker's answer; the one with the shortest round trip is kept.

        Args:
            worker: its name.
            sent_ns: when it was asked, on the leader's clock.
            worker_ns: when it answered, on its own clock.
            received_ns: when the answer came, on the leader's clock.
        """
        round_trip_ns = received_ns - sent_ns
        reading = ClockReading((round_trip_ns + 1) // 2, worker_ns - (sent_ns + received_ns) // 2, sent_ns)
        known = self._readings.get(worker)
        if known is None or reading.error_ns < known.error_ns:
            self._readings[worker] = reading

    def choose(self, earliest_ns: int, now_ns: int) -> None:
        """Choose the epoch: as early as allowed, and late enough that all workers hear of it before.

        Args:
            earliest_ns: not before this time on the leader's clock: the end of the baseline.
            now_ns: the time on the leader's clock.
        """
        round_trip_ns = 2 * max((one.error_ns for one in self._readings.values()), default=0)
        self.begin_ns = max(earliest_ns, now_ns + LEAD_NS + 2 * round_trip_ns)

    def of(self, worker: str) -> Epoch | None:
        """Return the epoch on a worker's clock, or None if it is not chosen or that clock was never read."""
        reading = self._readings.get(worker)
        if self.begin_ns is None or reading is None:
            return None
        drift_ns = (self.begin_ns - reading.asked_ns) * DRIFT_PPM // 1_000_000 + 1
        return Epoch(self.begin_ns + reading.offset_ns, reading.error_ns + drift_ns)


def process_age_ns(stat: str, boottime_ns: int) -> int:
    """Return how long ago a process was started.

    psutil's create_time() counts from a boot time in whole seconds, and would be wrong by up to one.

    Args:
        stat: content of /proc/PID/stat, of which field 22 is the start, in clock ticks since boot:
            `27110 (python) R 27108 27108 4116 0 -1 4194304 2944 0 0 0 4 1 0 0 20 0 1 0 84038 20725760 4153 …`
        boottime_ns: now, on CLOCK_BOOTTIME.

    Returns:
        Nanoseconds, exact to a clock tick (10 ms).

    Source: fs/proc/array.c, do_task_stat
    """
    # The name, in parentheses, may contain anything; after it comes field 3.
    ticks = int(stat.rpartition(")")[2].split()[22 - 3])
    return boottime_ns - ticks * S // os.sysconf("SC_CLK_TCK")


def baseline_end_ns(baseline_s: float) -> int:
    """Return when the baseline is over that began when this process was started, on the monotonic clock."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    age_ns = process_age_ns(stat, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    return time.monotonic_ns() - age_ns + round(baseline_s * S)
