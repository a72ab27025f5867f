"""Key figures of a run: what the samples say in a few numbers. What could not be seen is None."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import duckdb

from collectors.fields import SOURCES
from collectors.trace import STILL_WAITING
from floodmark.inputs.parameters import Parameters
from floodmark.inputs.sql import plain
from floodmark.model.metrics import Latency, Metrics, SourceCost, described
from floodmark.model.verdict import Phase
from floodmark.verdict.coverage import Coverage
from floodmark.verdict.ingest import Ingested
from floodmark.verdict.queries import counts, first_row, scalar
from floodmark.verdict.views import READING_NS

# What nginx's errors have in common: a message without the number of a temporary file.
# a client request body is buffered to a temporary file /var/lib/nginx/body/0000000001
MESSAGE_CLASS = r"regexp_replace(message, '/\S*\d{10}$', '…')"
# What came of a request. A complete answer that is not nginx's or the upstream's own failure is a good one.
OUTCOME = "coalesce(error, CAST(status AS VARCHAR))"
IS_GOOD = "(error IS NULL AND status < 500)"

# Key figures by name, as `Metrics` reads and checks them; and the times between which is measured, as SQL knows them.
Figures = Mapping[str, object]
Window = Mapping[str, int | None]


def key_figures(tables: Ingested, phases: Sequence[Phase], parameters: Parameters) -> Metrics:
    """Return the key figures of one host.

    Args:
        tables: what was ingested, with the views.
        phases: as they were observed.
        parameters: of the run.
    """
    database = tables.database
    length_s = {phase.name: phase.duration_s for phase in phases}
    flood_s = length_s.get("flood")
    start_ns, end_ns = tables.phases.flood_start_ns, tables.phases.flood_end_ns
    # Metrics leave out the warm-up, and end when the drain that was asked for ends: what comes after depends on when
    # somebody stopped the agent.
    window = {
        "flood_start": start_ns,
        "measured_from": None if start_ns is None else start_ns + round(parameters.warmup_s * 1e9),
        "flood_end": end_ns,
        "horizon": None if end_ns is None else end_ns + round(parameters.drain_s * 1e9),
    }
    return Metrics.model_validate(
        {
            **_queue(database, window),
            **_pause(database),
            **_trace(database, window),
            **_nginx(database, window),
            "states": _states(database, window),
            **_clients(database, window, flood_s),
            **_generator(database),
            **_tcp(database),
            "flood_s": flood_s,
            "generator_cpu_share": _generator_cpu_share(tables, flood_s),
            **_agent(database, sum(length_s.values())),
            "clock_offset_ms": round(tables.clock.offset_ns / 1e6, 3),
            "clock_error_ms": None if tables.clock.error_ns is None else round(tables.clock.error_ns / 1e6, 3),
        }
    )


def without_holes(metrics: Metrics, coverage: Collection[Coverage]) -> tuple[Metrics, dict[str, str]]:
    """Return the key figures without those that rest on a phase with a hole, and why each of these is missing."""
    holes = {(one.source, one.phase): one for one in coverage if one.has_hole}
    missing = {}
    for name, rests in described():
        hole = next((holes[at] for at in ((t, p) for t in rests.tables for p in rests.phases) if at in holes), None)
        if hole is not None and getattr(metrics, name) not in (None, {}):
            missing[name] = next(one.sentence for one in hole.checks() if not one.ok)
    emptied: dict[str, object] = {name: {} if isinstance(getattr(metrics, name), dict) else None for name in missing}
    return metrics.model_copy(update=emptied), missing


# --- the accept queue ---------------------------------------------------------------------------


def _queue(database: duckdb.DuckDBPyConnection, window: Window) -> Figures:
    """Return how the upstream's queue filled, stood, and emptied.

    `full` is the first reading of more than the limit. The plateau are the readings of the flood from the first
    one of the flood's greatest depth on. The area under the queue holds each reading until the next.
    """
    values = first_row(
        database,
        """
        WITH seen AS (SELECT * FROM upstream_queue WHERE t_ns <= $horizon),
        flood AS (SELECT * FROM seen WHERE phase = 'flood' AND t_ns >= $measured_from),
        plateau AS (
            SELECT * FROM flood
            WHERE t_ns >= (SELECT min(t_ns) FROM flood WHERE depth_conns = (SELECT max(depth_conns) FROM flood))
        ),
        held AS (
            SELECT depth_conns, t_ns, coalesce(lead(t_ns) OVER (ORDER BY t_ns), $horizon) AS until_ns FROM seen
        )
        SELECT
            (SELECT max(depth_conns) FROM seen) AS accept_queue_max,
            (SELECT quantile_disc(depth_conns, 0.5) FROM flood) AS accept_queue_median,
            (SELECT last(depth_conns ORDER BY t_ns) FROM seen) AS accept_queue_last,
            (SELECT count(*) FROM flood) AS accept_queue_n,
            (SELECT queue_limit FROM params) AS queue_limit,
            (SELECT (min(t_ns) FILTER (depth_conns > limit_conns) - $flood_start) / 1e9 FROM seen) AS time_to_full_s,
            (SELECT quantile_disc(depth_conns, 0.5) FROM plateau) AS plateau_median,
            (SELECT quantile_disc(depth_conns, 0.99) FROM plateau) AS plateau_p99,
            (SELECT count(*) FROM plateau) AS plateau_n,
            (SELECT max(greatest(depth_conns - limit_conns, 0)) FROM seen) AS overshoot,
            (SELECT sum(depth_conns * greatest(least(until_ns, $flood_end) - greatest(t_ns, $measured_from), 0)) / 1e9
             FROM held) AS queue_area_conn_s,
            (SELECT sum(depth_conns * greatest(least(until_ns, $horizon) - greatest(t_ns, $flood_end), 0)) / 1e9
             FROM held) AS queue_area_drain_conn_s,
            (SELECT last(waiting_dead_conns ORDER BY t_ns) FROM upstream_conns
             WHERE reason IS NULL AND t_ns <= $horizon) AS dead_in_queue_last
        """,
        window,
    )
    return {
        **values,
        "drain_s": _settled_s(database, "SELECT t_ns, depth_conns = 0 AS settled FROM upstream_queue", window),
        "recovery_s": _settled_s(
            database,
            """
            SELECT t_ns, depth_conns = 0 AND accepted_conns = 0 AND active_without_poll_conns = 0 AS settled
            FROM moments
            """,
            window,
        ),
        "front_queue_max": scalar(database, "SELECT max(depth_conns) FROM front_queue"),
        "front_queue_limit": scalar(database, "SELECT min(limit_conns) FROM front_queue"),
        "accepted_max": scalar(database, "SELECT max(accepted_conns) FROM upstream_conns"),
    }


def _settled_s(database: duckdb.DuckDBPyConnection, readings: str, window: Window) -> float | None:
    """Return how long after the flood the readings settled for good.

    None when they had not at the end of the drain, or when there is no reading in it that could tell.
    """
    settled_s: float | None = scalar(
        database,
        f"""
        WITH readings AS (SELECT * FROM ({readings}) WHERE t_ns <= $horizon),
        unsettled AS (SELECT max(t_ns) AS t_ns FROM readings WHERE NOT settled)
        SELECT (min(t_ns) FILTER (t_ns > coalesce((SELECT t_ns FROM unsettled), 0)) - $flood_end) / 1e9
        FROM readings HAVING max(t_ns) >= $flood_end
        """,
        {name: window[name] for name in ("horizon", "flood_end")},
    )
    return None if settled_s is None else max(0.0, settled_s)


def _pause(database: duckdb.DuckDBPyConnection) -> Figures:
    """Return how long the upstream did not accept, by its own clock, and what it took to recover; None without a pause.

    The queue has recovered when it is first empty. The clients have when the last of those who had begun before the
    upstream accepted again has its answer: over TCP some come again seconds later.
    """
    return first_row(
        database,
        """
        WITH pause AS (SELECT paused_ns, resumed_ns FROM params)
        SELECT
            (SELECT (resumed_ns - paused_ns) / 1e9 FROM pause) AS pause_s,
            (SELECT last(waiting_dead_conns ORDER BY t_ns) FROM upstream_conns CROSS JOIN pause
             WHERE reason IS NULL AND t_ns < resumed_ns) AS pause_dead_conns,
            (SELECT min(t_ns - resumed_ns) / 1e9 FROM upstream_queue CROSS JOIN pause
             WHERE depth_conns = 0 AND t_ns >= resumed_ns) AS pause_queue_recovery_s,
            (SELECT max(greatest(end_ns, resumed_ns) - resumed_ns) / 1e9 FROM requests CROSS JOIN pause
             WHERE start_ns < resumed_ns) AS pause_clients_recovery_s
        """,
    )


def _trace(database: duckdb.DuckDBPyConnection, window: Window) -> Figures:
    """Return how long connections waited for accept(), and how well that agrees with the sampled depth.

    The waits of all connections, until the end of the drain for those that still wait, add up to the area under the
    queue, flood and drain together (Little's law). A sample agrees when its depth lies between those that the trace has
    just before and after.
    """
    # Without a trace there is nothing to hold the samples against, and millions of them take memory.
    traced = scalar(database, "SELECT count(*) > 0 FROM queue_waits")
    return first_row(
        database,
        f"""
        WITH samples AS (SELECT t_ns, depth_conns FROM upstream_queue WHERE {traced}),
        waits AS (SELECT * FROM queue_waits WHERE reason IS NULL OR reason = $still_waiting),
        steps AS (
            SELECT t_ns, 1 AS step FROM waits
            UNION ALL SELECT accepted_ns, -1 FROM waits WHERE accepted_ns IS NOT NULL
        ),
        traced AS (SELECT 0 AS t_ns, 0 AS depth UNION ALL SELECT t_ns, sum(step) OVER (ORDER BY t_ns) FROM steps),
        compared AS (
            SELECT queue.depth_conns BETWEEN least(before.depth, after.depth) AND greatest(before.depth, after.depth)
                AS agrees
            FROM samples queue
            ASOF JOIN traced before ON queue.t_ns - {READING_NS} >= before.t_ns
            ASOF JOIN traced after ON queue.t_ns + {READING_NS} >= after.t_ns
        )
        SELECT
            count(wait_ns) AS waits_n,
            quantile_cont(wait_ns, 0.5) / 1e6 AS wait_median_ms,
            quantile_cont(wait_ns, 0.99) / 1e6 AS wait_p99_ms,
            max(wait_ns) / 1e6 AS wait_max_ms,
            count(*) FILTER (accepted_ns IS NULL) AS waits_unaccepted,
            sum(greatest(least(coalesce(accepted_ns, $horizon), $horizon) - t_ns, 0)) / 1e9 AS waits_area_conn_s,
            (SELECT count(*) FILTER (agrees) / nullif(count(*), 0) FROM compared WHERE (SELECT count(*) FROM waits) > 0)
                AS trace_agreement_share
        FROM waits
        """,
        {"still_waiting": STILL_WAITING, "horizon": window["horizon"]},
    )


# --- nginx, kernel, clients ---------------------------------------------------------------------


def _nginx(database: duckdb.DuckDBPyConnection, window: Window) -> Figures:
    seen = "FROM stub_status WHERE reason IS NULL AND phase"
    since = {"measured_from": window["measured_from"]}
    return {
        "active_max": scalar(database, f"SELECT max(active_without_poll_conns) {seen} <> 'baseline'"),
        **first_row(
            database,
            f"""
            SELECT quantile_disc(active_without_poll_conns, 0.5) AS active_median, count(*) AS active_n
            {seen} = 'flood' AND t_ns >= $measured_from
            """,
            since,
        ),
        **_identity(database, "identity", "flood", window["measured_from"], window["flood_end"]),
        **_identity(database, "identity_drain", "drain", window["flood_end"], window["horizon"]),
        **first_row(
            database,
            """
            SELECT count(*) FILTER (active_conns = front_depth_conns + accepted_clients_conns + 1) / nullif(count(*), 0)
                       AS identity_front_share,
                   count(*) AS identity_front_n
            FROM front_moments
            WHERE active_conns + front_depth_conns + accepted_clients_conns > 1 AND uncertain_conns = 0
                AND t_ns BETWEEN $measured_from AND $flood_end
            """,
            {name: window[name] for name in ("measured_from", "flood_end")},
        ),
        "nginx_errors": counts(
            database,
            f"SELECT coalesce('errno ' || errno, {MESSAGE_CLASS}), count(*) FROM nginx_errors "
            "GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
        ),
    }


def _identity(
    database: duckdb.DuckDBPyConnection, name: str, phase: str, start_ns: int | None, end_ns: int | None
) -> Figures:
    """Return in which share of the moments of a phase that had connections Active was Q + A + 1 at the upstream."""
    return first_row(
        database,
        f"""
        SELECT count(*) FILTER (active_conns = depth_conns + accepted_conns + 1) / nullif(count(*), 0) AS {name}_share,
               count(*) AS {name}_n
        FROM moments
        WHERE active_conns + depth_conns + accepted_conns > 1 AND phase = $phase AND t_ns BETWEEN $start AND $end
        """,
        {"phase": phase, "start": start_ns, "end": end_ns},
    )


def _states(database: duckdb.DuckDBPyConnection, window: Window) -> dict[str, int | None]:
    """Return how many rows of /proc/net/unix had each state: the median over the flood.

    A burst that is answered at once ends before this source looks a few times; then the time after it counts too.
    """
    columns = ("free", "unconnected", "connecting", "connected", "disconnecting")
    since = {"measured_from": window["measured_from"]}
    readings = "FROM unix_states WHERE reason IS NULL AND t_ns >= $measured_from AND phase IN"
    phases = (
        "('flood')" if scalar(database, f"SELECT count(*) {readings} ('flood')", since) >= 3 else "('flood', 'drain')"
    )
    medians = ", ".join(f"quantile_disc({name}_socks, 0.5)" for name in columns)
    row = database.execute(f"SELECT {medians} {readings} {phases}", since).fetchone()
    values = row or (None,) * len(columns)
    return {f"{number:02d}": value for number, value in enumerate(values)}


def _clients(database: duckdb.DuckDBPyConnection, window: Window, flood_s: float | None) -> Figures:
    """Return what clients got, and how long it took.

    A request counts from when it was meant to start. What had no good answer, was given up, or was never sent because
    too many were in flight, is worse than any number and ranks above all of them.
    """
    since = {"measured_from": window["measured_from"]}
    figures = first_row(
        database,
        f"""
        WITH due AS (
            SELECT CASE WHEN {IS_GOOD} THEN (end_ns - intended_ns) / 1e9 ELSE 'infinity'::DOUBLE END AS s
            FROM requests WHERE start_ns >= $measured_from
            UNION ALL SELECT 'infinity'::DOUBLE FROM params, range(CAST(params.dropped AS BIGINT))
        )
        SELECT (SELECT sent FROM params) AS sent,
            (SELECT count(*) FROM requests WHERE error = 'timeout') AS given_up,
            quantile_disc(s, 0.5) AS request_median_s, quantile_disc(s, 0.99) AS request_p99_s,
            max(s) AS request_max_s, count(*) AS request_n, count(*) FILTER (isfinite(s)) AS good_n
        FROM due
        """,
        since,
    )
    good_n, start_ns, from_ns = figures["good_n"], window["flood_start"], window["measured_from"]
    assert isinstance(good_n, int)
    measured_s = flood_s - (from_ns - start_ns) / 1e9 if flood_s and start_ns is not None and from_ns is not None else 0
    rates = {
        "goodput_per_s": good_n / measured_s,
        "requests_per_s": scalar(database, "SELECT count(*) FROM requests WHERE start_ns >= $measured_from", since)
        / measured_s,
    } if measured_s > 0 else {}  # fmt: skip
    latencies = database.execute(
        f"""
        SELECT {OUTCOME}, count(*), quantile_disc(s, 0.5), quantile_disc(s, 0.99), max(s)
        FROM (SELECT *, (end_ns - intended_ns) / 1e9 AS s FROM requests WHERE start_ns >= $measured_from)
        GROUP BY 1 ORDER BY 1
        """,
        since,
    ).fetchall()
    return {
        **figures,
        **rates,
        "status": counts(
            database, "SELECT status, count(*) FROM requests WHERE status IS NOT NULL GROUP BY 1 ORDER BY 1"
        ),
        "errors": counts(
            database, "SELECT error, count(*) FROM requests WHERE error IS NOT NULL GROUP BY 1 ORDER BY 1"
        ),
        "latency": {
            str(name): Latency(n=n, median_s=plain(median), p99_s=plain(p99), max_s=plain(longest))
            for name, n, median, p99, longest in latencies
        },
    }


def _generator(database: duckdb.DuckDBPyConnection) -> Figures:
    """Return how well the load generator kept to its plan; rates only of an open flood, which has one."""
    return first_row(
        database,
        """
        SELECT
            any_value(dropped) AS dropped,
            any_value(planned / planned_s) AS requested_per_s,
            any_value(sent) / greatest(any_value(planned_s), (max(start_ns) - min(intended_ns)) / 1e9)
                AS achieved_per_s,
            quantile_disc((start_ns - intended_ns) / 1e6, 0.99) AS generator_late_p99_ms,
            max(start_ns - intended_ns) / 1e6 AS generator_late_max_ms
        FROM requests CROSS JOIN params
        """,
    )


def _generator_cpu_share(tables: Ingested, flood_s: float | None) -> float | None:
    """Return the most of a core that a process used while it sent; older runs know only the whole flood."""
    shares = [
        one.cpu_sending_s / one.sending_s if one.sending_s and one.cpu_sending_s is not None
        else one.cpu_s / flood_s if flood_s else None
        for one in tables.generators
    ]  # fmt: skip
    known = [one for one in shares if one is not None]
    return round(max(known), 4) if known else None


def _tcp(database: duckdb.DuckDBPyConnection) -> Figures:
    """Return the growth of counters since the baseline.

    ListenOverflows counts for the whole network namespace. Where the upstream listens on TCP too, what it grew by from
    one reading to the next is laid to the queue that was seen fuller meanwhile, as a share of what fits into it: a
    queue may fill and empty again within a millisecond, so nobody need have seen it full. A queue into which all fit
    that were sent cannot overflow. Where the upstream listens on a unix socket, all of it is of nginx's own queue or of
    somebody else's.
    """

    def growth(counter: str) -> object:
        return scalar(
            database,
            f"SELECT max({counter}) - max({counter}) FILTER (phase = 'baseline') FROM tcp_ext WHERE reason IS NULL",
        )

    return {
        "listen_overflows": growth("listen_overflows_total"),
        "listen_drops": growth("listen_drops_total"),
        "front_overflows": scalar(
            database,
            """
            WITH steps AS (
                SELECT lag(t_ns) OVER (ORDER BY t_ns) AS from_ns, t_ns AS to_ns,
                       listen_overflows_total - lag(listen_overflows_total) OVER (ORDER BY t_ns) AS grown
                FROM tcp_ext WHERE reason IS NULL
            )
            SELECT coalesce(sum(grown) FILTER (
                (SELECT transport FROM params) = 'unix'
                OR ((SELECT sent FROM params) > coalesce((SELECT min(limit_conns) FROM front_queue), 0)
                    AND coalesce((SELECT max(depth_conns / (limit_conns + 1)) FROM front_queue
                                  WHERE t_ns BETWEEN from_ns AND to_ns), 1)
                        >= coalesce((SELECT max(depth_conns / (limit_conns + 1)) FROM upstream_queue
                                     WHERE t_ns BETWEEN from_ns AND to_ns), 0))
            ), 0)
            FROM steps WHERE grown > 0
            HAVING (SELECT count(*) FROM tcp_ext WHERE reason IS NULL) > 1
            """,
        ),
    }


# --- the agent ----------------------------------------------------------------------------------


def _agent(database: duckdb.DuckDBPyConnection, whole_s: float) -> Figures:
    """Return what the agent cost and how well it kept its beat, altogether and for each source."""
    totals = database.execute(
        """
        SELECT sum(cpu_s), sum(lost_ticks) / nullif(sum(lost_ticks) + count(late_ns), 0),
               max(late_ns) / 1e6, quantile_cont(late_ns, 0.99) FILTER (source = 'accept_queue') / 1e6
        FROM agent
        """
    ).fetchone()
    cpu_s, lost_share, late_max_ms, late_p99_ms = totals or (None,) * 4
    sources = {}
    for table in SOURCES:
        row = database.execute(
            "SELECT count(inside_ns), sum(lost_ticks), median(inside_ns) / 1e3, sum(inside_ns) / 1e9 "
            "FROM agent WHERE source = ?",
            [table.name],
        ).fetchone()
        if row and row[0] and whole_s:
            readings, lost, inside_us, inside_s = row
            sources[table.name] = SourceCost(
                n=readings,
                lost=plain(lost),
                inside_median_us=plain(round(inside_us, 1)),
                core_share=round(inside_s / whole_s, 5),
            )
    return {
        "agent_cpu_share": round(cpu_s / whole_s, 4) if cpu_s is not None and whole_s else None,
        "agent_lost_share": plain(lost_share),
        "agent_lateness_max_ms": plain(late_max_ms),
        "agent_lateness_p99_ms": plain(late_p99_ms),
        "agent_sources": sources,
    }
