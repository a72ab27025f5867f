"""The SQL of cases on tables of a few rows, and values of the database as JSON and verdicts have them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from floodmark.inputs import sql
from floodmark.inputs.cases import Case, Expectation, Figure, load_cases
from floodmark.inputs.parameters import resolve_parameters
from floodmark.inputs.sql import Locked, as_json, lock, look, observe, other_statement, plain, try_sql
from floodmark.model.load import GeneratorSummary
from floodmark.verdict.tables import create_tables
from floodmark.verdict.views import create_views

CASES = load_cases()


def expectation(number: int, name: str, requests: str) -> tuple[Any, bool | None]:
    """Return what an expectation of a case says of requests: SQL that gives `status`."""
    database = duckdb.connect()
    create_tables(database)
    database.execute(f"INSERT INTO requests BY NAME ({requests})")
    create_views(database, CASES[number].parameters, [])
    (found,) = (one for one in CASES[number].expect if one.name == name)
    return observe(lock(database), found)


@pytest.mark.parametrize(
    ("order", "somaxconn"),
    [("nginx,sysctl,upstream", 8), ("sysctl,nginx,upstream", 8), ("nginx,upstream,sysctl", 100)],
)
def test_listen_takes_somaxconn_as_it_is_at_that_moment(order: str, somaxconn: int) -> None:
    database = duckdb.connect()
    create_tables(database)
    parameters = resolve_parameters(CASES[2].parameters.model_dump(), {"order": order}, origin="test")
    create_views(database, parameters, [], somaxconn_before=100)
    columns = 'somaxconn, somaxconn_at_listen, queue_limit, "order"'
    assert database.execute(f"SELECT {columns} FROM params").fetchall() == [(8, somaxconn, somaxconn, order)]
    database.execute(
        "INSERT INTO accept_queue BY NAME (SELECT 'upstream' AS listener, unnest([8, 100]) AS limit_conns)"
    )
    (expected,) = (one for one in CASES[2].expect if one.name.startswith("queue_limit_is_the_smaller"))
    locked = lock(database)
    for limit in (8, 100):
        seen = expected.model_copy(update={"from_": f"(SELECT * FROM upstream_queue WHERE limit_conns = {limit})"})
        assert observe(locked, seen) == (limit, limit == somaxconn)


@pytest.mark.parametrize("number", [6, 10, 12])
def test_who_got_no_status_was_refused_as_well(number: int) -> None:
    answered = "SELECT unnest([200, 200, 504]) AS status"
    assert expectation(number, "nobody_is_refused", answered) == (0, True)
    assert expectation(number, "nobody_is_refused", f"{answered} UNION ALL SELECT NULL") == (1, False)


def test_each_burst_has_its_times() -> None:
    """Two bursts of three, 10 s apart; the second process is a millisecond behind, and one request is slow."""
    database = duckdb.connect()
    create_tables(database)
    base = CASES[2].parameters
    for intended_ms, end_ms in ((500, 600), (510, 5600), (521, 620), (10500, 10600), (10510, 10620), (10521, 10630)):
        database.execute(
            "INSERT INTO requests (intended_ns, end_ns) VALUES (?, ?)", [intended_ms * 10**6, end_ms * 10**6]
        )
    create_views(database, base.model_copy(update={"bursts": 2, "burst_every_s": 10}), [])
    rows = database.execute("SELECT burst, start_ns / 1e6, end_ns / 1e6, sent FROM burst_times").fetchall()
    assert rows == [(1, 500, 5600, 3), (2, 10500, 10630, 3)]


@pytest.mark.parametrize(
    ("bursts", "dropped", "sent", "holds"), [(1, 0, 32, True), (2, 0, 32, False), (2, 0, 64, True), (2, 5, 59, True)]
)
def test_every_user_sends_in_every_burst_or_is_dropped(bursts: int, dropped: int, sent: int, holds: bool) -> None:
    database = duckdb.connect()
    create_tables(database)
    database.execute(f"INSERT INTO requests (status) SELECT 200 FROM range({sent})")
    parameters = CASES[1].parameters.model_copy(update={"bursts": bursts})
    generator = GeneratorSummary(
        schema_version=1, generator=0, generators=1, wall_minus_monotonic_ns=0, dropped=dropped
    )
    create_views(database, parameters, [], [generator])
    (found,) = (one for one in CASES[1].expect if one.name == "every_user_sent")
    assert observe(lock(database), found) == (sent, holds)


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (Decimal(9), 9), (Decimal("0.5"), 0.5), (float("inf"), None), (1.5e-7, 1.5e-7), ("text", "text"),
        ([1.0, float("nan")], [1.0, None]), ({"a": float("-inf")}, {"a": None}),
    ],
)  # fmt: skip
def test_json_has_all_digits_and_no_infinity(value: Any, known: Any) -> None:
    assert as_json(value) == known


def test_a_verdict_has_six_decimals() -> None:
    assert (plain(0.123456789), plain(7), plain(float("nan"))) == (0.123457, 7, None)


# --- SQL of somebody else -----------------------------------------------------------------------------


def asks(value: str = "1", from_: str = "params") -> Figure:
    return Figure.model_validate({"name": "theirs", "value": value, "from": from_})


@pytest.fixture
def theirs(tmp_path: Path) -> tuple[Locked, Path]:
    """A locked database, and a file of this machine that is none of its business."""
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhush\n")
    database = duckdb.connect()
    database.execute("CREATE TABLE params AS SELECT 1 AS users")
    return lock(database), secret


@pytest.mark.parametrize(
    "from_",
    [
        "read_text('{}')", "read_csv('{}')", "'{}'", "glob('{}')", "sniff_csv('{}')", "query('FROM ''{}''')",
        "enable_logging(storage = 'file', storage_path = '{}.log')", "their_variable",
    ],
)  # fmt: skip
def test_sql_sees_no_file_and_no_variable(theirs: tuple[Locked, Path], from_: str) -> None:
    their_variable = duckdb.sql("SELECT 'hush'")
    database, secret = theirs
    with pytest.raises(duckdb.Error):
        look(database, asks("max(1)", from_.format(secret)))
    assert their_variable
    assert list(secret.parent.iterdir()) == [secret]


@pytest.mark.parametrize(
    "statement",
    [
        "COPY params TO '{}.copy'", "ATTACH '{}.db'", "EXPORT DATABASE '{}.all'", "INSTALL httpfs", "LOAD '{}'",
        "UPDATE EXTENSIONS", "CREATE PERSISTENT SECRET theirs (TYPE http, BEARER_TOKEN 'x')",
        "SET enable_external_access = true", "RESET lock_configuration", "PRAGMA enable_profiling",
        "CALL enable_logging(storage = 'file', storage_path = '{}.log')",
    ],
)  # fmt: skip
def test_a_statement_behind_the_question_is_found_and_would_not_work(
    theirs: tuple[Locked, Path], statement: str
) -> None:
    database, secret = theirs
    figure = asks(from_=f"params; {statement.format(secret)} --")
    assert statement.split()[0] in other_statement(figure)
    with pytest.raises(duckdb.Error):
        look(database, figure)
    assert list(secret.parent.iterdir()) == [secret]


def test_a_statement_is_found_wherever_it_stands() -> None:
    assert not other_statement(asks())
    assert other_statement(asks("'a", "params; DROP TABLE params -- ' FROM params"))  # text of one query, not of all
    for part in ("holds", "applies"):
        content = {"name": "theirs", "value": "1", "from": "params", "holds": "true", part: "true; CHECKPOINT --"}
        assert other_statement(Expectation.model_validate(content))


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_our_own_cases_only_ask(case: Case) -> None:
    asked = [*case.fault, *case.expect, *case.figures]
    assert [other_statement(one) for one in asked] == [""] * len(asked)


@pytest.mark.parametrize(
    "from_",
    ["range(1000000000000)", "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"],
    ids=["very many rows", "rows without end"],
)
def test_a_question_that_takes_too_long_is_given_up(
    theirs: tuple[Locked, Path], monkeypatch: pytest.MonkeyPatch, from_: str
) -> None:
    monkeypatch.setattr(sql, "TRIED_S", 0.2)
    database, _ = theirs
    with pytest.raises(duckdb.Error, match=r"no answer after 0\.2 s"):
        try_sql(database, asks("max(1)", from_))
    try_sql(database, asks())
