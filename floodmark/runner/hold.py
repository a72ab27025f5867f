"""Holds a case applied for somebody at a terminal: until Enter, Ctrl-C, or the time is over.

A task of the playbook waits, in a process that Ansible has forked for it; the terminal is that of Ansible itself.
"""

from __future__ import annotations

import os
import select
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from floodmark.errors import FloodmarkError, ParameterError
from floodmark.inputs.parameters import whole_number
from floodmark.values import Variables
from floodmark.web.feed import HEARTBEAT_S
from floodmark.web.options import DEFAULT_HOLD_S, RANGES

# The file in the folder of a run that Ctrl-C makes: the case is to be left.
LEAVE = "leave"
# How often is looked for it (s).
LOOK_S = 0.2
HEARTBEAT = 'root=; [ "$(id -u)" = 0 ] || root="sudo -n"; $root systemctl restart floodmark-guard.timer'


def hold_s_of(extra: Variables) -> int | None:
    """Return for how long a case is held at most, None where it is measured.

    Args:
        extra: what was given with `-e`.

    Raises:
        ParameterError: hold is neither true nor false, or the time is out of range.
    """
    text = str(extra.get("hold", False)).lower()
    if text not in ("true", "false"):
        raise ParameterError(
            f"-e: hold={extra['hold']} is not allowed: it must be true or false. With true the case is applied and "
            "kept until you press Enter."
        )
    if text == "false":
        return None
    return whole_number("hold_s", extra.get("hold_s", DEFAULT_HOLD_S), *RANGES["hold_s"])


def need_terminal(pid: int) -> None:
    """Make sure that somebody can press Enter.

    Args:
        pid: the process that runs the playbook.

    Raises:
        FloodmarkError: its standard input is no terminal, or another program has it.
    """
    if not (_has_terminal(pid) and _in_foreground(pid)):
        raise FloodmarkError(
            "-e: hold=true waits for Enter, and standard input is no terminal in whose foreground this runs: start it "
            "at one, or take 'ansible-playbook web-ui.yml', which needs none."
        )


def _has_terminal(pid: int) -> bool:
    try:
        descriptor = _open_terminal(pid)
    except OSError:
        return False
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _open_terminal(pid: int) -> int:
    return os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)


def _in_foreground(pid: int) -> bool:
    # 812 (ansible-playboo) S 811 812 811 34816 812 …: state, parent, group, session, terminal, its foreground group.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return fields[2] == fields[5]


def wait_for_the_end(pid: int, leave: Path, at_most_s: float) -> None:
    """Return when Enter was pressed, the case is to be left, the time is over, or nobody is there any more.

    Args:
        pid: the process that runs the playbook, and has the terminal.
        leave: the file that says that the case is to be left.
        at_most_s: the time.
    """
    deadline = time.monotonic() + at_most_s
    terminal = _open_terminal(pid)
    try:
        termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed before was not meant
        while time.monotonic() < deadline and os.getppid() == pid and not leave.exists():
            if select.select([terminal], [], [], LOOK_S)[0]:
                return  # a line, or the end of the terminal
    finally:
        os.close(terminal)


@contextmanager
def heartbeat(way: Sequence[str], pid: int) -> Iterator[None]:
    """Let the host's own timer be put off again and again; it undoes the case when it hears nothing more.

    Args:
        way: the command that runs a shell line on the host.
        pid: the process that runs the playbook; when that has gone, this one has nobody to wait for.
    """
    over = threading.Event()

    def beat() -> None:
        while os.getppid() == pid:
            subprocess.run([*way, HEARTBEAT], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if over.wait(HEARTBEAT_S):
                return

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()
