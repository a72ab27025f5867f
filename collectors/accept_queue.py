"""Source accept_queue: depth and limit of each listener's accept queue."""

from __future__ import annotations

from typing import Union

from collectors.config import Listener
from collectors.errors import Unreadable
from collectors.proc_net_unix import find_listener, read_proc_net_unix
from collectors.sock_diag import Depth, SockDiag

Row = tuple[Union[int, float, str, None], ...]

# Finding a unix listener again means reading all of /proc/net/unix, which is dear.
SEARCH_INTERVAL_NS = 100_000_000


class AcceptQueue:
    """Asks the kernel for the accept queue of every listener.

    Args:
        listeners: what to look at.
    """

    def __init__(self, listeners: list[Listener]) -> None:
        self._probes = [UnixProbe(one) if one.transport == "unix" else TcpProbe(one) for one in listeners]
        self._diag = SockDiag()

    def read(self, now_ns: int) -> list[Row]:
        """Return one row for each listener; a listener that is not there has a reason instead of a depth."""
        rows: list[Row] = []
        for probe in self._probes:
            try:
                depth, limit = probe.depth(self._diag, now_ns)
                rows.append((probe.name, depth, limit, None))
            except Unreadable as why:
                rows.append((probe.name, None, None, str(why)))
        return rows


class TcpProbe:
    """Asks for a TCP listener by its port."""

    def __init__(self, listener: Listener) -> None:
        self.name = listener.name
        self._port = listener.port

    def depth(self, diag: SockDiag, now_ns: int) -> Depth:  # noqa: ARG002 - the probes are called alike
        """Return depth and limit."""
        return diag.tcp_listener(self._port)


class UnixProbe:
    """Asks for a unix listener by its inode, and looks the inode up again when the listener was replaced."""

    def __init__(self, listener: Listener) -> None:
        self.name = listener.name
        self._path = listener.path.encode()
        self._inode = 0
        self._search_again_ns = 0
        self._last_reason = ""

    def depth(self, diag: SockDiag, now_ns: int) -> Depth:
        """Return depth and limit."""
        if not self._inode:
            self._search(now_ns)
        try:
            return diag.unix_listener(self._inode)
        except Unreadable:
            self._inode = 0
            raise

    def _search(self, now_ns: int) -> None:
        if now_ns < self._search_again_ns:
            raise Unreadable(self._last_reason)
        self._search_again_ns = now_ns + SEARCH_INTERVAL_NS
        try:
            self._inode = find_listener(read_proc_net_unix(), self._path)
        except Unreadable as why:
            self._last_reason = str(why)
            raise
