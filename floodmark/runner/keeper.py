"""Keeps the lease by which a run holds a host, in a process and through a session of its own.

    python -m floodmark.runner.keeper < keeper.json

The lease is renewed as long as ansible-playbook lives and is not stopped. When it has ended, or is to end, the lease is
ended at once, which undoes the run. When the host cannot be reached, or this process is killed, the host hears nothing
more, and undoes the run by itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from floodmark.disk import open_log
from floodmark.owner import Owner
from floodmark.paths import ROOT

# How often the lease is renewed (s). It lasts 15 s, so a control node that has no time may miss a dozen of them.
RENEW_S = 1.0
# An answer that has not come after so long (s) is waited for in another session as well: with each packet that is lost
# TCP waits twice as long.
LATE_S = 3.0
MOST_SESSIONS = 3
# How long the end of a lease is waited for (s): a unit may take 30 to stop.
END_S = 60.0
# Why the lease is ended.
GONE, ASKED = "its control node's process is gone", "ended by a signal"
ANSWERS = ("held", "undone", "left", "gone")


@dataclass(frozen=True)
class Keeping:
    """What is kept.

    Attributes:
        way: the command that runs a shell line on the host.
        program: lease.py there.
        run_id: whose lease.
        owner: the process that the run belongs to.
    """

    way: Sequence[str]
    program: str
    run_id: str
    owner: Owner

    @property
    def command(self) -> list[str]:
        """What is run for one session."""
        return [*self.way, f"exec /usr/bin/python3 -B {shlex.quote(self.program)} renew {shlex.quote(self.run_id)}"]


def start(keeping: Keeping, log: Path) -> subprocess.Popen[bytes]:
    """Start the process that keeps a lease; it ends by itself, with the lease.

    Args:
        keeping: what is kept.
        log: what it says goes there.
    """
    settings = json.dumps(dataclasses.asdict(keeping)).encode()
    reading, writing = os.pipe()
    with open_log(log) as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "floodmark.runner.keeper"],
            # Ctrl-C in the terminal is for Ansible, and what ends a task must not end this.
            start_new_session=True, stdin=reading, stdout=said, stderr=said, cwd=ROOT,
            pass_fds=keeping.owner.descriptors,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(settings)
    return process


@dataclass
class Session:
    """One connection to the host, through which the lease is renewed."""

    process: subprocess.Popen[bytes]
    begun_s: float
    _rest: bytes = field(default=b"", repr=False)

    @classmethod
    def open(cls, command: Sequence[str]) -> Session:
        """Begin a session."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin
        os.set_blocking(process.stdin.fileno(), False)
        return cls(process, time.monotonic())

    @property
    def output(self) -> IO[bytes]:
        """What the host answers."""
        assert self.process.stdout
        return self.process.stdout

    def say(self, line: str) -> None:
        """Say something, unless it is not heard: then nobody answers, and that is noticed."""
        assert self.process.stdin
        try:
            os.write(self.process.stdin.fileno(), line.encode() + b"\n")
        except OSError:
            return

    def read(self) -> list[str] | None:
        """Return the lines that have come; None at the end of the session."""
        data = os.read(self.output.fileno(), 65536)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


class Keeper:
    """Keeps one lease until it has ended.

    Args:
        keeping: what is kept.
    """

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._selector = selectors.DefaultSelector()
        self._sessions: list[Session] = []
        self._heard_s = time.monotonic()
        # Why the lease is ended, and until when that is tried; empty as long as it is renewed.
        self._why = ""
        self._deadline_s = float("inf")

    def keep(self) -> str:
        """Renew the lease until it has ended, and return the last answer of the host; empty if none came."""
        owner = self._keeping.owner
        for descriptor, why in ((owner.died, GONE), (owner.ends, ASKED)):
            self._selector.register(descriptor, selectors.EVENT_READ, why)
        try:
            while time.monotonic() < self._deadline_s:
                self._say()
                if answer := self._listen(time.monotonic() + RENEW_S):
                    return answer
            return ""
        finally:
            for session in self._sessions:
                session.close()

    def _say(self) -> None:
        """Say what there is to say in all sessions, and begin another one where no answer comes."""
        now_s = time.monotonic()
        newest_s = max((one.begun_s for one in self._sessions), default=float("-inf"))
        late = now_s - max(self._heard_s, newest_s) > LATE_S
        if not self._sessions or (late and len(self._sessions) < MOST_SESSIONS):
            session = Session.open(self._keeping.command)
            self._sessions.append(session)
            self._selector.register(session.output, selectors.EVENT_READ, session)
            if self._why:
                session.say(f"end {self._why}")
        if not self._why and not self._keeping.owner.is_stopped():
            for session in self._sessions:
                session.say("renew")

    def _listen(self, until_s: float) -> str:
        """Return the answer that says that there is nothing more to keep; empty if it has not come in time."""
        while (left_s := until_s - time.monotonic()) > 0:
            for key, _ in self._selector.select(left_s):
                if isinstance(key.data, Session):
                    if answer := self._take(key.data):
                        return answer
                else:
                    self._end(key.data)
        return ""

    def _take(self, session: Session) -> str:
        lines = session.read()
        if lines is None:
            self._selector.unregister(session.output)
            self._sessions.remove(session)
            session.close()
            return ""
        for line in lines:
            self._heard_s = time.monotonic()
            if line.split(" ")[0] in ANSWERS and line != "held":
                return line
        return ""

    def _end(self, why: str) -> None:
        """End the lease: say so in all sessions from now on."""
        for descriptor in self._keeping.owner.descriptors:
            self._selector.unregister(descriptor)
        self._why, self._deadline_s = why, time.monotonic() + END_S
        for session in self._sessions:
            session.say(f"end {why}")


def main() -> None:
    """Keep what standard input describes."""
    # Nobody who wants this process to end gets it sooner by that.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings = json.load(sys.stdin)
    keeping = Keeping(**{**settings, "owner": Owner(**settings["owner"])})
    answer = Keeper(keeping).keep()
    if answer.startswith("left") or not answer:
        sys.exit(f"floodmark: the host may not be as it was: {answer.partition(' ')[2] or 'it does not answer'}")


if __name__ == "__main__":
    main()
