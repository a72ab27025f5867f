"""What the views make of tables written here: clients and nginx's own queue at the readings of the status page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb
import pytest

from floodmark.inputs.cases import load_cases
from floodmark.inputs.parameters import resolve_parameters
from floodmark.verdict.tables import create_tables
from floodmark.verdict.views import READING_NS, create_views, tables_behind

S, MS = 1_000_000_000, 1_000_000
CASE = load_cases()[2]
# connected, ended, status, error
Client = tuple[float | None, float, int | None, str | None]


def answered(connected_s: float | None, ended_s: float) -> Client:
    return connected_s, ended_s, 200, None


def tables(
    clients: Iterable[Client],
    status: Iterable[tuple[float, int | None]],
    front: Iterable[tuple[float, int | None]] = (),
    *,
    clock_error_ns: int | None = 0,
    **parameters: Any,
) -> duckdb.DuckDBPyConnection:
    """Return tables with clients, readings of the status page (t, Active), and of the front queue (t, depth)."""
    database = duckdb.connect()
    create_tables(database)
    for number, (connected_s, ended_s, code, error) in enumerate(clients):
        connected_ns = None if connected_s is None else round(connected_s * S)
        database.execute(
            "INSERT INTO requests (generator, id, connected_ns, end_ns, status, error) VALUES (0, ?, ?, ?, ?, ?)",
            [str(number), connected_ns, round(ended_s * S), code, error],
        )
    for t_s, active in status:
        database.execute(
            "INSERT INTO stub_status (t_ns, active_conns, active_without_poll_conns, reason, phase) "
            "VALUES ($t, $active, $active - 1, CASE WHEN $active IS NULL THEN 'no answer' END, 'flood')",
            {"t": round(t_s * S), "active": active},
        )
    for t_s, depth in front:
        database.execute(
            "INSERT INTO accept_queue (t_ns, listener, depth_conns, limit_conns, reason) "
            "VALUES ($t, 'front', $depth, 511, CASE WHEN $depth IS NULL THEN 'refused' END)",
            {"t": round(t_s * S), "depth": depth},
        )
    given = resolve_parameters(CASE.parameters.model_dump(), parameters, origin="test")
    create_views(database, given, [], clock_error_ns=clock_error_ns)
    return database


def moments(database: duckdb.DuckDBPyConnection, columns: str) -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT {columns} FROM front_moments ORDER BY t_ns").fetchall()


def test_a_client_is_open_from_when_it_is_connected_until_just_before_it_ends() -> None:
    clients = [answered(1, 3), answered(2, 3), answered(2, 4)]
    database = tables(clients, [(t_s, 1) for t_s in (0.999, 1, 1.999, 2, 2.999, 3, 4)])
    assert moments(database, "open_clients_conns") == [(0,), (1,), (1,), (3,), (3,), (1,), (0,)]


def test_a_client_that_never_connected_is_not_counted() -> None:
    database = tables([answered(1, 3), (None, 3, None, "timeout")], [(2, 2)])
    assert moments(database, "open_clients_conns") == [(1,)]


def test_those_in_nginxs_queue_are_not_accepted() -> None:
    """The study draws Q in front of nginx's listen(), and A is what a worker has accepted."""
    database = tables([answered(1, 9)] * 5, [(2, 4)], [(1.99, 2)])
    columns = "active_conns, active_without_poll_conns, open_clients_conns, front_depth_conns, accepted_clients_conns"
    assert moments(database, columns) == [(4, 3, 5, 2, 3)]


@pytest.mark.parametrize("front", [[], [(1.969, 2)], [(2.001, 2)], [(1.99, None)]])
def test_a_depth_that_was_not_read_at_that_moment_is_not_known(front: list[tuple[float, int | None]]) -> None:
    """Not read at all, too long ago, only afterwards, or in vain: the row is there, and its number is not 0."""
    database = tables([answered(1, 9)] * 5, [(2, 4)], front)
    assert moments(database, "open_clients_conns, front_depth_conns, accepted_clients_conns") == [(5, None, None)]


def test_more_in_the_queue_than_clients_say_is_no_negative_number() -> None:
    """A client under load learns later than the kernel that it is connected."""
    database = tables([answered(1, 9)], [(2, 2)], [(2, 3)])
    assert moments(database, "front_depth_conns, accepted_clients_conns") == [(3, None)]


def test_a_reading_of_the_status_page_that_failed_is_no_moment() -> None:
    assert moments(tables([answered(1, 9)], [(2, None), (3, 2)]), "t_ns, phase") == [(3 * S, "flood")]


@pytest.mark.parametrize(
    ("clients", "parameters"),
    [
        ([], {}),
        ([answered(1, 9)], {"keepalive": True}),
        ([answered(1, 3), answered(None, 4)], {}),
    ],
    ids=["no request was recorded", "a connection stays when its request has ended", "results without this time"],
)
def test_what_the_requests_cannot_tell_is_not_known(clients: list[Client], parameters: dict[str, Any]) -> None:
    database = tables(clients, [(2, 2)], [(2, 0)], **parameters)
    columns = "active_conns, front_depth_conns, open_clients_conns, accepted_clients_conns, uncertain_conns"
    assert moments(database, columns) == [(2, 0, None, None, None)]


def test_clients_that_changed_within_the_error_of_the_clocks_are_uncertain() -> None:
    """By hand: 4 ms of the clocks and 2 ms of the reading around 2 s; ends and beginnings at the edge count."""
    assert READING_NS == 2 * MS
    clients = [answered(1, 1.9939), answered(1, 1.994), answered(1.999, 2.001), answered(2.006, 9), answered(2.0061, 9)]
    assert moments(tables(clients, [(2, 2)], clock_error_ns=4 * MS), "uncertain_conns") == [(4,)]
    assert moments(tables(clients, [(2, 2)], clock_error_ns=0), "uncertain_conns") == [(2,)]


def test_without_a_common_clock_nothing_is_known_of_clients() -> None:
    database = tables([answered(1, 9)], [(2, 2)], clock_error_ns=None)
    assert moments(database, "active_conns, open_clients_conns, uncertain_conns") == [(2, None, None)]


def test_what_is_read_seldom_is_of_the_same_moment_for_longer() -> None:
    database = tables([answered(1, 9)], [(2, 2)], [(1.9, 1)], accept_queue_hz=10)
    assert moments(database, "front_depth_conns") == [(1,)]


def test_it_rests_on_three_tables() -> None:
    database = tables([], [])
    figure = CASE.expect[0].model_copy(update={"value": "count(*)", "from_": "front_moments"})
    assert tables_behind(database, [figure]) == {"stub_status", "accept_queue", "requests"}


def test_a_hundred_thousand_clients_are_counted_as_one_by_one() -> None:
    """A closed flood of many short requests, beside a count that takes each moment for itself."""
    database = tables([], [(t / 20, 2) for t in range(40, 60)])
    database.execute(
        f"INSERT INTO requests (connected_ns, end_ns, status) SELECT {2 * S} + i * 10000, "
        f"{2 * S} + i * 10000 + (i * 7919 % 1000) * 500, 200 FROM range(100000) t(i)"
    )
    slow = database.execute(
        "SELECT (SELECT count(*) FROM requests WHERE connected_ns <= t_ns AND t_ns < end_ns) FROM stub_status "
        "ORDER BY t_ns"
    ).fetchall()
    assert moments(database, "open_clients_conns") == slow
    assert max(slow) > (20,)
