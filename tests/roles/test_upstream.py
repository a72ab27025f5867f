"""The misbehaving server: what each case does on the wire."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collectors.fields import UPSTREAM_EVENTS
from collectors.proc_net_unix import StateCounts, find_listener, read_proc_net_unix
from collectors.sock_diag import (
    ACCEPTED_UNIX_CONNECTIONS,
    SockDiag,
    ask_unix_listener,
    depth_of,
    parse_accepted_unix_connections,
)
from floodmark.inputs.cases import load_cases
from tests.conftest import ROOT

PROGRAM = ROOT / "roles/upstream/files/upstream.py"
REQUEST = b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"


Start = Callable[..., "Upstream"]
Clients = list[socket.socket]


class Upstream:
    """A running upstream of one case, on a unix socket unless it is given a port."""

    def __init__(
        self, folder: Path, case: int, backlog: int = 16, fds: int | None = None, port: int = 0, **more: int
    ) -> None:
        self.path = folder / "u.sock"
        self.other_path = folder / "u2.sock"
        self.port = port
        config = folder / "upstream.json"
        definition = load_cases()[case]
        listeners = [
            {"name": "upstream", "transport": "tcp" if port else "unix", "path": str(self.path), "port": port},
            {"name": "upstream_2", "transport": "unix", "path": str(self.other_path), "port": 0},
        ]
        behaviours = [one.model_dump() for one in (definition.upstream, *definition.others)]
        settings = {
            "servers": [
                {"behaviour": behaviour, "listener": listener}
                for behaviour, listener in zip(behaviours, listeners, strict=False)
            ],
            "backlog": backlog,
            "accepts_per_s": 10,
            "pause_after_s": 1,
            "pause_s": 1,
            "events": str(folder / "events.csv"),
        }
        config.write_text(json.dumps({**settings, **more}))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(folder / "notify"))
            ready.settimeout(10)
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(config)],
                env={"NOTIFY_SOCKET": str(folder / "notify")},
                stderr=subprocess.PIPE,
                preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (fds, fds))) if fds else None,  # noqa: PLW1509
            )
            assert ready.recv(100) == b"READY=1"

    def connect(self, request: bytes = REQUEST) -> socket.socket:
        client = socket.socket(socket.AF_INET if self.port else socket.AF_UNIX)
        client.connect(("127.0.0.1", self.port) if self.port else str(self.path))  # waits while the queue is full
        client.settimeout(5)
        if request:
            client.sendall(request)
        return client

    def accepted(self) -> list[int]:
        """Return the unread bytes of each connection that it has accepted."""
        with closing(SockDiag()) as diag:
            bodies = [body for part in diag.dump(ACCEPTED_UNIX_CONNECTIONS) for body in part]
        return [one.unread_bytes for one in parse_accepted_unix_connections(bodies, str(self.path).encode())]

    def queued(self) -> int:
        """Return the depth of its accept queue."""
        depth, _limit = depth_of(ask_unix_listener(find_listener(read_proc_net_unix(), str(self.path).encode())))
        return depth

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def clients() -> Iterator[Clients]:
    opened: Clients = []
    yield opened
    for client in opened:
        client.close()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Upstream] = []

    def begin(case: int, **options: int) -> Upstream:
        running.append(Upstream(tmp_path, case, **options))
        return running[-1]

    yield begin
    for upstream in running:
        upstream.process.kill()
        upstream.process.communicate()


def test_case_1_answers_and_closes(start: Start, clients: Clients) -> None:
    upstream = start(1)
    clients.append(upstream.connect())
    answer = b""
    while data := clients[0].recv(1000):
        answer += data
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert upstream.accepted() == []


def test_case_2_leaves_connections_in_the_queue(start: Start, clients: Clients) -> None:
    upstream = start(2)
    clients.extend(upstream.connect() for _ in range(3))
    assert upstream.queued() == 3
    assert upstream.accepted() == []


@pytest.mark.parametrize(("case", "unread"), [(3, len(REQUEST)), (4, 0), (5, 0)])
def test_cases_3_to_5_keep_what_they_accept(start: Start, clients: Clients, case: int, unread: int) -> None:
    upstream = start(case)
    clients.extend(upstream.connect() for _ in range(3))
    upstream.wait_until(lambda: upstream.accepted() == [unread] * 3)
    counts = StateCounts(str(upstream.path).encode())
    counts.add(read_proc_net_unix())
    assert counts.on_path == [0, 1, 0, 3, 0]


def test_only_case_5_writes_to_a_connection_that_it_keeps(start: Start, clients: Clients) -> None:
    clients.append(start(5).connect())
    assert clients[0].recv(1000).startswith(b"HTTP/1.0 200 OK\r\n")
    clients[0].settimeout(0.3)
    with pytest.raises(TimeoutError):
        clients[0].recv(1000)


def test_case_6_leaves_time_between_two_connections(start: Start, clients: Clients) -> None:
    upstream = start(6, accepts_per_s=20)
    clients.extend(upstream.connect() for _ in range(5))
    answered_s = []
    for client in clients:
        assert client.recv(1000).startswith(b"HTTP/1.0 200 OK\r\n")
        answered_s.append(time.monotonic())
    assert answered_s[-1] - answered_s[0] >= 4 / 20 - 0.01, "the first is accepted at once, each other 50 ms later"


def test_case_7_closes_before_there_is_a_request(start: Start, clients: Clients) -> None:
    upstream = start(7)
    clients.append(upstream.connect(b""))
    assert clients[0].recv(1000) == b""
    assert upstream.accepted() == []


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_case_8_resets_when_the_request_has_come_and_not_before(
    start: Start, clients: Clients, free_port: int, transport: str
) -> None:
    upstream = start(8, port=free_port if transport == "tcp" else 0)
    clients.append(upstream.connect(b""))
    clients[0].settimeout(0.2)
    with pytest.raises(TimeoutError):
        clients[0].recv(1000)
    clients[0].sendall(REQUEST)
    clients[0].settimeout(5)
    with pytest.raises(ConnectionResetError):
        clients[0].recv(1000)


def test_case_9_writes_half_of_what_it_has_promised(start: Start, clients: Clients) -> None:
    upstream = start(9)
    clients.append(upstream.connect())
    answer = b""
    while not answer.endswith(b"flood"):
        answer += clients[0].recv(1000)
    clients[0].settimeout(0.3)
    with pytest.raises(TimeoutError):
        clients[0].recv(1000)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: 10" in head.splitlines()
    assert body == b"flood"
    assert upstream.accepted() == [0]


def test_case_11_holds_two_servers_of_which_one_accepts(start: Start, clients: Clients) -> None:
    upstream = start(11)
    clients.append(upstream.connect())
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(upstream.other_path))
        other.settimeout(5)
        other.sendall(REQUEST)
        assert other.recv(1000).startswith(b"HTTP/1.0 200 OK\r\n")
    assert upstream.queued() == 1


def test_case_12_writes_down_when_it_did_not_accept(start: Start, clients: Clients, tmp_path: Path) -> None:
    upstream = start(12)
    events = tmp_path / "events.csv"
    clients.append(upstream.connect())
    assert clients[0].recv(1000).startswith(b"HTTP/1.0 200 OK\r\n")
    upstream.wait_until(events.exists)
    clients.append(upstream.connect())
    assert upstream.queued() == 1, "from the moment on that it has written down"
    assert clients[1].recv(1000).startswith(b"HTTP/1.0 200 OK\r\n")
    answered_ns = time.monotonic_ns()
    (paused, *of_paused), (resumed, *of_resumed) = (line.split(",") for line in events.read_text().splitlines())
    assert (of_paused, of_resumed) == (["upstream", "paused"], ["upstream", "resumed"])
    assert int(paused) + 1_000_000_000 <= int(resumed) <= answered_ns


def test_the_record_has_the_columns_of_its_table() -> None:
    tasks = (ROOT / "roles/upstream/tasks/apply.yml").read_text()
    assert f'content: "{",".join(UPSTREAM_EVENTS.columns)}\\n"' in tasks


@pytest.mark.parametrize("case", [1, 7, 8, 9])
def test_a_client_that_leaves_early_does_not_stop_it(start: Start, clients: Clients, case: int) -> None:
    upstream = start(case)
    for _ in range(5):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(upstream.path))
        client.close()
    upstream.wait_until(lambda: upstream.queued() == 0)
    clients.append(upstream.connect(b""))
    upstream.wait_until(lambda: upstream.queued() == 0)
    assert upstream.process.poll() is None


def test_without_free_descriptors_it_waits_and_does_not_spin(start: Start, clients: Clients) -> None:
    upstream = start(3, fds=16)
    clients.extend(upstream.connect() for _ in range(14))
    upstream.wait_until(lambda: len(upstream.accepted()) + upstream.queued() == 14)

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{upstream.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = cpu_ticks()
    time.sleep(1.5)
    assert upstream.process.poll() is None
    assert 0 < len(upstream.accepted()) < 14
    assert cpu_ticks() - before <= 5


def test_it_ends_at_once_while_connections_hang(start: Start, clients: Clients) -> None:
    upstream = start(4, backlog=128)
    clients.extend(upstream.connect() for _ in range(500))
    upstream.wait_until(lambda: len(upstream.accepted()) == 500)
    upstream.process.terminate()
    began = time.monotonic()
    upstream.process.wait(timeout=5)
    assert time.monotonic() - began < 2
