"""When the users of a flood send."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.locustfiles.conftest import flood


class Quiet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_a_burst_is_one_request_of_each_user_at_its_place_in_the_spread(tmp_path: Path, port: int) -> None:
    rows = flood(tmp_path, port, "--users=5", "--spawn-rate=5", "--start-spread-ms=500")
    assert [row["status"] for row in rows] == ["200"] * 5
    starts = sorted(int(row["start_ns"]) for row in rows)
    gaps_ms = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(starts)]
    assert sum(gaps_ms) >= 399, gaps_ms
    # A busy machine makes a user late, and the next gap shorter; bunched they would all be near 0.
    assert sorted(gaps_ms)[1] > 50, gaps_ms


def test_a_sustained_flood_sends_again_until_its_time_is_over(tmp_path: Path, port: int) -> None:
    rows = flood(
        tmp_path, port, "--users=2", "--spawn-rate=2", "--load-shape=sustained", "--duration-s=1", "--think-time-ms=100"
    )
    starts = sorted(int(row["start_ns"]) for row in rows)
    assert 2 < len(rows) <= 22
    assert starts[-1] - starts[0] < 1_000_000_000
