"""Several processes that flood together, on this machine; the testbed has them on machines of their own."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from floodmark.runner.fleet import Fleet, Generator, _collect, check_gzip, leader_command, worker_script
from tests.conftest import ROOT, environment

HERE = Generator("localhost", [], "", str(ROOT), str(Path(sys.executable).parent / "locust"))
THERE = Generator("load1", ["ssh", "-o", "User=root"], "192.0.2.1", "/opt/it", "/opt/it/venv/bin/locust")


def fleet(folder: Path, target: str = "http://127.0.0.1:1", **changes: Any) -> dict[str, Any]:
    options = {"users": 6, "load_shape": "burst", "start_spread_ms": 10, "answer_timeout_s": 20}
    return {
        "generators": [vars(HERE)], "processes": 1, "target": target, "results": str(folder), "at_most_s": 60,
        "flood_id": "test", **changes, "options": {**options, **changes.get("options", {})},
    }  # fmt: skip


def start(content: dict[str, Any], **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "floodmark.runner.fleet"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=environment(**variables),
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(json.dumps(content))
    process.stdin.close()
    process.stdin = None
    return process


def rows(folder: Path) -> list[dict[str, str]]:
    return [
        row for log in sorted(folder.glob("requests.*.csv")) for row in csv.DictReader(log.read_text().splitlines())
    ]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_processes_on_this_machine_share_a_flood(tmp_path: Path) -> None:
    process = start(fleet(tmp_path, processes=3))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert sorted((row["generator"], row["id"], row["error"]) for row in rows(tmp_path)) == [
        ("0", "1", "refused"), ("0", "4", "refused"), ("1", "2", "refused"), ("1", "5", "refused"),
        ("2", "3", "refused"), ("2", "6", "refused"),
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.glob("load.*.json")) == ["load.0.json", "load.1.json", "load.2.json"]


def test_a_process_that_starts_late_does_not_begin_late(tmp_path: Path) -> None:
    """The baseline is longer than the delay, so a process that counts from its own start would begin 1.5 s late."""
    slow = tmp_path / "slow-locust"
    slow.write_text(f'#!/bin/sh\nsleep 1.5\n{shlex.quote(HERE.locust)} "$@"\n', encoding="utf-8")
    slow.chmod(0o755)
    late = {**vars(HERE), "name": "late", "locust": str(slow)}
    started_ns = time.monotonic_ns()
    process = start(fleet(tmp_path, generators=[vars(HERE), late], options={"start_after_s": 5}))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    # Spread over 10 ms: users 0, 2, 4 are of one process, the others of the other one.
    first = {
        number: min(int(row["intended_ns"]) for row in rows(tmp_path) if row["generator"] == number) for number in "01"
    }
    assert abs(first["1"] - first["0"] - 10_000_000 // 6) < 5_000_000
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("load.*.json")]
    begins_ns, errors_ns = [[one[key] for one in summaries] for key in ("begin_ns", "begin_error_ns")]
    # Both are on this machine's clock.
    assert max(begins_ns) - min(begins_ns) <= sum(errors_ns)
    assert min(errors_ns) > 0
    assert min(begins_ns) > started_ns + 4_980_000_000, "the baseline is five seconds, and the clock ticks every 10 ms"


def test_a_process_that_is_lost_does_not_hold_up_the_others(tmp_path: Path, silent: str) -> None:
    process = start(fleet(tmp_path, silent, processes=2, options={"answer_timeout_s": 6}))
    wait_until(lambda: _established(silent) == 6)
    _last_worker(process).kill()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    (load,) = tmp_path.glob("load.*.json")
    assert json.loads(load.read_text())["requests"] == 3


def test_a_process_that_comes_back_does_not_flood_again(tmp_path: Path, silent: str) -> None:
    """Locust distributes its users again when a lost worker comes back, and says again that all of them are there."""
    process = start(fleet(tmp_path, silent, processes=2, options={"answer_timeout_s": 15}))
    wait_until(lambda: _established(silent) == 6)
    stopped = _last_worker(process)
    stopped.suspend()
    wait_until(lambda: "failed to send heartbeat" in (tmp_path / "locust.log").read_text())
    stopped.resume()
    wait_until(lambda: "self-healed" in (tmp_path / "locust.log").read_text())
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert sorted((row["id"], row["error"]) for row in rows(tmp_path)) == [(str(one), "timeout") for one in range(1, 7)]
    stalls_ms = [json.loads(path.read_text())["longest_stall_ms"] for path in tmp_path.glob("load.*.json")]
    # After three seconds without a heartbeat Locust takes a worker for lost.
    assert max(stalls_ms) > 2000


def test_a_process_that_was_away_when_the_epoch_was_given_floods_late(tmp_path: Path, silent: str) -> None:
    options = {"answer_timeout_s": 6, "start_after_s": 12}
    process = start(fleet(tmp_path, silent, processes=2, options=options), LOCUST_LOGLEVEL="DEBUG")
    log = tmp_path / "locust.log"
    wait_until(lambda: log.exists() and log.read_text().count("Received floodmark_ready message") == 2)
    stopped = _last_worker(process)
    stopped.suspend()
    wait_until(lambda: "failed to send heartbeat" in log.read_text())
    wait_until(lambda: _established(silent) == 3)
    stopped.resume()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert sorted((row["id"], row["error"]) for row in rows(tmp_path)) == [(str(one), "timeout") for one in range(1, 7)]
    begins_ns, errors_ns, starts_ns = (
        [json.loads(path.read_text())[key] for path in sorted(tmp_path.glob("load.*.json"))]
        for key in ("begin_ns", "begin_error_ns", "first_start_ns")
    )
    assert max(begins_ns) - min(begins_ns) <= sum(errors_ns)
    # Its answer to a question that was asked while it was stopped is not the only one.
    assert max(errors_ns) < 1_000_000_000
    assert max(starts_ns) > min(starts_ns)


def _established(url: str) -> int:
    """Return how many connections to a server stand, as seen by their clients."""
    server = ("127.0.0.1", int(url.rpartition(":")[2]))
    return sum(one.status == "ESTABLISHED" and one.raddr == server for one in psutil.net_connections("tcp4"))


def test_a_flood_that_does_not_end_is_ended_and_counted(tmp_path: Path, silent: str) -> None:
    process = start(fleet(tmp_path, silent, at_most_s=4))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 124, said
    load = json.loads((tmp_path / "load.0.json").read_text())
    assert (load["requests"], load["unfinished"]) == (0, 6)


def test_nothing_is_left_when_it_is_ended(tmp_path: Path, silent: str) -> None:
    process = start(fleet(tmp_path, silent, processes=2))
    wait_until(lambda: len(list(tmp_path.glob("requests.*.csv"))) == 2)
    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(started, timeout=15)
    assert alive == []


def _last_worker(fleet: subprocess.Popen[str]) -> psutil.Process:
    """Return a worker that was started by the first one; call it once workers are ready.

    Before, a worker describes its machine, and what it forks for that has the worker's command line for a moment.
    """
    children = psutil.Process(fleet.pid).children(recursive=True)
    return [one for one in children if "--worker" in one.cmdline()][-1]


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_machine_that_cannot_be_reached_ends_the_flood_at_once_and_is_named(tmp_path: Path) -> None:
    nobody = {**vars(THERE), "reach": ["ssh", "-o", "Port=9", "-o", "ConnectTimeout=5"], "host": "127.0.0.1"}
    process = start(fleet(tmp_path, generators=[vars(HERE), nobody]))
    said, _ = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "load generator load1 cannot be reached: ssh: connect to host 127.0.0.1 port 9: Connection refused" in said


# --- what comes back from other machines ---------------------------------------------------------


def packed(content: bytes) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            member = tarfile.TarInfo("load.0.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return file.getvalue()


def collect(folder: Path, sent: bytes, status: int = 0) -> None:
    """Collect what a machine has sent before its session ended."""
    (folder / "sent").write_bytes(sent)
    command = ["sh", "-c", f"cat sent; exit {status}"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        _collect(Fleet.parse(json.dumps(fleet(folder))), THERE, process)


def test_what_a_machine_has_sent_is_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(tmp_path, packed(b"{}"))
    assert (tmp_path / "load.0.json").read_bytes() == b"{}"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("sent", "status", "problem"),
    [
        (b"", 255, "missing: its session ended with status 255; load1.log may say why"),
        (b"", 0, "missing: its session ended with status 0; load1.log may say why"),
        (packed(b"{}")[:-9], 0, "damaged: Compressed file ended before the end-of-stream marker was reached"),
        (b"tar: Permission denied", 2, "damaged: Not a gzipped file (b'ta')"),
        (packed(b"{}"), 2, "incomplete: its session ended with status 2; load1.log may say why"),
    ],
    ids=["nothing, broken", "nothing", "cut off", "something else", "tar failed"],
)
def test_results_that_are_damaged_or_missing_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sent: bytes, status: int, problem: str
) -> None:
    collect(tmp_path, sent, status)
    sentence = f"floodmark: the results of load generator load1 are {problem}\n"
    assert sentence in capsys.readouterr().err
    assert sentence in (tmp_path / "locust.log").read_text()


def test_a_flipped_bit_is_seen_or_changes_nothing() -> None:
    whole = packed(b'{"requests": 12}')
    unseen = []
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            check_gzip(io.BytesIO(flipped))
        except (OSError, EOFError, zlib.error):
            continue
        unseen.append(bit)
        assert gzip.decompress(flipped) == gzip.decompress(whole)
    # Most of the header has no checksum (RFC 1952, section 2.3): flags, time, system and so on.
    assert len(unseen) < 8 * 8


# --- commands -------------------------------------------------------------------------------------


def parsed(**changes: Any) -> Fleet:
    return Fleet.parse(json.dumps(fleet(Path("/r"), **changes)))


def test_one_process_needs_no_leader() -> None:
    command = leader_command(parsed(), 5000)
    assert "--master" not in command
    assert "--users=6" in command


@pytest.mark.parametrize(
    ("changes", "workers"),
    [
        ({"processes": 2}, 2),
        ({"generators": [vars(THERE)]}, 1),
        ({"generators": [vars(HERE), vars(THERE)], "processes": 3}, 6),
    ],
)
def test_a_leader_waits_for_all_and_listens_on_loopback(changes: dict[str, Any], workers: int) -> None:
    command = leader_command(parsed(**changes), 5000)
    assert {"--master", "--master-bind-host=127.0.0.1", f"--expect-workers={workers}"} <= set(command)


def test_a_worker_elsewhere_is_a_unit_that_ends_by_itself() -> None:
    script = worker_script(parsed(generators=[vars(THERE)], flood_id="20261123T1-case2"), THERE, 5000)
    assert "--unit=floodmark-locust-20261123T1-case2 " in script
    assert "--property=RuntimeMaxSec=120" in script
    assert (
        "/opt/it/venv/bin/locust --locustfile=/opt/it/locustfiles/flood.py --worker --master-host=127.0.0.1" in script
    )
    assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0


# Programs of a load generator whose user has to say a password; `calls` is what `ps` would have shown of them.
PROGRAMS_THERE = {
    "id": "echo 1000",
    "sudo": """
