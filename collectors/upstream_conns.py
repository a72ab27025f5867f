"""Source upstream_conns: connections to the upstream, accepted or waiting, and what it left unread in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Union

from collectors.config import Listener
from collectors.proc_net_unix import SS_CONNECTED, StateCounts, read_proc_net_unix
from collectors.sock_diag import (
    ACCEPTED_UNIX_CONNECTIONS,
    LARGEST_PART_BYTES,
    Connection,
    SockDiag,
    kernel_has_unix_diag,
    parse_accepted_unix_connections,
    parse_tcp_connections,
    tcp_connections,
)

Row = tuple[Union[int, float, str, None], ...]


class UnixConns:
    """Counts the connections of a unix listener."""

    def __init__(self, upstream: Listener) -> None:
        self._path = upstream.path.encode()
        self._diag = SockDiag()
        # The clients of a long queue are one long message.
        self._listener_diag = SockDiag(LARGEST_PART_BYTES)

    def close(self) -> None:
        """Give the netlink sockets back."""
        self._diag.close()
        self._listener_diag.close()

    def read(self, now_ns: int) -> Iterator[Row | None]:  # noqa: ARG002 - all sources are called alike
        """Yield one row: accepted, their unread bytes, waiting with and without a client."""
        clients = self._listener_diag.unix_listener_clients(self._path)
        accepted: list[Connection] = []
        for part in self._diag.dump(ACCEPTED_UNIX_CONNECTIONS):
            yield None
            accepted += parse_accepted_unix_connections(part, self._path)
        dead = clients.count(0)
        yield (*_held(accepted), len(clients) - dead, dead, None)


class TcpConns:
    """Counts the connections of a TCP listener."""

    def __init__(self, upstream: Listener) -> None:
        self._port = upstream.port
        self._diag = SockDiag()

    def read(self, now_ns: int) -> Iterator[Row | None]:  # noqa: ARG002 - all sources are called alike
        """Yield one row: accepted, their unread bytes, waiting with and without a client."""
        connections: list[Connection] = []
        for part in self._diag.dump(tcp_connections(self._port)):
            yield None
            connections += parse_tcp_connections(part, self._port)
        waiting = [one for one in connections if not one.inode]
        dead = sum(one.client_left for one in waiting)
        yield (*_held(one for one in connections if one.inode), len(waiting) - dead, dead, None)


class ProcConns:
    """Counts the accepted connections of a unix listener where the kernel has no unix_diag; the rest is not known."""

    def __init__(self, upstream: Listener) -> None:
        self._path = upstream.path.encode()

    def read(self, now_ns: int) -> Iterator[Row]:  # noqa: ARG002 - all sources are called alike
        """Yield one row with the accepted connections alone."""
        counts = StateCounts(self._path)
        counts.add(read_proc_net_unix())
        yield (counts.on_path[SS_CONNECTED], None, None, None, None)


def upstream_conns(upstream: Listener) -> UnixConns | TcpConns | ProcConns:
    """Return the source for a listener."""
    if upstream.transport == "tcp":
        return TcpConns(upstream)
    return UnixConns(upstream) if kernel_has_unix_diag() else ProcConns(upstream)


def _held(accepted: Iterable[Connection]) -> tuple[int, int]:
    """Return how many connections there are, and the sum of what nobody has read of them."""
    unread = [one.unread_bytes for one in accepted]
    return len(unread), sum(unread)
