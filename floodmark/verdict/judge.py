"""The verdict on a run: was it valid, did our model hold, and what becomes of the study's sentences.

Values and conditions are SQL from the case files. They see the tables of the registry and these views:

    upstream_queue, front_queue   accept_queue of the one listener or the other, readings that succeeded
    moments                       upstream_conns, each reading with those of the queue and of nginx just before it;
                                  where one of the two is too old, there is no row
    listeners                     what host.json read back: name, owner, limit_conns
    params                        one row, joined to everything: all parameters, and
        queue_limit     limit of the upstream's queue as the kernel has it; limit + 1 connections fit. Where the kernel
                        does not tell it, what listen() makes of backlog and somaxconn
        sent            requests that were sent
        worker_slots    slots of one nginx worker for clients and upstream connections
        uncrowded       no worker can run out of slots, however the kernel spreads the clients
        paused_ns, resumed_ns   when the upstream stopped accepting and began again; empty where it has no pause
        turned_away     times that nginx got no connection to an upstream: a full unix queue said EAGAIN, or TCP did not
                        answer within proxy_connect_timeout_s
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import duckdb
from pydantic import ValidationError

from collectors.fields import LOGS, MACHINE, QUEUE_WAITS, SOCKET_MEMORY, SOURCES, SYSCALLS, TABLES, Table
from collectors.trace import STILL_WAITING
from floodmark.errors import CaseError, RunError
from floodmark.inputs.cases import Case, Claim, Expectation
from floodmark.inputs.parameters import Parameters
from floodmark.inputs.sql import is_so, look, observe, try_sql
from floodmark.loadgen.arrivals import planned
from floodmark.runs.folders import HostFolder, RunFolder, point_latest_at, write_json
from floodmark.verdict.ingest import PHASES, Ingested, create_tables, ingest
from floodmark.verdict.metrics import key_figures, same_moment, scalar
from floodmark.verdict.virtual import judge_virtual_host

# A worker needs one slot for its listener and one for the channel to the master.
SLOTS_NOT_FOR_CLIENTS = 2
# Locust's own warning looks every ten seconds (CPU_MONITOR_INTERVAL); this one also sees shorter floods.
SATURATED_SHARE = 0.9
SATURATED_AFTER_S = 5.0
# The study's loop of curls is no more regular than this.
GENERATOR_LATE_MS = 100
# An open flood is its times: with so much lateness it is another one.
OPEN_LATE_P99_MS = 10
# Where an agent stops being a bystander, and where its record gets holes.
AGENT_CPU_SHARE = 0.15
AGENT_LOST_SHARE = 0.001


# --- questions to the tables --------------------------------------------------------------------


def create_views(
    database: duckdb.DuckDBPyConnection,
    parameters: Parameters,
    listeners: list[dict[str, Any] | None],
    generators: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Create the views that case files may use beside the tables.

    Args:
        database: where.
        parameters: of the run.
        listeners: what the kernel says of the accept queues.
        generators: what each process of the flood wrote about itself.
    """
    database.execute("CREATE TABLE listeners (name VARCHAR, owner VARCHAR, limit_conns BIGINT)")
    for one in listeners:
        if one is not None:
            database.execute("INSERT INTO listeners VALUES (?, ?, ?)", [one["name"], one["owner"], one["limit_conns"]])
    values = {**parameters.model_dump(), **_plan_of_the_flood(parameters, generators)}
    columns = ", ".join(f"${name} AS {name}" for name in values)
    database.execute(
        f"""
        CREATE TABLE params AS
        SELECT *, worker_slots >= 2 * users + 1 AS uncrowded FROM (
            SELECT {columns}, $worker_connections - {SLOTS_NOT_FOR_CLIENTS} AS worker_slots,
                coalesce((SELECT limit_conns FROM listeners WHERE name = 'upstream'),
                         least($upstream_backlog, $somaxconn)) AS queue_limit,
                (SELECT count(*) FROM requests) AS sent,
                (SELECT min(t_ns) FROM upstream_events WHERE event = 'paused') AS paused_ns,
                (SELECT min(t_ns) FROM upstream_events WHERE event = 'resumed') AS resumed_ns,
                (SELECT count(*) FROM nginx_errors
                 WHERE errno IN (11, 110) AND message LIKE '%while connecting to upstream') AS turned_away
        )
        """,
        values,
    )
    create_queue_views(database)
    database.execute(f"CREATE VIEW moments AS {same_moment(parameters.model_dump())}")


