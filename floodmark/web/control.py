"""How Ansible's side starts the page's process and talks to it: a line of JSON each way through a unix socket."""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from floodmark.errors import FloodmarkError
from floodmark.owner import Owner
from floodmark.paths import ROOT
from floodmark.values import Content, ParameterValues, Value
from floodmark.web.options import LOOPBACK

# The environment variable that tells the page's process its settings: the password is nobody else's business.
SETTINGS = "FLOODMARK_WEB"
# Locust may take so long to start.
START_TIMEOUT_S = 60
LOG = "web-ui.log"


class Question(TypedDict, total=False):
    """What Ansible's side asks: one of these.

    Attributes:
        hold: keep a case applied until it is to be left; the fields of a session's `Hold`.
        failure: which case comes next; why the last one could not be applied, empty if it could.
    """

    hold: Content
    failure: str


class Answer(TypedDict, total=False):
    """What the page's process answers; nothing until what was asked for is over.

    Attributes:
        case: the number of the case that comes next, None for the end.
    """

    case: int | None


@dataclass(frozen=True)
class Settings:
    """What the page's process has to know.

    Attributes:
        room: folder of its socket.
        password: of the page.
        owner: the process that runs the playbook; the session ends with it, or when it is to end.
        layers: parameters of the inventory, and those given with `-e`, for any case.
        caps: what the inventory allows, as its variable has it.
    """

    room: str
    password: str
    owner: Owner
    layers: list[ParameterValues]
    caps: Value

    @classmethod
    def read(cls) -> Settings:
        """Return them from the environment."""
        content = json.loads(os.environ[SETTINGS])
        return cls(**{**content, "owner": Owner(**content["owner"])})

    @property
    def control(self) -> str:
        """The socket."""
        return f"{self.room}/control"


def start(settings: Settings, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start the page's process, and wait until it serves.

    Args:
        settings: for it.
        port: of the page.
        log: what it says goes there.

    Returns:
        The process. It ends by itself, with the session or with Ansible.

    Raises:
        FloodmarkError: it has ended, or has not come up.
    """
    with log.open("wb") as said:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "locust"), f"--locustfile={ROOT}/locustfiles/web_ui.py",
                f"--web-host={LOOPBACK}", f"--web-port={port}", "--web-login", "--stop-timeout=0",
            ],
            # Ctrl-C in the terminal is for Ansible, and a task's children end with the task's session.
            start_new_session=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            pass_fds=settings.owner.descriptors,
            env={**os.environ, SETTINGS: json.dumps(asdict(settings)), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    descriptor = os.pidfd_open(process.pid)
    with socket.socket(socket.AF_UNIX) as ready:
        ready.bind(f"{settings.room}/ready")
        ready.listen(1)
        heard = select.select([ready.fileno(), descriptor], [], [], START_TIMEOUT_S)[0]
        ended = descriptor in heard
    os.close(descriptor)
    if ended or not heard:
        if not ended:
            process.kill()
        what = f"ended with status {process.wait()}" if ended else f"was not ready after {START_TIMEOUT_S} s"
        raise FloodmarkError(f"Locust's web page {what}: {_last_error(log)}. All that it said is in {log}.")
    return process


def _last_error(log: Path) -> str:
    """Return what a process said that matters: Locust ends with its table of statistics, whatever was wrong."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    return ([line for line in lines if "Error" in line] or lines)[-1]


def new_room() -> str:
    """Return a folder that nobody else can look into, for the socket."""
    return tempfile.mkdtemp(prefix="floodmark-web-")


def new_password() -> str:
    """Return a password for one session of the page."""
    return secrets.token_urlsafe(9)


def ask(control: str, question: Question) -> Answer:
    """Ask the page's process, and wait for its answer, which may take as long as somebody looks at the page.

    Args:
        control: its socket.
        question: what is asked.

    Returns:
        What it answers.

    Raises:
        FloodmarkError: it is gone.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(control)
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile() as lines:
                answer = lines.readline()
    except OSError as error:
        raise FloodmarkError(f"Locust's web page does not answer: {error.strerror}.") from None
    if not answer:
        raise FloodmarkError("Locust's web page has ended.")
    said: Answer = json.loads(answer)
    return said
