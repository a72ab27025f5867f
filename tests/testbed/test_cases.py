"""All cases over both transports, with numbers that were measured by other means than Floodmark."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from floodmark.runs.folders import RunFolder
from tests.conftest import read_access_report
from tests.testbed.conftest import ROOT, evidence, folder_of, play, verdict_of

pytestmark = pytest.mark.usefixtures("testbed")

# somaxconn 8, 32 clients: limit of the queue, states on the path, Active without our poll, what clients got.
TRUTH: dict[tuple[int, str], dict[str, Any]] = {
    (1, "unix"): {"states": (1, 0, 0), "queue": 0, "status": {"200": 32}},
    (2, "unix"): {"states": (1, 9, 0), "queue": 9, "active": 9, "status": {"502": 23, "504": 9}},
    (3, "unix"): {"states": (1, 0, 32), "queue": 0, "active": 32, "status": {"504": 32}},
    (4, "unix"): {"states": (1, 0, 32), "queue": 0, "active": 32, "status": {"504": 32}},
    (5, "unix"): {"states": (1, 0, 32), "queue": 0, "active": 32, "status": {"200": 32}},
    (1, "tcp"): {"queue": 0, "status": {"200": 32}},
    (2, "tcp"): {"queue": 9, "active": 32, "status": {"504": 32}},
    (3, "tcp"): {"queue": 0, "active": 32, "status": {"504": 32}},
    (4, "tcp"): {"queue": 0, "active": 32, "status": {"504": 32}},
    (5, "tcp"): {"queue": 0, "active": 32, "status": {"200": 32}},
    # Ten in a second: one at once, nine that fit; over TCP some come again, or their second is over.
    (6, "unix"): {"queue": 0, "status": {"200": 10, "502": 22}},
    (6, "tcp"): {"queue": 0},
    (7, "unix"): {"states": (1, 0, 0), "queue": 0, "status": {"502": 32}},
    (8, "unix"): {"states": (1, 0, 0), "queue": 0, "status": {"502": 32}},
    (8, "tcp"): {"queue": 0, "status": {"502": 32}},
    (9, "unix"): {"states": (1, 0, 32), "queue": 0, "active": 32, "status": {"200": 32}, "errors": {"truncated": 32}},
    # How many come too early is a race; what becomes of them is not.
    (10, "unix"): {"limit": 1, "queue": 0},
    (10, "tcp"): {"limit": 1, "queue": 0},
    # The one that never accepts holds nine POSTs; over TCP seven or eight wait for the connection timeout besides.
    (11, "unix"): {"states": (1, 9, 0), "queue": 9, "status": {"200": 23, "504": 9}},
    (11, "tcp"): {"queue": 9, "status": {"200": 23, "504": 9}},
}


@pytest.mark.parametrize(("case", "transport"), TRUTH)
def test_a_case_shows_what_was_measured_by_hand(case: int, transport: str, snapshot: Callable[[], str]) -> None:
    before = snapshot()
    done = play("-e", f"case={case}", "-e", f"transport={transport}")
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    metrics, truth = verdict["metrics"], TRUTH[case, transport]
    assert verdict["valid"]
    assert metrics["queue_limit"] == truth.get("limit", 8)
    assert metrics["accept_queue_last"] == truth["queue"]
    for name in {"status", "errors"} & truth.keys():
        assert metrics[name] == truth[name]
    if "active" in truth:
        assert metrics["active_median"] == truth["active"]
    if "states" in truth:
        assert tuple(metrics["states"][state] for state in ("01", "02", "03")) == truth["states"]
    if (case, transport) == (2, "tcp"):
        assert metrics["listen_overflows"] > 0
        assert metrics["listen_drops"] >= metrics["listen_overflows"]
    _check_access_report(folder_of(done), metrics["status"])
    assert snapshot() == before, "the host was not left as it was found"
    assert "Pausing" not in done.stdout
    assert "TASK" not in done.stdout


def _check_access_report(run: Path, status: dict[str, int]) -> None:
    """Make sure that GoAccess counts each line of the log, and each status as often as it is there."""
    host = RunFolder(run).host("proxy1")
    with tarfile.open(host.archive) as archive:
        log = archive.extractfile("./nginx-access.log")
        assert log
        lines = log.readlines()
    shown = read_access_report(host.access_report)
    assert shown["general"]["valid_requests"] == len(lines) == sum(status.values())
    assert shown["general"]["failed_requests"] == 0
    codes = [code for group in shown["status_codes"]["data"] for code in group["items"]]
    assert {code["data"].partition(" ")[0]: code["hits"]["count"] for code in codes} == status
    assert shown["vhosts"]["data"][0]["data"] == run.name


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_a_pause_leaves_a_queue_of_the_dead_and_is_recovered_from(transport: str) -> None:
    """Nine wait for accept() until nginx gives up on them; when the upstream goes on, it accepts those first."""
    flood = ["load_shape=sustained", "users=20", "duration_s=5"]
    pause = ["upstream_pause_after_s=1", "upstream_pause_s=3", "proxy_connect_timeout_s=2", f"transport={transport}"]
    done = play("-e", "case=12", *(part for one in (*flood, *pause) for part in ("-e", one)))
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    metrics = verdict["metrics"]
    assert verdict["valid"]
    assert metrics["pause_s"] >= 3
    assert metrics["pause_dead_conns"] == 9
    assert metrics["pause_queue_recovery_s"] is not None
    if transport == "unix":
        assert metrics["status"]["504"] == 9
    else:
        assert metrics["pause_clients_recovery_s"] > 0, "who came last has come again"


@pytest.mark.parametrize(
    "arguments",
    [
        "case=2 somaxconn=0",
        "case=2 upstream_backlog=3 somaxconn=100 users=50 nginx_workers=4 load_shape=sustained duration_s=2",
        "case=2 transport=tcp users=120 somaxconn=16",
        "case=3 load_shape=sustained duration_s=2 payload_bytes=100000 users=20 keepalive=true",
        "case=11 transport=tcp payload_bytes=0",
    ],
)
def test_the_model_predicts_other_numbers_as_well(arguments: str) -> None:
    done = play(*(part for one in arguments.split() for part in ("-e", one)))
    assert done.returncode == 0, evidence(done)
    assert verdict_of(done)["valid"]


def test_a_full_worker_proxies_half_of_its_slots() -> None:
    """worker_connections 8, less a listener and a channel: three requests of two slots each."""
    done = play("-e", "case=3", "-e", "transport=tcp", "-e", "worker_connections=8", "-e", "nginx_workers=1")
    assert done.returncode == 0, evidence(done)
    metrics = verdict_of(done)["metrics"]
    assert metrics["status"].get("504", 0) <= 3
    assert metrics["errors"], "the others were closed without a status line"


def test_two_load_generators_flood_together() -> None:
    done = play("-e", "case=2", "-i", "inventory/testbed-load-generators.yml", "-e", "locust_processes=2")
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    assert verdict["metrics"]["status"] == {"502": 23, "504": 9}
    requests = ROOT / f"results/{verdict['run_id']}/proxy1/requests.parquet"
    sent = duckdb.execute(f"SELECT generator, count(*) FROM '{requests}' GROUP BY 1 ORDER BY 1").fetchall()
    assert sent == [(0, 8), (1, 8), (2, 8), (3, 8)]
    assert abs(verdict["metrics"]["clock_offset_ms"]) <= verdict["metrics"]["clock_error_ms"]
