"""When the users of a flood send."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import psutil
import pytest
import yaml

from tests.conftest import ROOT
from tests.locustfiles.conftest import flood, read_summary


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    # With the usual five, a server that is late drops SYNs, and they come again after a second.
    request_queue_size = 1024


class UnixServer(ThreadingMixIn, UnixStreamServer):
    pass


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_a_burst_is_one_request_of_each_user_at_its_place_in_the_spread(tmp_path: Path, port: int) -> None:
    rows = flood(tmp_path, port, "--users=5", "--spawn-rate=5", "--start-spread-ms=500")
    assert [row["status"] for row in rows] == ["200"] * 5
    intended = sorted(int(row["intended_ns"]) for row in rows)
    assert [later - earlier for earlier, later in itertools.pairwise(intended)] == [100_000_000] * 4
    starts = sorted(int(row["start_ns"]) for row in rows)
    gaps_ms = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(starts)]
    # A busy machine makes a user late, and the next gap shorter; bunched they would all be near 0.
    assert sorted(gaps_ms)[1] > 50, gaps_ms


def test_a_burst_is_sent_again(tmp_path: Path, port: int) -> None:
    rows = flood(
        tmp_path, port, "--users=3", "--spawn-rate=3", "--start-spread-ms=30", "--bursts=2", "--burst-every-s=1"
    )
    load = read_summary(tmp_path)
    assert [row["status"] for row in rows] == ["200"] * 6
    intended = sorted(int(row["intended_ns"]) - load["begin_ns"] for row in rows)
    assert intended == [offset * 1_000_000 for offset in (0, 10, 20, 1000, 1010, 1020)]
    assert load["dropped"] == 0


def test_who_still_waits_sends_nothing_in_the_next_burst(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody_answers:
        port = nobody_answers.getsockname()[1]
        rows = flood(
            tmp_path, port, "--users=3", "--spawn-rate=3", "--start-spread-ms=0", "--bursts=3", "--burst-every-s=1",
            "--answer-timeout-s=1.5",
        )  # fmt: skip
    assert [row["error"] for row in rows] == ["timeout"] * 6
    assert read_summary(tmp_path)["dropped"] == 3, "those of the second burst"


def test_a_server_on_a_unix_socket_is_flooded_without_a_proxy(tmp_path: Path) -> None:
    with UnixServer(str(tmp_path / "upstream.sock"), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        rows = flood(tmp_path, 0, "--users=5", "--spawn-rate=5", f"--host=unix://{server.server_address}")
        server.shutdown()
    assert [(row["status"], row["error"]) for row in rows] == [("200", "")] * 5


def test_the_versions_of_locust_are_written_down(tmp_path: Path, port: int) -> None:
    flood(tmp_path, port, "--users=1", "--spawn-rate=1", "--leader-version=2.0.0")
    load = read_summary(tmp_path)
    assert (load["locust_version"], load["leader_version"]) == (version("locust"), "2.0.0")


def test_a_process_writes_down_its_beginning_and_what_it_logged(tmp_path: Path, port: int) -> None:
    rows = flood(tmp_path, port, "--users=5", "--spawn-rate=5", "--start-spread-ms=0")
    load = read_summary(tmp_path)
    assert {int(row["intended_ns"]) for row in rows} == {load["begin_ns"]}
    assert load["begin_error_ns"] == 0
    assert load["begin_ns"] <= load["first_start_ns"] == min(int(row["start_ns"]) for row in rows)
    log = tmp_path / "requests.0.csv"
    assert (load["requests"], load["requests_sha256"]) == (5, hashlib.sha256(log.read_bytes()).hexdigest())
    # Both are readings of this machine's clock, which no test sets.
    now_ns = time.time_ns() - time.monotonic_ns()
    for key in ("wall_minus_monotonic_begin_ns", "wall_minus_monotonic_ns"):
        assert load[key] == pytest.approx(now_ns, abs=1e9)

    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-2]))
    assert len(list(csv.DictReader(log.read_text().splitlines()))) == load["requests"] - 2
    assert hashlib.sha256(log.read_bytes()).hexdigest() != load["requests_sha256"]


def test_the_time_of_sending_ends_with_the_last_request_and_not_with_its_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody_answers:
        port = nobody_answers.getsockname()[1]
        flood(tmp_path, port, "--users=5", "--spawn-rate=5", "--start-spread-ms=500", "--answer-timeout-s=3")
    load = read_summary(tmp_path)
    assert 0.4 <= load["sending_s"] < (load["last_end_ns"] - load["begin_ns"]) / 1e9 - 1
    assert 0 < load["cpu_sending_s"] < load["cpu_s"]


def test_a_generator_that_was_stopped_knows_it_although_nothing_was_due(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Thread(target=_stop_the_client, args=(listener, 0.5))
        stop.start()
        flood(tmp_path, listener.getsockname()[1], "--users=1", "--spawn-rate=1", "--answer-timeout-s=3")
        stop.join()
    # It may have had 10 ms left until it wanted to wake.
    assert read_summary(tmp_path)["longest_stall_ms"] >= 490


def _stop_the_client(listener: socket.socket, seconds: float) -> None:
    """Stop the process that connects first, and let it go on."""
    connection, address = listener.accept()
    with connection:
        (client,) = (
            psutil.Process(one.pid)
            for one in psutil.net_connections("tcp4")
            if one.laddr == address and one.status == "ESTABLISHED"
        )
        client.suspend()
        time.sleep(seconds)
        client.resume()
        while connection.recv(4096):  # until the flood has given up
            pass


def test_a_sustained_flood_sends_again_until_its_time_is_over(tmp_path: Path, port: int) -> None:
    rows = flood(
        tmp_path, port, "--users=2", "--spawn-rate=2", "--load-shape=sustained", "--duration-s=1", "--think-time-ms=100"
    )
    # When they were to start; a busy machine is late with it.
    starts = sorted(int(row["intended_ns"]) for row in rows)
    assert 2 < len(rows) <= 22
    assert starts[-1] - starts[0] < 1_000_000_000


# --- open floods ----------------------------------------------------------------------------------


def test_an_open_flood_starts_its_requests_when_they_were_planned(tmp_path: Path, port: int) -> None:
    rows = flood(
        tmp_path,
        port,
        # However late the server is: none is dropped, and none is given up.
        "--users=300",
        "--spawn-rate=300",
        "--answer-timeout-s=30",
        "--load-shape=open",
        "--arrivals=constant",
        "--rate=100:1 200:1",
    )
    assert [row["status"] for row in rows] == ["200"] * 300
    intended = sorted(int(row["intended_ns"]) for row in rows)
    gaps_ns = [later - earlier for earlier, later in itertools.pairwise(intended)]
    assert gaps_ns == [10_000_000] * 100 + [5_000_000] * 199
    assert all(int(row["start_ns"]) >= int(row["intended_ns"]) for row in rows)


def test_arrivals_beyond_those_that_may_be_in_flight_are_dropped_and_counted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody_accepts:
        rows = flood(
            tmp_path, nobody_accepts.getsockname()[1], "--users=3", "--spawn-rate=3", "--load-shape=open",
            "--arrivals=constant", "--rate=20:0.5",
        )  # fmt: skip
    assert [row["error"] for row in rows] == ["timeout"] * 3
    summary = read_summary(tmp_path)
    assert (summary["requests"], summary["dropped"], summary["unfinished"]) == (3, 7, 0)


STALLING = """
import http.server, signal
class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.parametrize(
    ("shape", "sees_it"),
    [(["--load-shape=open", "--rate=100"], True), (["--load-shape=sustained", "--think-time-ms=10"], False)],
    ids=["open loop", "closed loop"],
)
def test_a_stall_of_one_second_is_in_p95_of_an_open_loop_alone(tmp_path: Path, shape: list[str], sees_it: bool) -> None:
    """One of six seconds is lost: everybody who arrives in it waits, but in a closed loop nobody arrives."""
    with subprocess.Popen([sys.executable, "-c", STALLING], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        stall = threading.Thread(target=_stall, args=(server, tmp_path / "requests.0.csv"))
        stall.start()
        rows = flood(
            tmp_path, port, "--users=200" if sees_it else "--users=1", "--spawn-rate=200", "--duration-s=6",
            "--answer-timeout-s=10", *shape,
        )  # fmt: skip
        stall.join()
        server.kill()
    latencies_s = sorted((int(row["end_ns"]) - int(row["intended_ns"])) / 1e9 for row in rows)
    p95 = latencies_s[int(len(latencies_s) * 0.95)]
    assert latencies_s[-1] > 0.9, "somebody has waited for nearly all of it"
    assert (p95 > 0.5) is sees_it, f"p95 is {p95} s of {len(rows)} requests"


def _stall(server: subprocess.Popen[str], log: Path) -> None:
    """Stop a server for a second in the middle of a flood."""
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_bytes().count(b"\n") > 100):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.send_signal(signal.SIGSTOP)
    time.sleep(1)
    server.send_signal(signal.SIGCONT)


