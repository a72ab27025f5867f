"""Captures every system call of nginx's processes, by strace.

    python3 -m collectors.strace /etc/floodmark/agent.json

A service of its own, which is only there when somebody asks for it: each call of nginx then stops twice for another
process. What it writes into the folder of the run:

    strace.PID     what strace prints of one process
    strace.json    the role of each process, and why there is no capture, if so
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

from collectors.config import read_config
from collectors.errors import Unreadable
from collectors.process import nginx_roles
from collectors.systemd import notify

NAME = "strace"
# A time of the wall clock before each call and how long it took behind it; one file for each process, so that no line
# is cut by another; as much of a text as shows which request it is.
OPTIONS = ("-ff", "-ttt", "-T", "-s", "64")
# strace: Process 812 attached
ATTACHED = b" attached"


def attach(pids: list[int], output: Path) -> subprocess.Popen[bytes]:
    """Start strace, and wait until it has all processes in its hands.

    Args:
        pids: the processes.
        output: folder for its files.

    Raises:
        Unreadable: it cannot have them; with what it says.
    """
    targets = [word for pid in pids for word in ("-p", str(pid))]
    command = [NAME, *OPTIONS, "-o", str(output / NAME), *targets]
    try:
        strace = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Unreadable("strace is not installed on this host") from None
    assert strace.stderr
    attached = 0
    for line in strace.stderr:
        attached += line.rstrip().endswith(ATTACHED)
        if attached == len(pids):
            return strace
        complaint = line.decode(errors="replace").strip()
    strace.communicate()
    raise Unreadable(complaint if pids else "nginx does not run")


def main() -> int:
    """Capture until SIGTERM, or until nginx has ended."""
    parser = argparse.ArgumentParser(prog="collectors.strace", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path, help="agent.json")
    config = read_config(parser.parse_args().config)
    roles = nginx_roles(config.nginx_unit)
    reason = None
    try:
        strace = attach(list(roles), config.output)
    except Unreadable as why:
        reason = str(why)
    content = {"processes": {str(pid): role for pid, role in roles.items()}, "reason": reason}
    (config.output / f"{NAME}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    if reason is not None:
        notify("READY=1")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: strace.terminate())
    notify("READY=1")
    # It says more while it works, such as that a process has ended; nobody needs it, but it must not wait for us.
    strace.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
