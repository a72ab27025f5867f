"""A timer that wakes to the microsecond: gevent's own is exact to the millisecond, because epoll_wait() is."""

from __future__ import annotations

import ctypes
import os

# From <time.h> and <sys/timerfd.h>; timerfd_create(2). Python has them from 3.13 on.
_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _ITimerSpec(ctypes.Structure):
    """struct itimerspec: the interval, which stays 0, and when the timer fires."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Timer:
    """A descriptor that is readable from a point in time on.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(self) -> None:
        self._descriptor: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._when = _ITimerSpec()
        self._pointer = ctypes.byref(self._when)
        self._set_to: int | None = None

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def wake_at(self, monotonic_ns: int | None) -> None:
        """Set when it becomes readable, in place of any earlier setting.

        Args:
            monotonic_ns: the time, on the monotonic clock; None is never, the past is at once.
        """
        if monotonic_ns == self._set_to:
            return
        self._set_to = monotonic_ns
        # 0 would disarm it.
        self._when.value_s, self._when.value_ns = (
            (0, 0) if monotonic_ns is None else divmod(max(monotonic_ns, 1), 1_000_000_000)
        )
        _libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, self._pointer, None)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
