"""nginx's start under strace, with a daemon in its place; tests/testbed/test_strace.py has the rest."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from floodmark.verdict.strace import parse_strace, roles_of
from tests.conftest import ROOT

# Listens and becomes a daemon that has one child, as nginx does; both wait to be ended.
DAEMON = """
import os, signal, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
if os.fork():
    os._exit(0)
os.setsid()
signal.signal(signal.SIGTERM, lambda *_: (os.kill(worker, signal.SIGKILL), os.waitpid(worker, 0), os._exit(0)))
worker = os.fork()
if not worker:
    while True:
        signal.pause()
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {worker}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    signal.pause()
"""


def fake(name: str, folder: Path, text: str) -> None:
    program = folder / name
    program.write_text("#!/bin/sh\n" + text)
    program.chmod(0o755)


def start(tmp_path: Path, *command: str, path: str = os.environ["PATH"]) -> int:
    """Start a command as nginx is started; return its status, or that of the process that became a daemon."""
    listeners = [{"name": name, "transport": "tcp", "path": "", "port": 8080} for name in ("upstream", "front")]
    config = {"output": str(tmp_path), "listeners": listeners, "status_path": "/", "nginx_unit": "none.service",
              "upstream_unit": "none.service", "rates_hz": {}}  # fmt: skip
    (tmp_path / "agent.json").write_text(json.dumps(config))
    # No pipe: the daemon would hold it open.
    with (tmp_path / "stdout").open("w") as stdout:
        return subprocess.run(
            [sys.executable, "-m", "collectors.strace", str(tmp_path / "agent.json"), *command],
            cwd=ROOT, env={**os.environ, "PATH": path}, stdout=stdout, timeout=60, check=False,
        ).returncode  # fmt: skip


def reason(tmp_path: Path) -> str | None:
    content = json.loads((tmp_path / "strace.json").read_text())
    assert content.keys() == {"reason"}
    return content["reason"] and str(content["reason"])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def tracer_of(pid: int) -> int:
    # TracerPid:	2379
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("TracerPid"))
    return int(line.split()[1])


# --- where strace cannot be used ------------------------------------------------------------------


def test_without_strace_nginx_runs_and_it_is_said_why(tmp_path: Path) -> None:
    assert start(tmp_path, "/bin/echo", "-c", "nginx.conf", path=str(tmp_path)) == 0
    assert (tmp_path / "stdout").read_text() == "-c nginx.conf\n"
    assert reason(tmp_path) == "strace is not installed on this host"


@pytest.mark.parametrize("status", [0, 1])
def test_what_strace_may_not_do_is_said_in_its_own_words(tmp_path: Path, status: int) -> None:
    said = "strace: attach: ptrace(PTRACE_SEIZE, 7): Operation not permitted"
    fake("strace", tmp_path, f"echo '{said}' >&2; echo more >&2; exit {status}")
    assert start(tmp_path, "/bin/echo", "runs", path=f"{tmp_path}:{os.environ['PATH']}") == 0
    assert (tmp_path / "stdout").read_text() == "runs\n"
    assert reason(tmp_path) == said


def test_what_cannot_be_started_is_no_strace(tmp_path: Path) -> None:
    (tmp_path / "strace").write_bytes(b"no program")
    (tmp_path / "strace").chmod(0o755)
    assert start(tmp_path, "/bin/true", path=str(tmp_path)) == 0
    assert reason(tmp_path) == "strace cannot be started: Exec format error"


def test_nginx_that_does_not_start_ends_as_it_does_alone(tmp_path: Path) -> None:
    assert start(tmp_path, "/bin/sh", "-c", "exit 3") == 3


# --- where it can ---------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Start the daemon under strace; return the pids of master and worker."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed here")
    pids = tmp_path / "pids"
    assert start(tmp_path, sys.executable, "-S", "-c", DAEMON, str(pids)) == 0
    if reason(tmp_path) is not None:
        pytest.skip(f"this machine: {reason(tmp_path)}")
    wait_until(pids.exists)
    master, worker = map(int, pids.read_text().split())
    yield master, worker
    with contextlib.suppress(ProcessLookupError):
        os.kill(master, signal.SIGTERM)


def test_every_process_is_captured_from_its_first_instruction(tmp_path: Path, daemon: tuple[int, int]) -> None:
    os.kill(daemon[0], signal.SIGTERM)
    tracer = tracer_of(daemon[0])
    wait_until(lambda: not Path(f"/proc/{tracer}").exists())
    files = {int(path.suffix[1:]): path for path in tmp_path.glob("strace.[0-9]*")}
    calls = {pid: parse_strace(path.read_text().splitlines(), 0) for pid, path in files.items()}
    (first,) = files.keys() - set(daemon)
    assert roles_of(calls) == {first: "nginx-master", daemon[0]: "nginx-master", daemon[1]: "nginx-worker"}
    assert calls[first][0].name == "execve"
    assert [call.object for of in calls.values() for call in of if call.name == "listen"] == ["listener"]


def test_nginx_is_let_go_when_the_tracer_is_ended(daemon: tuple[int, int]) -> None:
    tracer = tracer_of(daemon[0])
    assert tracer == tracer_of(daemon[1]) != 0
    os.kill(tracer, signal.SIGTERM)
    wait_until(lambda: tracer_of(daemon[0]) == tracer_of(daemon[1]) == 0)
    os.kill(daemon[0], signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{daemon[1]}").exists())
