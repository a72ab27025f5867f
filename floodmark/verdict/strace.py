"""From what strace has printed of one process to rows of the table `syscalls`.

    1795402563.103456 accept4(5, {sa_family=AF_INET, …}, [112 => 16], SOCK_NONBLOCK) = 12 <0.000034>
    1795402563.104012 recvfrom(12, "POST / HTTP/1.1\\r\\nHost: 198.18.7"..., 1024, 0, NULL, NULL) = 163 <0.000021>
    1795402563.104101 recvfrom(12, 0x55d0c5b1a4a3, 861, 0, NULL, NULL) = -1 EAGAIN (Resource …) <0.000018>
    1795402563.104230 socket(AF_UNIX, SOCK_STREAM, 0) = 13 <0.000025>
    1795402568.110555 epoll_wait(8,  <detached ...>
    1795402568.110901 +++ exited with 0 +++

A descriptor is only a number. What it stands for follows from the call that gave it: accept4() a client, openat() a
file, socket() a connection to the upstream. nginx handles one event after the other, so what it opens is for the
client that it has read from last. A socket of before the first client is nginx's own: a listener if it calls listen().

nginx opens its listeners, clones itself and ends; the clone is the master, and clones the workers:

    1796066086.653569 listen(4, 511)        = 0 <0.000010>
    1796066086.654319 clone(child_stack=NULL, flags=…|SIGCHLD, child_tidptr=0x7f9330b7aa10) = 2383 <0.000333>
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
NO_DESCRIPTOR = (
    "brk", "mmap", "munmap", "getpid", "gettid", "kill", "exit", "exit_group", "alarm", "umask", "prlimit64", "setuid",
    "setgid", "setgroups", "epoll_create", "epoll_create1", "eventfd2", "io_setup",
)  # fmt: skip
CLONES = ("clone", "clone3", "fork", "vfork")


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


@dataclass
class _Descriptor:
    """What a descriptor stands for, as far as it is known; of a socket later calls tell more."""

    object: str | None
    client: int | None


def parse_strace(lines: Iterable[str], wall_ns: int) -> list[Call]:
    """Return the calls of one process in their order.

    Args:
        lines: of the file that `strace -ff -ttt -T` has written.
        wall_ns: how far the host's wall clock is ahead of its monotonic clock.
    """
    calls: list[tuple[Call, _Descriptor | None]] = []
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
        result = _number(returned["result"]) if returned else None
        first = None if name in NO_DESCRIPTOR else _FIRST_NUMBER.match(arguments)
        fd = int(first[0]) if first else None
        known = open_now.get(fd) if fd is not None else None
        if name in READS and known and known.object == "client":
            read_last = known.client
        if name == "listen" and known:
            known.object = "listener"
        if name in GIVES and result is not None and result >= 0:
            if GIVES[name] == "client":
                clients += 1
                read_last = clients
            own_socket = name == "socket" and read_last is None
            known = open_now[result] = _Descriptor(None if own_socket else GIVES[name], read_last)
        call = Call(
            t_ns=int(begun["s"]) * 1_000_000_000 + int(begun["us"]) * 1000 - wall_ns,
            name=name,
            fd=fd,
            object=None,
            client=known.client if known else None,
            arguments=arguments,
            result=result,
            error=returned["error"] if returned else None,
            took_ns=round(float(returned["took"]) * 1e9) if returned and returned["took"] else None,
        )
        calls.append((call, known))
        if name == "close" and fd is not None:
            open_now.pop(fd, None)
    return [call._replace(object=known.object) if known else call for call, known in calls]


def _number(text: str) -> int | None:
    """Return what a call returned: 3, -1, 0x7f1c…, 022 (umask), or ? where it did not."""
    if text == "?":
        return None
    return int(text, 8 if re.fullmatch("0[0-7]+", text) else 0)


def roles_of(calls: Mapping[int, Sequence[Call]]) -> dict[int, str]:
    """Return the role of each process that was captured from nginx's start on.

    Args:
        calls: pid -> what it called.
    """
    parent = {call.result: pid for pid, of in calls.items() for call in of if call.name in CLONES and call.result}
    return {pid: "nginx-worker" if parent.get(pid) in parent else "nginx-master" for pid in calls}
