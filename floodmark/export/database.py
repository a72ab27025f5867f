"""All results as one database: what every run has sampled, and what was said about it.

    runs           a row for each host of each run: run, host, case_number, transport, kernel, valid, passed, reasons
    parameters     run, name, value of all parameters, as text
    metrics        run, host, name, value of all key figures that are a number
    expectations   run, host, name, value, holds
    checks         run, host, id, subject, severity, ok, value, allowed, unit, sentence
    claims         run, host, name, role, study, verdict, value

and the tables of the data dictionary, with `run` and `host` in front.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from collectors.fields import LOGS, TABLES, VIRTUAL_WINDOWS
from floodmark.errors import RunError, did_you_mean
from floodmark.model.run import RunRecord
from floodmark.model.verdict import Verdict
from floodmark.runs.folders import RunFolder
from floodmark.runs.verdicts import read_verdict
from floodmark.verdict.tables import SQL_TYPES, sql_text

SAMPLED = {**TABLES, VIRTUAL_WINDOWS.name: VIRTUAL_WINDOWS}
HAVE_PHASES = [table for table in TABLES.values() if table not in LOGS]
PLACE = ("run", "host")
# …/results/20261126T194556Z-case2-unix/proxy1/accept_queue.parquet
FROM_FILE_NAME = "parse_path(filename, '/')[-3] AS run, parse_path(filename, '/')[-2] AS host"


class Said(NamedTuple):
    """One host's verdict and the run that it belongs to."""

    folder: RunFolder
    host: str
    run: RunRecord
    verdict: Verdict

    @property
    def place(self) -> tuple[str, str]:
        """Run and host, by the names of their folders, as the sampled tables have them."""
        return self.folder.run_id, self.host


# --- what was said ------------------------------------------------------------------------------


def _runs(said: Said) -> Iterator[tuple[Any, ...]]:
    run, verdict = said.run, said.verdict
    yield (
        *said.place, run.case.number, run.parameters["transport"], verdict.kernel, verdict.valid, verdict.passed,
        "; ".join(verdict.reasons) or None,
    )  # fmt: skip


def _parameters(said: Said) -> Iterator[tuple[Any, ...]]:
    for name, value in said.run.parameters.items():
        yield *said.place, name, json.dumps(value) if isinstance(value, bool) else str(value)


def _metrics(said: Said) -> Iterator[tuple[Any, ...]]:
    for name, value in said.verdict.metrics or ():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield *said.place, name, value


def _expectations(said: Said) -> Iterator[tuple[Any, ...]]:
    for one in said.verdict.expectations:
        yield *said.place, one.name, _text(one.value), one.holds


def _checks(said: Said) -> Iterator[tuple[Any, ...]]:
    for one in said.verdict.checks:
        yield (
            *said.place, one.id, one.subject, one.severity, one.ok, _text(one.value), _text(one.limit), one.unit,
            one.sentence,
        )  # fmt: skip


