"""Source unix_states: the study's view, rows of /proc/net/unix by state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from collectors.config import Listener
from collectors.errors import Unreadable
from collectors.proc_net_unix import StateCounts, open_proc_net_unix, proc_net_unix_parts, whole_rows

Row = tuple[Union[int, float, str, None], ...]


class UnixStates:
    """Counts the rows on the upstream's path, and those of the whole network namespace."""

    def __init__(self, upstream: Listener) -> None:
        self._path = upstream.path.encode() if upstream.transport == "unix" else b""
        # To open the file takes as long as to read fifty rows, and it is read again and again.
        self._file: int | None = None

    def read(self, now_ns: int) -> Iterator[Row | None]:  # noqa: ARG002 - all sources are called alike
        """Yield one row with the number of sockets in each state, after as many pauses as the file has parts."""
        if not self._path:
            raise Unreadable("the upstream listens on TCP, which has no rows in /proc/net/unix")
        if self._file is None:
            self._file = open_proc_net_unix()
        counts = StateCounts(self._path)
        for rows in whole_rows(proc_net_unix_parts(self._file)):
            yield None
            counts.add(rows)
        yield (*counts.on_path, *counts.everywhere, None)
