"""Source socket_memory: what the kernel holds for sockets, which no process has in its own memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from collectors.sock_diag import (
    UNIX_MEMORY,
    Memory,
    SockDiag,
    parse_tcp_memory,
    parse_unix_memory,
    tcp_memory,
)

Row = tuple[Union[int, float, str, None], ...]


class SocketMemory:
    """Adds up the memory of all sockets of this network namespace."""

    def __init__(self) -> None:
        self._diag = SockDiag()
        self.close = self._diag.close

    def read(self, now_ns: int) -> Iterator[Row | None]:  # noqa: ARG002 - all sources are called alike
        """Yield one row: unix sockets and what they have sent, TCP sockets and what they hold either way."""
        unix: list[Memory] = []
        for part in self._diag.dump(UNIX_MEMORY):
            yield None
            unix += parse_unix_memory(part)
        tcp: list[Memory] = []
        for part in self._diag.dump(tcp_memory()):
            yield None
            tcp += parse_tcp_memory(part)
        yield (
            len(unix),
            sum(one.sent for one in unix),
            len(tcp),
            sum(one.unread for one in tcp),
            sum(one.queued for one in tcp),
            None,
        )
