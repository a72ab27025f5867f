"""Starts nginx under strace, so that every system call is captured from its first instruction on.

    python3 -m collectors.strace /etc/floodmark/agent.json /usr/sbin/nginx -c /etc/floodmark/nginx.conf

Only where somebody asks for it: each call of nginx then stops twice for another process. This program becomes strace,
and that becomes nginx, so systemd sees the process that it has started. Where strace cannot be used this becomes nginx
at once. What is written into the folder of the run:

    strace.PID     what strace prints of one process
    strace.json    why there is no capture, if so
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from collectors.config import read_config

NAME = "strace"
# A time of the wall clock before each call and how long it took behind it; one file for each process, so that no line
# is cut by another; as much of a text as shows which request it is.
OPTIONS = ("-ff", "-ttt", "-T", "-s", "64")
# The tracer is a grandchild that nobody waits for, and the process itself goes on as nginx. It ends when nginx has, or
# by SIGTERM, which would be blocked otherwise: then nginx is let go and runs on.
BESIDE = ("-D", "--interruptible=waiting", "--quiet=attach")


def why_not() -> str | None:
    """Return why strace cannot be used on this host, None if it can."""
    # As nginx will be started: a kernel may allow one way to trace and forbid another.
    command = [NAME, *BESIDE, "-o", os.devnull, sys.executable, "-S", "-c", ""]
    try:
        # The tracer holds the pipe open until it has ended.
        tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        return "strace is not installed on this host"
    except OSError as error:
        return f"strace cannot be started: {error.strerror}"
    # strace: attach: ptrace(PTRACE_SEIZE, 7): Operation not permitted
    said = tried.stderr.decode(errors="replace").strip().splitlines()
    if said or tried.returncode:
        return said[0] if said else f"strace ended with status {tried.returncode}"
    return None


def main() -> int:
    """Become nginx, under strace if that can be."""
    parser = argparse.ArgumentParser(prog="collectors.strace", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path, help="agent.json")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="nginx and its arguments")
    arguments = parser.parse_args()
    output = read_config(arguments.config).output
    reason = why_not()
    (output / f"{NAME}.json").write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")
    before = [NAME, *OPTIONS, *BESIDE, "-o", str(output / NAME)] if reason is None else []
    command = [*before, *arguments.command]
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
