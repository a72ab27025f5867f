"""Runs in virtual time: what the guest counted, as a table, and the verdict on it.

The clock of such a run counts instructions, so what it says is the length of a path through the code.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import duckdb
import numpy as np
from pydantic import ConfigDict

from collectors.fields import VIRTUAL_WINDOWS
from floodmark.errors import RunError
from floodmark.inputs.cases import Case
from floodmark.model.check import Check
from floodmark.model.host import HostDescription
from floodmark.model.metrics import VirtualMetrics, WorkloadFigure
from floodmark.model.stored import Part, Stored, save, write_json
from floodmark.model.verdict import Prediction, Verdict
from floodmark.runs.folders import HostFolder, RunFolder
from floodmark.verdict import rules
from floodmark.verdict.checks import of_the_case
from floodmark.verdict.ingest import extract_archive, read_part
from floodmark.verdict.steady import find_steady
from floodmark.verdict.tables import SQL_TYPES, write_table

# Beside every figure.
CAVEAT = "the length of a path in emulated instructions: no caches, no mitigations, no parallelism, and no time"
# With fewer there is no telling a warm-up from the rest.
FEWEST_WINDOWS = 8


@dataclass(frozen=True)
class Work:
    """What is known of a workload.

    Attributes:
        metric: name of its figure in verdict.json.
        unit: of the figure.
        meaning: of the figure, for the reader of a table.
        sees: what each operation must have given.
        counted: whose instructions are in the figure.
    """

    metric: str
    unit: str
    meaning: str
    sees: str
    counted: str


WORKLOADS: dict[str, Work] = {
    "request_proxied": Work(
        "instructions_per_request", "instructions", "a request proxied", "200", "client, nginx, upstream, kernel"
    ),
    "request_refused": Work(
        "instructions_per_request_refused", "instructions", "a request refused (502)", "502", "client, nginx, kernel"
    ),
    "request_timed_out": Work("request_timeout_s", "s", "a request that times out", "504", "nothing: it is a time"),
    "connection_accepted": Work(
        "instructions_per_connection_accepted",
        "instructions",
        "a unix connection accepted",
        "accepted",
        "one process (connect, accept, close), kernel",
    ),
    "connection_refused": Work(
        "instructions_per_connection_refused",
        "instructions",
        "a unix connection refused (EAGAIN)",
        "EAGAIN",
        "one process (connect, close), kernel",
    ),
    "status_read": Work(
        "instructions_per_status_read", "instructions", "a status read", "200", "client, nginx, kernel"
    ),
}


class Clock(Part):
    """Instructions that were counted, and the virtual time that passed meanwhile (ns)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    counted_instructions: float
    passed_ns: float


class Found(Stored):
    """workloads.json: what the guest has seen besides its windows.

    Attributes:
        failure: why a workload ended early; empty where none did.
        seen: workload -> what an operation gave -> how often.
        nginx_sent: status -> how often nginx says that it sent it.
        queue_held: connections in the upstream's full queue, None where it was not filled.
        loop_instructions: of one turn of an empty loop, None where it was not measured.
        clock: instructions that were counted, and the virtual time that passed meanwhile.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: int = 1
    failure: str | None = None
    seen: dict[str, dict[str, int]]
    nginx_sent: dict[str, int]
    queue_held: int | None = None
    loop_instructions: float | None = None
    clock: Clock


class Fixed(Stored):
    """virtual.json: what was the same as in every other boot, as the control node set it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: int = 1
    cpus: int
    memory_mb: int
    start_state: str
    qemu: str
    icount: str


@dataclass(frozen=True)
class Window:
    """One window of a workload."""

    window: int
    operations: int
    elapsed_ns: int
    idle_ns: int

    @property
    def cost(self) -> float | None:
        """Instructions for each operation; None where some of the time was idle, and so no instruction."""
        return self.elapsed_ns / self.operations if self.operations and not self.idle_ns else None


