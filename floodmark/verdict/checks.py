"""The checks of one run on one host: what was ingested, held against the rules of `rules.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import duckdb

from collectors.fields import NGINX_ACCESS, REQUESTS, STUB_STATUS, TABLES, UNIX_STATES
from collectors.trace import STILL_WAITING
from floodmark.inputs.cases import Case
from floodmark.inputs.parameters import Parameters
from floodmark.model.check import Check, Severity
from floodmark.model.load import GeneratorSummary
from floodmark.model.metrics import DRAIN, FLOOD, Metrics
from floodmark.model.verdict import Phase, Prediction, Unstated
from floodmark.verdict import rules
from floodmark.verdict.coverage import Coverage
from floodmark.verdict.ingest import Ingested
from floodmark.verdict.queries import scalar

# Why a lease ends: the run was over, or what roles/guard/files/lease.py writes for the other ways.
OVER = "over"
ENDS_OF_A_LEASE = {
    "expired": "it heard nothing from the control node for the time of its lease, 15 s",
    "stopped": "somebody stopped floodmark-run.service on it",
    "killed": "the program that holds it was killed",
}
# A phase does not end with a reading: it may seem shorter by this (s).
PHASE_EDGE_S = 0.1
# With a shorter time of sending a busy generator is no sign of a saturated one.
SENDING_AT_LEAST_S = 1.0
# Without a record of the time of sending, in a flood at least this long.
FLOOD_AT_LEAST_S = 5.0


# --- the case -------------------------------------------------------------------------------------


def of_the_case(faults: Iterable[Prediction], unstated: Collection[Unstated]) -> Iterator[Check]:
    """Yield whether the misbehaviour was seen, and what our model does not state."""
    for one in faults:
        value = one.value if isinstance(one.value, (bool, int, float, str)) else str(one.value)
        yield rules.FAULT_OBSERVED.check(value, limit=one.condition, ok=one.holds, subject=one.name)
    names = ", ".join(one.name.replace("_", " ") for one in unstated)
    conditions = " or ".join(sorted({f"'{one.applies}'" for one in unstated}))
    yield rules.STATED.check(len(unstated), names=names, conditions=conditions)


# --- completeness ---------------------------------------------------------------------------------


def of_the_end(ended_by: str | None) -> list[Check]:
    """Return whether somebody ended the run: one check, or none where nobody did.

    Args:
        ended_by: a key or a signal.
    """
    return [rules.NOT_ENDED.check(ended_by, ok=False)] if ended_by else []


def of_completeness(
    tables: Ingested,
    phases: Collection[Phase],
    coverage: Iterable[Coverage],
    parameters: Parameters,
    rested: Collection[str],
    units: Collection[str],
) -> Iterator[Check]:
    """Yield what is missing.

    Args:
        tables: what was ingested.
        phases: as they were observed.
        coverage: of each source in each phase.
        parameters: of the run.
        rested: tables that an expectation, a claim or a compared metric of the run rests on.
        units: names of the units that were started.
    """
    yield from tables.checks
    if tables.lease_end:
        why = tables.lease_end.why
        yield rules.LEASE_HELD.check(why, ok=why == OVER, why=ENDS_OF_A_LEASE.get(why, why))
    sent = scalar(tables.database, "SELECT count(*) FROM requests")
    yield rules.FLOOD_SENT.check(sent)
    yield rules.FLOOD_FINISHED.check(sum(one.unfinished for one in tables.generators))
    if sent:
        yield from _phase_lengths(phases, tables, parameters)
    for one in coverage:
        yield from one.checks(severity_of_a_hole(one, parameters, rested))
    yield from _rows(tables)
    yield from _units(tables, units)


def severity_of_a_hole(coverage: Coverage, parameters: Parameters, rested: Collection[str]) -> Severity | None:
    """Return what follows from a hole in a source; None for what its rule says."""
    if coverage.source not in rested:
        return Severity.NOTE
    # nginx has no slot for the status page when clients have taken them all: that is a result.
    if coverage.source == STUB_STATUS.name and not parameters.uncrowded:
        return Severity.NOTE
    return None


def covered_sources(parameters: Parameters) -> dict[str, float]:
    """Return the rate of each source that has something to see in a run (Hz)."""
    left_out = set()
    if parameters.transport == "tcp":
        left_out.add(UNIX_STATES.name)
    if parameters.worker_slots <= 0:
        left_out.add(STUB_STATUS.name)
    return {name: hz for name, hz in parameters.rates_hz.items() if name not in left_out}


def _phase_lengths(phases: Collection[Phase], tables: Ingested, parameters: Parameters) -> Iterator[Check]:
    asked = {"baseline": parameters.baseline_s, FLOOD: _flood_s(tables, parameters), DRAIN: parameters.drain_s}
    why = {
        "baseline": "the agent began too late, or the flood too early",
        FLOOD: "the load generator stopped too early",
        DRAIN: "the agent stopped too early",
    }
    if not phases:
        yield rules.PHASE_LENGTH.cannot_tell("the agent wrote nothing about the accept queue")
    for phase in phases:
        wanted_s = asked[phase.name]
        long_enough = phase.duration_s >= wanted_s - PHASE_EDGE_S
        yield rules.PHASE_LENGTH.check(
            phase.duration_s, limit=wanted_s, ok=long_enough, subject=phase.name, why=why[phase.name]
        )


def _flood_s(tables: Ingested, parameters: Parameters) -> float:
    """Return how long a flood lasts at least: until the last request that was to be sent."""
    if parameters.load_shape == "sustained":
        return max(0.0, parameters.duration_s - parameters.think_time_ms / 1000)
    if parameters.load_shape == "open":
        last_s = scalar(tables.database, "SELECT (max(intended_ns) - min(intended_ns)) / 1e9 FROM requests")
        return float(last_s or 0)
    # Of the last bursts all may have been dropped.
    dropped = sum(one.dropped for one in tables.generators)
    return 0.0 if dropped else float((parameters.bursts - 1) * parameters.burst_every_s)


def _rows(tables: Ingested) -> Iterator[Check]:
    """Yield whether each log has the rows that its writer counted, and each of them once."""
    database = tables.database
    for one in tables.generators:
        if one.requests is not None:
            rows = scalar(database, "SELECT count(*) FROM requests WHERE generator = $n", {"n": one.generator})
            yield rules.ROWS_COUNTED.check(
                rows, limit=one.requests, subject=f"requests.{one.generator}.csv", writer="its generator",
                why="rows of it are missing, or stand in it twice",
            )  # fmt: skip
    if tables.written is None:
        if tables.has_evidence:
            why = "the agent did not come to its end, so it has not counted its rows"
            yield rules.ROWS_COUNTED.cannot_tell(why, severity=Severity.INVALID)
        else:
            yield rules.ROWS_COUNTED.cannot_tell(_not_recorded(tables))
    for name, written in (tables.written or {}).items():
        if name in TABLES:
            yield rules.ROWS_COUNTED.check(
                scalar(database, f"SELECT count(*) FROM {name}"), limit=written, subject=f"{name}.csv",
                writer="the agent", why="rows of it are missing, or stand in it twice",
            )  # fmt: skip
    yield from _logged_rows(database)
    for table in (REQUESTS, NGINX_ACCESS):
        twice = scalar(database, f"SELECT count(id) - count(DISTINCT id) FROM {table.name} WHERE id <> ''")
        yield rules.ROWS_UNIQUE.check(twice, subject=table.name)


def _not_recorded(tables: Ingested) -> str:
    return f"a run of format {tables.host.format_version} does not record it"


def _logged_rows(database: duckdb.DuckDBPyConnection) -> Iterator[Check]:
    """Yield whether nginx has logged as many requests as it counted itself, less those of the status page.

    Requests of the status page are not logged. Those that got no answer in time may have been counted or not; and what
    nginx still works on at the last reading is not logged yet.
    """
    row = database.execute(
        """
        SELECT last(requests_total - writing_requests + 1 ORDER BY t_ns) FILTER (reason IS NULL)
                   - count(*) FILTER (reason IS NULL),
               count(*) FILTER (reason IS NOT NULL), (SELECT count(*) FROM nginx_access)
        FROM stub_status
        """
    ).fetchone()
    if row is None or row[0] is None:
        yield rules.ROWS_COUNTED.cannot_tell("nginx's status page was never read", subject="nginx-access.log")
        return
    counted, unanswered, logged = row
    yield rules.ROWS_COUNTED.check(
        logged, limit=counted, ok=logged >= counted - unanswered, subject="nginx-access.log", writer="nginx",
        why="lines of it are missing",
    )  # fmt: skip


def units_of(case: Case) -> list[str]:
    """Return the names of the units that a run of a case starts on its host."""
    names = ["nginx", "sysctl", f"upstream@{case.number}", "agent"]
    names += ["trace"] if case.parameters.trace else []
    return [f"floodmark-{name}.service" for name in names]


def _units(tables: Ingested, started: Collection[str]) -> Iterator[Check]:
    """Yield whether each unit was active from before the flood until it was stopped."""
    if tables.units is None:
        why = "the host did not say which units were active at the end"
        yield rules.UNIT_ACTIVE.cannot_tell(why if tables.has_evidence else _not_recorded(tables))
        return
    begin_ns = tables.phases.flood_start_ns
    there = {unit.name: unit for unit in tables.units}
    for name in started:
        unit = there.get(name)
        if unit is None:
            yield rules.UNIT_ACTIVE.check("gone", ok=False, subject=name, why="it had gone before it was stopped")
            continue
        if unit.active_state != "active":
            why = f"it was {unit.active_state} before it was stopped ({unit.result or unit.sub_state})"
        elif unit.restarts:
            why = f"systemd has restarted it, {unit.restarts} times"
        elif begin_ns is not None and unit.active_since_ns is not None and unit.active_since_ns > begin_ns:
            why = f"it was started again {(unit.active_since_ns - begin_ns) / 1e9:.1f} s after the flood had begun"
        else:
            why = ""
        yield rules.UNIT_ACTIVE.check(unit.active_state, ok=not why, subject=unit.name, why=why)


# --- clocks ---------------------------------------------------------------------------------------


def of_the_clocks(tables: Ingested) -> Iterator[Check]:
    """Yield whether times of the generators and of the host can be put on one clock."""
    for one in tables.generators:
        process = _process(one)
        shift = tables.shifts[one.generator]
        if shift.error_ns is None:
            why = "nginx has logged no request of it that was answered, so phases may be shifted"
            yield rules.CLOCKS_AGREE.cannot_tell(why, subject=process)
        else:
            limit_ms = round(shift.tolerated_ns / 1e6, 3)
            yield rules.CLOCKS_AGREE.check(round(shift.contradiction_ns / 1e6, 3), limit=limit_ms, subject=process)
        if one.wall_minus_monotonic_begin_ns is not None:
            moved_ns = abs(one.wall_minus_monotonic_ns - one.wall_minus_monotonic_begin_ns)
            yield rules.CLOCK_SET.check(round(moved_ns / 1e6, 3), subject=process)


# --- the load generator ---------------------------------------------------------------------------


def of_the_flood(tables: Ingested, metrics: Metrics, run_id: str, parameters: Parameters) -> Iterator[Check]:
    """Yield what makes the flood another one than the one that was asked for."""
    database = tables.database
    for one in tables.generators:
        process = _process(one)
        yield from _saturated(one, metrics, process)
        yield rules.GENERATOR_WARNED.check(one.cpu_warning, ok=not one.cpu_warning, subject=process)
        if one.longest_stall_ms is not None:
            yield rules.GENERATOR_STALLED.check(round(one.longest_stall_ms, 3), subject=process)
        if one.locust_version != one.leader_version:
            yield rules.GENERATOR_VERSION.check(one.locust_version, limit=one.leader_version, ok=False, subject=process)
    if parameters.load_shape == "open":
        if metrics.generator_late_p99_ms is not None:
            yield rules.GENERATOR_ON_TIME.check(metrics.generator_late_p99_ms)
    elif metrics.generator_late_max_ms is not None:
        yield rules.GENERATOR_PROMPT.check(metrics.generator_late_max_ms)
    yield from _together(tables)
    yield rules.GENERATOR_DROPPED.check(metrics.dropped or 0, users=str(parameters.users))
    yield rules.GENERATOR_GAVE_UP.check(metrics.given_up or 0, after=f"{parameters.answer_timeout_s} s")
    lacking = scalar(database, "SELECT count(*) FROM requests WHERE error IN ('no free descriptor', 'no free port')")
    yield rules.GENERATOR_RESOURCES.check(lacking)
    yield rules.GENERATORS_ALLOWED.check(scalar(database, "SELECT count(*) FROM requests WHERE status = 403"))
    foreign = scalar(database, "SELECT count(*) FROM nginx_access WHERE id NOT LIKE $prefix", {"prefix": f"{run_id}/%"})
    yield rules.FOREIGN_REQUESTS.check(foreign)


def _process(generator: GeneratorSummary) -> str:
    return f"process {generator.generator}"


def _saturated(one: GeneratorSummary, metrics: Metrics, process: str) -> Iterator[Check]:
    """Yield how busy a generator was while it was sending; older runs know only the whole flood."""
    if one.sending_s is not None and one.cpu_sending_s is not None:
        cpu_s, wall_s, least_s = one.cpu_sending_s, one.sending_s, SENDING_AT_LEAST_S
    else:
        cpu_s, wall_s, least_s = one.cpu_s, metrics.flood_s or 0, FLOOD_AT_LEAST_S
    if wall_s >= least_s:
        yield rules.GENERATOR_SATURATED.check(round(cpu_s / wall_s, 4), subject=process, for_s=f"{wall_s:.1f} s")


def _together(tables: Ingested) -> Iterator[Check]:
    """Yield how far apart the processes of the flood began, on the host's clock."""
    begun = [
        one.begin_ns + tables.shifts[one.generator].shift_ns for one in tables.generators if one.begin_ns is not None
    ]
    if len(begun) > 1:
        yield rules.GENERATORS_TOGETHER.check(round((max(begun) - min(begun)) / 1e6, 3))