IMPORTING = """
import sys
import locustfiles.flood
for module in list(sys.modules.values()):
    if module.__name__.partition(".")[0] in ("collectors", "floodmark", "locustfiles"):
        print(module.__file__)
"""


def test_a_load_generator_gets_all_that_the_flood_imports(tmp_path: Path) -> None:
    defaults = yaml.safe_load((ROOT / "roles/locust/defaults/main.yml").read_text())
    for source in (found for pattern in defaults["locust_parts"] for found in ROOT.glob(pattern)):
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path for path in done.stdout.split() if not path.startswith(str(tmp_path))] == [
        "None"
    ]  # locustfiles itself


# --- several processes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        (["--users=7", "--spawn-rate=7"], 7),
        (["--users=40", "--spawn-rate=40", "--load-shape=open", "--arrivals=constant", "--rate=50:1"], 50),
    ],
)
def test_processes_share_a_flood(tmp_path: Path, port: int, options: list[str], requests: int) -> None:
    rows = flood(tmp_path, port, *options, *processes(2))
    assert [row["status"] for row in rows] == ["200"] * requests
    assert sorted(int(row["id"]) for row in rows) == list(range(1, requests + 1))
    assert {row["generator"] for row in rows} == {"0", "1"}
    for number in range(2):
        assert read_summary(tmp_path, number)["generators"] == 2


def processes(count: int) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return [
        f"--processes={count}",
        "--master-bind-host=127.0.0.1",
        f"--master-bind-port={port}",
        f"--master-port={port}",
    ]
