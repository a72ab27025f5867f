"""Waiting for descriptors: timers that expired, answers that arrived."""

from __future__ import annotations

import select
from collections import deque
from typing import Callable

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT


class Loop:
    """Calls back when a descriptor is ready; one thread does everything."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._later: deque[Callable[[], None]] = deque()
        self._stopped = False

    def later(self, step: Callable[[], None]) -> None:
        """Call once, when nothing else is to be done."""
        self._later.append(step)

    def watch(self, fd: int, events: int, callback: Callable[[], None]) -> None:
        """Call back whenever a descriptor has one of the events; replaces what was said of it before."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Call no longer; to be said before the descriptor is closed."""
        self._epoll.unregister(fd)
        del self._callbacks[fd]

    def stop(self) -> None:
        """Return from `run` after the callbacks that are due."""
        self._stopped = True

    def run(self) -> None:
        """Wait and call until stopped."""
        poll, callbacks, later = self._epoll.poll, self._callbacks, self._later
        while not self._stopped:
            ready = poll(0 if later else None)
            for fd, _events in ready:
                # One callback may have closed the descriptor of another.
                callback = callbacks.get(fd)
                if callback:
                    callback()
            if later and not ready:
                later.popleft()()
