"""What the kernel holds for sockets, beside ss(8)."""

from __future__ import annotations

import re
import socket
import subprocess
from contextlib import closing

from collectors.fields import SOCKET_MEMORY
from collectors.socket_memory import SocketMemory


def read() -> dict[str, int]:
    with closing(SocketMemory()) as source:
        (row,) = (row for row in source.read(0) if row)
    return dict(zip(SOCKET_MEMORY.columns[1:-1], map(int, row[:-1]), strict=True))  # type: ignore[arg-type]


def unread_by_ss(port: int) -> int:
    """ESTAB 50000 0 127.0.0.1:40000 127.0.0.1:50000 skmem:(r51200,rb…,t0,tb…,f…,w0,o0,bl0,d0)."""
    shown = subprocess.run(
        ["ss", "-Htnm", f"sport = :{port}"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    return sum(int(found) for found in re.findall(r"skmem:\(r(\d+)", shown))


def test_what_was_sent_through_a_unix_socket_and_not_received_is_seen() -> None:
    before = read()
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x" * 50_000)
        after = read()
        assert after["unix_socks"] == before["unix_socks"] + 2
        # With the kernel's own structures it is somewhat more.
        assert 50_000 <= after["unix_sent_bytes"] - before["unix_sent_bytes"] < 100_000
        other.recv(50_000)
        assert read()["unix_sent_bytes"] < after["unix_sent_bytes"]


def test_what_lies_unread_in_a_tcp_socket_is_what_ss_says() -> None:
    before = read()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            client.sendall(b"x" * 50_000)
            grown = read()["tcp_unread_bytes"] - before["tcp_unread_bytes"]
            assert grown == unread_by_ss(port) >= 50_000
