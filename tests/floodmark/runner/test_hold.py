"""How a case is held for somebody at a terminal, with a process of its own in the place of Ansible's."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from floodmark.errors import FloodmarkError
from floodmark.runner import hold

# Ansible's process has the terminal; the one that waits is a child of it in a session of its own.
ANSIBLE = """
import os, pathlib, signal, sys
from floodmark.runner.hold import need_terminal, wait_for_the_end
from floodmark.owner import Owner, prepare_wish, wish_to_end
prepare_wish()
signal.signal(signal.SIGUSR1, lambda *_: wish_to_end())
folder = pathlib.Path(sys.argv[1])
need_terminal(os.getpid())
child = os.fork()
if not child:
    os.setsid()
    (folder / "waiting").touch()
    wait_for_the_end(Owner.of_this_task(), float(sys.argv[2]))
    (folder / "ended").touch()
    os._exit(0)
os.waitpid(child, 0)
"""


class Terminal:
    """A terminal with a program that waits at it."""

    def __init__(self, folder: Path, at_most_s: float) -> None:
        self.folder = folder
        self.pid, self.descriptor = pty.fork()
        if not self.pid:
            os.execv(sys.executable, [sys.executable, "-c", ANSIBLE, str(folder), str(at_most_s)])

    def see(self, name: str, timeout_s: float = 20) -> bool:
        """Tell whether a file comes into being."""
        deadline = time.monotonic() + timeout_s
        while not (self.folder / name).exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def press(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.descriptor)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path, 60)
    assert made.see("waiting")
    yield made
    made.close()


def test_enter_ends_it(terminal: Terminal) -> None:
    assert not terminal.see("ended", 0.5)
    terminal.press(b"\n")
    assert terminal.see("ended")


def test_the_wish_to_end_ends_it(terminal: Terminal) -> None:
    os.kill(terminal.pid, signal.SIGUSR1)
    assert terminal.see("ended")


def test_the_end_of_ansible_ends_it(terminal: Terminal) -> None:
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.see("ended")


def test_the_time_ends_it(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, 0.5)
    try:
        assert terminal.see("ended")
    finally:
        terminal.close()


def test_without_a_terminal_it_is_one_sentence() -> None:
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL) as process:
        with pytest.raises(FloodmarkError, match="hold=true waits for Enter, and standard input is no terminal"):
            hold.need_terminal(process.pid)
        process.kill()


def test_in_the_background_of_a_terminal_it_is_one_sentence(tmp_path: Path) -> None:
    said = tmp_path / "said"
    line = "import os; os.setpgid(0, 0); from floodmark.runner.hold import need_terminal; need_terminal(os.getpid())"
    pid, descriptor = pty.fork()
    if not pid:
        with said.open("w") as file:
            subprocess.run([sys.executable, "-c", line], stderr=file, check=False)
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(descriptor)
    assert "standard input is no terminal in whose foreground this runs" in said.read_text()
