"""How the SQL of cases and labs is asked: a value from a table or view, and what must be so of it."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import duckdb

from floodmark.inputs.cases import Figure, Observation


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
