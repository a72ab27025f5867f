"""What becomes of a request, with servers that really do what is tested."""

from __future__ import annotations

import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from floodmark.loadgen.client import Client, Exchange, Target

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# struct linger {1, 0}: close() sends a RST
RESET = (socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
Serve = Callable[[socket.socket], None]


class Server:
    """Listens on loopback and does with each connection what it was told, one after the other."""

    def __init__(self, serve: Serve) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = Target(socket.AF_INET, self.listener.getsockname())
        self.accepted = 0
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                self._serve(connection)

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[Callable[[Serve], Server]]:
    servers: list[Server] = []

    def start(serve: Serve) -> Server:
        servers.append(Server(serve))
        return servers[-1]

    yield start
    for one in servers:
        one.stop()


def run(target: Target, *requests: bytes, together: bool = True, **options: Any) -> list[Exchange]:
    """Send requests, at once or one after the other, and return how they ended."""
    done: list[Exchange] = []
    client = Client(target, options.pop("timeout_s", 10), reuse=options.pop("reuse", False), on_end=done.append)
    for number, request in enumerate(requests, 1):
        client.send(f"r/{number}", request, time.monotonic_ns())
        if not together:
            go_on(client, lambda: not client.in_flight)
    go_on(client, lambda: not client.in_flight)
    client.close()
    return done


def go_on(client: Client, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        select.select([client.fileno()], [], [], 0.01)
        client.handle()
        client.expire(time.monotonic_ns())


def says(answer: bytes, *then: Any) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        for option in then:
            connection.setsockopt(*option)
        connection.sendall(answer)

    return serve


def hangs(connection: socket.socket) -> None:
    """Read to the end, which comes when the client gives up."""
    while connection.recv(65536):
        pass


# --- the end of a request -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serve", "status", "error", "body_bytes"),
    [
        (says(OK), 200, "", 2),
        (says(b"HTTP/1.0 200 OK\r\n\r\nok"), 200, "", 2),
        (says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad"), 502, "", 3),
        (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), 200, "", 2),
        (says(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK), 200, "", 2),
        (says(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, "", 0),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok"), 200, "truncated", 2),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), 200, "truncated", 2),
        (says(b"HTTP/1.1 103 Early Hints\r\n\r\n"), None, "closed", None),
        (says(b"HTTP/1.1 200 OK\r\nContent-"), None, "closed", None),
        (says(b""), None, "closed", None),
        (says(b"nonsense"), None, "malformed", None),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), None, "malformed", None),
        (says(b"", RESET), None, "reset", None),
        (hangs, None, "timeout", None),
    ],
)  # fmt: skip
def test_the_end_of_a_request_has_one_class(
    server: Callable[[Serve], Server], serve: Serve, status: int | None, error: str, body_bytes: int | None
) -> None:
    (one,) = run(server(serve).target, REQUEST, timeout_s=0.3 if serve is hangs else 10)
    assert (one.status, one.error, one.body_bytes) == (status, error, body_bytes), one
    assert bool(one.detail) is bool(error)


def test_nobody_listening_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(socket.AF_INET, listener.getsockname())
    (one,) = run(target, REQUEST)
    assert (one.error, one.connected_ns, one.first_byte_ns) == ("refused", None, None)


def test_no_descriptor_left_is_said(server: Callable[[Serve], Server]) -> None:
    target = server(hangs).target
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    done: list[Exchange] = []
    client = Client(target, 10, reuse=False, on_end=done.append)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        client.send("r/1", REQUEST, time.monotonic_ns())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    client.close()
    assert [one.error for one in done] == ["no free descriptor"]


