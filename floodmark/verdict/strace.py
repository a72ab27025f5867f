"""From what strace has printed of one process to rows of the table `syscalls`.

    1795402563.103456 accept4(5, {sa_family=AF_INET, …}, [112 => 16], SOCK_NONBLOCK) = 12 <0.000034>
    1795402563.104012 recvfrom(12, "POST / HTTP/1.1\\r\\nHost: 198.18.7"..., 1024, 0, NULL, NULL) = 163 <0.000021>
    1795402563.104101 recvfrom(12, 0x55d0c5b1a4a3, 861, 0, NULL, NULL) = -1 EAGAIN (Resource …) <0.000018>
    1795402563.104230 socket(AF_UNIX, SOCK_STREAM, 0) = 13 <0.000025>
    1795402568.110555 epoll_wait(8,  <detached ...>
    1795402568.110901 +++ exited with 0 +++

A descriptor is only a number. What it stands for follows from the call that gave it: accept4() a client, socket() a
connection to the upstream, openat() a file. nginx handles one event after the other, so what it opens is for the
client that it has read from last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LINE = re.compile(r"(?P<s>\d+)\.(?P<us>\d{6}) (?P<name>\w+)\((?P<arguments>.*)")
# ) = -1 EAGAIN (Resource temporarily unavailable) <0.000018>, ) = 0x7f1c… <…>, ) = ? <unavailable>, ) = 1 ([{…}]) <…>
_RETURN = re.compile(
    r"(?P<arguments>.*?)\)? *= (?P<result>-?\d+|0x[0-9a-f]+|\?)(?: (?P<error>E[A-Z0-9]+))?(?: \(.*\))?"
    r"(?: <(?:(?P<took>\d+\.\d+)|unavailable)>)?$"
)
_FIRST_NUMBER = re.compile(r"\d+(?=,|$)")
GIVES = {"accept4": "client", "accept": "client", "socket": "upstream", "openat": "file", "open": "file"}
READS = ("recvfrom", "read", "readv", "recv", "recvmsg")
# Calls whose first argument is a number that is no descriptor.
NO_DESCRIPTOR = ("brk", "mmap", "munmap", "getpid", "gettid", "kill", "exit", "exit_group", "alarm", "umask")


class Call(NamedTuple):
    """One system call: a row of `syscalls` but for who made it."""

    t_ns: int
    name: str
    fd: int | None
    object: str | None
    client: int | None
    arguments: str
    result: int | None
    error: str | None
    took_ns: int | None


class _Descriptor(NamedTuple):
    object: str
    client: int | None


def parse_strace(lines: Iterable[str], wall_ns: int) -> Iterator[Call]:
    """Yield the calls of one process in their order.

    Args:
        lines: of the file that `strace -ff -ttt -T` has written.
        wall_ns: how far the host's wall clock is ahead of its monotonic clock.
    """
    open_now: dict[int, _Descriptor] = {}
    clients = 0
    read_last: int | None = None
    for line in lines:
        begun = _LINE.match(line)
        if not begun:
            continue  # a signal, or the end of the process
        name, rest = begun["name"], begun["arguments"].rstrip()
        returned = _RETURN.match(rest)
        arguments = returned["arguments"] if returned else rest
        number = returned["result"] if returned else "?"
        result = None if number == "?" else int(number, 0)
        first = None if name in NO_DESCRIPTOR else _FIRST_NUMBER.match(arguments)
        fd = int(first[0]) if first else None
        known = open_now.get(fd) if fd is not None else None
        if name in READS and known and known.object == "client":
            read_last = known.client
        if name in GIVES and result is not None and result >= 0:
            if GIVES[name] == "client":
                clients += 1
                read_last = clients
            known = open_now[result] = _Descriptor(GIVES[name], read_last)
        yield Call(
            t_ns=int(begun["s"]) * 1_000_000_000 + int(begun["us"]) * 1000 - wall_ns,
            name=name,
            fd=fd,
            object=known.object if known else None,
            client=known.client if known else None,
            arguments=arguments,
            result=result,
            error=returned["error"] if returned else None,
            took_ns=round(float(returned["took"]) * 1e9) if returned and returned["took"] else None,
        )
        if name == "close" and fd is not None:
            open_now.pop(fd, None)
