"""Reading /proc/net/unix, the file in which the study looked for the accept queue.

    Num       RefCount Protocol Flags    Type St Inode Path
    0000000000000000: 00000002 00000000 00010000 0001 01 31213 /run/floodmark-upstream/upstream.sock
    0000000000000000: 00000003 00000000 00000000 0001 02     0 /run/floodmark-upstream/upstream.sock

The state printed is not the state of the connection: without a process behind the socket it is 02
for a connection that waits to be accepted, with one it is 03, and 01 for a listener.

Source: net/unix/af_unix.c unix_seq_show
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

from collectors.errors import Unreadable

PROC_NET_UNIX = Path("/proc/net/unix")
SO_ACCEPTCON = 0x00010000
PAGES_A_PART = 8
PAGE_ROOM = 1 << 14  # of one reading; a page is 4 KiB on most machines
# Since 3.10 CPython searches another way in texts that are longer, three times as fast here.
FAST_TO_SEARCH = 30_000

STATES = 5  # SS_FREE to SS_DISCONNECTING, include/uapi/linux/net.h
SS_CONNECTING = 2
SS_CONNECTED = 3
_DIGIT_0 = ord("0")


def open_proc_net_unix() -> int:
    """Return a descriptor of the file, which may be read more than once; it shows this network namespace for ever.

    Raises:
        Unreadable: the file cannot be opened.
    """
    try:
        return os.open(PROC_NET_UNIX, os.O_RDONLY)
    except OSError as error:
        raise Unreadable(f"{PROC_NET_UNIX}: {error.strerror}") from error


def read_proc_net_unix() -> bytes:
    """Return the whole file.

    Raises:
        Unreadable: the file cannot be read.
    """
    file = open_proc_net_unix()
    try:
        return b"".join(proc_net_unix_parts(file))
    finally:
        os.close(file)


def proc_net_unix_parts(file: int) -> Iterator[bytes]:
    """Yield the file part by part as it is now, each read in some tenths of a millisecond.

    The kernel hands out a page at a time and may change the table between two pages, however they are read.

    Args:
        file: of `open_proc_net_unix`.

    Raises:
        Unreadable: the file cannot be read.
    """
    try:
        os.lseek(file, 0, os.SEEK_SET)
        pages = iter(partial(os.read, file, PAGE_ROOM), b"")
        while part := b"".join(islice(pages, PAGES_A_PART)):
            yield part
    except OSError as error:
        raise Unreadable(f"{PROC_NET_UNIX}: {error.strerror}") from error


def whole_rows(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same text once for each part and once more, cut between rows and long enough to be searched fast.

    What is yielded is empty, or begins and ends with the end of a line; the first begins with the header instead.

    Args:
        parts: of the file, which may end anywhere.
    """
    rest = b""
    for part in parts:
        rest += part
        cut = rest.rfind(b"\n", FAST_TO_SEARCH, max(len(rest) - FAST_TO_SEARCH, 0))
        yield rest[: cut + 1]
        rest = rest[max(cut, 0) :]
    yield rest


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


class StateCounts:
    """Counts rows of the file by state, on a path and in all of the network namespace.

    With many connections nearly all rows have the states 02 or 03. Those two are counted without being taken
    apart, by places and endings; the few others one by one. What is left over on the path is in state 03, and so
    is, by mistake, a row in state 03 whose own path ends in a space and this path.

    Args:
        path: as for `find_listener`.

    Attributes:
        on_path: numbers of rows, at the state's number.
        everywhere: the same for all rows.
    """

    def __init__(self, path: bytes) -> None:
        self.on_path = [0] * STATES
        self.everywhere = [0] * STATES
        self._path = path
        self._ending = b" " + path + b"\n"
        self._waiting = b" 02     0" + self._ending  # nobody has it open, so it has no inode

    def add(self, rows: bytes) -> None:
        """Count rows.

        Args:
            rows: the whole file, or one after the other its `whole_rows`.
        """
        newline = rows.find(b"\n")
        colon = rows.find(b":", newline) - newline - 1
        if colon < 0:
            return  # no row, the header at most
        states = _state_pattern(colon).findall(rows)
        connecting, connected = states.count(b"2"), states.count(b"3")
        few = [row for row in states if len(row) > 1] if connecting + connected < len(states) else []
        few_on_path = [row for row in few if row.split(None, 2)[2:] == [self._path]]
        for counts, counted in ((self.everywhere, few), (self.on_path, few_on_path)):
            for row in counted:
                counts[row[0] - _DIGIT_0] += 1
        self.everywhere[SS_CONNECTING] += connecting
        self.everywhere[SS_CONNECTED] += connected
        waiting = rows.count(self._waiting)
        self.on_path[SS_CONNECTING] += waiting
        self.on_path[SS_CONNECTED] += rows.count(self._ending) - waiting - len(few_on_path)


@lru_cache(maxsize=1)
def _state_pattern(colon: int) -> re.Pattern[bytes]:
    """Return what finds the second digit of St in each row, and the rest of the row unless that is 2 or 3.

    Args:
        colon: where the colon stands, which depends on the width of a pointer.
    """
    # A jump over any bytes is faster than one that looks for the end of the line; the colon tells a row from what
    # follows a newline in a path.
    return re.compile(rb"(?s)\n.{%d}: .{%d}([23]|\d[^\n]*)" % (colon, len(b"00000003 00000000 00000000 0001 0")))
