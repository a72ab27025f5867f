"""What people see while a run goes on: one line for each step, and a bar for what takes long.

    python -m floodmark.progress

It reads one JSON object a line from standard input, as Ansible's callback plugin writes them, and
draws on the terminal. It is a process of its own because Ansible forks for each task, and a thread that
draws would be copied in the middle of a line.

    {"begin": "flood", "expect_s": 12.5, "watch": "results/…/load"}
    {"begin": "lab", "follow": "results/…/progress.txt"}
    {"end": "flood", "ok": true, "note": "…"}
    {"say": "host proxy1: …"}
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from collectors.fields import REQUESTS
from floodmark.show import terminal

STATUS, ERROR = REQUESTS.columns.index("status"), REQUESTS.columns.index("error")
REFRESH_S = 0.1
WIDTH = 10


class Event(TypedDict, total=False):
    """One line of what the callback plugin writes: that a step begins, that it ends, or what somebody says.

    Attributes:
        begin: the step.
        expect_s: how long it may take (s).
        watch: the folder in whose logs of requests the answers are counted.
        follow: the file that says how the step goes; its new lines are shown.
        end: the step.
        ok: whether all is well with it.
        note: shown beside it.
        say: a line of its own.
    """

    begin: str
    expect_s: float
    watch: str
    follow: str
    end: str
    ok: bool
    note: str
    say: str


def step_of(task: str) -> str:
    """Return the step that a task belongs to, or nothing.

    Args:
        task: name as Ansible gives it: `Step | What it does`, after its role if it has one (`guard : Arm | …`).
    """
    step, separator, _ = task.rpartition(" : ")[2].partition(" | ")
    return step.lower() if separator else ""


def message_of(result: Mapping[str, object]) -> str:
    """Return the sentence of a failed task's result without what Ansible puts around it."""
    text = str(result.get("msg") or result.get("stderr") or "it failed without a message")
    for prefix in ("Task failed: ", "Action failed: ", "Module failed: "):
        text = text.removeprefix(prefix)
    if result.get("stderr") and "non-zero return code" in text:
        text = str(result["stderr"])
    return text.strip().removeprefix("floodmark: ")


def is_rescued(task: Any) -> bool:
    """Tell whether a failure of a task, an object of Ansible's, is dealt with by a rescue section around it."""
    child, parent = task, task._parent  # noqa: SLF001 - Ansible has no public names for these
    while parent is not None:
        # A parent that is an included file has no sections.
        children = [one._uuid for one in parent.block] if getattr(parent, "rescue", None) else []  # noqa: SLF001
        if child._uuid in children:  # noqa: SLF001
            return True
        child, parent = parent, parent._parent  # noqa: SLF001
    return False


@dataclass
class Step:
    """One step of a run that is under way."""

    name: str
    begun: float = field(default_factory=time.monotonic)
    expect_s: float = 0.0
    watch: Path | None = None
    follow: Path | None = None
    _folder: Path | None = None
    _read: dict[Path, int] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _followed: int = 0

    @property
    def elapsed_s(self) -> float:
        """Time since it began."""
        return time.monotonic() - self.begun

    def state(self) -> str:
        """Say how far it is: time left at most, and what was answered so far."""
        left = f"{max(0.0, self.expect_s - self.elapsed_s):.0f} s left at most" if self.expect_s else ""
        return "  ".join(part for part in (left, self._answers()) if part)

    def new_lines(self) -> list[str]:
        """Return what was added since the last time to the file that says how the step goes."""
        if not self.follow or not self.follow.exists():
            return []
        with self.follow.open("rb") as opened:
            opened.seek(self._followed)
            added, newline, _rest = opened.read().rpartition(b"\n")
        self._followed += len(added + newline)
        return added.decode(errors="replace").splitlines()

    def _answers(self) -> str:
        """Count the answers in the newest log of requests, when the flood runs on this machine."""
        logs = list(self.watch.glob("*/requests.*.csv")) if self.watch else []
        if not logs:
            return ""
        folder = max(logs, key=lambda path: path.stat().st_mtime).parent
        if folder != self._folder:
            self._folder = folder  # the next host
            self._counts.clear()
        for log in folder.glob("requests.*.csv"):
            self._count_new_lines(log)
        return "answered: " + (", ".join(f"{count} × {what}" for what, count in sorted(self._counts.items())) or "none")

    def _count_new_lines(self, log: Path) -> None:
        """Read only what was added since the last time: the log may grow long, and this machine measures."""
        with log.open("rb") as opened:
            opened.seek(self._read.get(log, 0))
            added, newline, _rest = opened.read().rpartition(b"\n")
        lines = added.decode(errors="replace").splitlines()
        if log not in self._read and newline:
            lines = lines[1:]  # the header
        if newline:
            self._read[log] = self._read.get(log, 0) + len(added) + 1
        rows = (line.split(",") for line in lines)
        self._counts.update(row[STATUS] or row[ERROR] for row in rows if len(row) > ERROR)


class Painter:
    """Draws the steps; on a terminal the one under way moves, elsewhere each is a line when it has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step: Step | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        if self._live:
            self._live.start()

    def handle(self, event: Event) -> None:
        """Draw what one event says."""
        if "begin" in event:
            watch = Path(event["watch"]) if event.get("watch") else None
            follow = Path(event["follow"]) if event.get("follow") else None
            self._step = Step(event["begin"], expect_s=event.get("expect_s", 0.0), watch=watch, follow=follow)
        elif "end" in event and self._step:
            self._say_new_lines(self._step)
            self._finish(self._step, ok=event["ok"], note=event.get("note", ""))
            self._step = None
        elif "say" in event:
            self._say(event["say"])

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _say_new_lines(self, step: Step) -> None:
        for line in step.new_lines():
            self._say(line)

    def draw(self) -> None:
        """Move what moves."""
        if self._step:
            self._say_new_lines(self._step)
        if not self._live or not self._step:
            return
        step = self._step
        row = Table.grid(padding=(0, 1))
        cells: list[Any] = [
            Text("…", "cyan"),
            Text(f"{step.name:<{WIDTH}}", "bold"),
            Text(f"{step.elapsed_s:5.1f} s"),
        ]
        if step.expect_s:
            cells.append(ProgressBar(total=step.expect_s, completed=min(step.elapsed_s, step.expect_s), width=24))
        cells.append(Text(step.state(), "dim"))
        row.add_row(*cells)
        self._live.update(row, refresh=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.update("", refresh=True)
            self._live.stop()

    def _finish(self, step: Step, *, ok: bool, note: str) -> None:
        if self._live:
            self._live.update("", refresh=True)
        mark = "[green]✓[/]" if ok else "[bold red]✗[/]"
        self._console.print(
            f"{mark} [bold]{step.name:<{WIDTH}}[/] {step.elapsed_s:5.1f} s  [dim]{escape(note)}[/]",
            highlight=False,
        )


def main() -> None:
    """Draw until standard input ends."""
    # Ansible's children inherit the terminal; Ctrl-C is for Ansible, and we see the end of its events.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    painter = Painter(terminal.Console())
    descriptor = sys.stdin.fileno()
    pending = b""
    try:
        while True:
            readable, _, _ = select.select([descriptor], [], [], REFRESH_S)
            if readable:
                data = os.read(descriptor, 65536)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    painter.handle(json.loads(line))
            painter.draw()
    finally:
        painter.close()


if __name__ == "__main__":
    main()