def test_times_are_in_the_order_of_what_happens(server: Callable[[Serve], Server]) -> None:
    def slowly(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(OK[:9])
        time.sleep(0.05)
        connection.sendall(OK[9:])

    before_ns = time.monotonic_ns()
    (one,) = run(server(slowly).target, REQUEST)
    assert one.connected_ns
    assert one.first_byte_ns
    times = [before_ns, one.intended_ns, one.start_ns, one.connected_ns, one.first_byte_ns, one.end_ns]
    assert times == sorted(times)
    assert one.end_ns - one.first_byte_ns > 40_000_000


def test_each_request_of_many_gets_its_own_answer(server: Callable[[Serve], Server]) -> None:
    def echo(connection: socket.socket) -> None:
        number = connection.recv(65536).split()[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * int(number[1:]))

    done = run(server(echo).target, *(b"GET /%d HTTP/1.1\r\n\r\n" % turn for turn in range(1, 101)))
    assert sorted((int(one.id[2:]), one.body_bytes) for one in done) == [(turn, turn) for turn in range(1, 101)]


def test_a_large_request_is_sent_in_pieces(server: Callable[[Serve], Server]) -> None:
    read: list[int] = []

    def count(connection: socket.socket) -> None:
        left = len(large)
        while left:
            time.sleep(0.001)
            left -= len(connection.recv(65536))
        read.append(len(large))
        connection.sendall(OK)

    large = REQUEST + b"x" * 3_000_000
    (one,) = run(server(count).target, large)
    assert (one.status, one.error, read) == (200, "", [len(large)])


def test_a_large_answer_is_read_to_its_end(server: Callable[[Serve], Server]) -> None:
    length = 5_000_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(length)
    (one,) = run(server(says(answer)).target, REQUEST)
    assert (one.status, one.error, one.body_bytes) == (200, "", length)


def test_an_answer_that_comes_before_the_request_is_read_counts(server: Callable[[Serve], Server]) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    (one,) = run(server(refuse).target, REQUEST + b"x" * 3_000_000)
    assert (one.status, one.error) == (413, "")


# --- connections ----------------------------------------------------------------------------------


def keeps_alive(connection: socket.socket) -> None:
    while connection.recv(65536):
        connection.sendall(OK)


def test_a_connection_is_used_again(server: Callable[[Serve], Server]) -> None:
    one = server(keeps_alive)
    done = run(one.target, *[REQUEST] * 3, together=False, reuse=True)
    assert [each.status for each in done] == [200] * 3
    assert one.accepted == 1
    assert [each.connected_ns is None for each in done] == [False, True, True]


def test_a_connection_is_not_used_again_unless_it_is_asked_for(server: Callable[[Serve], Server]) -> None:
    one = server(keeps_alive)
    done = run(one.target, *[REQUEST] * 3, together=False)
    assert [each.status for each in done] == [200] * 3
    assert one.accepted == 3


def test_a_kept_connection_that_the_server_closes_is_replaced(server: Callable[[Serve], Server]) -> None:
    one = server(says(OK))
    done: list[Exchange] = []
    client = Client(one.target, 10, reuse=True, on_end=done.append)
    for turn in range(2):
        client.send(f"r/{turn}", REQUEST, time.monotonic_ns())
        go_on(client, lambda: not client.in_flight)
        time.sleep(0.1)  # the server closes it, and nothing tells us but that
        client.handle()
    client.close()
    assert [(each.status, each.error) for each in done] == [(200, "")] * 2
    assert one.accepted == 2


def test_an_answer_that_ends_the_connection_is_the_last_on_it(server: Callable[[Serve], Server]) -> None:
    one = server(says(OK.replace(b"Content", b"Connection: close\r\nContent")))
    done = run(one.target, *[REQUEST] * 2, together=False, reuse=True)
    assert [(each.status, each.error) for each in done] == [(200, "")] * 2
    assert one.accepted == 2


def test_requests_time_out_in_their_order_and_others_go_on(server: Callable[[Serve], Server]) -> None:
    turns = iter(range(3))

    def first_hangs(connection: socket.socket) -> None:
        (says(OK) if next(turns) else hangs)(connection)

    done = run(server(first_hangs).target, *[REQUEST] * 3, timeout_s=0.3)
    assert min((one.id, one.error) for one in done) == ("r/1", "timeout")
    assert all((one.end_ns - one.start_ns) / 1e9 >= 0.3 for one in done if one.error == "timeout")


def test_a_full_queue_of_a_unix_socket_refuses_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "u")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(3)
        done = run(Target(socket.AF_UNIX, path), *[REQUEST] * 10, timeout_s=0.3)
    errors = [one.error for one in done]
    assert errors.count("timeout") == 4, "the queue holds one more than its limit"
    assert errors.count("queue full") == 6


def test_no_socket_there_is_refused(tmp_path: Path) -> None:
    (one,) = run(Target(socket.AF_UNIX, str(tmp_path / "none")), REQUEST)
    assert one.error == "refused"


def test_many_connections_hang_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=600) as listener:
        done: list[Exchange] = []
        client = Client(Target(socket.AF_INET, listener.getsockname()), 1, reuse=False, on_end=done.append)
        for turn in range(500):
            client.send(f"r/{turn}", REQUEST, time.monotonic_ns())
        assert client.in_flight == 500
        go_on(client, lambda: not client.in_flight)
        client.close()
    assert [one.error for one in done] == ["timeout"] * 500
    assert all(one.connected_ns for one in done)
    assert [one.id for one in done] == [f"r/{turn}" for turn in range(500)]
