"""Holds a case applied for somebody at a terminal: until Enter, Ctrl-C, or the time is over.

A task of the playbook waits, in a process that Ansible has forked for it; the terminal is that of Ansible itself.
"""

from __future__ import annotations

import os
import select
import termios
from pathlib import Path

from floodmark.errors import FloodmarkError, ParameterError
from floodmark.inputs.parameters import whole_number
from floodmark.owner import Owner
from floodmark.values import Variables
from floodmark.web.options import DEFAULT_HOLD_S, RANGES


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


def wait_for_the_end(owner: Owner, at_most_s: float) -> None:
    """Return when Enter was pressed, the run is to end, the time is over, or nobody is there any more.

    Args:
        owner: the process that runs the playbook, and has the terminal.
        at_most_s: the time.
    """
    terminal = _open_terminal(owner.pid)
    try:
        termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed before was not meant
        select.select([terminal, *owner.descriptors], [], [], at_most_s)
    finally:
        os.close(terminal)
