"""How the SQL of cases and labs is asked: a value from a table or view, and what must be so of it.

Who judges a folder or checks a case need not trust who wrote it. So this SQL is a question and no other statement, and
the database that it is asked in has no way out: not to files, not to the network, not to its own settings.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NewType

import duckdb

from floodmark.inputs.cases import Figure, Observation
from floodmark.text import number, one_line

# How long a question about a few rows may take (s).
TRIED_S = 10.0

# A database whose SQL sees its own tables and nothing else.
Locked = NewType("Locked", duckdb.DuckDBPyConnection)


def lock(database: duckdb.DuckDBPyConnection) -> Locked:
    """Take files, extensions, the network, variables of Python and all settings from the SQL that comes next.

    Args:
        database: that has read all files that it needs.

    Source: DuckDB, Securing DuckDB
    """
    for name, value in (("python_enable_replacements", "false"), ("enable_external_access", "false"),
                        ("lock_configuration", "true")):  # fmt: skip
        database.execute(f"SET {name} = {value}")
    return Locked(database)


def other_statement(figure: Figure) -> str:
    """Return what a figure, an expectation or a claim would make DuckDB do besides answer; nothing where it only asks.

    Args:
        figure: its SQL; none of it is executed.
    """
    for query in _queries(figure):
        try:
            kinds = [one.type for one in duckdb.extract_statements(query)]
        except duckdb.Error:
            continue  # it does not parse, so nothing of it can be executed
        except ValueError:
            return query  # a statement that DuckDB's Python has no name for
        if kinds != [duckdb.StatementType.SELECT]:
            return query
    return ""


def _queries(figure: Figure) -> Iterator[str]:
    """Yield all that is asked for a figure, an expectation or a claim."""
    yield _value_of(figure)
    yield _rows_of(figure)
    if isinstance(figure, Observation):
        yield _holds_of(figure)
        yield _condition(figure.applies)


def _value_of(figure: Figure) -> str:
    return f"SELECT {figure.value} FROM {figure.from_} CROSS JOIN params"


def _rows_of(figure: Figure) -> str:
    return f"SELECT count(*) FROM {figure.from_} CROSS JOIN params"


def _holds_of(observation: Observation) -> str:
    return f"SELECT {observation.holds} FROM (SELECT ? AS value) CROSS JOIN params"


def _condition(condition: str) -> str:
    return f"SELECT {condition} FROM params"


def try_sql(database: Locked, figure: Figure) -> None:
    """Evaluate all that a figure, an expectation or a claim has, whatever comes of it.

    Args:
        database: with tables of a few rows.
        figure: what is tried.

    Raises:
        duckdb.Error: it does not work, is more than a question, or takes too long.
    """
    if other := other_statement(figure):
        raise duckdb.InvalidInputException(f"it is to be one SELECT, and this is more: {other}")
    timer = threading.Timer(TRIED_S, database.interrupt)
    timer.start()
    try:
        look(database, figure)
        if isinstance(figure, Observation):
            observe(database, figure)
            is_so(database, figure.applies)
    except duckdb.InterruptException:
        raise duckdb.Error(f"on tables of a few rows it has no answer after {TRIED_S:g} s") from None
    finally:
        timer.cancel()


def observe(database: Locked, observation: Observation) -> tuple[Any, bool | None]:
    """Return the value of an observation, and whether its condition holds; None when there is nothing to see."""
    value = look(database, observation)
    holds = database.execute(_holds_of(observation), [value]).fetchone()
    if value is None or holds is None or holds[0] is None:
        return value, None
    return value, bool(holds[0])


def look(database: Locked, figure: Figure) -> Any:
    """Return the one value of a figure, None when there is nothing to see."""
    rows = database.execute(_value_of(figure)).fetchmany(2)
    if len(rows) > 1:
        raise duckdb.InvalidInputException("the value has more than one row; use an aggregate such as max()")
    return plain(rows[0][0]) if rows else None


def rows_behind(database: Locked, figure: Figure) -> int:
    """Return how many rows the value of a figure is taken from: readings, requests, or lines of a log."""
    row = database.execute(_rows_of(figure)).fetchone()
    return int(row[0]) if row else 0


# value = queue_limit + 1, value BETWEEN 1 AND users
_COMPARED = re.compile(r"value (=|<=|>=|<|>) (.+)")
_WORDS = {"=": "", "<=": "at most ", ">=": "at least ", "<": "less than ", ">": "more than "}


def predicted(database: Locked, observation: Observation) -> str:
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


def is_so(database: Locked, condition: str) -> bool:
    """Tell whether a condition holds that asks for nothing but parameters."""
    row = database.execute(_condition(condition)).fetchone()
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