Windows = Mapping[str, Sequence[Window]]


def judge_virtual_host(run: RunFolder, folder: HostFolder, case: Case) -> Verdict:
    """Make a table of what a guest counted, judge it, and write host.json and verdict.json.

    Args:
        run: the run.
        folder: the host's results.
        case: as the plan has it, with the parameters of this run.

    Raises:
        RunError: the run failed on this host, or what was written is missing or damaged.
    """
    folder.refuse_failed()
    with tempfile.TemporaryDirectory(prefix="floodmark-") as name:
        raw = Path(name)
        extract_archive(folder.archive, raw)
        found = read_part(Found, raw / "workloads.json", folder.archive)
        host = read_part(HostDescription, raw / "host.json", folder.archive)
        windows = read_windows(raw / "windows.csv", folder.archive)
    fixed = read_part(Fixed, folder.archive.with_name("virtual.json"), folder.path)
    # The seed is a parameter of the run already, and the only part of the command line that may differ.
    seed = f" floodmark.seed={case.parameters.virtual_seed}"
    kernel = host.kernel.model_copy(update={"cmdline": (host.kernel.cmdline or "").replace(seed, "")})
    facts = host.model_copy(update={"kernel": kernel}).facts()
    write_json(folder.description, {**facts, "virtual_time": fixed.model_dump(exclude={"schema_version"})})
    figures: dict[str, WorkloadFigure] = {name: _figure(name, windows.get(name, [])) for name in case.virtual}
    _write_table(folder, windows, figures)
    faults = list(_faults(case, found, figures))
    upstream = host.listener("upstream")
    limit = upstream.limit_conns if upstream else None
    verdict = Verdict(
        run_id=run.run_id,
        host=folder.name,
        kernel=host.kernel.release,
        clock="virtual",
        fixed=_fixed(fixed, case),
        checks=[*of_the_case(faults, []), *_checks(found, figures)],
        params=case.parameters.model_dump(),
        faults=faults,
        expectations=list(_expectations(found, limit)),
        metrics=VirtualMetrics.model_validate(
            {
                **{WORKLOADS[name].metric: one.median for name, one in figures.items()},
                "workloads": figures,
                "instructions_per_empty_loop": found.loop_instructions,
                "queue_limit": limit,
                "accept_queue_max": found.queue_held,
                "status": found.nginx_sent,
            }
        ),
    )
    save(folder.verdict, verdict)
    return verdict


def read_windows(path: Path, where: Path) -> Windows:
    """Return workload -> its windows in order.

    Raises:
        RunError: the file is missing or damaged.
    """
    windows: dict[str, list[Window]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as opened:
            for row in csv.DictReader(opened):
                numbers = {field.name: int(row[field.name]) for field in fields(Window)}
                windows.setdefault(row["workload"], []).append(Window(**numbers))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path.name} in {where} is missing or damaged: {error!r}. Run the case again.") from None
    return windows


# --- figures --------------------------------------------------------------------------------------


def _figure(name: str, windows: Sequence[Window]) -> WorkloadFigure:
    """Return the figure of one workload over its steady windows; without a median where there are none."""
    operations, idle_ns = sum(one.operations for one in windows), sum(one.idle_ns for one in windows)
    if WORKLOADS[name].unit == "s":
        times = [one.elapsed_ns / 1e9 / one.operations for one in windows]
        median_s = float(np.median(times)) if times else None
        return WorkloadFigure(median=median_s, steady=len(times), warm_up=0, operations=operations, idle_ns=idle_ns)
    costs = [one.cost for one in windows]
    whole = [one for one in costs if one is not None]
    steady = find_steady(whole) if len(whole) == len(costs) >= FEWEST_WINDOWS else None
    if steady is None:
        return WorkloadFigure(operations=operations, idle_ns=idle_ns)
    low, median, high = (float(one) for one in np.quantile(whole[steady.first :], [0.25, 0.5, 0.75]))
    return WorkloadFigure(
        median=round(median, 2),
        half_spread=(high - low) / 2 / median,
        undetected_drift=steady.undetected_drift,
        warm_up=steady.first,
        steady=len(whole) - steady.first,
        operations=operations,
        idle_ns=idle_ns,
    )


