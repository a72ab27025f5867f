"""Source unix_states: the study's view, rows of /proc/net/unix on the upstream's path by state."""

from __future__ import annotations

from typing import Union

from collectors.config import Listener
from collectors.errors import Unreadable
from collectors.proc_net_unix import parse_sockets, read_proc_net_unix

Row = tuple[Union[int, float, str, None], ...]

STATES = 5  # SS_FREE to SS_DISCONNECTING, include/uapi/linux/net.h


class UnixStates:
    """Counts the rows on one path."""

    def __init__(self, upstream: Listener) -> None:
        self._path = upstream.path.encode() if upstream.transport == "unix" else b""

    def read(self, now_ns: int) -> list[Row]:  # noqa: ARG002 - all sources are called alike
        """Return one row with the number of sockets in each state."""
        if not self._path:
            raise Unreadable("the upstream listens on TCP, which has no rows in /proc/net/unix")
        counts = [0] * STATES
        for socket in parse_sockets(read_proc_net_unix(), self._path):
            counts[socket.state] += 1
        return [(*counts, None)]
