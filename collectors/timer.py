"""Timers that keep a beat: timerfd_create(2), which Python itself has only from 3.13 on."""

from __future__ import annotations

import ctypes
import os
import struct

CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1

# struct itimerspec { struct timespec it_interval, it_value; }, each { time_t tv_sec; long tv_nsec; }
_ITIMERSPEC = struct.Struct("@llll")
_EXPIRATIONS = struct.Struct("=Q")

_libc = ctypes.CDLL(None, use_errno=True)


class Timer:
    """Expires in intervals, at absolute times of the monotonic clock; its descriptor is readable then.

    Args:
        interval_ns: from one time to the next.
    """

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._due_ns = 0
        self.fd = _libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def start(self, first_ns: int) -> None:
        """Expire for the first time at a time."""
        self._due_ns = first_ns - self._interval_ns
        times = _ITIMERSPEC.pack(*divmod(self._interval_ns, 1_000_000_000), *divmod(first_ns, 1_000_000_000))
        if _libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, times, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def last_due(self) -> tuple[int, int]:
        """Forget that it expired; return the last time at which it did, and how often more since last asked."""
        (count,) = _EXPIRATIONS.unpack(os.read(self.fd, 8))
        self._due_ns += count * self._interval_ns
        return self._due_ns, count - 1
