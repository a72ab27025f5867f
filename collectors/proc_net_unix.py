"""Reading /proc/net/unix, the file in which the study looked for the accept queue.

    Num       RefCount Protocol Flags    Type St Inode Path
    0000000000000000: 00000002 00000000 00010000 0001 01 31213 /run/floodmark-upstream/upstream.sock
    0000000000000000: 00000003 00000000 00000000 0001 02     0 /run/floodmark-upstream/upstream.sock

The state printed is not the state of the connection: without a process behind the socket it is 02
for a connection that waits to be accepted, with one it is 03, and 01 for a listener.

Source: net/unix/af_unix.c unix_seq_show
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from collectors.errors import Unreadable

PROC_NET_UNIX = Path("/proc/net/unix")
SO_ACCEPTCON = 0x00010000


class UnixSocket(NamedTuple):
    """One line: the flags and state as numbers, the inode (0 without a process), the path."""

    flags: int
    state: int
    inode: int
    path: bytes


def read_proc_net_unix() -> bytes:
    """Return the whole file.

    Raises:
        Unreadable: the file cannot be read.
    """
    try:
        return PROC_NET_UNIX.read_bytes()
    except OSError as error:
        raise Unreadable(f"{PROC_NET_UNIX}: {error.strerror}") from error


def parse_sockets(text: bytes, path: bytes) -> Iterator[UnixSocket]:
    """Yield the sockets on a path, in the order of the file.

    Args:
        text: the whole file.
        path: exact path; an abstract address begins with @, as the file prints it.
    """
    ending = b" " + path
    for line in text.split(b"\n"):
        if line.endswith(ending):
            # The path comes last and may hold spaces; seven fields stand before it.
            fields = line.split(None, 7)
            if len(fields) == 8 and fields[7] == path:
                _num, _refs, _protocol, flags, _type, state, inode, found = fields
                yield UnixSocket(int(flags, 16), int(state, 16), int(inode), found)


def find_listener(text: bytes, path: bytes) -> int:
    """Return the inode of the listener on a path.

    Raises:
        Unreadable: nobody listens there.
    """
    for socket in parse_sockets(text, path):
        if socket.flags & SO_ACCEPTCON:
            return socket.inode
    raise Unreadable(f"nobody listens on {path.decode(errors='replace')}")
