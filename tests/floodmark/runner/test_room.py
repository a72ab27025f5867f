"""What a run may write on a host, held against what runs have written."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from floodmark.errors import ParameterError, RunError
from floodmark.inputs.cases import load_cases
from floodmark.inputs.parameters import Parameters, resolve_parameters
from floodmark.runner.room import MB, Room, most_requests, room_of
from floodmark.runs.folders import RunFolder
from floodmark.runs.verdicts import read_verdicts
from tests.conftest import ROOT

OF_BEFORE = sorted((ROOT / "tests/data").glob("results-*/*-case*"))


def parameters(case: int = 2, **given: Any) -> Parameters:
    return resolve_parameters(load_cases()[case].parameters.model_dump(), given, origin="test")


def room(case: int = 2, longest_s: float = 20, servers: int = 1, **given: Any) -> Room:
    return room_of(parameters(case, **given), longest_s=longest_s, servers=servers, generators=1)


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ({"users": 32}, 32, 32),
        ({"users": 32, "bursts": 3}, 96, 96),
        ({"load_shape": "open", "rate": "100:10 100-500:20"}, 7000, 7600),
        ({"load_shape": "sustained", "users": 10, "duration_s": 60, "think_time_ms": 50}, 12_000, 12_100),
        ({"load_shape": "sustained", "users": 10, "duration_s": 60, "think_time_ms": 0}, 1_200_000, 1_200_100),
    ],
    ids=["burst", "bursts", "open", "sustained", "without a pause"],
)
def test_how_many_requests_there_can_be(given: dict[str, Any], least: int, most: int) -> None:
    assert least <= most_requests(parameters(**given), generators=1) <= most


def test_an_hour_of_errors_asks_for_what_it_writes() -> None:
    """2,000 a second, each with a line of 300 bytes in the one log and one of 320 in the other."""
    hour = room(load_shape="sustained", users=100, duration_s=3600, longest_s=3640)
    assert hour.access_log > 7_200_000 * 300
    assert hour.error_log > 7_200_000 * 320
    assert hour.free_mb > 4500


def test_what_looks_closer_asks_for_more() -> None:
    plain, trace, strace = room(), room(trace=True), room(strace=True)
    assert plain.free_mb < 220
    assert trace.trace == 32 * 100
    assert trace.free_mb >= plain.free_mb
    assert strace.strace > 32 * 6_000
    assert room(strace=True, payload_bytes=1 * MB).strace > strace.strace
    assert room(case=11, servers=2).error_log > plain.error_log


def test_limits_leave_room_above_what_is_counted() -> None:
    counted = room(load_shape="sustained", users=1000, think_time_ms=10)
    most = counted.most_bytes(held=False)
    assert most["agent"] >= counted.agent + 200 * MB
    assert most["nginx_file"] >= max(counted.access_log, counted.error_log) + 200 * MB
    assert room().most_bytes(held=True)["nginx_file"] == 1200 * MB


def test_more_than_an_archive_may_have_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"may write \d+ MB on a host, and 50000 MB are allowed: make it shorter"):
        room(load_shape="sustained", think_time_ms=0, duration_s=3600, longest_s=3640)


def test_results_need_room_on_the_control_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = room(load_shape="sustained", users=100, duration_s=3600, longest_s=3640)
    hour.check_results(tmp_path / "results", hosts=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**10, 0, 10**10))
    room().check_results(tmp_path, hosts=100)
    with pytest.raises(RunError, match=r"results has 10000 MB free, and this run may leave \d{5} MB there: free some"):
        hour.check_results(tmp_path / "results", hosts=3)


@pytest.mark.parametrize("path", OF_BEFORE, ids=lambda path: path.name)
def test_runs_have_written_less(path: Path) -> None:
    run = RunFolder(path)
    record = run.read_run()
    counted = room_of(
        Parameters.model_validate(record.parameters), longest_s=record.longest_s, servers=len(record.servers),
        generators=1,
    )  # fmt: skip
    for verdict in read_verdicts(run):
        with tarfile.open(run.host(verdict.host).archive) as archive:
            sizes = {Path(one.name).name: one.size for one in archive}
        assert sizes["nginx-access.log"] < counted.access_log
        assert sizes["nginx-error.log"] < counted.error_log
        tables = sum(size for name, size in sizes.items() if name.endswith(".csv"))
        assert counted.agent / 10 < tables < counted.agent
