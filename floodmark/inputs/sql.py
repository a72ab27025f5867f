"""How the SQL of cases and labs is asked: a value from a table or view, and what must be so of it."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import duckdb

from floodmark.inputs.cases import Figure, Observation
from floodmark.text import number, one_line


def try_sql(database: duckdb.DuckDBPyConnection, figure: Figure) -> None:
    """Evaluate all that a figure, an expectation or a claim has, whatever comes of it."""
    look(database, figure)
    if isinstance(figure, Observation):
        observe(database, figure)
        is_so(database, figure.applies)


def observe(database: duckdb.DuckDBPyConnection, observation: Observation) -> tuple[Any, bool | None]:
    """Return the value of an observation, and whether its condition holds; None when there is nothing to see."""
    value = look(database, observation)
    holds = database.execute(
        f"SELECT {observation.holds} FROM (SELECT ? AS value) CROSS JOIN params", [value]
    ).fetchone()
    if value is None or holds is None or holds[0] is None:
        return value, None
    return value, bool(holds[0])


def look(database: duckdb.DuckDBPyConnection, figure: Figure) -> Any:
    """Return the one value of a figure, None when there is nothing to see."""
    rows = database.execute(f"SELECT {figure.value} FROM {figure.from_} CROSS JOIN params").fetchmany(2)
    if len(rows) > 1:
        raise duckdb.InvalidInputException("the value has more than one row; use an aggregate such as max()")
    return plain(rows[0][0]) if rows else None


def rows_behind(database: duckdb.DuckDBPyConnection, figure: Figure) -> int:
    """Return how many rows the value of a figure is taken from: readings, requests, or lines of a log."""
    row = database.execute(f"SELECT count(*) FROM {figure.from_} CROSS JOIN params").fetchone()
    return int(row[0]) if row else 0


# value = queue_limit + 1, value BETWEEN 1 AND users
_COMPARED = re.compile(r"value (=|<=|>=|<|>) (.+)")
_WORDS = {"=": "", "<=": "at most ", ">=": "at least ", "<": "less than ", ">": "more than "}


def predicted(database: duckdb.DuckDBPyConnection, observation: Observation) -> str:
    """Return what a value is compared with, as a number: `9` for `value = queue_limit + 1`.

    Returns:
        The number, with how it bounds the value; empty where the condition compares with no number, or with one that
        is written in it.
    """
    compared = _COMPARED.fullmatch(one_line(observation.holds))
    if not compared or is_number(compared[2]):
        return ""
    try:
        row = database.execute(f"SELECT {compared[2]} FROM params").fetchone()
    except duckdb.Error:
        return ""  # it uses the value on both sides
    number_ = plain(row[0]) if row else None
    if isinstance(number_, bool) or not isinstance(number_, (int, float)):
        return ""
    return f"{_WORDS[compared[1]]}{number(number_)}"


def bare_condition(condition: str) -> str:
    """Return a condition without the value that it begins with: `queue_limit + 1` for `value = queue_limit + 1`."""
    compared = _COMPARED.fullmatch(one_line(condition))
    return compared[2] if compared else one_line(condition)


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_so(database: duckdb.DuckDBPyConnection, condition: str) -> bool:
    """Tell whether a condition holds that asks for nothing but parameters."""
    row = database.execute(f"SELECT {condition} FROM params").fetchone()
    return bool(row and row[0])


def plain(value: Any) -> Any:
    """Return a value of the database as a verdict has it: as JSON knows it, with six decimals."""
    known = as_json(value)
    return round(known, 6) if isinstance(known, float) else known


def as_json(value: Any) -> Any:
    """Return a value of the database as JSON knows it, which has no infinity."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [as_json(one) for one in value]
    return {name: as_json(one) for name, one in value.items()} if isinstance(value, dict) else value
