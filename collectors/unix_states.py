"""Source unix_states: the study's view, rows of /proc/net/unix by state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from collectors.config import Listener
from collectors.errors import Unreadable
from collectors.proc_net_unix import count_states, proc_net_unix_parts

Row = tuple[Union[int, float, str, None], ...]


class UnixStates:
    """Counts the rows on the upstream's path, and those of the whole network namespace."""

    def __init__(self, upstream: Listener) -> None:
        self._path = upstream.path.encode() if upstream.transport == "unix" else b""

    def read(self, now_ns: int) -> Iterator[Row | None]:  # noqa: ARG002 - all sources are called alike
        """Yield one row with the number of sockets in each state, after as many pauses as the file has parts."""
        if not self._path:
            raise Unreadable("the upstream listens on TCP, which has no rows in /proc/net/unix")
        parts: list[bytes] = []
        for part in proc_net_unix_parts():
            if parts:
                yield None
            parts.append(part)
        counts = count_states(b"".join(parts), self._path)
        yield (*counts.on_path, *counts.everywhere, None)
