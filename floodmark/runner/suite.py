"""Makes the runs of a suite one after the other, and goes on where it was ended."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from rich.console import Console
from rich.markup import escape

from floodmark.errors import FloodmarkError, SuiteError
from floodmark.inputs.inventory import HostVariables, Inventory
from floodmark.inputs.suites import Suite, SuiteRun, read_suite, resolve_suite
from floodmark.paths import ROOT, relative
from floodmark.runner.case_player import PROGRAMS, Play, Stop, need_setpriv
from floodmark.runs.folders import RESULTS
from floodmark.runs.journal import Finished, Journal, open_journal
from floodmark.show.suite import Bar, estimate_s, print_summary
from floodmark.values import ParameterValues

# A run that ended without a verdict is tried again once: a host that did not boot in time must not end a night's work.
ATTEMPTS = 2

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
    listed = list_inventory(inventory)
    return resolve_suite(path, listed.groups, listed.variables)


def list_inventory(inventory: Path) -> Inventory:
    """Return what Ansible knows of an inventory, with the groups of a run.

    Raises:
        FloodmarkError: it cannot be read.
    """
    listed, host_variables = _list_inventory(inventory)
    groups = {name: _hosts_in(name, listed) for name in ("proxies", "load_generators", "testbed")}
    # A run takes its variables from the host that plans it, the control node.
    return Inventory(groups, host_variables.get("localhost", {}), host_variables, [str(inventory)])


def proxies_of(inventory: Path) -> list[str]:
    """Return the proxy hosts of an inventory.

    Raises:
        FloodmarkError: it cannot be read, or has none.
    """
    if not inventory.exists():
        raise FloodmarkError(f"-i: inventory {inventory} does not exist: inventory/ has those of the testbed.")
    listed, _ = _list_inventory(inventory)
    hosts = _hosts_in("proxies", listed)
    if not hosts:
        raise FloodmarkError(f"-i: inventory {inventory} has no host in the group 'proxies'.")
    return hosts


class _Group(TypedDict, total=False):
    """A group of an inventory: its own hosts, and groups within it."""

    hosts: list[str]
    children: list[str]


def _list_inventory(inventory: Path) -> tuple[dict[str, _Group], HostVariables]:
    """Return all groups by name, and the variables of all hosts.

    {"proxies": {"hosts": ["proxy1"]}, "all": {"children": […]}, "_meta": {"hostvars": {"proxy1": {…}}}}
    """
    done = subprocess.run(
        # The control node has variables even where no group has it.
        [PROGRAMS / "ansible-inventory", "--list", "-i", inventory, "-i", "localhost,"],
        # Within a task of Ansible its standard input does not block, which Ansible itself refuses.
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SuiteError(f"inventory {relative(inventory)} cannot be read: {' '.join(done.stderr.split())}")
    listing = json.loads(done.stdout, object_hook=_unmarked)
    host_variables: HostVariables = listing.pop("_meta")["hostvars"]
    return listing, host_variables


def _unmarked(mapping: dict[str, Any]) -> Any:
    """Return what is in Ansible's mark for text that is no template: {"__ansible_unsafe": "local"}."""
    return mapping["__ansible_unsafe"] if mapping.keys() == {"__ansible_unsafe"} else mapping


def _hosts_in(group: str, listed: Mapping[str, _Group]) -> list[str]:
    entry = listed.get(group, {})
    nested = [host for child in entry.get("children", []) for host in _hosts_in(child, listed)]
    return list(dict.fromkeys([*entry.get("hosts", []), *nested]))


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
    need_setpriv()
    runs = list(suite.runs())
    stop = Stop()
    with open_journal(suite, RESULTS) as journal, stop.listen(), Bar(console, len(runs)) as bar:
        left = [run for run in runs if run.name not in journal.finished]
        bar.done = len(runs) - len(left)
        if bar.done:
            bar.say(f"{bar.done} of {len(runs)} runs are finished already, as {relative(journal.path)} says.")
        booted: SuiteRun | None = None
        for index, run in enumerate(left):
            bar.begin(run, estimate_s(suite, journal.finished, left[index:]))
            bar.end(run, _make_run(suite, run, needs_boot(suite, run, booted), journal, bar, stop, path))
            booted = run
    return print_summary(console, journal, runs)


def needs_boot(suite: Suite, run: SuiteRun, before: SuiteRun | None) -> bool:
    """Tell whether the hosts are to be booted anew for a run.

    Args:
        suite: the suite.
        run: the run.
        before: the run that this process has made before it, if there is one: nobody knows what became of other boots.
    """
    return suite.file.boot == "run" or (suite.file.boot == "block" and (before is None or before.block != run.block))


def _make_run(suite: Suite, run: SuiteRun, boot: bool, journal: Journal, bar: Bar, stop: Stop, path: Path) -> Finished:
    """Make one run, if need be in a second attempt."""
    how_to_go_on = f"go on with: floodmark suite {path}"
    for _ in range(ATTEMPTS):
        play = Play(lambda folder: journal.begin(run, folder), bar.step, bar.draw, stop)
        if stop.wanted_at is None:
            begun = time.monotonic()
            folder = play.make(
                ROOT, suite.inventory, suite.hosts, extra_vars(suite, run, boot), journal.folder / "ansible-runner",
                journal.log(run),
            )  # fmt: skip
            if folder:
                return journal.finish(run, folder, time.monotonic() - begun)
        if stop.wanted_at is not None:
            raise stop.end(
                f"interrupted after {bar.done} of {bar.total} runs; {run.name} is the next one: {how_to_go_on}"
            )
        journal.fail(run, play.why)
        boot = suite.file.boot != "once"  # whatever was wrong with the last one
        bar.say(f"[bold red]no verdict[/]  {escape(run.name)}  [dim]{escape(play.why)}[/]")
    raise SuiteError(
        f"{run.name} ended without a verdict {ATTEMPTS} times: {play.why or 'Ansible did not say why'}. What it "
        f"said is in {relative(journal.log(run))}; {bar.done} of {bar.total} runs are kept, {how_to_go_on}"
    )


def extra_vars(suite: Suite, run: SuiteRun, boot: bool) -> ParameterValues:
    """Return what `-e` would give for one run, whose hosts are booted for it or not."""
    return {
        "case": run.combination.case.number,
        **suite.file.parameters,
        **run.combination.varied,
        "run_order": run.host_order,
        **({"testbed_boot": "fresh"} if boot else {}),
    }
