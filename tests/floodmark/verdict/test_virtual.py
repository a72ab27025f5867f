"""A run in virtual time from what the guest wrote to its verdict."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest
from rich.console import Console

from collectors.fields import VIRTUAL_WINDOWS
from floodmark.inputs.cases import Workload
from floodmark.inputs.inventory import Hosts
from floodmark.model.check import Severity
from floodmark.model.metrics import VirtualMetrics
from floodmark.model.stored import save, write_json
from floodmark.model.verdict import Verdict
from floodmark.paths import ROOT
from floodmark.runs.folders import RunFolder
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.run import print_run
from floodmark.verdict.judge import judge_run
from floodmark.verdict.virtual import CAVEAT, WORKLOADS
from tests.floodmark.made_up_runs import HOST, plan_of

WINDOWS = 12


class FakeGuest:
    """A run of one host, case 2, as its guest leaves it; a test changes what it wants to be wrong."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder / "20260101T000000Z-case2-unix-virtual")
        self.run.host("linux61").path.joinpath("raw").mkdir(parents=True)
        self.found: dict[str, Any] = {
            "clock": {"counted_instructions": 400000, "passed_ns": 400010},
            "failure": "",
            "loop_instructions": 1000.0,
            "seen": {
                "request_timed_out": {"504": 1},
                "request_refused": {"502": 1300},
                "connection_refused": {"EAGAIN": 1300},
                "status_read": {"200": 1300},
            },
            "queue_held": 9,
            "nginx_sent": {"504": 1, "502": 1300},
        }
        self.idle_ns = 0
        self.costs = [1500] + [1000] * (WINDOWS - 1)

    def rows(self) -> list[str]:
        rows = ["request_timed_out,0,1,5000100000,5000000000"]
        for name in ("request_refused", "connection_refused", "status_read"):
            rows += [f"{name},{number},100,{cost * 100},{self.idle_ns}" for number, cost in enumerate(self.costs)]
        return rows

    def judge(self) -> Verdict:
        host = self.run.host("linux61")
        files = {
            "workloads.json": json.dumps(self.found),
            "host.json": json.dumps(HOST),
            "windows.csv": "\n".join(["workload,window,operations,elapsed_ns,idle_ns", *self.rows()]) + "\n",
        }
        with tarfile.open(host.archive, "w:gz") as archive:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        fixed = {"cpus": 1, "memory_mb": 512, "start_state": "ab" * 32, "qemu": "7.2.22", "icount": "shift=0"}
        write_json(host.archive.with_name("virtual.json"), fixed)
        hosts = Hosts(proxies=["linux61"], load_generators=["localhost"], testbed=["linux61"])
        save(self.run.plan, plan_of(self.run, case=2, clock="virtual", hosts=hosts))
        judge_run(self.run)
        return read_verdicts(self.run)[0]


def figures(verdict: Verdict) -> VirtualMetrics:
    assert isinstance(verdict.metrics, VirtualMetrics)
    return verdict.metrics


def broken(verdict: Verdict) -> list[tuple[str, str]]:
    """Return id and subject of the checks that make a run invalid."""
    return [(one.id, one.subject) for one in verdict.failed(Severity.INVALID)]


@pytest.fixture
def guest(tmp_path: Path) -> FakeGuest:
    return FakeGuest(tmp_path)


def test_a_figure_is_the_median_of_the_steady_windows(guest: FakeGuest) -> None:
    verdict = guest.judge()
    assert verdict.valid, verdict.reasons
    metrics = figures(verdict)
    assert metrics.instructions_per_connection_refused == 1000
    assert metrics.workloads["connection_refused"].warm_up == 1
    assert metrics.workloads["connection_refused"].steady == WINDOWS - 1
    assert metrics.request_timeout_s == pytest.approx(5.0001)


def test_the_table_has_the_columns_of_the_registry(guest: FakeGuest) -> None:
    guest.judge()
    table = duckdb.sql(f"FROM '{guest.run.host('linux61').table(VIRTUAL_WINDOWS.name)}'")
    assert table
    assert tuple(table.columns) == VIRTUAL_WINDOWS.columns
    states = table.filter("workload = 'status_read'").aggregate("state, count(*)").fetchall()
    assert dict(states) == {"warm-up": 1, "steady": WINDOWS - 1}


@pytest.mark.parametrize("width", [60, 120])
def test_what_virtual_time_cannot_say_stands_beside_the_figures(guest: FakeGuest, width: int) -> None:
    guest.judge()
    out = io.StringIO()
    print_run(Console(file=out, width=width), guest.run)
    assert CAVEAT in " ".join(out.getvalue().split())


def test_a_figure_has_the_drift_that_could_not_be_seen(guest: FakeGuest) -> None:
    guest.costs = [1500] + [1000 + place // 2 for place in range(WINDOWS - 1)]
    drift = figures(guest.judge()).workloads["status_read"].undetected_drift
    assert drift is not None
    assert 0.004 < drift < 0.008
    out = io.StringIO()
    print_run(Console(file=out, width=120), guest.run)
    assert f"drift ≤ {drift:.2%}" in out.getvalue()


def test_a_run_in_which_something_else_was_seen_is_invalid(guest: FakeGuest) -> None:
    guest.found["seen"]["request_refused"] = {"200": 1300}
    verdict = guest.judge()
    assert not verdict.valid
    assert broken(verdict) == [
        ("fault_observed", "every_request_refused_gave_502"), ("fault_observed", "nginx_says_that_it_sent_the_same"),
    ]  # fmt: skip


def test_nginx_must_have_sent_what_the_client_got(guest: FakeGuest) -> None:
    guest.found["nginx_sent"] = {"504": 1, "502": 1299}
    assert broken(guest.judge()) == [("fault_observed", "nginx_says_that_it_sent_the_same")]


def test_a_workload_that_ended_early_is_named(guest: FakeGuest) -> None:
    guest.found["failure"] = "status_read: the status page gave b'', not 200 and its counters"
    assert "a workload ended early: status_read: the status page" in guest.judge().reasons[0]


def test_idle_time_is_no_instructions(guest: FakeGuest) -> None:
    guest.idle_ns = 10_000_000
    verdict = guest.judge()
    assert figures(verdict).instructions_per_status_read is None
    assert "status_read: the processor was idle for 120 ms, so its time is no instructions" in verdict.doubts


def test_what_does_not_become_steady_has_no_figure(guest: FakeGuest) -> None:
    guest.costs = [1000 + 20 * number for number in range(WINDOWS)]
    verdict = guest.judge()
    assert figures(verdict).instructions_per_status_read is None
    steady = {one.subject: one.ok for one in verdict.checks if one.id == "workload_steady"}
    assert steady["status_read"] is False
    assert any(one.startswith("status_read: it did not become steady") for one in verdict.doubts)


def test_a_clock_that_counts_something_else_is_found(guest: FakeGuest) -> None:
    guest.found["clock"]["passed_ns"] = 500_000
    assert "the clock does not count instructions" in guest.judge().reasons[0]


def test_a_queue_that_holds_another_number_fails_the_expectation(guest: FakeGuest) -> None:
    guest.found["queue_held"] = 8
    verdict = guest.judge()
    assert verdict.valid
    assert [one.holds for one in verdict.expectations] == [False]


def test_every_workload_has_a_method_and_is_known_to_the_case_files() -> None:
    text = (ROOT / "roles/virtual/files/workloads.py").read_text()
    assert set(WORKLOADS) == set(get_args(Workload))
    for name in WORKLOADS:
        assert f"def {name}(" in text
