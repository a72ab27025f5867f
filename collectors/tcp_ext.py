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


def parse_tcp_ext(text: str) -> dict[str, int]:
    """Return the TcpExt counters of one reading.

    Args:
        text: the whole of /proc/net/netstat.

    Returns:
        Counter name -> count since this network namespace began. Names differ between kernels;
        a missing name is absent, never 0.

    Raises:
        Unreadable: there is no pair of TcpExt lines, or the two differ in length.
    """
    lines = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    if len(lines) != 2 or len(lines[0]) != len(lines[1]):
        raise Unreadable("/proc/net/netstat has no matching pair of TcpExt lines")
    names, values = lines
    return {name: int(value) for name, value in zip(names[1:], values[1:])}


class TcpExt:
    """Reads the counters."""

    def read(self, now_ns: int) -> list[Row]:  # noqa: ARG002 - all sources are called alike
        """Return one row; a counter that this kernel does not have is empty."""
        try:
            counters = parse_tcp_ext(NETSTAT.read_text())
        except OSError as error:
            raise Unreadable(f"{NETSTAT}: {error.strerror}") from error
        missing = [name for name in COUNTERS if name not in counters]
        return [(*(counters.get(name) for name in COUNTERS), f"no {', '.join(missing)}" if missing else None)]
