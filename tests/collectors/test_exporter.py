"""What Prometheus sees: the newest values, on loopback, under names that follow from the registry."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collectors.exporter import newest_rows, parse_address
from collectors.fields import ACCEPT_QUEUE
from tests.collectors.test_agent import RunningAgent
from tests.conftest import ROOT, free_port


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_newest_values_are_served_and_what_cannot_be_read_is_absent(tmp_path: Path) -> None:
    port = free_port()
    agent = RunningAgent(tmp_path, "--metrics", f"127.0.0.1:{port}")
    try:
        agent.wait_for("accept_queue", 500)
        agent.wait_for("unix_states", 1)
        values = scrape(port)
        upstream = (("listener", "upstream"), ("via", "unix_diag"))
        assert values["floodmark_accept_queue_depth_conns", upstream] == 3
        assert values["floodmark_accept_queue_limit_conns", upstream] == 8
        assert values["floodmark_unix_states_connecting_socks", ()] == 3
        assert values["floodmark_agent_late_seconds", (("source", "accept_queue"),)] < 1
        assert not [name for name, labels in values if ("listener", "front") in labels], "nobody listens there"
        assert not [name for name, _labels in values if name.startswith("floodmark_stub_status")]
        assert agent.stop(signal.SIGTERM) == 0
        with pytest.raises(OSError, match="refused"):
            scrape(port)
    finally:
        agent.close()


@pytest.mark.parametrize("address", ["0.0.0.0:9177", "127.0.0.1", "127.0.0.1:0", "192.0.2.1:1", "9177", "127.0.0.1:x"])
def test_an_address_that_is_not_on_loopback_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="it must be an address on loopback such as"):
        parse_address(address)


def test_a_port_in_use_is_said_before_the_agent_begins(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "collectors.exporter", f"127.0.0.1:{taken.getsockname()[1]}", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_row_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "accept_queue.csv"
    path.write_text(",".join(ACCEPT_QUEUE.columns) + "\n1,upstream,3,8,unix_diag,\n2,upstream,4,8,unix_diag,\n3,upst")
    assert [row["depth_conns"] for row in newest_rows(path, ACCEPT_QUEUE)] == ["4"]
    assert newest_rows(tmp_path / "nothing.csv", ACCEPT_QUEUE) == []
