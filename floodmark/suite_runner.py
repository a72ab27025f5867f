"""Runs the runs of a suite one after the other, each through ansible-runner, and goes on where it was ended.

Whatever ends this process ends Ansible too: a signal is passed on, and where there was no time for that (SIGKILL)
the kernel sends one. So no run goes on that nobody waits for.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import ansible_runner
import psutil
from rich.console import Console
from rich.markup import escape

from floodmark.cases import ROOT, relative
from floodmark.errors import SuiteError
from floodmark.journal import Finished, Journal, open_journal
from floodmark.progress import message_of
from floodmark.runs import RESULTS, RunFolder
from floodmark.suite_show import Bar, estimate_s, print_summary
from floodmark.suites import Suite, SuiteRun, read_suite, resolve_suite

PROGRAMS = Path(sys.executable).parent
# A run that ended without a verdict is tried again once: a host that did not boot in time must not end a night's work.
ATTEMPTS = 2
# How often the bar moves and a signal is seen (s), and how long Ansible may take to end.
TICK_S = 1
PATIENCE_S = 20
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 - it is not an error, somebody wanted it
    """The suite was ended by a signal; its sentence says how to go on."""


# --- suite and inventory --------------------------------------------------------------------------


def load_suite(path: Path) -> Suite:
    """Read a suite file and resolve it against its inventory.

    Raises:
        FloodmarkError: the file, or the inventory that it names, is not as it must be.
    """
    # What can be said without Ansible is said at once.
    inventory = ROOT / read_suite(path).inventory
    if not inventory.exists():
        raise SuiteError(
            f"{relative(path)}: inventory = '{relative(inventory)}' does not exist: inventory/ has those of the "
            "testbed, inventory/example/ is to be copied for hosts of your own."
        )
    listing = _list_inventory(inventory)
    hostvars = listing["_meta"]["hostvars"]
    groups = {name: _hosts_in(name, listing) for name in ("proxies", "load_generators", "testbed")}
    # A run takes its variables from the host that plans it, the control node.
    return resolve_suite(path, groups, hostvars.get("localhost", {}))


def _list_inventory(inventory: Path) -> dict[str, Any]:
    done = subprocess.run(
        [PROGRAMS / "ansible-inventory", "--list", "-i", inventory],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SuiteError(f"inventory {relative(inventory)} cannot be read: {' '.join(done.stderr.split())}")
    return dict(json.loads(done.stdout))


def _hosts_in(group: str, listing: dict[str, Any]) -> list[str]:
    entry = listing.get(group, {})
    nested = [host for child in entry.get("children", []) for host in _hosts_in(child, listing)]
    return list(dict.fromkeys([*entry.get("hosts", []), *nested]))


# --- one run --------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """One run as Ansible makes it: what is known of it from its events."""

    suite: Suite
    run: SuiteRun
    journal: Journal
    bar: Bar
    stop: Stop
    folder: RunFolder | None = None
    why: str = ""
    _log: TextIO | None = None

    def make(self) -> Finished | None:
        """Run Ansible until it ends; return what came of it if the run is complete."""
        begun = time.monotonic()
        with (
            _empty_folder(self.journal.folder / "ansible-runner") as scratch,
            self.journal.log(self.run).open("a", encoding="utf-8") as self._log,
        ):
            ansible_runner.run(
                private_data_dir=str(scratch),
                project_dir=str(ROOT),
                # The kernel ends Ansible when this process is gone.
                binary="setpriv",
                cmdline=shlex.join(
                    ["--pdeathsig", "TERM", str(PROGRAMS / "ansible-playbook"), str(ROOT / "run-case.yml")]
                ),
                inventory=str(self.suite.inventory),
                limit=",".join([*self.suite.hosts, "load_generators", "localhost"]),
                extravars=self._extra_vars(),
                # ansible-runner would trust any host key, and keep facts from one run to the next.
                envvars={"ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_NOCOLOR": "True"},
                fact_cache_type="memory",
                settings={"pexpect_timeout": TICK_S, "suppress_output_file": True},
                quiet=True,
                event_handler=self._on_event,
                cancel_callback=self._on_tick,
            )
        if self.folder is None or not self.folder.run.exists():
            return None
        return self.journal.finish(self.run, self.folder, time.monotonic() - begun)

    def _extra_vars(self) -> dict[str, Any]:
        boot = {"testbed_boot": "fresh"} if self.suite.file.boot == "fresh" else {}
        return {
            "case": self.run.combination.case.number,
            **self.suite.file.parameters,
            **self.run.combination.varied,
            "run_order": self.run.host_order,
            **boot,
        }

    def _on_event(self, event: dict[str, Any]) -> bool:
        """Take what an event of Ansible says; it need not be kept."""
        data = event.get("event_data", {})
        result = data.get("res") or {}
        if event.get("stdout") and self._log:
            print(event["stdout"], file=self._log, flush=True)
        if event["event"] == "playbook_on_task_start":
            self.bar.step(data.get("task", ""))
        elif event["event"] == "runner_on_ok" and data.get("task_action") == "floodmark_plan":
            self.folder = RunFolder(Path(result["plan"]["folder"]))
            self.journal.begin(self.run, self.folder)
        elif event["event"] in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            self.why = f"host {data.get('host')}: {' '.join(message_of(result).split()).rstrip('.')}"
        return False

    def _on_tick(self) -> bool:
        """Move the bar, pass a signal on, and tell whether to end Ansible by force."""
        self.bar.draw()
        return self.stop.pass_on()


@contextmanager
def _empty_folder(path: Path) -> Iterator[Path]:
    """Provide a folder for ansible-runner, which keeps the environment there; nobody else may read it."""
    shutil.rmtree(path, ignore_errors=True)  # of a process that was killed
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass
class Stop:
    """The wish to end, as a signal expresses it."""

    wanted_at: float | None = None
    _passed_on: bool = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take the signals that end a process, as long as the suite runs."""
        # What is ignored stays so: nohup(1) wants to live on when its terminal has gone.
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._want) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _want(self, _number: int, _frame: FrameType | None) -> None:
        self.wanted_at = self.wanted_at or time.monotonic()

    def pass_on(self) -> bool:
        """Ask Ansible to end, once; return True when it had time enough."""
        if self.wanted_at is None:
            return False
        if not self._passed_on:
            self._passed_on = True
            for child in psutil.Process().children():
                child.send_signal(signal.SIGTERM)
        return time.monotonic() - self.wanted_at > PATIENCE_S