# --- nginx and the agent --------------------------------------------------------------------------


def of_nginx(tables: Ingested, metrics: Metrics, parameters: Parameters) -> Iterator[Check]:
    """Yield what kept nginx from being the proxy that was asked for."""
    database = tables.database
    # 2026/11/26 23:05:20 [alert] 1730#1730: worker process 1733 exited on signal 9
    died = database.execute(
        "SELECT message FROM nginx_errors WHERE message LIKE 'worker process % exited%' AND level = 'alert'"
    ).fetchall()
    yield rules.WORKERS_ALIVE.check(len(died), why=str(died[0][0]) if died else "")
    if metrics.front_overflows is None:
        yield rules.FRONT_OVERFLOWED.cannot_tell("ListenOverflows was not read before and after the flood")
    else:
        severity = Severity.NOTE if parameters.front_may_overflow else None
        yield rules.FRONT_OVERFLOWED.check(metrics.front_overflows, severity=severity)
    if metrics.front_queue_max is None or metrics.front_queue_limit is None:
        why = scalar(database, "SELECT any_value(reason) FROM accept_queue WHERE listener = 'front'")
        yield rules.FRONT_FULL.cannot_tell(why or "it has no rows")
    else:
        yield rules.FRONT_FULL.check(metrics.front_queue_max, limit=metrics.front_queue_limit)
    priority = tables.host.scheduling.get("upstream")
    if priority is not None:
        yield rules.SCHEDULED_FIRST.check(priority, ok=priority == "SCHED_FIFO")
    if parameters.strace:
        yield from _strace(tables)


