"""How a lease is kept, with a program of our own in the place of the host's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from floodmark.owner import Owner
from floodmark.runner import keeper
from floodmark.runner.keeper import Keeping

# What stands for lease.py on a host: it notes what it is told, and answers as a file says.
HOST = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[0]).parent
(folder / f"session{time.monotonic_ns()}").touch()
for line in sys.stdin:
    with (folder / "told").open("a") as told:
        told.write(line)
    answer = (folder / line.split()[0]).read_text()
    if answer == "break":
        break
    if answer != "silence":
        print(answer, flush=True)
"""


class Host:
    """A host, the process that owns its run, and the keeper between the two."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "lease.py"
        self.program.write_text(HOST)
        self.answer(renew="held", end="undone")
        self.owner = subprocess.Popen(["sleep", "300"])
        self.ends = os.eventfd(0)
        self.owned = Owner.of(self.owner.pid, self.ends)
        self.log = folder / "log"
        self.keeper: subprocess.Popen[bytes] | None = None

    def answer(self, **answers: str) -> None:
        for name, text in answers.items():
            (self.folder / name).write_text(text)

    def keep(self) -> None:
        self.keeper = keeper.start(Keeping(["sh", "-c"], str(self.program), "run1", self.owned), self.log)

    @property
    def told(self) -> list[str]:
        path = self.folder / "told"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def sessions(self) -> int:
        return len(list(self.folder.glob("session*")))

    def wait(self) -> int:
        assert self.keeper
        return self.keeper.wait(20)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    for process in (made.owner, made.keeper):
        if process:
            process.kill()
            process.wait()
    for descriptor in made.owned.descriptors:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lease_is_renewed_until_its_run_is_over(host: Host) -> None:
    host.keep()
    wait_until(lambda: len(host.told) >= 3)
    assert set(host.told) == {"renew"}
    assert host.sessions == 1
    host.answer(renew="gone")
    assert host.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_owner_has_ended_the_lease_is_ended_at_once(host: Host, number: signal.Signals) -> None:
    host.keep()
    wait_until(lambda: bool(host.told))
    host.owner.send_signal(number)
    host.owner.wait()
    ended = time.monotonic()
    assert host.wait() == 0
    assert time.monotonic() - ended < 2
    assert host.told[-1] == "end its control node's process is gone"


def test_when_the_run_is_to_end_the_lease_is_ended_at_once(host: Host) -> None:
    host.keep()
    wait_until(lambda: bool(host.told))
    os.eventfd_write(host.ends, 1)
    assert host.wait() == 0
    assert host.told[-1] == "end ended by a signal"


def test_an_owner_that_had_ended_before_is_noticed(host: Host) -> None:
    host.owner.kill()
    host.owner.wait()
    host.keep()
    assert host.wait() == 0
    assert [line for line in host.told if line.startswith("end")]


def test_while_the_owner_is_stopped_the_lease_is_not_renewed(host: Host) -> None:
    host.keep()
    wait_until(lambda: bool(host.told))
    host.owner.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(host.owner.pid).status() == psutil.STATUS_STOPPED)
    time.sleep(1.5 * keeper.RENEW_S)  # one that was on its way
    told = len(host.told)
    time.sleep(2.5 * keeper.RENEW_S)
    assert len(host.told) == told
    host.owner.send_signal(signal.SIGCONT)
    wait_until(lambda: len(host.told) > told)


def test_a_session_that_breaks_is_replaced(host: Host) -> None:
    host.keep()
    wait_until(lambda: bool(host.told))
    host.answer(renew="break")
    wait_until(lambda: host.sessions >= 2)
    host.answer(renew="held")
    told = len(host.told)
    wait_until(lambda: len(host.told) >= told + 2)


def test_a_session_that_does_not_answer_is_not_the_only_one(host: Host) -> None:
    host.answer(renew="silence")
    host.keep()
    wait_until(lambda: host.sessions == 2)
    host.answer(renew="held")
    told = len(host.told)
    wait_until(lambda: len(host.told) >= told + 4)
    assert host.sessions <= keeper.MOST_SESSIONS


def test_signals_of_a_terminal_are_not_for_it(host: Host) -> None:
    host.keep()
    wait_until(lambda: bool(host.told))
    assert host.keeper
    for number in (signal.SIGINT, signal.SIGHUP):
        host.keeper.send_signal(number)
    told = len(host.told)
    wait_until(lambda: len(host.told) >= told + 2)
    assert os.getsid(host.keeper.pid) == host.keeper.pid


def test_what_is_left_on_a_host_is_said(host: Host) -> None:
    host.answer(end="left floodmark-nginx.service is still deactivating")
    host.keep()
    wait_until(lambda: bool(host.told))
    host.owner.kill()
    host.owner.wait()
    assert host.wait() == 1
    said = host.log.read_text()
    assert "the host may not be as it was: floodmark-nginx.service is still deactivating" in said


def test_a_program_of_no_use_is_not_started_again_and_again(host: Host) -> None:
    host.program.write_text("raise SystemExit(1)")
    host.keep()
    wait_until(host.log.exists)
    time.sleep(2.5 * keeper.RENEW_S)
    assert host.keeper
    started = psutil.Process(host.keeper.pid)
    assert started.cpu_times().user < 5
    assert len(started.children()) <= keeper.MOST_SESSIONS
