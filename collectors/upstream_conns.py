"""Source upstream_conns: connections that the upstream holds, and what it left unread in them."""

from __future__ import annotations

from typing import Union

from collectors.config import Listener
from collectors.sock_diag import SockDiag

Row = tuple[Union[int, float, str, None], ...]


class UpstreamConns:
    """Counts the accepted connections of the upstream's listener."""

    def __init__(self, upstream: Listener) -> None:
        self._upstream = upstream
        self._diag = SockDiag()

    def read(self, now_ns: int) -> list[Row]:  # noqa: ARG002 - all sources are called alike
        """Return one row: connections that have an inode, and the sum of their receive queues."""
        if self._upstream.transport == "unix":
            connections = self._diag.unix_connections(self._upstream.path.encode())
        else:
            connections = self._diag.tcp_connections(self._upstream.port)
        accepted = [one for one in connections if one.inode]
        return [(len(accepted), sum(one.unread_bytes for one in accepted), None)]