# --- the suite ------------------------------------------------------------------------------------


def run_suite(console: Console, path: Path, suite: Suite) -> bool:
    """Make all runs of a suite that are not finished yet.

    Args:
        console: where progress is shown.
        path: its file, for messages.
        suite: the suite.

    Returns:
        Whether all its runs are valid and all expectations held in them.

    Raises:
        SuiteError: another process runs it, its journal does not fit, or a run ended without a verdict repeatedly.
        Interrupted: a signal came.
    """
    if shutil.which("setpriv") is None:
        raise SuiteError("the program setpriv is missing: it is part of util-linux, install that package.")
    runs = list(suite.runs())
    stop = Stop()
    with open_journal(suite, RESULTS) as journal, stop.listen(), Bar(console, len(runs)) as bar:
        left = [run for run in runs if run.name not in journal.finished]
        bar.done = len(runs) - len(left)
        if bar.done:
            bar.say(f"{bar.done} of {len(runs)} runs are finished already, as {relative(journal.path)} says.")
        for index, run in enumerate(left):
            bar.begin(run, estimate_s(suite, journal.finished, left[index:]))
            bar.end(run, _make_run(suite, run, journal, bar, stop, path))
    return print_summary(console, journal, runs)


def _make_run(suite: Suite, run: SuiteRun, journal: Journal, bar: Bar, stop: Stop, path: Path) -> Finished:
    """Make one run, if need be in a second attempt."""
    how_to_go_on = f"go on with: floodmark suite {path}"
    for _ in range(ATTEMPTS):
        attempt = Attempt(suite, run, journal, bar, stop)
        done = attempt.make() if stop.wanted_at is None else None
        if done:
            return done
        if stop.wanted_at is not None:
            raise Interrupted(
                f"interrupted after {bar.done} of {bar.total} runs; {run.name} is the next one: {how_to_go_on}"
            )
        journal.fail(run, attempt.why)
        bar.say(f"[bold red]no verdict[/]  {escape(run.name)}  [dim]{escape(attempt.why)}[/]")
    raise SuiteError(
        f"{run.name} ended without a verdict {ATTEMPTS} times: {attempt.why or 'Ansible did not say why'}. What it "
        f"said is in {relative(journal.log(run))}; {bar.done} of {bar.total} runs are kept, {how_to_go_on}"
    )
