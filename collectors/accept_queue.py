"""Source accept_queue: depth and limit of each listener's accept queue."""

from __future__ import annotations

from typing import Union

from collectors.config import Listener
from collectors.errors import Unreadable
from collectors.proc_net_unix import SS_CONNECTING, StateCounts, find_listener, read_proc_net_unix
from collectors.sock_diag import DepthProbe, Question, ask_tcp_listener, ask_unix_listener, kernel_has_unix_diag

Row = tuple[Union[int, float, str, None], ...]

# Reading all of /proc/net/unix is dear, be it to find a listener or to count.
PROC_INTERVAL_NS = 100_000_000
VIA = {"unix": "unix_diag", "tcp": "inet_diag"}


class AcceptQueue:
    """Asks the kernel for the accept queue of every listener.

    A unix listener is asked for by its inode, which is looked up again when there is no answer: it was replaced.

    Args:
        listeners: what to look at.
    """

    def __init__(self, listeners: list[Listener]) -> None:
        by_count = [one for one in listeners if one.transport == "unix" and not kernel_has_unix_diag()]
        self._counts = [ProcCount(one) for one in by_count]
        self._listeners = [one for one in listeners if one not in by_count]
        self._complete = False
        self._look_again_ns = 0
        self._probe = DepthProbe([])

    def close(self) -> None:
        """Give the netlink socket back."""
        self._probe.close()

    def read(self, now_ns: int) -> list[Row]:
        """Return one row for each listener; a listener that is not there has a reason instead of a depth."""
        if not self._complete and now_ns >= self._look_again_ns:
            self._look_again_ns = now_ns + PROC_INTERVAL_NS
            self._probe.close()
            self._probe = DepthProbe([_question(one) for one in self._listeners])
        rows = [row for count in self._counts for row in count.rows(now_ns)]
        self._complete = True
        for listener, answer in zip(self._listeners, self._probe.ask()):
            if isinstance(answer, str):
                # A TCP listener is asked for by its port, and found again by itself.
                self._complete = self._complete and listener.transport == "tcp"
                rows.append((listener.name, None, None, None, answer))
            else:
                rows.append((listener.name, *answer, VIA[listener.transport], None))
        return rows


class ProcCount:
    """Counts connections in /proc/net/unix, where the kernel has no unix_diag: seldom, and without the limit."""

    def __init__(self, listener: Listener) -> None:
        self._name = listener.name
        self._path = listener.path.encode()
        self._count_again_ns = 0

    def rows(self, now_ns: int) -> list[Row]:
        """Return a row, or none when the file was read not long ago."""
        if now_ns < self._count_again_ns:
            return []
        self._count_again_ns = now_ns + PROC_INTERVAL_NS
        try:
            text = read_proc_net_unix()
            find_listener(text, self._path)
        except Unreadable as why:
            return [(self._name, None, None, None, str(why))]
        counts = StateCounts(self._path)
        counts.add(text)
        return [(self._name, counts.on_path[SS_CONNECTING], None, "proc", None)]


def _question(listener: Listener) -> Question | str:
    """Return what to ask for a listener, or why that is not known now."""
    if listener.transport == "tcp":
        return ask_tcp_listener(listener.port)
    try:
        return ask_unix_listener(find_listener(read_proc_net_unix(), listener.path.encode()))
    except Unreadable as why:
        return str(why)
