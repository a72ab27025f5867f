"""Shows in the terminal what the agent sees while a run goes on.

It opens a session of its own to the measured hosts, the way Ansible would, and reads there what is being written. The
run knows nothing of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from collectors.live import Process, Seen, StubStatus, UnixStates, UpstreamConns
from floodmark.errors import FloodmarkError, RunError
from floodmark.model.run import Plan
from floodmark.paths import ROOT
from floodmark.runner.plan import owner_is_gone
from floodmark.runs.folders import RESULTS, RunFolder, find_run, runs_in

REFRESH_S = 0.25
# What a host waits for beside the phases of runs: Ansible's tasks.
TASKS_AT_MOST_S = 240
BLOCK_BYTES = 65536
# So many looks are kept for the picture: a minute.
HISTORY = 240
BARS = " ▁▂▃▄▅▆▇█"
RUNS_ON_A_HOST = "/var/lib/floodmark/runs"
# A host waits for its turn, then says what it sees until the run is over; in any case it ends by itself.
LOOK = (
    "timeout {at_most_s} sh -c 'while [ ! -d {folder} ]; do sleep 0.2; done; cd /usr/lib/floodmark; "
    "exec python3 -B -m collectors.live {folder}'"
)
STATES = {"01": "unconnected_socks", "02": "connecting_socks", "03": "connected_socks"}


# --- which run, and how its hosts are reached -----------------------------------------------------


def running(results: Path = RESULTS) -> RunFolder:
    """Return the newest run that is under way.

    Raises:
        RunError: there is none.
    """
    folders = runs_in(results)[::-1]
    for path in folders:
        run = RunFolder(path)
        # A plan that cannot be read is of a run that was ended, or of another version; it must not hide the others.
        with contextlib.suppress(RunError):
            if run.plan.exists() and not owner_is_gone(run.read_plan().owner):
                return run
    raise RunError("no run is under way: start one, and look on from another terminal.")


def ways_to(hosts: Sequence[str], inventory: Sequence[str]) -> dict[str, list[str]]:
    """Return host -> the command that runs a shell line there.

    Raises:
        FloodmarkError: Ansible cannot say it.
    """
    ways: dict[str, list[str]] = {}
    said: list[str] = []

    def take(event: dict[str, Any]) -> bool:
        data = event.get("event_data", {})
        generator = (data.get("res") or {}).get("generator")
        if generator:
            ways[data["host"]] = [*generator["reach"], generator["host"]] if generator["reach"] else ["sh", "-c"]
        elif event.get("stdout"):
            said.append(event["stdout"])
        return False

    with tempfile.TemporaryDirectory(prefix="floodmark-") as scratch:
        ansible_runner.run(
            private_data_dir=scratch, project_dir=str(ROOT), host_pattern=",".join(hosts), module="floodmark_way",
            module_args="name=host home=/", inventory=list(inventory), quiet=True, event_handler=take,
            envvars={"ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            settings={"suppress_output_file": True},
        )  # fmt: skip
    if not ways:
        raise FloodmarkError(f"Ansible does not say how {', '.join(hosts)} are reached: {' '.join(said)[-500:]}")
    return ways


# --- what was seen --------------------------------------------------------------------------------


@dataclass
class View:
    """What is known of one host.

    Attributes:
        depths: deepest queue between two looks, the newest last.
        limit: of the queue.
        states: the newest row of unix_states.
        accepted: of upstream_conns.
        status: of stub_status.
        processes: process -> its newest row.
        statuses: HTTP status -> number of answers.
        before: the same, some looks ago, for the rate.
    """

    depths: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))
    limit: int | None = None
    depth: int | None = None
    states: UnixStates = field(default_factory=UnixStates)
    accepted: UpstreamConns = field(default_factory=UpstreamConns)
    status: StubStatus = field(default_factory=StubStatus)
    processes: dict[int, Process] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    _counts: deque[Counter[str]] = field(default_factory=lambda: deque(maxlen=5))

    def take(self, seen: Seen) -> None:
        """Take one line of `collectors.live`."""
        self.looks += 1
        queue = seen.get("accept_queue", {}).get("upstream")
        if queue:
            self.depths.append(queue["most_conns"])
            self.depth, self.limit = queue.get("depth_conns"), queue.get("limit_conns")
        self.states = seen.get("unix_states", self.states)
        self.accepted = seen.get("upstream_conns", self.accepted)
        self.status = seen.get("stub_status", self.status)
        self.processes.update({row["pid"]: row for row in seen.get("process", [])})
        self.statuses = Counter(seen.get("statuses", {}))
        self._counts.append(self.statuses)

    def per_s(self, status: str) -> float:
        """Return how many answers of a status there were per second, over the last second."""
        looks = len(self._counts) - 1
        return (self._counts[-1][status] - self._counts[0][status]) / (looks * REFRESH_S) if looks > 0 else 0.0


def sparkline(values: Sequence[int], limit: int | None, width: int) -> Text:
    """Draw values as bars, as high as the queue can be; what is above its limit is red."""
    shown = list(values)[-width:]
    top = max([*shown, (limit or 0) + 1, 1])
    text = Text()
    for value in shown:
        bar = BARS[0] if value <= 0 else BARS[max(1, round(value / top * (len(BARS) - 1)))]
        text.append(bar, "red" if limit is not None and value > limit else "cyan")
    return text


def draw(name: str, view: View, width: int) -> RenderableType:
    """Return what is seen of one host."""
    if not view.looks:
        return Text(f"{name}: it is not its turn yet", "dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for label, value in _lines(view):
        table.add_row(label, value)
    picture = sparkline(view.depths, view.limit, max(10, width - 2))
    return Group(Text(name, "bold"), picture, table)


def _lines(view: View) -> Iterator[tuple[str, str | Text]]:
    if view.depths:
        yield "accept queue", f"{view.depth} now, {max(view.depths)} at most; limit {view.limit}"
    if view.states:
        yield "states", ", ".join(f"{view.states.get(column, '-')} × {number}" for number, column in STATES.items())
    active, held = view.status.get("active_conns"), view.accepted.get("accepted_conns")
    if active is not None:
        identity = "" if held is None or view.depth is None else f"; Q + A + 1 = {view.depth} + {held} + 1"
        yield "Active", f"{active}{identity}"
    rss = [row["rss_bytes"] for row in view.processes.values() if row["role"] == "nginx-worker" and "rss_bytes" in row]
    if rss:
        yield "workers' memory", " + ".join(f"{one / 1e6:.1f}" for one in rss) + " MB resident"
    rates = [f"{count} × {name} ({view.per_s(name):.0f}/s)" for name, count in sorted(view.statuses.items())]
    yield "nginx answered", ", ".join(rates) or "nothing yet"


@dataclass
class Feed:
    """Bytes of `collectors.live` on their way to a view."""

    view: View
    _rest: bytes = b""

    def take(self, said: bytes) -> None:
        """Take what has come; the last line may go on later."""
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            self.view.take(json.loads(line))


# --- the loop -------------------------------------------------------------------------------------


def watch(console: Console, run: RunFolder, plan: Plan) -> None:
    """Look on until a run is over.

    Args:
        console: where.
        run: the run.
        plan: of it.

    Raises:
        FloodmarkError: its hosts cannot be reached, or whoever made it has gone.
    """
    hosts = plan.hosts.proxies
    ways = ways_to(hosts, plan.inventory or [])
    line = LOOK.format(
        at_most_s=(plan.longest_s + TASKS_AT_MOST_S) * len(hosts), folder=f"{RUNS_ON_A_HOST}/{run.run_id}"
    )
    views = {host: View() for host in ways}
    begun = time.monotonic()
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for host, way in ways.items():
            process = stack.enter_context(_started([*way, line]))
            assert process.stdout
            selector.register(process.stdout, selectors.EVENT_READ, Feed(views[host]))
        live = stack.enter_context(Live(console=console, refresh_per_second=4, transient=True))
        while not run.record.exists():
            for key, _ in selector.select(REFRESH_S):
                said = os.read(key.fd, BLOCK_BYTES)
                key.data.take(said)
                if not said:
                    selector.unregister(key.fileobj)
            left_s = max(0.0, plan.longest_s * len(hosts) - (time.monotonic() - begun))
            live.update(_page(run, plan, views, left_s, console.width))
            if owner_is_gone(plan.owner):
                raise FloodmarkError(
                    f"run {run.run_id} was left by the process that made it: its hosts undo it themselves."
                )
            if not selector.get_map():
                time.sleep(REFRESH_S)  # the hosts are done, and the run is being judged


def _page(run: RunFolder, plan: Plan, views: Mapping[str, View], left_s: float, width: int) -> RenderableType:
    head = Text.from_markup(
        f"[bold]Case {plan.case.number}[/]  {escape(plan.case.title)}  [dim]{run.run_id}, "
        f"{left_s:.0f} s left at most[/]"
    )
    return Group(head, *(draw(host, view, width) for host, view in views.items()))


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, and end it when it is no longer needed."""
    prefix = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    process = subprocess.Popen(
        [*prefix, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def find(name: str | None) -> tuple[RunFolder, Plan]:
    """Return a run that is under way, and its plan.

    Raises:
        RunError: there is none, or the one that was named is over.
    """
    run = running() if name is None else find_run(name)
    if run.record.exists():
        raise RunError(f"run {run.run_id} is over: 'floodmark show {run.run_id}' says what came of it.")
    plan = run.read_plan()
    if plan.inventory is None or plan.clock == "virtual":
        raise RunError(f"run {run.run_id} cannot be looked at: it runs in virtual time, or an older version made it.")
    return run, plan