def _write_table(folder: HostFolder, windows: Windows, figures: Mapping[str, WorkloadFigure]) -> None:
    columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in VIRTUAL_WINDOWS.fields)
    database = duckdb.connect()
    database.execute(f"CREATE TABLE {VIRTUAL_WINDOWS.name} ({columns})")
    for name, rows in windows.items():
        warm_up = figures[name].warm_up if name in figures else None
        for row in rows:
            state = None if warm_up is None else "warm-up" if row.window < warm_up else "steady"
            values = [name, row.window, row.operations, row.elapsed_ns, row.idle_ns, row.cost, state]
            database.execute(f"INSERT INTO {VIRTUAL_WINDOWS.name} VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    write_table(database, VIRTUAL_WINDOWS, folder)


def _fixed(fixed: Fixed, case: Case) -> str:
    """Say in a line what was the same as in every other boot."""
    return (
        f"virtual time: seed {case.parameters.virtual_seed}, {fixed.cpus} processor, {fixed.memory_mb} MB, "
        f"start state {fixed.start_state[:12]}, QEMU {fixed.qemu}, icount {fixed.icount}"
    )


# --- what the verdict rests on --------------------------------------------------------------------


def _faults(case: Case, found: Found, figures: Mapping[str, WorkloadFigure]) -> Iterator[Prediction]:
    """Yield what must have been seen: that each operation did what its name says, by the client's word and nginx's."""
    sent: dict[str, int] = {}
    for name in case.virtual:
        seen, sees = found.seen.get(name, {}), WORKLOADS[name].sees
        least = figures[name].operations
        if name.startswith("request_"):
            sent[sees] = sent.get(sees, 0) + seen.get(sees, 0)
        yield Prediction(
            name=f"every_{name}_gave_{sees}",
            value=seen.get(sees, 0),
            # Those between two windows are not counted, and were seen too.
            holds=list(seen) == [sees] and seen[sees] >= least > 0,
            condition=f"nothing else, and at least the {least} that were counted",
        )
    if sent:
        told = " and ".join(f"{count} × {status}" for status, count in sorted(sent.items()))
        yield Prediction(
            name="nginx_says_that_it_sent_the_same",
            value=json.dumps(found.nginx_sent),
            holds=found.nginx_sent == sent,
            condition=told,
        )


def _expectations(found: Found, limit: int | None) -> Iterator[Prediction]:
    if found.queue_held is not None:
        yield Prediction(
            name="queue_fills_to_limit_plus_one",
            value=found.queue_held,
            holds=limit is not None and found.queue_held == limit + 1,
            condition="value = queue_limit + 1",
            predicted="" if limit is None else str(limit + 1),
        )


def _checks(found: Found, figures: Mapping[str, WorkloadFigure]) -> Iterator[Check]:
    """Yield what makes all numbers mean something else than they say, and why a figure is missing."""
    yield rules.WORKLOADS_FINISHED.check(not found.failure, ok=not found.failure, why=found.failure or "")
    counted, passed = found.clock.counted_instructions, found.clock.passed_ns
    yield rules.CLOCK_COUNTS.check(round(abs(passed / counted - 1), 6), passed=f"{passed:g}", counted=f"{counted:g}")
    for name, one in figures.items():
        if one.median is None and one.operations:
            why = (
                f"the processor was idle for {one.idle_ns / 1e6:.0f} ms, so its time is no instructions"
                if one.idle_ns
                else "it did not become steady: longer windows (virtual_window_ms) or more of them (the case file) may "
                "show where its warm-up ends"
            )
            yield rules.WORKLOAD_STEADY.check(one.steady, ok=False, subject=name, why=why)
