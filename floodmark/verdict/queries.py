"""Short ways to ask the tables of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from floodmark.inputs.sql import plain
from floodmark.values import Value


def scalar(database: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object] | None = None) -> Any:
    """Return the one value of a query, None when it has no row."""
    row = database.execute(query, values).fetchone()
    return plain(row[0]) if row else None


def first_row(
    database: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object] | None = None
) -> Mapping[str, Value]:
    """Return the one row of a query by the names of its columns."""
    result = database.execute(query, values)
    names = [column[0] for column in result.description or []]
    return dict(zip(names, map(plain, result.fetchone() or ()), strict=True))


def counts(database: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    """Return the rows of a query that gives a name and a number."""
    return {str(name): int(count) for name, count in database.execute(query).fetchall()}
