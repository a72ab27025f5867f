"""How the end of a request is classified, with real errors where they can be made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.locustfiles.conftest import flood

SERVER = """
import socket, sys
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(8)
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.recv(65536)
answer = sys.argv[1].encode().decode("unicode_escape").encode("latin-1")
if answer == b"RESET":
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
elif answer == b"HANG":
    sys.stdin.read()
else:
    connection.sendall(answer)
connection.close()
"""


@pytest.mark.parametrize(
    ("answer", "status", "error", "length"),
    [
        (r"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200", "", "2"),
        (r"HTTP/1.0 200 OK\r\n\r\nok", "200", "", "2"),
        (r"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", "502", "", "3"),
        (r"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", "200", "truncated", "2"),
        (r"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "200", "truncated", "2"),
        (r"HTTP/1.1 200 OK\r\nContent-", "", "closed", ""),
        ("", "", "closed", ""),
        ("nonsense", "", "malformed", ""),
        ("RESET", "", "reset", ""),
        ("HANG", "", "timeout", ""),
    ],
)
def test_the_end_of_a_request_has_one_class(tmp_path: Path, answer: str, status: str, error: str, length: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, answer], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        assert end_of_one(tmp_path, int(server.stdout.readline())) == (status, error, length)
        server.kill()


def test_nobody_listening_is_refused(tmp_path: Path) -> None:
    assert end_of_one(tmp_path, 1) == ("", "refused", "")


def end_of_one(folder: Path, port: int) -> tuple[str, str, str]:
    (row,) = flood(folder, port, "--users=1", "--spawn-rate=1")
    return row["status"], row["error"], row["body_bytes"]