def _claims(said: Said) -> Iterator[tuple[Any, ...]]:
    for one in said.verdict.claims:
        yield *said.place, one.name, one.role, one.study, one.verdict, _text(one.value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


class Statement(NamedTuple):
    """A table that is made of run.json and verdict.json.

    Attributes:
        columns: behind `run` and `host`, with their types.
        rows: yields them from one verdict.
    """

    columns: dict[str, str]
    rows: Callable[[Said], Iterator[tuple[Any, ...]]]


STATED = {
    "runs": Statement(
        {
            "case_number": "INTEGER", "transport": "VARCHAR", "kernel": "VARCHAR", "valid": "BOOLEAN",
            "passed": "BOOLEAN", "reasons": "VARCHAR",
        },
        _runs,
    ),
    "parameters": Statement({"name": "VARCHAR", "value": "VARCHAR"}, _parameters),
    "metrics": Statement({"name": "VARCHAR", "value": "DOUBLE"}, _metrics),
    "expectations": Statement({"name": "VARCHAR", "value": "VARCHAR", "holds": "BOOLEAN"}, _expectations),
    "checks": Statement(
        {
            "id": "VARCHAR", "subject": "VARCHAR", "severity": "VARCHAR", "ok": "BOOLEAN", "value": "VARCHAR",
            "allowed": "VARCHAR", "unit": "VARCHAR", "sentence": "VARCHAR",  # limit is a word of SQL
        },
        _checks,
    ),
    "claims": Statement(
        {"name": "VARCHAR", "role": "VARCHAR", "study": "VARCHAR", "verdict": "VARCHAR", "value": "VARCHAR"}, _claims
    ),
}  # fmt: skip


def columns_of(name: str) -> list[str]:
    """Return the names of a table's columns."""
    if name in STATED:
        return [*PLACE, *STATED[name].columns]
    return [*PLACE, *SAMPLED[name].columns, *(["phase"] if SAMPLED[name] in HAVE_PHASES else [])]


# --- the database -------------------------------------------------------------------------------


def ask(query: str, folders: Iterable[Path]) -> duckdb.DuckDBPyConnection:
    """Ask a question about runs, and return the connection that has the answer.

    Args:
        query: SQL as DuckDB knows it.
        folders: of the runs; those that are not complete have no verdict and are left out.

    Raises:
        RunError: the query is wrong, or asks for a table that does not exist.
    """
    if not query.strip():
        raise RunError(
            f"the question is empty: give SQL, such as 'FROM runs'. There are {', '.join([*STATED, *SAMPLED])}."
        )
    database = duckdb.connect()
    database.execute("SET enable_progress_bar = false")  # it would stand among the answers
    runs = [RunFolder(folder) for folder in folders]
    # To open the files of all tables takes seconds, so only those are there that the query may mean.
    words = set(re.findall(r"\w+", query.lower()))
    for name in words & STATED.keys():
        _create_stated(database, name, runs)
    try:
        for name in words & SAMPLED.keys():
            _create_sampled(database, name, runs)
        return database.execute(query)
    except duckdb.Error as error:
        said = first_line(error)
        # Catalog Error: Table with name request does not exist!
        if unknown := re.search(r"Table with name (\S+) does not exist", said):
            known = [*STATED, *SAMPLED]
            raise RunError(
                f"there is no table '{unknown[1]}': {did_you_mean(unknown[1], known)}There are {', '.join(known)}."
            ) from None
        raise RunError(f"this SQL does not work: {said}.") from None


def first_line(error: duckdb.Error) -> str:
    """Return what DuckDB says is wrong, without the places in the query and without a stop."""
    return str(error).strip().splitlines()[0].rstrip(".")


def _create_stated(database: duckdb.DuckDBPyConnection, name: str, runs: Iterable[RunFolder]) -> None:
    """Load what was said, by way of a file: row by row it would take a millisecond each."""
    kinds = {**dict.fromkeys(PLACE, "VARCHAR"), **STATED[name].columns}
    types = ", ".join(f"{column}: '{kind}'" for column, kind in kinds.items())
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        for row in (row for run in runs for row in _rows(name, run)):
            file.write(json.dumps(dict(zip(columns_of(name), row, strict=True))) + "\n")
        file.flush()
        database.execute(f"CREATE TABLE {name} AS FROM read_ndjson('{file.name}', columns = {{{types}}})")


def _rows(name: str, run: RunFolder) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table that one run has; what cannot be read is left out, and told on stderr."""
    if not run.record.exists():
        return
    try:
        record = run.read_run()
    except RunError as error:
        _left_out(str(error))
        return
    for host in record.hosts.proxies:
        try:
            verdict = read_verdict(run.host(host))
        except RunError as error:
            _left_out(str(error))
            continue
        yield from STATED[name].rows(Said(run, host, record, verdict))


def _left_out(why: str) -> None:
    print(f"floodmark: left out: {why}", file=sys.stderr)


def _create_sampled(database: duckdb.DuckDBPyConnection, name: str, runs: Iterable[RunFolder]) -> None:
    files = [file for run in runs for file in sorted(run.path.glob(f"*/{name}.parquet"))]
    if files:
        try:
            return _create_view(database, name, files)
        except duckdb.Error:
            files = [file for file in files if _can_be_read(database, file)]
            if files:
                return _create_view(database, name, files)
    types = {field.name: SQL_TYPES[field.type] for field in SAMPLED[name].fields}
    columns = ", ".join(f"{column} {types.get(column, 'VARCHAR')}" for column in columns_of(name))
    database.execute(f"CREATE TABLE {name} ({columns})")
    return None


def _create_view(database: duckdb.DuckDBPyConnection, name: str, files: Iterable[Path]) -> None:
    listed = ", ".join(map(sql_text, files))
    table = f"read_parquet([{listed}], filename = true, union_by_name = true)"
    database.execute(f"CREATE VIEW {name} AS SELECT {FROM_FILE_NAME}, * EXCLUDE filename FROM {table}")


def _can_be_read(database: duckdb.DuckDBPyConnection, file: Path) -> bool:
    try:
        database.execute(f"DESCRIBE FROM read_parquet({sql_text(file)})")
    except duckdb.Error as error:
        _left_out(f"{file} is damaged: {str(error).splitlines()[0]}.")
        return False
    return True
