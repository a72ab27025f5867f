"""The accept queue as the kernel tells it, against sockets made here and against ss(8)."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from collectors.config import Listener
from collectors.errors import Unreadable
from collectors.proc_net_unix import find_listener, read_proc_net_unix
from collectors.sock_diag import (
    ACCEPTED_UNIX_CONNECTIONS,
    Connection,
    Depth,
    DepthProbe,
    Question,
    SockDiag,
    ask_tcp_listener,
    ask_unix_listener,
    depth_of,
    kernel_has_unix_diag,
    parse_accepted_unix_connections,
    parse_tcp_connections,
    tcp_connections,
)
from collectors.upstream_conns import UnixConns


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


def unix_depth(path: Path) -> Depth:
    return depth_of(ask_unix_listener(find_listener(read_proc_net_unix(), str(path).encode())))


def tcp_depth(listener: socket.socket) -> Depth:
    return depth_of(ask_tcp_listener(listener.getsockname()[1]))


def accepted_by(diag: SockDiag, path: Path) -> list[Connection]:
    bodies = [body for part in diag.dump(ACCEPTED_UNIX_CONNECTIONS) for body in part]
    return parse_accepted_unix_connections(bodies, str(path).encode())


def connections_to(diag: SockDiag, listener: socket.socket) -> list[Connection]:
    port = listener.getsockname()[1]
    return parse_tcp_connections([body for part in diag.dump(tcp_connections(port)) for body in part], port)


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


@pytest.mark.parametrize("fill", [0, 23, *random.Random(8).sample(range(1, 128), 20)])
def test_the_depth_of_a_unix_queue_is_what_ss_says(stack: ExitStack, tmp_path: Path, fill: int) -> None:
    listener = unix_listener(stack, tmp_path / "s", 127)
    connect(stack, listener, fill)
    assert unix_depth(tmp_path / "s") == (fill, 127) == ss("-x", "src", str(tmp_path / "s"))


@pytest.mark.parametrize("fill", [0, 23, *random.Random(9).sample(range(1, 128), 20)])
def test_the_depth_of_a_tcp_queue_is_what_ss_says(stack: ExitStack, fill: int) -> None:
    listener = tcp_listener(stack, 127)
    connect(stack, listener, fill)
    assert tcp_depth(listener) == (fill, 127) == ss("-t", "-n", f"sport = :{listener.getsockname()[1]}")


@pytest.mark.parametrize("backlog", [0, 1, 4, 8])
def test_a_unix_queue_holds_one_more_than_its_backlog(stack: ExitStack, tmp_path: Path, backlog: int) -> None:
    listener = unix_listener(stack, tmp_path / "s", backlog)
    assert connect(stack, listener, backlog + 5) == backlog + 1
    assert unix_depth(tmp_path / "s") == (backlog + 1, backlog)


@pytest.mark.parametrize("backlog", [0, 1, 4, 8])
def test_a_tcp_queue_holds_one_more_than_its_backlog(stack: ExitStack, backlog: int) -> None:
    listener = tcp_listener(stack, backlog)
    connect(stack, listener, backlog + 2)
    assert tcp_depth(listener) == (backlog + 1, backlog)


def test_one_probe_answers_for_several_listeners_and_for_one_that_is_not_there(
    stack: ExitStack, tmp_path: Path
) -> None:
    unix, tcp = unix_listener(stack, tmp_path / "s", 3), tcp_listener(stack, 5)
    connect(stack, unix, 2)
    inode = find_listener(read_proc_net_unix(), str(tmp_path / "s").encode())
    port = tcp.getsockname()[1]
    questions: list[Question | str] = [
        ask_unix_listener(inode),
        ask_unix_listener(4294967294),
        "not asked",
        ask_tcp_listener(port),
    ]
    probe = stack.enter_context(closing(DepthProbe(questions)))
    for _ in range(20):
        unix_answer, missing, not_asked, tcp_answer = probe.ask()
        assert (unix_answer, not_asked, tcp_answer) == ((2, 3), "not asked", (0, 5))
        assert missing == (
            "no unix socket has the inode 4294967294 any more (sock_diag: ENOENT No such file or directory)"
        )


def test_the_place_of_a_client_that_left_stays_taken(diag: SockDiag, stack: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "a path with spaces"
    listener = unix_listener(stack, path, 8)
    connect(stack, listener, 2)
    with ExitStack() as clients:
        connect(clients, listener, 5)
    assert unix_depth(path) == (7, 8)
    clients_in_queue = diag.unix_listener_clients(str(path).encode())
    assert (len(clients_in_queue), clients_in_queue.count(0)) == (7, 5)
    # A second witness, in the order of the queue: the client holds a reference to its connection.
    rows = [line.split() for line in read_proc_net_unix().splitlines() if line.endswith(str(path).encode())]
    assert sorted(row[1] for row in rows if row[5] == b"02") == [b"00000002"] * 5 + [b"00000003"] * 2


def test_a_tcp_client_that_left_can_be_told_from_one_that_waits(diag: SockDiag, stack: ExitStack) -> None:
    listener = tcp_listener(stack, 8)
    connect(stack, listener, 2)
    with ExitStack() as clients:
        connect(clients, listener, 5)
    assert tcp_depth(listener) == (7, 8)
    waiting = [one for one in connections_to(diag, listener) if not one.inode]
    assert sorted(one.client_left for one in waiting) == [False] * 2 + [True] * 5


def test_an_abstract_address_is_written_with_an_at_sign(diag: SockDiag, stack: ExitStack) -> None:
    name = f"floodmark test {os.getpid()}"
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind("\0" + name)
    listener.listen(4)
    connect(stack, listener, 3)
    stack.enter_context(listener.accept()[0])
    assert unix_depth(Path("@" + name)) == (2, 4)
    assert len(accepted_by(diag, Path("@" + name))) == 1
    assert len(diag.unix_listener_clients(b"@" + name.encode())) == 2


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
    held = (accepted_by(diag, path), [one for one in connections_to(diag, tcp) if one.inode])
    assert [[one.unread_bytes for one in some] for some in held] == [[10] * 3] * 2


def test_the_end_of_a_tcp_connection_is_no_unread_byte(diag: SockDiag, stack: ExitStack) -> None:
    listener = tcp_listener(stack, 8)
    client = stack.enter_context(socket.socket())
    client.connect(listener.getsockname())
    server = stack.enter_context(listener.accept()[0])
    client.sendall(b"x")
    client.shutdown(socket.SHUT_WR)
    server.recv(1)
    assert [one.unread_bytes for one in connections_to(diag, listener)] == [0]


def test_a_listener_that_is_gone_is_a_reason_and_not_a_zero(diag: SockDiag) -> None:
    with pytest.raises(Unreadable, match="ENOENT"):
        depth_of(ask_unix_listener(4294967294))
    with pytest.raises(Unreadable, match="nobody listens on TCP port 1"):
        depth_of(ask_tcp_listener(1))
    with pytest.raises(Unreadable, match="does not tell the clients"):
        diag.unix_listener_clients(b"/nothing")


def test_a_dump_is_read_to_its_end_before_the_next_one(diag: SockDiag, stack: ExitStack, tmp_path: Path) -> None:
    """Many listeners fill several parts; the kernel refuses a second dump while one is under way."""
    for number in range(300):
        unix_listener(stack, tmp_path / str(number), 1)
    for _ in range(3):
        assert diag.unix_listener_clients(str(tmp_path / "0").encode()) == []
        assert accepted_by(diag, tmp_path / "0") == []


def test_hundreds_of_connections_are_all_seen(stack: ExitStack, tmp_path: Path) -> None:
    """More than one part of an answer holds, in the queue and accepted, over both of the source's sockets."""
    path = tmp_path / "s"
    listener = unix_listener(stack, path, 400)
    source = UnixConns(Listener("upstream", "unix", str(path), 0))
    for accepted in (55, 150):
        connect(stack, listener, accepted + 100)
        for _ in range(accepted):
            stack.enter_context(listener.accept()[0])
        # One reading after the other, as the agent does it: the kernel remembers what there was room for.
        (row,) = (row for row in source.read(0) if row)
    assert row == (205, 0, 200, 0, None)
    source.close()


def test_an_answer_that_does_not_fit_is_a_reason_and_not_a_shorter_list(stack: ExitStack, tmp_path: Path) -> None:
    listener = unix_listener(stack, tmp_path / "s", 400)
    connect(stack, listener, 100)
    with closing(SockDiag(part_bytes=256)) as small, pytest.raises(Unreadable, match="longer than 256 bytes"):
        list(small.dump(ACCEPTED_UNIX_CONNECTIONS))


def test_long_queues_are_seen_at_the_first_look(stack: ExitStack, tmp_path: Path) -> None:
    lengths = {f"s{number}": 1000 + number for number in range(6)}
    for name, length in lengths.items():
        unix_listener(stack, tmp_path / name, length)
        for _ in range(length):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / name))
    for name, length in lengths.items():
        with closing(SockDiag()) as fresh:
            assert len(fresh.unix_listener_clients(str(tmp_path / name).encode())) == length


def test_this_kernel_has_unix_diag() -> None:
    assert kernel_has_unix_diag()
