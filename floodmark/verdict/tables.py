"""The tables of a run: made by the registry (`collectors/fields.py`), filled from CSV, written as Parquet."""

from __future__ import annotations

import csv
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from collectors.fields import LOGS, TABLES, Table
from floodmark.disk import whole_file
from floodmark.errors import RunError
from floodmark.model.check import Check
from floodmark.runs.folders import HostFolder
from floodmark.verdict.rules import LOG_WHOLE

SQL_TYPES = {"integer": "BIGINT", "real": "DOUBLE", "text": "VARCHAR"}
# What DuckDB raises where SQL is wrong, which is ours. All else that it raises is about the files.
FAULTY_SQL = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
# How much of a file is held in memory at once.
CHUNK_BYTES = 1 << 20

Cell = int | float | str | None


@dataclass(frozen=True)
class Phases:
    """When the flood began and ended on the host's monotonic clock; None when no request was sent."""

    flood_start_ns: int | None
    flood_end_ns: int | None


def create_tables(database: duckdb.DuckDBPyConnection) -> None:
    """Create every table of the registry, empty; sampled tables and requests have a phase besides."""
    for table in TABLES.values():
        columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in table.fields)
        phase = "" if table in LOGS else ", phase VARCHAR"
        database.execute(f"CREATE TABLE {table.name} ({columns}{phase})")


def write_table(database: duckdb.DuckDBPyConnection, table: Table, folder: HostFolder) -> None:
    """Write a table into a host's folder, as Parquet.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(folder.table(table.name)) as unfinished:
        # DuckDB would write beside a file that is there, and leave a new one to the umask.
        options = "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false"
        try:
            database.execute(f"COPY {table.name} TO {sql_text(unfinished)} ({options})")
        except duckdb.IOException as error:
            # IO Error: … "errno":"28"}
            found = re.search(r'"errno":"(\d+)"', str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(folder.path)) from None


def sql_text(value: str | Path) -> str:
    """Return a text as SQL writes it, in quotes."""
    return "'" + str(value).replace("'", "''") + "'"


def load_csv(
    database: duckdb.DuckDBPyConnection, table: Table, path: Path, phases: Phases | None = None
) -> list[Check]:
    """Load one CSV file into its table; return the checks that it does not keep.

    A file that was cut off, by SIGKILL or a full disk, ends in the middle of a line: that line is left out.

    Args:
        database: with the table.
        table: which.
        path: the file.
        phases: of the run, for a table whose rows have one. To add it to millions of rows later would take their
            memory twice.

    Raises:
        RunError: the file has other columns, or a value that is not of its column's type.
    """
    if not path.exists():
        return [LOG_WHOLE.check(False, ok=False, subject=path.name, why="is missing: nothing was written")]
    checks: list[Check] = []
    with path.open("rb") as file:
        header = file.readline().decode(errors="replace").rstrip("\n").split(",")
    if header != list(table.columns):
        raise RunError(
            f"{path.name} has the columns {header}, and this version of Floodmark reads {list(table.columns)}."
        )
    types = "{" + ", ".join(f"'{field.name}': '{SQL_TYPES[field.type]}'" for field in table.fields) + "}"
    with whole_lines(path, checks) as whole:
        read = (
            f"INSERT INTO {table.name} BY NAME SELECT *{_phase_of(phases)} FROM read_csv({sql_text(whole)}, "
            f"header=true, delim=',', quote='\"', escape='\"', nullstr='', auto_detect=false, columns={types})"
        )
        try:
            database.execute(read)
        except FAULTY_SQL:
            raise
        except duckdb.Error as error:
            raise RunError(f"{path.name} is damaged: {str(error).strip().splitlines()[0]}.") from None
    return checks


def load_rows(
    database: duckdb.DuckDBPyConnection,
    table: Table,
    rows: Iterable[tuple[Cell, ...]],
    log: Path,
    phases: Phases | None = None,
) -> list[Check]:
    """Load what was made of a log, by way of a file: row by row it would take a millisecond each."""
    path = log.with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(rows)
    return load_csv(database, table, path, phases)


def _phase_of(phases: Phases | None) -> str:
    """Return the column that gives a row its phase: before the first request, until the last one ended, after that."""
    if phases is None:
        return ""
    if phases.flood_start_ns is None:
        return ", 'baseline' AS phase"
    ended = f"WHEN t_ns <= {phases.flood_end_ns} THEN 'flood'" if phases.flood_end_ns is not None else ""
    return f", CASE WHEN t_ns < {phases.flood_start_ns} THEN 'baseline' {ended} ELSE 'drain' END AS phase"


@contextmanager
def whole_lines(path: Path, checks: list[Check]) -> Iterator[Path]:
    """Yield a file without what follows its last line break, and add the check that this breaks.

    The file itself stays as it is: a second judgement has to see the same.
    """
    with path.open("rb") as file:
        end = place = file.seek(0, os.SEEK_END)
        while place:
            start = max(place - CHUNK_BYTES, 0)
            file.seek(start)
            found = file.read(place - start).rfind(b"\n")
            if found >= 0:
                break
            place = start
        kept = start + found + 1 if place else 0
        if kept == end:
            yield path
            return
        checks.append(
            LOG_WHOLE.check(
                end - kept, ok=False, subject=path.name,
                why=f"ends in the middle of a line: its last {end - kept} bytes were left out",
            )
        )  # fmt: skip
        file.seek(0)
        with tempfile.NamedTemporaryFile(prefix="floodmark-") as whole:
            shutil.copyfileobj(file, whole)
            whole.truncate(kept)
            whole.flush()
            yield Path(whole.name)
