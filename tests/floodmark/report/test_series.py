"""Lines of few points that say what all readings say."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

from floodmark.report.series import Span, collapse, counted, readings, thin

SPAN = Span(0, 1_000_000_000, 0)


def a_table(rows: str) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    database.execute(f"CREATE TABLE samples AS {rows}")
    return database


def line(
    database: duckdb.DuckDBPyConnection, columns: int = 10, period_s: float | None = None
) -> tuple[list[float], ...]:
    found = readings(database, "samples", "v", SPAN, columns=columns, period_s=period_s, label="", colour="")
    return found.x.tolist(), found.y.tolist()


def test_a_single_extreme_among_a_million_is_kept_at_its_time() -> None:
    database = a_table(
        "SELECT i * 1000 AS t_ns, CASE i WHEN 123456 THEN 99 WHEN 654321 THEN -5 ELSE i % 2 END AS v, "
        "NULL::VARCHAR AS reason FROM range(1000000) t(i)"
    )
    x, y = line(database)
    assert (x[y.index(99)], x[y.index(-5)]) == (0.123456, 0.654321)
    assert len(x) <= 40


def test_a_step_is_kept_exactly() -> None:
    database = a_table(
        "SELECT i * 1000000 AS t_ns, CASE WHEN i >= 537 THEN 9 ELSE 0 END AS v, NULL::VARCHAR AS reason "
        "FROM range(1001) t(i)"
    )
    x, y = line(database)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1.0, 9)
    assert x[y.index(9)] == 0.537


def test_failed_readings_break_the_line_and_are_counted_by_reason() -> None:
    database = a_table(
        "SELECT i * 10000000 AS t_ns, CASE WHEN i BETWEEN 40 AND 49 THEN NULL ELSE 7 END AS v, "
        "CASE WHEN i BETWEEN 40 AND 49 THEN 'gone' END AS reason FROM range(101) t(i)"
    )
    found = readings(database, "samples", "v", SPAN, columns=10, period_s=0.01, label="", colour="")
    broken = found.x[np.isnan(found.y)]
    assert (broken.min(), broken.max()) == (0.4, 0.49)
    assert found.gaps == ("10 readings failed: gone",)
    assert found.n == 91


def test_reasons_that_differ_in_numbers_alone_are_one_and_rare_ones_are_counted() -> None:
    database = a_table(
        "SELECT i * 10000000 AS t_ns, NULL::INTEGER AS v, CASE WHEN i < 50 THEN 'no answer for ' || i || ' ms' "
        "WHEN i < 80 THEN 'gone' WHEN i < 90 THEN 'lost' WHEN i < 95 THEN 'full' ELSE 'torn' END AS reason "
        "FROM range(100) t(i)"
    )
    found = readings(database, "samples", "v", SPAN, columns=10, period_s=0.01, label="", colour="")
    assert found.gaps == (
        "50 readings failed: no answer for 0 ms, and alike",
        "30 readings failed: gone",
        "10 readings failed: lost",
        "10 readings failed for 2 other reasons",
    )


def test_a_silence_breaks_the_line() -> None:
    database = a_table(
        "SELECT i * 1000000 AS t_ns, 7 AS v, NULL::VARCHAR AS reason FROM range(1001) t(i) "
        "WHERE i NOT BETWEEN 300 AND 500"
    )
    found = readings(database, "samples", "v", SPAN, columns=100, period_s=0.001, label="", colour="")
    assert found.x[np.isnan(found.y)].round(6).tolist() == [0.299]
    assert found.gaps == ("1 × nothing was read for more than 10 periods",)


def test_events_are_counted_in_seconds_from_the_zero_of_the_axis() -> None:
    database = a_table("SELECT unnest([2.1, 2.9, 3.0, 4.5]) * 1e9 AS t_ns, 'a' AS kind")
    span = Span(0, 6_000_000_000, 2_000_000_000)
    ((kind, x, y, n),), others = counted(database, "SELECT kind, t_ns FROM samples", span, width_s=1, most=6)
    assert (kind, n, others) == ("a", 4, 0)
    at = dict(zip(x.tolist(), y.tolist(), strict=True))
    assert (at[-2], at[0], at[1], at[3]) == (0, 2, 1, 0)


def test_steps_that_the_span_cuts_off_have_the_same_rate_as_the_others() -> None:
    database = a_table("SELECT i * 1e7 AS t_ns, 'a' AS kind FROM range(1050) t(i)")  # 100 a second, for 10.5 s
    span = Span(0, 10_500_000_000, 0)
    ((_, x, y, n),), _ = counted(database, "SELECT kind, t_ns FROM samples", span, width_s=1, most=1)
    assert (n, x[-1]) == (1050, 10.5)
    assert y.tolist() == [100, 100]


def test_the_most_frequent_kinds_are_counted_and_the_others_are_said() -> None:
    database = a_table(
        "SELECT 1000000 AS t_ns, 'kind ' || CAST(floor(sqrt(i)) AS INTEGER) AS kind FROM range(10000) t(i)"
    )
    found, others = counted(database, "SELECT kind, t_ns FROM samples", SPAN, width_s=1, most=3)
    assert [(name, n) for name, _, _, n in found] == [("kind 99", 199), ("kind 98", 197), ("kind 97", 195)]
    assert others == 97


def test_collapse_keeps_the_ends_of_every_plateau_and_every_gap() -> None:
    x, y = collapse(np.arange(9.0), np.array([1, 1, 1, 2, 2, np.nan, np.nan, np.nan, 2.0]))
    assert x.tolist() == [0, 2, 3, 4, 5, 7, 8]
    assert np.isnan(y[4:6]).all()


@pytest.mark.parametrize("columns", [10, 700])
def test_thin_keeps_extremes_and_gaps_and_no_more_points_than_needed(columns: int) -> None:
    random = np.random.default_rng(1)
    x, y = np.arange(100_000.0), random.normal(size=100_000)
    y[50_000] = np.nan
    less_x, less_y = thin(x, y, columns)
    assert less_x.size <= 4 * columns + 5
    assert (np.nanmax(less_y), np.nanmin(less_y)) == (np.nanmax(y), np.nanmin(y))
    assert less_x[np.isnan(less_y)].tolist() == [50_000]
    assert np.all(np.diff(less_x) > 0)
