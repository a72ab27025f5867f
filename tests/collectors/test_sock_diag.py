"""The accept queue as the kernel tells it, against sockets made here and against ss(8)."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from collectors.errors import Unreadable
from collectors.proc_net_unix import find_listener, read_proc_net_unix
from collectors.sock_diag import SockDiag


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def diag() -> Iterator[SockDiag]:
    with closing(SockDiag()) as opened:
        yield opened


def unix_listener(stack: ExitStack, path: Path, backlog: int) -> socket.socket:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(path))
    listener.listen(backlog)
    return listener


def tcp_listener(stack: ExitStack, backlog: int) -> socket.socket:
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener


def connect(stack: ExitStack, listener: socket.socket, count: int) -> int:
    """Open connections without waiting; return how many the kernel took at once."""
    taken = 0
    for _ in range(count):
        client = stack.enter_context(socket.socket(listener.family))
        client.settimeout(0.2)
        try:
            client.connect(listener.getsockname())
            taken += 1
        except (BlockingIOError, TimeoutError):
            pass
    return taken


def ss(*arguments: str) -> tuple[int, int]:
    """Return Recv-Q and Send-Q of the one listener that ss lists."""
    # u_str LISTEN 23     64     /tmp/…/s 31213            * 0
    out = subprocess.run(["ss", "-Hl", *arguments], capture_output=True, text=True, check=True).stdout
    match = re.search(r"LISTEN\s+(\d+)\s+(\d+)", out)
    assert match, out
    return int(match.group(1)), int(match.group(2))


def test_23_queued_unix_connections_are_a_depth_of_23(diag: SockDiag, stack: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = unix_listener(stack, path, 64)
    connect(stack, listener, 23)
    inode = find_listener(read_proc_net_unix(), str(path).encode())
    assert diag.unix_listener(inode) == (23, 64) == ss("-x", "src", str(path))


def test_23_queued_tcp_connections_are_a_depth_of_23(diag: SockDiag, stack: ExitStack) -> None:
    listener = tcp_listener(stack, 64)
    connect(stack, listener, 23)
    port = listener.getsockname()[1]
    assert diag.tcp_listener(port) == (23, 64) == ss("-t", "-n", f"sport = :{port}")


@pytest.mark.parametrize("backlog", [0, 1, 4, 8])
def test_a_unix_queue_holds_one_more_than_its_backlog(
    diag: SockDiag, stack: ExitStack, tmp_path: Path, backlog: int
) -> None:
    listener = unix_listener(stack, tmp_path / "s", backlog)
    assert connect(stack, listener, backlog + 5) == backlog + 1
    inode = find_listener(read_proc_net_unix(), str(tmp_path / "s").encode())
    assert diag.unix_listener(inode) == (backlog + 1, backlog)


@pytest.mark.parametrize("backlog", [0, 1, 4, 8])
def test_a_tcp_queue_holds_one_more_than_its_backlog(diag: SockDiag, stack: ExitStack, backlog: int) -> None:
    listener = tcp_listener(stack, backlog)
    connect(stack, listener, backlog + 2)
    assert diag.tcp_listener(listener.getsockname()[1]) == (backlog + 1, backlog)


def test_questions_of_both_kinds_may_follow_each_other(diag: SockDiag, stack: ExitStack, tmp_path: Path) -> None:
    unix, tcp = unix_listener(stack, tmp_path / "s", 3), tcp_listener(stack, 5)
    connect(stack, unix, 2)
    inode = find_listener(read_proc_net_unix(), str(tmp_path / "s").encode())
    for _ in range(20):
        assert diag.unix_listener(inode) == (2, 3)
        assert diag.tcp_listener(tcp.getsockname()[1]) == (0, 5)


def test_the_place_of_a_client_that_left_stays_taken(diag: SockDiag, stack: ExitStack, tmp_path: Path) -> None:
    listener = unix_listener(stack, tmp_path / "a path with spaces", 8)
    with ExitStack() as clients:
        connect(clients, listener, 5)
    inode = find_listener(read_proc_net_unix(), str(tmp_path / "a path with spaces").encode())
    assert diag.unix_listener(inode).depth_conns == 5


def test_accepted_connections_come_with_unread_bytes(diag: SockDiag, stack: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    unix, tcp = unix_listener(stack, path, 8), tcp_listener(stack, 8)
    for listener in (unix, tcp):
        for index in range(4):
            client = stack.enter_context(socket.socket(listener.family))
            client.connect(listener.getsockname())
            client.sendall(b"x" * 10)
            if index < 3:
                stack.enter_context(listener.accept()[0])
    unix_held = [one for one in diag.unix_connections(str(path).encode()) if one.inode]
    tcp_held = [one for one in diag.tcp_connections(tcp.getsockname()[1]) if one.inode]
    assert [len(unix_held), len(tcp_held)] == [3, 3]
    assert [sum(one.unread_bytes for one in held) for held in (unix_held, tcp_held)] == [30, 30]


def test_the_end_of_a_tcp_connection_is_no_unread_byte(diag: SockDiag, stack: ExitStack) -> None:
    listener = tcp_listener(stack, 8)
    client = stack.enter_context(socket.socket())
    client.connect(listener.getsockname())
    server = stack.enter_context(listener.accept()[0])
    client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    server.recv(1)
    assert [one.unread_bytes for one in diag.tcp_connections(listener.getsockname()[1])] == [0]


def test_a_listener_that_is_gone_is_a_reason_and_not_a_zero(diag: SockDiag) -> None:
    with pytest.raises(Unreadable, match="ENOENT"):
        diag.unix_listener(4294967294)
    with pytest.raises(Unreadable, match="nobody listens on TCP port 1"):
        diag.tcp_listener(1)
