"""Key figures of a run: what the samples say in a few numbers. What could not be seen is None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import duckdb

from collectors.fields import SOURCES
from collectors.trace import STILL_WAITING
from floodmark.inputs.sql import plain
from floodmark.verdict.ingest import Ingested

# A reading of the queue or of nginx is of the same moment as one of the accepted connections when it is not older than
# this, or where its source is read seldom not much older than the time between two readings.
SAME_MOMENT_NS = {"accept_queue": 30_000_000, "stub_status": 60_000_000}
PERIODS_OF_A_MOMENT = 1.2
# What nginx's errors have in common: a message without the number of a temporary file.
# a client request body is buffered to a temporary file /var/lib/nginx/body/0000000001
MESSAGE_CLASS = r"regexp_replace(message, '/\S*\d{10}$', '…')"


def scalar(database: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None) -> Any:
    """Return the one value of a query, None when it has no row."""
    row = database.execute(query, values).fetchone()
    return plain(row[0]) if row else None


def _first_row(database: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the one row of a query by its columns' names."""
    result = database.execute(query, values)
    names = [column[0] for column in result.description or []]
    return dict(zip(names, map(plain, result.fetchone() or ()), strict=True))


def key_figures(
    database: duckdb.DuckDBPyConnection,
    phases: list[dict[str, Any]],
    tables: Ingested,
) -> dict[str, Any]:
    """Return the key figures of one host.

    Args:
        database: its tables and the judge's views.
        phases: name, start, end and length of each.
        tables: what was ingested.
    """
    length_s = {phase["name"]: phase["duration_s"] for phase in phases}
    flood_s = length_s.get("flood")
    return {
        **_queue(database, tables),
        **_pause(database),
        **_trace(database),
        **_nginx(database),
        "states": _states(database),
        **_clients(database),
        **_generator(database),
        **_tcp(database),
        "flood_s": flood_s,
        "generator_cpu_share": round(max(one["cpu_s"] for one in tables.generators) / flood_s, 4) if flood_s else None,
        **_agent(database, sum(length_s.values())),
        "clock_offset_ms": round(tables.clock.offset_ns / 1e6, 3),
        "clock_error_ms": None if tables.clock.error_ns is None else round(tables.clock.error_ns / 1e6, 3),
    }


# --- the accept queue ---------------------------------------------------------------------------


def _queue(database: duckdb.DuckDBPyConnection, tables: Ingested) -> dict[str, Any]:
    """Return how the upstream's queue filled, stood, and emptied.

    `full` is the first reading of more than the limit. The plateau are the readings of the flood from the first
    one of the flood's greatest depth on. The area under the queue holds each reading until the next.
    """
    edges = {"flood_start": tables.phases.flood_start_ns, "flood_end": tables.phases.flood_end_ns}
    values = _first_row(
        database,
        """
        WITH flood AS (SELECT * FROM upstream_queue WHERE phase = 'flood'),
        plateau AS (
            SELECT * FROM flood
            WHERE t_ns >= (SELECT min(t_ns) FROM flood WHERE depth_conns = (SELECT max(depth_conns) FROM flood))
        ),
        held AS (SELECT depth_conns, lead(t_ns) OVER (ORDER BY t_ns) - t_ns AS until_ns FROM upstream_queue)
        SELECT
            (SELECT max(depth_conns) FROM upstream_queue) AS accept_queue_max,
            (SELECT quantile_disc(depth_conns, 0.5) FROM flood) AS accept_queue_median,
            (SELECT last(depth_conns ORDER BY t_ns) FROM upstream_queue) AS accept_queue_last,
            (SELECT count(*) FROM flood) AS accept_queue_n,
            (SELECT queue_limit FROM params) AS queue_limit,
            (SELECT (min(t_ns) FILTER (depth_conns > limit_conns) - $flood_start) / 1e9 FROM upstream_queue)
                AS time_to_full_s,
            (SELECT quantile_disc(depth_conns, 0.5) FROM plateau) AS plateau_median,
            (SELECT quantile_disc(depth_conns, 0.99) FROM plateau) AS plateau_p99,
            (SELECT count(*) FROM plateau) AS plateau_n,
            (SELECT max(greatest(depth_conns - limit_conns, 0)) FROM upstream_queue) AS overshoot,
            (SELECT sum(depth_conns * until_ns) / 1e9 FROM held) AS queue_area_conn_s,
            (SELECT last(waiting_dead_conns ORDER BY t_ns) FROM upstream_conns WHERE reason IS NULL)
                AS dead_in_queue_last
        """,
        {"flood_start": edges["flood_start"]},
    )
    return {
        **values,
        "drain_s": _settled_s(
            database, "SELECT t_ns, depth_conns = 0 AS settled FROM upstream_queue", edges["flood_end"]
        ),
        "recovery_s": _settled_s(
            database,
            """
            SELECT t_ns, depth_conns = 0 AND accepted_conns = 0 AND active_without_poll_conns = 0 AS settled
            FROM moments
            """,
            edges["flood_end"],
        ),
        "front_queue_max": scalar(database, "SELECT max(depth_conns) FROM front_queue"),
        "front_queue_limit": scalar(database, "SELECT min(limit_conns) FROM front_queue"),
        "accepted_max": scalar(database, "SELECT max(accepted_conns) FROM upstream_conns"),
    }


