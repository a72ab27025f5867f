"""Source tcp_ext: the TcpExt counters of the network namespace.

Two lines of /proc/net/netstat belong together, names and values:

    TcpExt: SyncookiesSent SyncookiesRecv … ListenOverflows ListenDrops …
    TcpExt: 0 0 … 46 46 …

Source: net/ipv4/proc.c snmp4_net_list
"""

from __future__ import annotations

from pathlib import Path
from typing import Union

from collectors.errors import Unreadable

Row = tuple[Union[int, float, str, None], ...]

NETSTAT = Path("/proc/net/netstat")
# In the order of the columns of the table.
COUNTERS = (
    "ListenOverflows",
    "ListenDrops",
    "TCPReqQFullDrop",
    "TCPReqQFullDoCookies",
    "TCPTimeouts",
    "TCPSynRetrans",
)


def tcp_ext_lines(text: bytes) -> tuple[bytes, bytes]:
    """Return the two TcpExt lines of /proc/net/netstat: names and values.

    Raises:
        Unreadable: there is no such pair.
    """
    names = text.find(b"TcpExt:")
    values = text.find(b"\nTcpExt:", names)
    if names < 0 or values < 0:
        raise Unreadable("/proc/net/netstat has no matching pair of TcpExt lines")
    return text[names:values], text[values + 1 : text.find(b"\n", values + 1)]


class TcpExt:
    """Reads the counters. Names differ between kernels, but not from one reading to the next."""

    def __init__(self) -> None:
        self._names = b""
        self._places: list[int | None] = []
        self._count = 0

    def read(self, now_ns: int) -> list[Row]:  # noqa: ARG002 - all sources are called alike
        """Return one row; a counter that this kernel does not have is empty."""
        try:
            return [self.counters(NETSTAT.read_bytes())]
        except OSError as error:
            raise Unreadable(f"{NETSTAT}: {error.strerror}") from error

    def counters(self, text: bytes) -> Row:
        """Return the row of one reading of the whole file.

        Raises:
            Unreadable: there is no pair of TcpExt lines, or the two differ in length.
        """
        names, values = tcp_ext_lines(text)
        if names != self._names:
            split = names.decode().split()
            self._names, self._count = names, len(split)
            self._places = [split.index(name) if name in split else None for name in COUNTERS]
        numbers = values.split()
        if len(numbers) != self._count:
            raise Unreadable("/proc/net/netstat has no matching pair of TcpExt lines")
        missing = [name for name, place in zip(COUNTERS, self._places) if place is None]
        row = [None if place is None else int(numbers[place]) for place in self._places]
        return (*row, f"no {', '.join(missing)}" if missing else None)
