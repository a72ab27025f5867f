"""Reading /proc/net/unix, the file in which the study looked for the accept queue.

    Num       RefCount Protocol Flags    Type St Inode Path
    0000000000000000: 00000002 00000000 00010000 0001 01 31213 /run/floodmark-upstream/upstream.sock
    0000000000000000: 00000003 00000000 00000000 0001 02     0 /run/floodmark-upstream/upstream.sock

The state printed is not the state of the connection: without a process behind the socket it is 02
for a connection that waits to be accepted, with one it is 03, and 01 for a listener.

Source: net/unix/af_unix.c unix_seq_show
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from collectors.errors import Unreadable

PROC_NET_UNIX = Path("/proc/net/unix")
SO_ACCEPTCON = 0x00010000
PAGES_A_PART = 8


STATES = 5  # SS_FREE to SS_DISCONNECTING, include/uapi/linux/net.h
SS_CONNECTING = 2
SS_CONNECTED = 3
_DIGIT_0 = ord("0")


class StateCounts(NamedTuple):
    """Numbers of rows by state, at the state's number: those on one path, and all of the network namespace."""

    on_path: tuple[int, ...]
    everywhere: tuple[int, ...]


def read_proc_net_unix() -> bytes:
    """Return the whole file.

    Raises:
        Unreadable: the file cannot be read.
    """
    return b"".join(proc_net_unix_parts())


def proc_net_unix_parts() -> Iterator[bytes]:
    """Yield the file part by part, each read in some tenths of a millisecond.

    The kernel hands out a page at a time and may change the table between two pages, however they are read.

    Raises:
        Unreadable: the file cannot be read.
    """
    try:
        with PROC_NET_UNIX.open("rb", buffering=0) as file:
            part = [b"-"]
            while part[-1]:
                part = [file.read(1 << 16) for _ in range(PAGES_A_PART)]
                yield b"".join(part)
    except OSError as error:
        raise Unreadable(f"{PROC_NET_UNIX}: {error.strerror}") from error


def find_listener(text: bytes, path: bytes) -> int:
    """Return the inode of the listener on a path.

    Args:
        text: the whole file.
        path: exact path; an abstract address begins with @, as the file prints it.

    Raises:
        Unreadable: nobody listens there.
    """
    ending = b" " + path
    for line in text.split(b"\n"):
        if line.endswith(ending):
            # The path comes last and may hold spaces; seven fields stand before it.
            fields = line.split(None, 7)
            if len(fields) == 8 and fields[7] == path and int(fields[3], 16) & SO_ACCEPTCON:
                return int(fields[6])
    raise Unreadable(f"nobody listens on {path.decode(errors='replace')}")


def count_states(text: bytes, path: bytes) -> StateCounts:
    """Count the rows of the file by state, on a path and altogether.

    With many connections nearly all rows have the states 02 or 03. Those two are counted without being taken
    apart, by places and endings; the few others one by one. What is left over on the path is in state 03.

    Args:
        text: the whole file.
        path: as for `find_listener`.
    """
    first_colon = text.find(b":", text.find(b"\n"))
    if first_colon < 0:
        return StateCounts((0,) * STATES, (0,) * STATES)  # the header alone
    colon = first_colon - text.find(b"\n") - 1
    rows = Counter(_state_pattern(colon).findall(text))
    everywhere = [0] * STATES
    on_path = [0] * STATES
    for row, count in rows.items():
        everywhere[row[0] - _DIGIT_0] += count
        if len(row) > 1 and row.split(None, 2)[2:] == [path]:
            on_path[row[0] - _DIGIT_0] += count
    ending = b" " + path + b"\n"
    on_path[SS_CONNECTING] = text.count(b" 02     0" + ending)  # nobody has it open, so it has no inode
    on_path[SS_CONNECTED] = text.count(ending) - sum(on_path)
    return StateCounts(tuple(on_path), tuple(everywhere))


@lru_cache(maxsize=1)
def _state_pattern(colon: int) -> re.Pattern[bytes]:
    """Return what finds the second digit of St in each row, and the rest of the row unless that is 2 or 3.

    Args:
        colon: where the colon stands, which depends on the width of a pointer.
    """
    return re.compile(rb"\n.{%d}([23]|\d.*)" % (colon + len(b": 00000003 00000000 00000000 0001 0")))
