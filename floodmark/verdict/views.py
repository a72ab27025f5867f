"""What the SQL of cases and labs sees of a run.

It sees the tables of the registry and these views:

    upstream_queue, front_queue   accept_queue of the one listener or the other, readings that succeeded
    moments                       upstream_conns, each reading with those of the queue and of nginx just before it;
                                  where one of the two is too old, there is no row
    front_moments                 stub_status, readings that succeeded, with clients and front queue of each moment:
        active_conns, active_without_poll_conns   as nginx counted them
        open_clients_conns      client connections that stand: requests with connected_ns <= t_ns < end_ns. t_ns is
                                when the answer came, and nginx counts just before it answers, however long ago it was
                                asked. Empty where requests cannot tell: with keepalive a connection stays when its
                                request has ended, and no log says until when; or a time or a common clock is missing
        front_depth_conns       depth of nginx's own queue just before; empty where that reading is too old
        accepted_clients_conns  the first less the second: what nginx's workers have accepted. Empty where the queue
                                has more than there are clients: a busy client learns late that it is connected
        uncertain_conns         clients that came or went so near that the errors of clocks and readings hide the order
    burst_times                   of a flood in bursts, a row for each that was sent: burst (from 1), start_ns (when it
                                  was meant to begin), end_ns (when its last request ended), sent (requests)
    listeners                     what host.json read back: name, owner, limit_conns
    params                        one row, joined to everything: all parameters ("order" in quotation marks, as it is a
                                  word of SQL), and
        queue_limit     limit of the upstream's queue as the kernel has it; limit + 1 connections fit. Where the kernel
                        does not tell it, what listen() makes of backlog and somaxconn
        somaxconn_at_listen   net.core.somaxconn when the upstream called listen(); what it was before the run where
                        the order says so
        sent            requests that were sent
        worker_slots    slots of one nginx worker for clients and upstream connections
        uncrowded       no worker can run out of slots, however the kernel spreads the clients
        paused_ns, resumed_ns   when the upstream stopped accepting and began again; empty where it has no pause
        planned, planned_s, dropped   of an open flood: requests planned, in what time, and how many were not sent
        turned_away     times that nginx got no connection to an upstream: a full unix queue said EAGAIN, or TCP did not
                        answer within proxy_connect_timeout_s
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import duckdb

from collectors.fields import (
    ACCEPT_QUEUE,
    LOGS,
    QUEUE_WAITS,
    REQUESTS,
    SOURCES,
    STUB_STATUS,
    SYSCALLS,
    TABLES,
    UPSTREAM_CONNS,
)
from floodmark.errors import CaseError
from floodmark.inputs.cases import Case, Figure, Observation
from floodmark.inputs.parameters import Parameters
from floodmark.inputs.sql import lock, try_sql
from floodmark.loadgen.arrivals import planned
from floodmark.model.host import Listener
from floodmark.model.load import GeneratorSummary
from floodmark.verdict.tables import create_tables

# A reading of the queue or of nginx is of the same moment as one of the accepted connections when it is not older than
# this, or where its source is read seldom not much older than the time between two readings.
SAME_MOMENT_NS = {ACCEPT_QUEUE.name: 30_000_000, STUB_STATUS.name: 60_000_000}
PERIODS_OF_A_MOMENT = 1.2
# A reading is of an instant within this time of its own.
READING_NS = 2_000_000
# Which tables a view is made of.
MADE_OF = {
    "upstream_queue": (ACCEPT_QUEUE.name,),
    "front_queue": (ACCEPT_QUEUE.name,),
    "burst_times": (REQUESTS.name,),
    "moments": (UPSTREAM_CONNS.name, ACCEPT_QUEUE.name, STUB_STATUS.name),
    "front_moments": (STUB_STATUS.name, ACCEPT_QUEUE.name, REQUESTS.name),
}


# {…,"type":"BASE_TABLE",…,"table_name":"upstream_queue",…}
_TABLE_NAME = re.compile(r'"table_name":"(\w+)"')


def create_views(
    database: duckdb.DuckDBPyConnection,
    parameters: Parameters,
    listeners: Iterable[Listener | None],
    generators: Sequence[GeneratorSummary] = (),
    somaxconn_before: int | None = None,
    *,
    clock_error_ns: int | None = 0,
) -> None:
    """Create the views that case files may use beside the tables.

    Args:
        database: where.
        parameters: of the run.
        listeners: what the kernel says of the accept queues.
        generators: what each process of the flood wrote about itself.
        somaxconn_before: net.core.somaxconn before the run, None where the host did not say.
        clock_error_ns: how wrong the times of requests may be on the host's clock; None where nothing tells it.
    """
    database.execute("CREATE TABLE listeners (name VARCHAR, owner VARCHAR, limit_conns BIGINT)")
    for one in listeners:
        if one is not None:
            database.execute("INSERT INTO listeners VALUES (?, ?, ?)", [one.name, one.owner, one.limit_conns])
    values = {
        **parameters.model_dump(),
        **_plan_of_the_flood(parameters, generators),
        "somaxconn_at_listen": parameters.somaxconn_at_listen("upstream", somaxconn_before),
        "worker_slots": parameters.worker_slots,
        "uncrowded": parameters.uncrowded,
    }
    columns = ", ".join(f"${name} AS {name}" for name in values)
    database.execute(
        f"""
        CREATE TABLE params AS
        SELECT * FROM (
            SELECT {columns},
                coalesce((SELECT limit_conns FROM listeners WHERE name = 'upstream'),
                         least($upstream_backlog, $somaxconn_at_listen)) AS queue_limit,
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
    database.execute(f"CREATE VIEW moments AS {same_moment(parameters.rates_hz)}")
    in_front = front_moment(parameters.rates_hz, keepalive=parameters.keepalive, clock_error_ns=clock_error_ns)
    database.execute(f"CREATE VIEW front_moments AS {in_front}")
    database.execute(
        """
        CREATE VIEW burst_times AS
        SELECT burst, min(intended_ns) AS start_ns, max(end_ns) AS end_ns, count(*) AS sent
        FROM (
            SELECT *, 1 + (intended_ns - min(intended_ns) OVER ()) // (burst_every_s * CAST(1e9 AS BIGINT)) AS burst
            FROM requests CROSS JOIN params WHERE load_shape = 'burst'
        )
        GROUP BY burst ORDER BY burst
        """
    )


def compute_moments(database: duckdb.DuckDBPyConnection) -> None:
    """Turn the views that join readings of several sources into tables, once all of these are there.

    Metrics, expectations and the questions of the study ask them a dozen times.
    """
    for name in ("moments", "front_moments"):
        database.execute(f"CREATE TABLE computed AS FROM {name}")
        database.execute(f"DROP VIEW {name}")
        database.execute(f"ALTER TABLE computed RENAME TO {name}")


def create_queue_views(database: duckdb.DuckDBPyConnection) -> None:
    """Create the views of the accept queue of the one listener and the other."""
    for name in ("upstream", "front"):
        database.execute(
            f"CREATE VIEW {name}_queue AS SELECT * FROM accept_queue WHERE listener = '{name}' AND reason IS NULL"
        )


def same_moment(rates_hz: Mapping[str, float]) -> str:
    """Return the query for readings of upstream_conns, each with those of the queue and of nginx nearest before it.

    Args:
        rates_hz: how often the sources are read; one that is not known is taken for fast.
    """
    queue_ns, status_ns = (_same_moment_ns(source, rates_hz) for source in SAME_MOMENT_NS)
    return f"""
        SELECT conns.t_ns, conns.phase, accepted_conns, depth_conns, active_conns, active_without_poll_conns
        FROM (SELECT * FROM upstream_conns WHERE reason IS NULL) conns
        ASOF JOIN upstream_queue queue ON conns.t_ns >= queue.t_ns
        ASOF JOIN (SELECT * FROM stub_status WHERE reason IS NULL) status ON conns.t_ns >= status.t_ns
        WHERE conns.t_ns - queue.t_ns <= {queue_ns} AND conns.t_ns - status.t_ns <= {status_ns}
    """


def _same_moment_ns(source: str, rates_hz: Mapping[str, float]) -> int:
    """Return how old a reading of a source may be to be of the same moment."""
    least_ns = SAME_MOMENT_NS[source]
    return max(least_ns, round(PERIODS_OF_A_MOMENT * 1e9 / rates_hz[source])) if source in rates_hz else least_ns


def client_conns(*, keepalive: bool) -> str:
    """Return the query for when each connection of a client began and ended.

    There is no row where the requests do not say all of it.

    Args:
        keepalive: whether clients keep their connections after an answer.
    """
    return f"""
        SELECT connected_ns, end_ns
        FROM requests WHERE connected_ns IS NOT NULL AND NOT {keepalive}
        AND (SELECT count(*) FROM requests WHERE status IS NOT NULL AND connected_ns IS NULL) = 0
    """


def front_moment(rates_hz: Mapping[str, float], *, keepalive: bool, clock_error_ns: int | None) -> str:
    """Return the query for readings of stub_status, each with the clients of the flood and nginx's own queue.

    Args:
        rates_hz: how often the sources are read; one that is not known is taken for fast.
        keepalive: whether clients keep their connections after an answer.
        clock_error_ns: how wrong the times of requests may be on the host's clock; None where nothing tells it.
    """
    queue_ns = _same_moment_ns(ACCEPT_QUEUE.name, rates_hz)
    around_ns = READING_NS + (clock_error_ns or 0)
    # Changes are counted up to each mark: there are a million of them, and some thousand marks.
    return f"""
        WITH status AS (SELECT * FROM stub_status WHERE reason IS NULL),
        changes AS (
            SELECT unnest([connected_ns, end_ns]) AS t_ns, unnest([1, -1]) AS step
            FROM ({client_conns(keepalive=keepalive)})
        ),
        marks AS (
            SELECT DISTINCT unnest([t_ns - {around_ns} - 1, t_ns, t_ns + {around_ns}]) AS mark_ns FROM status
        ),
        counted AS (
            SELECT mark_ns, sum(step) AS steps, count(*) AS changes
            FROM changes ASOF JOIN marks ON changes.t_ns <= marks.mark_ns GROUP BY mark_ns
        ),
        until AS (
            SELECT mark_ns, CAST(sum(coalesce(steps, 0)) OVER (ORDER BY mark_ns) AS BIGINT) AS open_conns,
                   CAST(sum(coalesce(changes, 0)) OVER (ORDER BY mark_ns) AS BIGINT) AS changes
            FROM marks LEFT JOIN counted USING (mark_ns)
            WHERE {clock_error_ns is not None} AND EXISTS (FROM changes)
        )
        SELECT *, CASE WHEN front_depth_conns <= open_clients_conns THEN open_clients_conns - front_depth_conns END
            AS accepted_clients_conns
        FROM (
            SELECT status.t_ns, phase, active_conns, active_without_poll_conns, now.open_conns AS open_clients_conns,
                CASE WHEN status.t_ns - queue.t_ns <= {queue_ns} THEN queue.depth_conns END AS front_depth_conns,
                after.changes - before.changes AS uncertain_conns
            FROM status
            LEFT JOIN until now ON status.t_ns = now.mark_ns
            LEFT JOIN until before ON status.t_ns - {around_ns} - 1 = before.mark_ns
            LEFT JOIN until after ON status.t_ns + {around_ns} = after.mark_ns
            ASOF LEFT JOIN (SELECT t_ns, depth_conns FROM front_queue) queue ON status.t_ns >= queue.t_ns
        )
    """


def _plan_of_the_flood(parameters: Parameters, generators: Sequence[GeneratorSummary]) -> dict[str, int | float | None]:
    """Return how many requests an open flood was to send, and in what time; None of one that depends on answers."""
    dropped = sum(one.dropped for one in generators)
    if parameters.load_shape != "open":
        return {"planned": None, "planned_s": None, "dropped": dropped}
    seed = parameters.arrival_seed if parameters.arrivals == "poisson" else None
    of = max((one.generators for one in generators), default=1)
    shares = (planned(parameters.steps, seed=seed, share=share, of=of) for share in range(of))
    return {
        "planned": sum(sum(1 for _ in share) for share in shares),
        "planned_s": sum(step.seconds for step in parameters.steps),
        "dropped": dropped,
    }


def tables_behind(database: duckdb.DuckDBPyConnection, figures: Iterable[Figure]) -> set[str]:
    """Return the names of all tables that some figures, expectations or claims are asked of.

    Args:
        database: with the views.
        figures: their SQL.
    """
    found: set[str] = set()
    for one in figures:
        row = database.execute("SELECT json_serialize_sql(?)", [f"SELECT {one.value} FROM {one.from_}"]).fetchone()
        for name in _TABLE_NAME.findall(row[0] if row else ""):
            found.update(MADE_OF.get(name, (name,)))
    return found & TABLES.keys()


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
    create_views(database, case.parameters, [Listener(name="upstream", owner="nginx", limit_conns=0)])
    locked = lock(database)
    parts: dict[str, Sequence[Figure | Observation]] = {
        "fault": case.fault, "expect": case.expect, "claims": case.claims, "figures": case.figures,
    }  # fmt: skip
    for part, observations in parts.items():
        for one in observations:
            try:
                try_sql(locked, one)
            except duckdb.Error as error:
                message = str(error).strip().splitlines()[0]
                raise CaseError(
                    f"case {case.number}, {part}, '{one.name}': this SQL does not work: {message}."
                ) from None