def _strace(tables: Ingested) -> Iterator[Check]:
    """Yield what a capture costs, or why there is none, or not all of it: until the agent ends its poll makes calls."""
    reason = scalar(tables.database, "SELECT any_value(reason) FROM syscalls")
    last_ns = scalar(tables.database, "SELECT max(t_ns) FROM syscalls")
    end_ns = tables.phases.flood_end_ns
    missing_s = (end_ns - last_ns) / 1e9 if last_ns is not None and end_ns is not None else 0
    if missing_s > 0:
        reason = f"strace ended {missing_s:.1f} s before the flood did"
    elif last_ns is None:
        reason = reason or "strace wrote nothing"
    rows = scalar(tables.database, "SELECT count(*) FROM syscalls WHERE reason IS NULL")
    yield rules.STRACE_CAPTURED.check(rows, ok=reason is None, why=reason or "")
    if rows:
        yield rules.STRACE_SLOWS.check(True, ok=False)


def of_the_agent(tables: Ingested, metrics: Metrics, parameters: Parameters) -> Iterator[Check]:
    """Yield what the agent cost, and what it could not see."""
    for rule, value in (
        (rules.AGENT_CHEAP, metrics.agent_cpu_share),
        (rules.AGENT_PUNCTUAL, metrics.agent_lost_share),
    ):
        yield rule.cannot_tell("the agent did not write it down") if value is None else rule.check(value)
    counted = scalar(tables.database, "SELECT count(*) FROM accept_queue WHERE via = 'proc'")
    yield rules.QUEUE_BY_DIAG.check(not counted, ok=not counted)
    if parameters.trace:
        yield from _trace(metrics, tables.database)


def _trace(metrics: Metrics, database: duckdb.DuckDBPyConnection) -> Iterator[Check]:
    """Yield why the trace has not seen everything."""
    reasons = database.execute(
        "SELECT DISTINCT reason FROM queue_waits WHERE reason IS NOT NULL AND reason <> ?", [STILL_WAITING]
    ).fetchall()
    for (reason,) in reasons:
        yield rules.TRACE_WHOLE.check(reason, ok=False, why=f"the queue was not traced, or not all of it: {reason}")
    if not reasons and not metrics.waits_n and not metrics.waits_unaccepted:
        yield rules.TRACE_WHOLE.check(0, ok=False, why="the trace saw no connection come into the queue")
