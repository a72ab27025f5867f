"""Answers of the database for people and for other programs."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import duckdb
from rich.console import Console
from rich.markup import escape

from floodmark.errors import RunError
from floodmark.export.database import SAMPLED, STATED, columns_of, first_line
from floodmark.inputs.sql import as_json
from floodmark.show import terminal
from floodmark.show.tables import table_of

# Rows that are taken at a time: a table may be larger than memory.
ROWS = 10_000
# More of them nobody reads on a terminal.
MOST_ROWS = 1000


def print_tables(console: Console) -> None:
    """Print what can be asked for."""
    shown = table_of("table", "columns")
    for name in (*STATED, *SAMPLED):
        shown.add_row(name, ", ".join(columns_of(name)))
    console.print(shown)


def print_answer(answer: duckdb.DuckDBPyConnection, shape: str) -> None:
    """Print the rows of an answer.

    Args:
        answer: a connection that has one.
        shape: `terminal`, `csv` or `json`.

    Raises:
        RunError: a row cannot be computed, or columns of JSON have one name.
    """
    columns = [column[0] for column in answer.description or []]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if shape == "json" and twice:
        raise RunError(f"the answer has several columns of the name {', '.join(twice)}: name them with AS.")
    try:
        _print_as(shape, columns, answer)
    except duckdb.Error as error:
        raise RunError(f"this SQL does not work: {first_line(error)}.") from None


def _print_as(shape: str, columns: list[str], answer: duckdb.DuckDBPyConnection) -> None:
    if shape == "json":
        json.dump(
            [dict(zip(columns, map(as_json, row), strict=True)) for row in answer.fetchall()], sys.stdout, default=str
        )
        sys.stdout.write("\n")
    elif shape == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        while some := answer.fetchmany(ROWS):
            writer.writerows(some)  # csv writes None as an empty field
    else:
        _print_on_terminal(terminal.Console(), columns, answer)


def _print_on_terminal(console: Console, columns: list[str], answer: duckdb.DuckDBPyConnection) -> None:
    shown = table_of(*map(escape, columns))
    rows = answer.fetchmany(MOST_ROWS + 1)
    for row in rows[:MOST_ROWS]:
        shown.add_row(*map(_cell, row))
    console.print(shown)
    if len(rows) > MOST_ROWS:
        console.print(f"[dim]Only the first {MOST_ROWS} rows are shown; --format csv has all.[/]", highlight=False)


def _cell(value: Any) -> str:
    return "-" if value is None else escape(str(as_json(value)))  # a log may say [/error]
