"""Runs in virtual time: what the guest counted, as a table, and the verdict on it.

The clock of such a run counts instructions, so what it says is the length of a path through the code.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from collectors.fields import VIRTUAL_WINDOWS
from floodmark.errors import RunError
from floodmark.inputs.cases import Case
from floodmark.runs.folders import HostFolder, RunFolder, write_json
from floodmark.verdict.ingest import SQL_TYPES, extract_archive, read_object, write_table
from floodmark.verdict.steady import steady_from

# Beside every figure.
CAVEAT = "the length of a path in emulated instructions: no caches, no mitigations, no parallelism, and no time"
# With fewer there is no telling a warm-up from the rest.
FEWEST_WINDOWS = 8
# How far the clock may be from one nanosecond for each instruction.
CLOCK_ERROR = 0.001


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


WORKLOADS = {
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


def judge_virtual_host(run: RunFolder, folder: HostFolder, case: Case) -> dict[str, Any]:
    """Make a table of what a guest counted, judge it, and write host.json and verdict.json.

    Args:
        run: the run.
        folder: the host's results.
        case: as the plan has it, with the parameters of this run.

    Returns:
        The verdict, as `floodmark show --json` prints it.

    Raises:
        RunError: the run failed on this host, or what was written is missing or damaged.
    """
    folder.refuse_failed()
    with tempfile.TemporaryDirectory(prefix="floodmark-") as name:
        raw = Path(name)
        extract_archive(folder.archive, raw)
        found = read_object(raw / "workloads.json", folder.archive)
        host = read_object(raw / "host.json", folder.archive)
        windows = read_windows(raw / "windows.csv", folder.archive)
    fixed = read_object(folder.archive.with_name("virtual.json"), folder.path)
    # The seed is a parameter of the run already, and the only part of the command line that may differ.
    cmdline = host["kernel"]["cmdline"].replace(f" floodmark.seed={case.parameters.virtual_seed}", "")
    host = {**host, "kernel": {**host["kernel"], "cmdline": cmdline}, "virtual_time": fixed}
    write_json(folder.description, host)
    figures: dict[str, dict[str, Any]] = {name: _figure(name, windows.get(name, [])) for name in case.virtual}
    _write_table(folder, windows, figures)
    faults = list(_faults(case, found, figures))
    reasons = [
        *([f"a workload ended early: {found['failure']}"] if found["failure"] else []),
        *(f"the fault was not observed: {one['name']} is {one['value']}, and it takes {one['condition']}"
          for one in faults if not one["holds"]),
        *_wrong_clock(found),
    ]  # fmt: skip
    limit = next((one["limit_conns"] for one in host["listeners"] if one and one["name"] == "upstream"), None)
    verdict = {
        "run_id": run.run_id,
        "host": folder.name,
        "kernel": host["kernel"]["release"],
        "clock": "virtual",
        "fixed": _fixed(fixed, case),
        "valid": not reasons,
        "reasons": reasons,
        "doubts": list(_missing(figures)),
        "params": case.parameters.model_dump(),
        "faults": faults,
        "expectations": list(_expectations(found, limit)),
        "unstated": [],
        "claims": [],
        "phases": [],
        "metrics": {
            **{WORKLOADS[name].metric: one["median"] for name, one in figures.items()},
            "workloads": figures,
            "instructions_per_empty_loop": found["loop_instructions"],
            "queue_limit": limit,
            "accept_queue_max": found["queue_held"],
            "states": {},
            "status": found["nginx_sent"],
            "errors": {},
            "nginx_errors": {},
        },
    }
    write_json(folder.verdict, verdict)
    return verdict


def read_windows(path: Path, where: Path) -> dict[str, list[dict[str, int]]]:
    """Return workload -> its windows in order, each with `operations`, `elapsed_ns` and `idle_ns`.

    Raises:
        RunError: the file is missing or damaged.
    """
    windows: dict[str, list[dict[str, int]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as opened:
            for row in csv.DictReader(opened):
                numbers = {name: int(row[name]) for name in ("window", "operations", "elapsed_ns", "idle_ns")}
                windows.setdefault(row["workload"], []).append(numbers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path.name} in {where} is missing or damaged: {error!r}. Run the case again.") from None
    return windows


# --- figures --------------------------------------------------------------------------------------


def _figure(name: str, windows: list[dict[str, int]]) -> dict[str, Any]:
    """Return the figure of one workload over its steady windows; without a median where there are none."""
    figure: dict[str, Any] = {
        "median": None,
        "half_spread": None,
        "warm_up": None,
        "steady": 0,
        "operations": sum(one["operations"] for one in windows),
        "idle_ns": sum(one["idle_ns"] for one in windows),
    }
    if WORKLOADS[name].unit == "s":
        times = [one["elapsed_ns"] / 1e9 / one["operations"] for one in windows]
        return {**figure, "median": float(np.median(times)) if times else None, "steady": len(times), "warm_up": 0}
    costs = [_cost(one) for one in windows]
    whole = [one for one in costs if one is not None]
    first = steady_from(whole) if len(whole) == len(costs) >= FEWEST_WINDOWS else None
    if first is None:
        return figure
    low, median, high = (float(one) for one in np.quantile(whole[first:], [0.25, 0.5, 0.75]))
    return {
        **figure,
        "median": round(median, 2),
        "half_spread": (high - low) / 2 / median,
        "warm_up": first,
        "steady": len(whole) - first,
    }


def _cost(window: dict[str, int]) -> float | None:
    """Return instructions for each operation; None where some of the time was idle, and so no instruction."""
    return window["elapsed_ns"] / window["operations"] if window["operations"] and not window["idle_ns"] else None


def _write_table(folder: HostFolder, windows: dict[str, list[dict[str, int]]], figures: dict[str, Any]) -> None:
    columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in VIRTUAL_WINDOWS.fields)
    database = duckdb.connect()
    database.execute(f"CREATE TABLE {VIRTUAL_WINDOWS.name} ({columns})")
    for name, rows in windows.items():
        warm_up = figures.get(name, {}).get("warm_up")
        for row in rows:
            state = None if warm_up is None else "warm-up" if row["window"] < warm_up else "steady"
            values = [name, row["window"], row["operations"], row["elapsed_ns"], row["idle_ns"], _cost(row), state]
            database.execute(f"INSERT INTO {VIRTUAL_WINDOWS.name} VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    write_table(database, VIRTUAL_WINDOWS, folder)


def _fixed(fixed: dict[str, Any], case: Case) -> str:
    """Say in a line what was the same as in every other boot."""
    return (
        f"virtual time: seed {case.parameters.virtual_seed}, {fixed['cpus']} processor, {fixed['memory_mb']} MB, "
        f"start state {fixed['start_state'][:12]}, QEMU {fixed['qemu']}, icount {fixed['icount']}"
    )


# --- validity -------------------------------------------------------------------------------------


def _faults(case: Case, found: dict[str, Any], figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what must have been seen: that each operation did what its name says, by the client's word and nginx's."""
    sent: dict[str, int] = {}
    for name in case.virtual:
        seen, sees = found["seen"].get(name, {}), WORKLOADS[name].sees
        least = figures[name]["operations"]
        if name.startswith("request_"):
            sent[sees] = sent.get(sees, 0) + seen.get(sees, 0)
        yield {
            "name": f"every_{name}_gave_{sees}",
            "value": seen.get(sees, 0),
            # Those between two windows are not counted, and were seen too.
            "holds": list(seen) == [sees] and seen[sees] >= least > 0,
            "condition": f"nothing else, and at least the {least} that were counted",
        }
    if sent:
        told = " and ".join(f"{count} × {status}" for status, count in sorted(sent.items()))
        yield {
            "name": "nginx_says_that_it_sent_the_same",
            "value": json.dumps(found["nginx_sent"]),
            "holds": found["nginx_sent"] == sent,
            "condition": told,
        }


def _expectations(found: dict[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
    if found["queue_held"] is not None:
        yield {
            "name": "queue_fills_to_limit_plus_one",
            "value": found["queue_held"],
            "holds": limit is not None and found["queue_held"] == limit + 1,
            "condition": f"value = queue_limit + 1, and the kernel says that the limit is {limit}",
        }


def _wrong_clock(found: dict[str, Any]) -> Iterator[str]:
    """Yield what makes all numbers mean something else than they say."""
    counted, passed = found["clock"]["counted_instructions"], found["clock"]["passed_ns"]
    if abs(passed / counted - 1) > CLOCK_ERROR:
        yield f"the clock does not count instructions: {passed} ns passed with {counted} of them"


def _missing(figures: dict[str, Any]) -> Iterator[str]:
    """Yield why a figure is missing; the others are none the worse for it."""
    for name, one in figures.items():
        if one["median"] is None and one["idle_ns"] and one["operations"]:
            yield f"{name}: the processor was idle for {one['idle_ns'] / 1e6:.0f} ms, so its time is no instructions"
        elif one["median"] is None and one["operations"]:
            yield (
                f"{name} did not become steady: longer windows (virtual_window_ms) or more of them (the case file) may "
                "show where its warm-up ends"
            )
