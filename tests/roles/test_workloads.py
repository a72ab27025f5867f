"""The program that measures in virtual time, on this machine's clock: what it does, not what it counts."""

from __future__ import annotations

import json
import platform
import resource
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import workloads  # type: ignore[import-not-found]

Make = Callable[..., "workloads.Workloads"]
CONFIG = {"port": 1, "status_path": "/status", "extra_loop": 0}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder with a short name: that of a unix socket has at most 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="w-") as name:
        yield Path(name)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "upstream.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(4)
        yield path


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., workloads.Workloads]]:
    created = []

    def make(**changes: object) -> workloads.Workloads:
        created.append(workloads.Workloads({**CONFIG, "folder": str(tmp_path), **changes}))
        return created[-1]

    yield make
    for one in created:
        one.close()


def test_a_connection_is_accepted_and_counted(made: Make) -> None:
    measured = made(extra_loop=3)
    operation = measured.connection_accepted()
    operation()
    operation()
    assert measured.seen == {"accepted": 2}


def test_a_full_queue_holds_one_more_than_its_limit_and_refuses(made: Make, upstream: Path) -> None:
    measured = made(upstream=str(upstream))
    operation = measured.connection_refused()
    assert measured.queue_held == 5
    operation()
    assert measured.seen == {"EAGAIN": 1}


def test_what_was_not_refused_is_no_refusal(made: Make, upstream: Path) -> None:
    measured = made(upstream=str(upstream))
    operation = measured.connection_refused()
    upstream.unlink()
    with pytest.raises(workloads.WorkloadError, match="gave ENOENT, not EAGAIN"):
        operation()


def test_of_a_crowd_some_sockets_stay_open() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len([*Path("/proc/self/fd").iterdir()])
    stay = workloads.crowd()
    try:
        of_each = [sum(one.family == family for one in stay) for family in (socket.AF_UNIX, socket.AF_INET)]
        assert of_each == [2 * 250, 2 * 63]
        assert len([*Path("/proc/self/fd").iterdir()]) == before + len(stay)
    finally:
        for one in stay:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_window_begins_and_ends_at_a_tick() -> None:
    operations, elapsed_ns, idle_ns = workloads.measure_window(lambda: None, 40_000_000)
    assert operations > 0
    # A tick is at most 10 ms, and this machine may be busy.
    assert 30_000_000 < elapsed_ns < 10_000_000_000
    assert idle_ns >= 0


def test_what_waits_is_one_operation_whenever_it_ends() -> None:
    calls: list[int] = []
    assert workloads.measure_window(lambda: calls.append(1), 0)[0] == 1
    assert calls == [1]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the counted loop is machine code of x86_64")
def test_the_counted_loop_runs_as_often_as_it_is_told() -> None:
    assert 0 < workloads.count_loop(1000) < workloads.count_loop(100_000)


def test_nginx_is_asked_what_it_sent(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(json.dumps({"status": status}) + "\n" for status in ("200", "502", "200")))
    assert workloads.status_counts(log) == {"200": 2, "502": 1}