def create_queue_views(database: duckdb.DuckDBPyConnection) -> None:
    """Create the views of the accept queue of the one listener and the other."""
    for name in ("upstream", "front"):
        database.execute(
            f"CREATE VIEW {name}_queue AS SELECT * FROM accept_queue WHERE listener = '{name}' AND reason IS NULL"
        )


def _plan_of_the_flood(parameters: Parameters, generators: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many requests an open flood was to send, and in what time; None of one that depends on answers."""
    dropped = sum(one["dropped"] for one in generators)
    if parameters.load_shape != "open":
        return {"planned": None, "planned_s": None, "dropped": dropped}
    seed = parameters.arrival_seed if parameters.arrivals == "poisson" else None
    of = max((one["generators"] for one in generators), default=1)
    shares = (planned(parameters.steps, seed=seed, share=share, of=of) for share in range(of))
    return {
        "planned": sum(sum(1 for _ in share) for share in shares),
        "planned_s": sum(step.seconds for step in parameters.steps),
        "dropped": dropped,
    }


def check_sql(case: Case) -> None:
    """Try every expression of a case on tables of two rows each.

    Raises:
        CaseError: one of them does not parse, or names a table or column that does not exist.
    """
    database = duckdb.connect()
    create_tables(database)
    for table in TABLES.values():
        values = ", ".join({"integer": "0", "real": "0.0", "text": "'upstream'"}[field.type] for field in table.fields)
        row = f"SELECT {values}" + ("" if table in LOGS else ", 'flood'")
        database.execute(f"INSERT INTO {table.name} {row} UNION ALL {row}")
    # Rows of a table are readings that succeeded, so that the views show them.
    for table in (*SOURCES, QUEUE_WAITS, SYSCALLS):
        database.execute(f"UPDATE {table.name} SET reason = NULL")
    create_views(database, case.parameters, [{"name": "upstream", "owner": "nginx", "limit_conns": 0}])
    for part in ("fault", "expect", "claims", "figures"):
        for one in getattr(case, part):
            try:
                try_sql(database, one)
            except duckdb.Error as error:
                message = str(error).strip().splitlines()[0]
                raise CaseError(
                    f"case {case.number}, {part}, '{one.name}': this SQL does not work: {message}."
                ) from None


# --- the verdict on one host --------------------------------------------------------------------


def judge_host(run: RunFolder, folder: HostFolder, case: Case) -> dict[str, Any]:
    """Ingest one host's results, judge them, and write its verdict.json.

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
    tables = ingest(run, folder)
    database = tables.database
    create_views(database, case.parameters, tables.host["listeners"], tables.generators)
    transport = case.parameters.transport
    faults = judge_expectations(database, case.fault, transport)
    phases = list(_phases(tables))
    metrics = key_figures(database, phases, tables)
    reasons = [
        *_unobserved(faults),
        *_incomplete(tables, phases, case.parameters),
        *_disturbed(database, tables, metrics, run.run_id, case.parameters),
    ]
    verdict = {
        "run_id": run.run_id,
        "host": folder.name,
        "kernel": tables.host["kernel"]["release"],
        "valid": not reasons,
        "reasons": reasons,
        "doubts": list(_doubts(metrics, tables, case.parameters)),
        "params": case.parameters.model_dump(),
        "faults": faults,
        "expectations": judge_expectations(database, case.expect, transport),
        "unstated": _unstated(database, case.expect, transport),
        "claims": [judge_claim(database, claim, transport) for claim in case.claims],
        "figures": {one.name: look(database, one) if transport in one.transport else None for one in case.figures},
        "phases": phases,
        "metrics": metrics,
    }
    write_json(folder.verdict, verdict)
    return verdict


def judge_expectations(
    database: duckdb.DuckDBPyConnection, expectations: list[Expectation], transport: str
) -> list[dict[str, Any]]:
    """Return name, value and outcome of each expectation that is stated for this run."""
    results = []
    for one in expectations:
        if transport in one.transport and is_so(database, one.applies):
            value, holds = observe(database, one)
            # A prediction that could not be seen has not held.
            results.append({"name": one.name, "value": value, "holds": bool(holds), "condition": one.holds})
    return results


def _unstated(
    database: duckdb.DuckDBPyConnection, expectations: list[Expectation], transport: str
) -> list[dict[str, str]]:
    """Return the expectations that our model does not state for these parameters, with their condition."""
    return [
        {"name": one.name, "applies": one.applies}
        for one in expectations
        if transport in one.transport and not is_so(database, one.applies)
    ]


def judge_claim(database: duckdb.DuckDBPyConnection, claim: Claim, transport: str) -> dict[str, Any]:
    """Return what becomes of a sentence of the study."""
    stated = transport in claim.transport and is_so(database, claim.applies)
    value, holds = observe(database, claim) if stated else (None, None)
    verdict = {True: "confirmed", False: "refuted", None: "not observed"}[holds]
    return {
        "name": claim.name, "study": claim.study, "measured": claim.measured, "verdict": verdict, "value": value,
        "condition": claim.holds, "digest": claim.digest,
    }  # fmt: skip


def _phases(tables: Ingested) -> Iterator[dict[str, Any]]:
    """Yield the phases with their lengths: from the first sample to the last."""
    row = tables.database.execute("SELECT min(t_ns), max(t_ns) FROM accept_queue").fetchone()
    if row is None or row[0] is None or tables.phases.flood_start_ns is None or tables.phases.flood_end_ns is None:
        return
    edges = [row[0], tables.phases.flood_start_ns, tables.phases.flood_end_ns, row[1]]
    for name, start, end in zip(PHASES, edges, edges[1:], strict=False):
        yield {"name": name, "duration_s": round((end - start) / 1e9, 3), "start_ns": start, "end_ns": end}


# --- validity -----------------------------------------------------------------------------------


def _unobserved(faults: list[dict[str, Any]]) -> Iterator[str]:
    for one in faults:
        if not one["holds"]:
            yield f"the fault was not observed: {one['name']} is {one['value']}, and it takes {one['condition']}"


def _incomplete(tables: Ingested, phases: list[dict[str, Any]], parameters: Parameters) -> Iterator[str]:
    """Yield what is missing."""
    if tables.phases.flood_start_ns is None:
        yield "there was no flood: no request was sent"
    elif not phases:
        yield "the phases are not known: the agent wrote nothing about the accept queue"
    yield from tables.losses
    unfinished = sum(one["unfinished"] for one in tables.generators)
    if unfinished:
        yield f"{unfinished} requests were sent and never ended: the flood was cut off"
    for table in SOURCES:
        if table.name == "unix_states" and parameters.transport == "tcp":
            continue  # there is nothing to see, and its rows say so
        if table.name == "stub_status" and parameters.worker_connections <= SLOTS_NOT_FOR_CLIENTS:
            continue  # no worker has a slot for whoever asks
        silent = _why_silent(tables.database, table)
        # No case asks for these two. A kernel without unix_diag cannot tell the one, machine_hz=0 leaves out the other.
        if silent and table not in (SOCKET_MEMORY, MACHINE):
            yield f"the source {table.name} was silent: {silent}"


def _why_silent(database: duckdb.DuckDBPyConnection, table: Table) -> str | None:
    """Return why a source has no reading that succeeded; None when it has one."""
    if scalar(database, f"SELECT count(*) FROM {table.name} WHERE reason IS NULL"):
        return None
    return scalar(database, f"SELECT any_value(reason) FROM {table.name}") or "it has no rows"


def _disturbed(
    database: duckdb.DuckDBPyConnection,
    tables: Ingested,
    metrics: dict[str, Any],
    run_id: str,
    parameters: Parameters,
) -> Iterator[str]:
    """Yield what makes the numbers mean something else than they say."""
    share = metrics["generator_cpu_share"]
    flood_s = metrics["flood_s"] or 0
    warned = any(one["cpu_warning"] for one in tables.generators)
    if warned or ((share or 0) > SATURATED_SHARE and flood_s >= SATURATED_AFTER_S):
        used = "Locust warned" if share is None else f"it used {share:.0%} of a core over {flood_s:.1f} s"
        yield (
            f"the load generator was saturated ({used}): "
            "what it could not send in time looks as if the proxy had been slow"
        )
    late_ms = metrics["generator_late_p99_ms"]
    if parameters.load_shape == "open" and late_ms is not None and late_ms > OPEN_LATE_P99_MS:
        yield (
            f"the load generator was late: one request of a hundred started more than {late_ms:.1f} ms after its time, "
            f"and {OPEN_LATE_P99_MS} ms are allowed; ask for a lower rate, or for more processes or machines"
        )
    foreign = scalar(database, "SELECT count(*) FROM nginx_access WHERE id NOT LIKE $prefix", {"prefix": f"{run_id}/%"})
    if foreign:
        yield f"{foreign} requests in nginx's log are not of this flood: something else sends to the same port"
    for one in tables.generators:
        mine, leader = one.get("locust_version"), one.get("leader_version")
        if mine != leader:
            yield (
                f"process {one['generator']} of the flood ran Locust {mine} and was led by {leader}: remove "
                "/opt/floodmark-loadgen on its machine, and the next run installs it anew"
            )
    # 2026/11/26 23:05:20 [alert] 1730#1730: worker process 1733 exited on signal 9
    died = database.execute(
        "SELECT message FROM nginx_errors WHERE message LIKE 'worker process % exited%' AND level = 'alert'"
    ).fetchall()
    if died:
        yield (
            f"{len(died)} of nginx's workers died in the run ({died[0][0]}), and with them the connections that they "
            "had: look for 'Out of memory' in the kernel log of the host"
        )
    lacking = scalar(database, "SELECT count(*) FROM requests WHERE error IN ('no free descriptor', 'no free port')")
    if lacking:
        yield f"the load generator could not send {lacking} requests: it had no free descriptor or port for them"
    overflow = scalar(database, "SELECT max(depth_conns - limit_conns) FROM front_queue")
    if overflow is not None and overflow > 0:
        yield "nginx's own accept queue overflowed, so clients waited there and not at the upstream"


def _doubts(metrics: dict[str, Any], tables: Ingested, parameters: Parameters) -> Iterator[str]:
    """Yield what a reader should know although the run is valid."""
    late_ms = metrics["generator_late_max_ms"]
    if parameters.load_shape != "open" and late_ms is not None and late_ms > GENERATOR_LATE_MS:
        yield (
            f"the load generator sent requests up to {late_ms:.0f} ms late: it was not as fast as the flood that was "
            "asked for; start_spread_ms gives it time"
        )
    if metrics["dropped"]:
        yield (
            f"{metrics['dropped']} requests that were due were not sent, because {parameters.users} were in flight "
            "already: users=N allows more"
        )
    given_up = scalar(tables.database, "SELECT count(*) FROM requests WHERE error = 'timeout'")
    if given_up:
        yield (
            f"{given_up} requests were given up by their client after {parameters.answer_timeout_s} s: the host was "
            "too slow for this flood, or nginx kept them longer than its timeouts allow"
        )
    share, lost = metrics["agent_cpu_share"], metrics["agent_lost_share"]
    if share is not None and share > AGENT_CPU_SHARE:
        yield f"the agent used {share:.0%} of a core, more than {AGENT_CPU_SHARE:.0%}: it may have disturbed the host"
    if lost is not None and lost > AGENT_LOST_SHARE:
        yield f"the agent lost {lost:.2%} of its readings, more than {AGENT_LOST_SHARE:.1%}: short peaks may be missing"
    if tables.database.execute("SELECT count(*) FROM accept_queue WHERE via = 'proc'").fetchone() != (0,):
        yield (
            "the kernel has no unix_diag: the queue was counted in /proc/net/unix, seldom, its limit computed and not "
            "read back, and who waits without a client is not known"
        )
    if silent := _why_silent(tables.database, SOCKET_MEMORY):
        yield f"what the kernel holds for sockets is not known: {silent}"
    if not scalar(tables.database, "SELECT count(*) FROM front_queue"):
        why = scalar(tables.database, "SELECT any_value(reason) FROM accept_queue WHERE listener = 'front'")
        yield f"nginx's own accept queue was not seen, so it may have overflowed: {why or 'it has no rows'}"
    if parameters.trace:
        yield from _doubts_of_the_trace(metrics, tables)
    if parameters.strace:
        yield from _doubts_of_strace(tables)
    if tables.host.get("scheduling", {}).get("upstream") not in (None, "SCHED_FIFO"):
        yield "the upstream had no real-time priority: behind other processes it may let a short queue overflow"
    if tables.clock.error_ns is None:
        yield "the clocks of generator and host could not be compared: phases may be shifted"


def _doubts_of_the_trace(metrics: dict[str, Any], tables: Ingested) -> Iterator[str]:
    """Yield why the trace has not seen everything."""
    reasons = tables.database.execute(
        "SELECT DISTINCT reason FROM queue_waits WHERE reason IS NOT NULL AND reason <> ?", [STILL_WAITING]
    ).fetchall()
    for (reason,) in reasons:
        yield f"the queue was not traced, or not all of it: {reason}"
    if not reasons and not metrics["waits_n"] and not metrics["waits_unaccepted"]:
        yield "the trace saw no connection come into the queue"


def _doubts_of_strace(tables: Ingested) -> Iterator[str]:
    """Yield what a capture costs, or why there is none."""
    reason = scalar(tables.database, "SELECT any_value(reason) FROM syscalls")
    if reason:
        yield f"nginx's system calls were not captured: {reason}"
    elif not scalar(tables.database, "SELECT count(*) FROM syscalls"):
        yield "nginx's system calls were not captured: strace wrote nothing"
    else:
        yield "strace stopped nginx at each system call: what it did is true, how long it took is not"


# --- the verdict on a run -----------------------------------------------------------------------


def judge_run(run: RunFolder) -> dict[str, Any]:
    """Judge every host of a run and write run.json, last of all.

    Returns:
        The content of run.json.

    Raises:
        RunError: the plan is missing or damaged, or of another version, or the folder is read-only; then nothing was
            changed.
    """
    if not os.access(run.path, os.W_OK):
        raise RunError(
            f"{run.path} cannot be written, where the verdict belongs: make it writable, or copy it and judge the copy."
        )
    is_new = run.plan.exists()
    plan = run.read_plan() if is_new else run.read_run()
    try:
        case = Case.model_validate({**plan["case"], "parameters": plan["parameters"]})
    except ValidationError as error:
        made_by = plan.get("control_node", {})
        differing = ", ".join(dict.fromkeys(str(one["loc"][-1]) for one in error.errors()))
        raise RunError(
            f"run {run.run_id} was made by another version of Floodmark ({made_by.get('floodmark', 'unknown')}, commit "
            f"{made_by.get('git_commit', 'unknown')}), whose runs have another {differing}: that version can judge it "
            "anew. Its verdict stands as it is."
        ) from None
    judge = judge_virtual_host if plan.get("clock") == "virtual" else judge_host  # older runs do not say
    verdicts = [_judge_or_explain(judge, run, run.host(name), case) for name in plan["hosts"]["proxies"]]
    content = {
        **plan,
        "phases": {one["host"]: one["phases"] for one in verdicts},
        "valid": all(one["valid"] for one in verdicts),
        "passed": all(passed(one) for one in verdicts),
    }
    write_json(run.run, content)
    if is_new:
        run.plan.unlink()
        point_latest_at(run)
    return content


def _judge_or_explain(
    judge: Callable[[RunFolder, HostFolder, Case], dict[str, Any]], run: RunFolder, folder: HostFolder, case: Case
) -> dict[str, Any]:
    """Judge one host; one that failed has a verdict without figures, and the others keep theirs."""
    try:
        return judge(run, folder, case)
    except (RunError, duckdb.Error, ValueError, KeyError) as error:
        verdict = {
            "run_id": run.run_id,
            "host": folder.name,
            "kernel": None,
            "valid": False,
            "reasons": [str(error) if isinstance(error, RunError) else f"what it wrote cannot be read: {error!r}"],
            "doubts": [],
            "params": case.parameters.model_dump(),
            **{name: [] for name in ("faults", "expectations", "unstated", "claims", "phases")},
            "figures": {},
            "metrics": {},
        }
        folder.path.mkdir(exist_ok=True)
        write_json(folder.verdict, verdict)
        return verdict


def passed(verdict: dict[str, Any]) -> bool:
    """Tell whether a host's verdict is good: the run is valid and every expectation holds."""
    return verdict["valid"] and all(one["holds"] for one in verdict["expectations"])