def _settled_s(database: duckdb.DuckDBPyConnection, readings: str, end_ns: int | None) -> float | None:
    """Return how long after the flood the readings settled for good.

    None when they had not at the end, or when there is no reading after the flood that could tell.
    """
    settled_s: float | None = scalar(
        database,
        f"""
        WITH readings AS ({readings}), unsettled AS (SELECT max(t_ns) AS t_ns FROM readings WHERE NOT settled)
        SELECT (min(t_ns) FILTER (t_ns > coalesce((SELECT t_ns FROM unsettled), 0)) - $flood_end) / 1e9
        FROM readings HAVING max(t_ns) >= $flood_end
        """,
        {"flood_end": end_ns},
    )
    return None if settled_s is None else max(0.0, settled_s)


def _pause(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return how long the upstream did not accept, by its own clock, and what it took to recover; None without a pause.

    The queue has recovered when it is first empty. The clients have when the last of those who had begun before the
    upstream accepted again has its answer: over TCP some come again seconds later.
    """
    return _first_row(
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


# A reading says how deep the queue was within this time of its own.
READING_NS = 2_000_000


def _trace(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return how long connections waited for accept(), and how well that agrees with the sampled depth.

    The waits of all connections, until the last sample for those that still wait, add up to the area under the
    queue (Little's law). A sample agrees when its depth lies between those that the trace has just before and after.
    """
    # Without a trace there is nothing to hold the samples against, and millions of them take memory.
    traced = scalar(database, "SELECT count(*) > 0 FROM queue_waits")
    row = database.execute(
        f"""
        WITH samples AS (SELECT t_ns, depth_conns FROM upstream_queue WHERE {traced}),
        waits AS (SELECT * FROM queue_waits WHERE reason IS NULL OR reason = $still_waiting),
        steps AS (
            SELECT t_ns, 1 AS step FROM waits
            UNION ALL SELECT accepted_ns, -1 FROM waits WHERE accepted_ns IS NOT NULL
        ),
        traced AS (SELECT 0 AS t_ns, 0 AS depth UNION ALL SELECT t_ns, sum(step) OVER (ORDER BY t_ns) FROM steps),
        edges AS (SELECT max(t_ns) AS last_ns FROM samples),
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
            sum(greatest(coalesce(accepted_ns, last_ns) - t_ns, 0)) / 1e9 AS waits_area_conn_s,
            (SELECT count(*) FILTER (agrees) / nullif(count(*), 0) FROM compared WHERE (SELECT count(*) FROM waits) > 0)
                AS trace_agreement_share
        FROM waits CROSS JOIN edges
        """,
        {"still_waiting": STILL_WAITING},
    )
    return dict(zip((column[0] for column in row.description or []), map(plain, row.fetchone() or ()), strict=True))


def same_moment(parameters: Mapping[str, Any]) -> str:
    """Return the query for readings of upstream_conns, each with those of the queue and of nginx nearest before it.

    Args:
        parameters: of the run; they say how often the sources are read.
    """
    queue_ns, status_ns = (
        max(least_ns, round(PERIODS_OF_A_MOMENT * 1e9 / parameters.get(f"{source}_hz", math.inf)))
        for source, least_ns in SAME_MOMENT_NS.items()
    )
    return f"""
        SELECT conns.t_ns, conns.phase, accepted_conns, depth_conns, active_conns, active_without_poll_conns
        FROM (SELECT * FROM upstream_conns WHERE reason IS NULL) conns
        ASOF JOIN upstream_queue queue ON conns.t_ns >= queue.t_ns
        ASOF JOIN (SELECT * FROM stub_status WHERE reason IS NULL) status ON conns.t_ns >= status.t_ns
        WHERE conns.t_ns - queue.t_ns <= {queue_ns} AND conns.t_ns - status.t_ns <= {status_ns}
    """


# --- nginx, kernel, clients ---------------------------------------------------------------------


def _nginx(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    identity = database.execute(
        """
        SELECT count(*) FILTER (active_conns = depth_conns + accepted_conns + 1) / nullif(count(*), 0), count(*)
        FROM moments WHERE active_conns + depth_conns + accepted_conns > 1
        """
    ).fetchone()
    share, count = identity or (None, 0)
    seen = "FROM stub_status WHERE reason IS NULL AND phase"
    return {
        "active_max": scalar(database, f"SELECT max(active_without_poll_conns) {seen} <> 'baseline'"),
        "active_median": scalar(database, f"SELECT quantile_disc(active_without_poll_conns, 0.5) {seen} = 'flood'"),
        "active_n": scalar(database, f"SELECT count(*) {seen} = 'flood'"),
        "identity_share": plain(share),
        "identity_n": count,
        "nginx_errors": _counts(
            database,
            f"SELECT coalesce('errno ' || errno, {MESSAGE_CLASS}), count(*) FROM nginx_errors "
            "GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
        ),
    }


def _states(database: duckdb.DuckDBPyConnection) -> dict[str, int | None]:
    """Return how many rows of /proc/net/unix had each state: the median over the flood.

    A burst that is answered at once ends before this source looks a few times; then the time after it counts too.
    """
    columns = ("free", "unconnected", "connecting", "connected", "disconnecting")
    seen = scalar(database, "SELECT count(*) FROM unix_states WHERE phase = 'flood' AND reason IS NULL")
    phases = "'flood'" if seen >= 3 else "'flood', 'drain'"
    medians = ", ".join(f"quantile_disc({name}_socks, 0.5)" for name in columns)
    row = database.execute(f"SELECT {medians} FROM unix_states WHERE phase IN ({phases}) AND reason IS NULL").fetchone()
    values = row or (None,) * len(columns)
    return {f"{number:02d}": value for number, value in enumerate(values)}


def _clients(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    return {
        "status": _counts(
            database, "SELECT status, count(*) FROM requests WHERE status IS NOT NULL GROUP BY 1 ORDER BY 1"
        ),
        "errors": _counts(
            database, "SELECT error, count(*) FROM requests WHERE error IS NOT NULL GROUP BY 1 ORDER BY 1"
        ),
        **_first_row(
            database,
            """
            WITH latency AS (
                -- What was given up is only known to take longer: it is beyond every other one, and no number.
                SELECT CASE WHEN error = 'timeout' THEN 'infinity'::DOUBLE ELSE (end_ns - intended_ns) / 1e9 END AS s
                FROM requests
            )
            SELECT (SELECT sent FROM params) AS sent, count(*) FILTER (isinf(s)) AS given_up,
                quantile_disc(s, 0.5) AS request_median_s, quantile_disc(s, 0.99) AS request_p99_s,
                max(s) AS request_max_s
            FROM latency
            """,
        ),
    }


def _generator(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return how well the load generator kept to its plan; rates only of an open flood, which has one."""
    return _first_row(
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


def _tcp(database: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    def growth(counter: str) -> Any:
        return scalar(
            database,
            f"SELECT max({counter}) - max({counter}) FILTER (phase = 'baseline') FROM tcp_ext WHERE reason IS NULL",
        )

    return {
        "listen_overflows": growth("listen_overflows_total"),
        "listen_drops": growth("listen_drops_total"),
    }


def _counts(database: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in database.execute(query).fetchall()}


# --- the agent ----------------------------------------------------------------------------------


def _agent(database: duckdb.DuckDBPyConnection, whole_s: float) -> dict[str, Any]:
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
            sources[table.name] = {
                "n": readings,
                "lost": plain(lost),
                "inside_median_us": plain(round(inside_us, 1)),
                "core_share": round(inside_s / whole_s, 5),
            }
    return {
        "agent_cpu_share": round(cpu_s / whole_s, 4) if cpu_s is not None and whole_s else None,
        "agent_lost_share": plain(lost_share),
        "agent_lateness_max_ms": plain(late_max_ms),
        "agent_lateness_p99_ms": plain(late_p99_ms),
        "agent_sources": sources,
    }
