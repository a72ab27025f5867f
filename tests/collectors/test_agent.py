"""The agent as a whole, on listeners made here."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collectors import accept_queue
from collectors.config import Listener
from collectors.fields import SOURCES, TABLES
from floodmark.inputs.cases import load_cases
from tests.conftest import ROOT


def start_agent(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "collectors.agent", str(folder / "agent.json"), *options], cwd=ROOT)


class RunningAgent:
    """An agent that looks at a unix listener with three queued connections."""

    def __init__(self, folder: Path, *options: str, without: str = "") -> None:
        self.folder = folder
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "upstream.sock"))
        self.listener.listen(8)
        self.clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in self.clients:
            client.connect(str(folder / "upstream.sock"))
        config = {
            "output": str(folder),
            "listeners": [
                {"name": "upstream", "transport": "unix", "path": str(folder / "upstream.sock"), "port": 0},
                {"name": "front", "transport": "tcp", "path": "", "port": 1},
            ],
            "status_path": "/status",
            "nginx_unit": "no-such.service",
            "upstream_unit": "no-such.service",
            "rates_hz": {name: hz for name, hz in load_cases()[1].parameters.rates_hz.items() if name != without},
        }
        (folder / "agent.json").write_text(json.dumps(config))
        self.process = start_agent(folder, *options)

    def rows(self, table: str) -> list[dict[str, str]]:
        path = self.folder / f"{table}.csv"
        if not path.exists():
            return []
        complete = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return list(csv.DictReader(complete))

    def wait_for(self, table: str, count: int) -> None:
        """Wait until so many rows are on disk."""
        deadline = time.monotonic() + 20
        while len(self.rows(table)) < count:
            assert self.process.poll() is None, "the agent ended"
            assert time.monotonic() < deadline, f"{table} has {len(self.rows(table))} rows"
            time.sleep(0.02)

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=10)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for one in (self.listener, *self.clients):
            one.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    running = RunningAgent(tmp_path)
    yield running
    running.close()


def test_every_source_writes_the_columns_of_the_registry(agent: RunningAgent) -> None:
    agent.wait_for("accept_queue", 500)
    assert agent.stop(signal.SIGTERM) == 0
    for table in SOURCES:
        rows = agent.rows(table.name)
        assert rows, table.name
        assert tuple(rows[0]) == table.columns


def test_a_source_that_is_left_out_writes_no_file(tmp_path: Path) -> None:
    with closing(RunningAgent(tmp_path, without="machine")) as agent:
        agent.wait_for("process", 1)
        assert agent.stop(signal.SIGTERM) == 0
        assert not (tmp_path / "machine.csv").exists()


def test_the_depth_is_what_the_queue_holds(agent: RunningAgent) -> None:
    agent.wait_for("accept_queue", 500)
    agent.stop(signal.SIGTERM)
    upstream = [row for row in agent.rows("accept_queue") if row["listener"] == "upstream"]
    assert {(row["depth_conns"], row["limit_conns"], row["reason"]) for row in upstream} == {("3", "8", "")}
    states = agent.rows("unix_states")
    names = ("unconnected_socks", "connecting_socks", "connected_socks")
    assert {tuple(row[name] for name in names) for row in states} == {("1", "3", "0")}


def test_what_cannot_be_read_is_a_row_with_a_reason_and_no_number(agent: RunningAgent) -> None:
    agent.wait_for("process", 2)
    agent.stop(signal.SIGTERM)
    front = [row for row in agent.rows("accept_queue") if row["listener"] == "front"]
    assert {row["depth_conns"] for row in front} == {""}
    (reason,) = {row["reason"] for row in front}
    assert reason.startswith("nobody listens on TCP port 1, or the kernel has no tcp_diag (sock_diag: ENOENT")
    assert all(row["active_conns"] == "" and "refused" in row["reason"] for row in agent.rows("stub_status"))
    assert all(row["rss_bytes"] == "" and row["reason"] for row in agent.rows("process"))


def test_every_reading_is_noted_with_its_lateness_and_cost(agent: RunningAgent) -> None:
    agent.wait_for("accept_queue", 1000)
    agent.stop(signal.SIGTERM)
    notes = [row for row in agent.rows("agent") if row["source"] == "accept_queue"]
    assert [row["t_ns"] for row in notes] == [
        row["t_ns"] for row in agent.rows("accept_queue") if row["listener"] == "upstream"
    ]
    assert all(int(row["late_ns"]) >= 0 < int(row["inside_ns"]) for row in notes)
    # What was made and what was lost is what was due, from the first due time to the last.
    first_ns, last_ns = (int(notes[turn]["t_ns"]) - int(notes[turn]["late_ns"]) for turn in (0, -1))
    due = (last_ns - first_ns) / 1e6
    assert len(notes) - 1 + sum(int(row["lost_ticks"]) for row in notes[1:]) == pytest.approx(due, abs=2)
    costs = [float(row["cpu_s"]) for row in agent.rows("agent") if row["source"] == "agent"]
    assert 0 < sum(costs) < due / 1000


def test_a_kernel_without_unix_diag_is_counted_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept_queue, "kernel_has_unix_diag", lambda: False)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen(8)
        client.connect(str(tmp_path / "s"))
        with closing(accept_queue.AcceptQueue([Listener("upstream", "unix", str(tmp_path / "s"), 0)])) as source:
            assert source.read(0) == [("upstream", 1, None, "proc", None)]
            assert source.read(accept_queue.PROC_INTERVAL_NS - 1) == []
            assert len(source.read(accept_queue.PROC_INTERVAL_NS)) == 1


def test_a_listener_that_is_replaced_is_found_again(agent: RunningAgent) -> None:
    agent.wait_for("accept_queue", 200)
    agent.listener.close()
    path = agent.folder / "upstream.sock"
    path.unlink()
    agent.listener = socket.socket(socket.AF_UNIX)
    agent.listener.bind(str(path))
    agent.listener.listen(5)
    agent.wait_for("accept_queue", len(agent.rows("accept_queue")) + 2500)
    agent.stop(signal.SIGTERM)
    upstream = [row for row in agent.rows("accept_queue") if row["listener"] == "upstream"]
    assert (upstream[-1]["depth_conns"], upstream[-1]["limit_conns"]) == ("0", "5")
    assert any(row["reason"] for row in upstream)


def test_of_an_agent_that_is_killed_all_but_the_last_moment_is_left(agent: RunningAgent) -> None:
    agent.wait_for("accept_queue", 2000)
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    rows = agent.rows("accept_queue")
    assert len(rows) >= 2000
    assert all(len(row) == len(TABLES["accept_queue"].columns) for row in rows)
    assert not (agent.folder / "written.json").exists()


def test_sigterm_puts_the_last_rows_on_disk(agent: RunningAgent) -> None:
    agent.wait_for("accept_queue", 200)
    stopped_ns = time.monotonic_ns()
    agent.stop(signal.SIGTERM)
    assert int(agent.rows("accept_queue")[-1]["t_ns"]) > stopped_ns - 50_000_000
    written = json.loads((agent.folder / "written.json").read_text())
    assert written == {table.name: len(agent.rows(table.name)) for table in SOURCES}


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_status_page_that_hangs_delays_no_other_source(tmp_path: Path, waiting: int) -> None:
    """It accepts nothing, like a stopped nginx; or its queue is full besides, so that connecting hangs."""
    with socket.socket() as silent, socket.socket() as client:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0 if waiting else 8)
        if waiting:
            client.connect(silent.getsockname())
        running = RunningAgent(tmp_path)
        try:
            running.process.kill()
            running.process.wait()
            config = json.loads((tmp_path / "agent.json").read_text())
            config["listeners"][1]["port"] = silent.getsockname()[1]
            (tmp_path / "agent.json").write_text(json.dumps(config))
            running.process = start_agent(tmp_path)
            running.wait_for("stub_status", 30)
            running.stop(signal.SIGTERM)
            reasons = [row["reason"] for row in running.rows("stub_status")]
            assert all("has not answered" in reason or "closed" in reason for reason in reasons)
            assert all(row["active_conns"] == "" for row in running.rows("stub_status"))
            looks = [int(row["t_ns"]) for row in running.rows("agent") if row["source"] == "accept_queue"]
            assert len(looks) / (looks[-1] - looks[0]) * 1e9 > 500, "1,000 readings a second are due"
        finally:
            running.close()
