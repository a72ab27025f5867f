"""Memory, descriptors and cpu of processes, on a process that is looked at from outside as well."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from collectors import process
from collectors.fields import PROCESS
from collectors.process import Processes


@pytest.fixture
def this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Follow the process of this test as if it were a unit's."""
    listing = tmp_path / "cgroup.procs"
    listing.write_text(f"{os.getpid()}\n")
    monkeypatch.setattr(process, "unit_processes", lambda _units: {"nginx": listing})
    return Processes("nginx.service", "upstream.service")


def read(processes: Processes) -> dict[str, object]:
    (row,) = (row for row in processes.read(0) if row)
    return dict(zip(PROCESS.columns[1:], row, strict=True))


def count_of_sockets() -> int:
    # lrwx------ 1 root root 64 Nov 23 03:15 7 -> socket:[31213]
    # Its status is 1 when one of ours is closed while it looks: that of the pipe by which it was started.
    listing = subprocess.run(["ls", "-l", f"/proc/{os.getpid()}/fd"], capture_output=True, text=True, check=False)
    return listing.stdout.count("-> 'socket:[") + listing.stdout.count("-> socket:[")


def test_a_row_has_what_psutil_says(this_process: Processes) -> None:
    with ExitStack() as stack:
        for _ in range(250):
            stack.enter_context(socket.socket())
        row = read(this_process)
        witness = psutil.Process()
        assert (row["role"], row["pid"], row["reason"]) == ("nginx-master", os.getpid(), None)
        assert row["vmsize_bytes"] == witness.memory_info().vms
        # Here the process looks at itself, and has the folder open once more than psutil has.
        assert row["fds"] == witness.num_fds() + 1
        assert row["sockets"] == count_of_sockets() >= 250
        assert row["threads"] == witness.num_threads()
        assert row["cpu_s"] == pytest.approx(sum(witness.cpu_times()[:2]), abs=0.1)
        assert 0 < row["private_dirty_bytes"] <= row["pss_bytes"] <= row["rss_bytes"]  # type: ignore[operator]


def test_files_without_a_name_are_counted_with_what_they_hold(this_process: Processes, tmp_path: Path) -> None:
    before = read(this_process)
    read(this_process)  # the upstream's turn
    with ExitStack() as stack:
        for number in range(3):
            body = stack.enter_context((tmp_path / f"{number}").open("wb"))
            body.write(b"x" * 1000)
            body.flush()
            (tmp_path / f"{number}").unlink()
        row = read(this_process)
    assert row["deleted_files"] == int(str(before["deleted_files"])) + 3
    assert row["deleted_bytes"] == int(str(before["deleted_bytes"])) + 3000


def test_a_unit_that_does_not_run_has_a_reason_and_no_number(this_process: Processes) -> None:
    read(this_process)
    row = read(this_process)
    assert (row["role"], row["pid"], row["rss_bytes"]) == ("upstream", None, None)
    assert row["reason"] == "upstream.service does not run"


def test_the_tracer_of_nginx_is_no_process_of_nginx(tmp_path: Path, this_process: Processes) -> None:
    tracer = tmp_path / "strace"
    shutil.copy("/bin/sleep", tracer)
    with subprocess.Popen([tracer, "5"]) as traces:
        while Path(f"/proc/{traces.pid}/comm").read_text() != "strace\n":
            time.sleep(0.001)  # execve() closes the pipe that Popen waits for before it names the process
        (tmp_path / "cgroup.procs").write_text(f"{traces.pid}\n{os.getpid()}\n")
        assert [read(this_process)["pid"], read(this_process)["role"]] == [os.getpid(), "upstream"]
        traces.kill()


def test_a_process_that_ends_while_it_is_looked_at_has_a_reason(tmp_path: Path, this_process: Processes) -> None:
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    (tmp_path / "cgroup.procs").write_text(f"{gone}\n")
    row = read(this_process)
    assert (row["pid"], row["rss_bytes"], row["reason"]) == (gone, None, "the process has ended")