case "$1" in
-n) echo 'sudo: a password is required' >&2; exit 1 ;;
-S) read -r given; [ "$given" = 's3cret; $x' ] || exit 1; shift 3; exec "$@" ;;
esac""",
    "systemd-run": 'echo flooded >"$ROOM/flooded"; [ -z "$(cat)" ]',
    "systemctl": "",
}


@pytest.mark.parametrize(("secret", "floods"), [("s3cret; $x", True), ("", False), ("wrong", False)])
def test_a_user_elsewhere_who_needs_a_password_for_root_gives_it_where_nobody_sees_it(
    tmp_path: Path, secret: str, floods: bool
) -> None:
    for name, text in PROGRAMS_THERE.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>"$ROOM/calls"\n{text}\n', encoding="utf-8")
        program.chmod(0o755)
    script = worker_script(parsed(generators=[vars(THERE)]), THERE, 5000)
    done = subprocess.run(
        ["bash", "-c", script], input=f"{secret}\nrenew\narrived\n".encode(), capture_output=True, check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ROOM": str(tmp_path), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (tmp_path / "flooded").exists() == floods
    assert bool(done.stdout) == floods, "results come back"
    seen = (tmp_path / "calls").read_text() + done.stderr.decode() + script
    assert not secret or secret not in seen
    assert secret or "a password is required" in seen
