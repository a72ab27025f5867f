"""From what a host wrote to the tables of a run.

The archive of the host stays as it is; its tables are read from a copy, given types by the registry
(`collectors/fields.py`), placed on one clock and divided into phases, and written as Parquet.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

from collectors.fields import LOGS, MACHINE, QUEUE_WAITS, REQUESTS, SOURCES, SYSCALLS, TABLES, UPSTREAM_EVENTS, Table
from floodmark.errors import RunError
from floodmark.runs.archive import unpack
from floodmark.runs.folders import HostFolder, RunFolder
from floodmark.verdict.strace import parse_strace

SQL_TYPES = {"integer": "BIGINT", "real": "DOUBLE", "text": "VARCHAR"}
PHASES = ("baseline", "flood", "drain")
# How much of a file is held in memory at once.
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Phases:
    """When the flood began and ended on the host's monotonic clock; None when no request was sent."""

    flood_start_ns: int | None
    flood_end_ns: int | None


@dataclass(frozen=True)
class ClockOffset:
    """How far the host's wall clock is ahead of the generator's, and how wrong that may be at most."""

    offset_ns: int
    error_ns: int | None


@dataclass(frozen=True)
class Ingested:
    """One host's tables, open for questions, and what was noticed on the way.

    Attributes:
        database: holds the tables under their names.
        host: content of host.json.
        generators: what each process of the flood wrote about itself.
        phases: when the flood was.
        clock: the offset that the requests were moved by; of several generators the least certain one.
        losses: sentences about what could not be read.
    """

    database: duckdb.DuckDBPyConnection
    host: dict[str, Any]
    generators: list[dict[str, Any]]
    phases: Phases
    clock: ClockOffset
    losses: list[str]


def create_tables(database: duckdb.DuckDBPyConnection) -> None:
    """Create every table of the registry, empty; sampled tables and requests have a phase besides."""
    for table in TABLES.values():
        columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in table.fields)
        phase = "" if table in LOGS else ", phase VARCHAR"
        database.execute(f"CREATE TABLE {table.name} ({columns}{phase})")


def ingest(run: RunFolder, folder: HostFolder) -> Ingested:
    """Read what one host wrote, and write its tables and host.json.

    Args:
        run: the run, with what the load generator wrote.
        folder: the host's results, with its archive.

    Raises:
        RunError: the archive, or what the load generator wrote, is missing or damaged.
    """
    database = duckdb.connect()
    create_tables(database)
    losses: list[str] = []
    with tempfile.TemporaryDirectory(prefix="floodmark-") as name:
        raw = Path(name)
        extract_archive(folder.archive, raw)
        host = read_object(raw / "host.json", folder.archive)
        wall_ns = host["clocks"]["wall_minus_monotonic_ns"]
        # Requests come first: they say of which phase a sample is.
        generators = _load_flood(database, run.load(folder.name), losses)
        losses.extend(_load_access_log(database, raw / "nginx-access.log", wall_ns))
        _load_error_log(database, raw / "nginx-error.log", wall_ns, host["clocks"].get("utc_offset_s", 0))
        clock = max((_place_requests(database, wall_ns, one) for one in generators), key=lambda one: one.error_ns or 0)
        phases = _find_phases(database)
        for table in SOURCES:
            if table is not MACHINE:
                losses.extend(_load_csv(database, table, raw / f"{table.name}.csv", phases))
        # Not there: the first with machine_hz=0, the second without trace=true, the third in runs before format 6.
        for table, divided in ((MACHINE, phases), (QUEUE_WAITS, phases), (UPSTREAM_EVENTS, None)):
            if (raw / f"{table.name}.csv").exists():
                losses.extend(_load_csv(database, table, raw / f"{table.name}.csv", divided))
        _load_strace(database, raw, wall_ns)
    for table in TABLES.values():
        write_table(database, table, folder)
    folder.description.write_text(json.dumps(host, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Ingested(database, host, generators, phases, clock, losses)


def write_table(database: duckdb.DuckDBPyConnection, table: Table, folder: HostFolder) -> None:
    """Write a table into a host's folder, as Parquet."""
    database.execute(f"COPY {table.name} TO {sql_text(folder.table(table.name))} (FORMAT parquet, COMPRESSION zstd)")


def sql_text(value: str | Path) -> str:
    """Return a text as SQL writes it, in quotes."""
    return "'" + str(value).replace("'", "''") + "'"


def extract_archive(archive: Path, target: Path) -> None:
    """Unpack what a host wrote.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        with tarfile.open(archive) as opened:
            unpack(opened, target)
    except FileNotFoundError:
        raise RunError(f"{archive} is missing: nothing was fetched from this host.") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise RunError(f"{archive} is damaged: {error}.") from None


def read_object(path: Path, where: Path) -> dict[str, Any]:
    """Read a file with a JSON object.

    Args:
        path: the file.
        where: what it is a part of, for a message.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{where} has no {path.name}: the run stopped before it was written.") from None
    except ValueError as error:
        raise RunError(f"{path.name} in {where} is damaged: {error}.") from None
    return dict(content)


def _load_csv(database: duckdb.DuckDBPyConnection, table: Table, path: Path, phases: Phases | None = None) -> list[str]:
    """Load one CSV file into its table; return what was lost.

    A file that was cut off, by SIGKILL or a full disk, ends in the middle of a line: that line is left out.

    Args:
        database: with the table.
        table: which.
        path: the file.
        phases: of the run, for a table whose rows have one. To add it to millions of rows later would take their
            memory twice.
    """
    if not path.exists():
        return [f"{path.name} is missing: the source {table.name} wrote nothing"]
    losses: list[str] = []
    with path.open("rb") as file:
        header = file.readline().decode(errors="replace").rstrip("\n").split(",")
    if header != list(table.columns):
        raise RunError(
            f"{path.name} has the columns {header}, and this version of Floodmark reads {list(table.columns)}."
        )
    types = "{" + ", ".join(f"'{field.name}': '{SQL_TYPES[field.type]}'" for field in table.fields) + "}"
    with _whole_lines(path, losses) as whole:
        database.execute(
            f"INSERT INTO {table.name} BY NAME SELECT *{_phase_of(phases)} FROM read_csv({sql_text(whole)}, "
            f"header=true, delim=',', quote='\"', escape='\"', nullstr='', auto_detect=false, columns={types})"
        )
    return losses


@contextmanager
def _whole_lines(path: Path, losses: list[str]) -> Iterator[Path]:
    """Yield a file without what stands behind its last line break, and add that to the losses.

    The file itself stays as it is: who judges the run again is to see the same.
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
        losses.append(f"{path.name} ends in the middle of a line: its last {end - kept} bytes were left out")
        file.seek(0)
        with tempfile.NamedTemporaryFile(prefix="floodmark-") as whole:
            shutil.copyfileobj(file, whole)
            whole.truncate(kept)
            whole.flush()
            yield Path(whole.name)


def _load_strace(database: duckdb.DuckDBPyConnection, raw: Path, wall_ns: int) -> None:
    """Load what strace has captured, or why it has not; nothing where it was not wanted."""
    description = raw / "strace.json"
    if not description.exists():
        return
    about = read_object(description, raw)
    rows: list[tuple[Any, ...]] = []
    if about["reason"] is not None:
        rows.append((*[None] * (len(SYSCALLS.columns) - 1), about["reason"]))
    for pid, role in about["processes"].items():
        calls = parse_strace(_lines(raw / f"strace.{pid}"), wall_ns)
        rows += ((call.t_ns, role, int(pid), *call[1:], None) for call in calls)
    _insert(database, SYSCALLS, rows, description)


def _load_flood(database: duckdb.DuckDBPyConnection, folder: Path, losses: list[str]) -> list[dict[str, Any]]:
    """Load the requests of all processes of a flood, and return what each has written about itself.

    Raises:
        RunError: none of them came to an end.
    """
    generators = [read_object(path, folder) for path in sorted(folder.glob("load.*.json"))]
    if not generators:
        raise RunError(f"{folder} has no load.*.json: the flood was ended before it could say what it had done.")
    there = {one["generator"] for one in generators}
    missing = sorted(set(range(max(one["generators"] for one in generators))) - there)
    if missing:
        losses.append(
            f"{len(missing)} of {len(missing) + len(there)} processes of the flood were lost, number "
            f"{', '.join(map(str, missing))}: what they sent is not known; {folder}/locust.log may say why"
        )
    for number in sorted(there):
        losses.extend(_load_csv(database, REQUESTS, folder / f"requests.{number}.csv"))
    return generators


def _load_access_log(database: duckdb.DuckDBPyConnection, path: Path, wall_ns: int) -> list[str]:
    """Load nginx's access log; return what was lost.

    {"id":"7","msec":"1795402563.103","pid":"812","client":"198.18.7.1","request":"POST / HTTP/1.1","status":"504",
    "bytes_sent":"316","request_time":"5.004","upstream_connect_time":"0.000","upstream_header_time":"",
    "upstream_response_time":"5.004","upstream_status":"504"}

    nginx knows the millisecond. Of its times `-` and an empty text mean that there was none, and a list is the sum of
    its attempts. A full disk leaves pieces of lines, and foreign requests bytes that are no text.
    """
    if not path.exists():
        return []
    losses: list[str] = []
    names = ("id", "msec", "pid", "status", "bytes_sent", "request_time", "upstream_connect_time",
             "upstream_header_time", "upstream_response_time", "upstream_status")  # fmt: skip
    shape = json.dumps(dict.fromkeys(names, "VARCHAR"))
    with _whole_lines(path, losses) as whole:
        database.execute(
            f"""
            INSERT INTO nginx_access
            SELECT one.id, CAST(CAST(one.msec AS DECIMAL(18, 3)) * 1000 AS BIGINT) * 1000000 - $wall_ns,
                   CAST(one.pid AS BIGINT), CAST(one.status AS BIGINT), CAST(one.bytes_sent AS BIGINT),
                   CAST(one.request_time AS DOUBLE), {_seconds("one.upstream_connect_time")},
                   {_seconds("one.upstream_header_time")}, {_seconds("one.upstream_response_time")},
                   nullif(one.upstream_status, '')
            FROM (
                SELECT CASE WHEN json_valid(line) THEN json_transform(line, '{shape}') END AS one
                FROM read_csv({sql_text(whole)}, columns={{'line': 'VARCHAR'}}, header=false, auto_detect=false,
                              delim=chr(1), quote='', escape='', ignore_errors=true)
            )
            WHERE one.id IS NOT NULL AND one.msec IS NOT NULL
            """,
            {"wall_ns": wall_ns},
        )
        with whole.open("rb") as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
        row = database.execute("SELECT count(*) FROM nginx_access").fetchone()
    damaged = lines - (row[0] if row else 0)
    if damaged:
        losses.append(f"{path.name} has {damaged} damaged lines, which were left out")
    return losses


def _seconds(column: str) -> str:
    """Return the SQL for a time of nginx."""
    parts = f"list_filter(regexp_split_to_array(trim({column}), '[,:]\\s*'), lambda part: part NOT IN ('', '-'))"
    return (
        f"CASE WHEN {column} IN ('', '-') THEN NULL WHEN regexp_full_match({column}, '[0-9.]+') "
        f"THEN CAST({column} AS DOUBLE) ELSE list_sum(CAST({parts} AS DOUBLE[])) END"
    )


# 2026/11/23 03:15:01 [error] 812#812: *5 connect() to unix:/run/… failed (11: Resource temporarily
# unavailable) while connecting to upstream, client: 198.18.7.1, server: _, request: …
_ERROR_LINE = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] (\d+)#\d+: (?:\*\d+ )?(.*)")
_ERRNO = re.compile(r"\((\d+): ")


def parse_error_log(lines: Iterator[str], wall_ns: int, utc_offset_s: int) -> list[tuple[Any, ...]]:
    """Return the rows of the table nginx_errors.

    Args:
        lines: the log.
        wall_ns: how far the host's wall clock is ahead of its monotonic clock.
        utc_offset_s: of the host's time zone, in which nginx writes this log.
    """
    rows: list[tuple[Any, ...]] = []
    for line in lines:
        match = _ERROR_LINE.match(line)
        if match:
            time, level, pid, text = match.groups()
            second = _second(time) - utc_offset_s
            errno = _ERRNO.search(text)
            message = text.partition(", client:")[0]
            rows.append(
                (
                    second * 1_000_000_000 - wall_ns,
                    level,
                    int(pid),
                    int(errno.group(1)) if errno else None,
                    message,
                )
            )
    return rows


@lru_cache
def _second(time: str) -> int:
    """Return a time of the error log in seconds; thousands of its lines have the same."""
    return int(datetime.strptime(time, "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp())


def _load_error_log(database: duckdb.DuckDBPyConnection, path: Path, wall_ns: int, utc_offset_s: int) -> None:
    _insert(database, TABLES["nginx_errors"], parse_error_log(_lines(path), wall_ns, utc_offset_s), path)


def _lines(path: Path) -> Iterator[str]:
    """Yield the complete lines of a log; a missing log has none."""
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as opened:
            yield from (line for line in opened if line.endswith("\n"))


def _insert(database: duckdb.DuckDBPyConnection, table: Table, rows: list[tuple[Any, ...]], log: Path) -> None:
    """Load what was made of a log, by way of a file: row by row it would take a millisecond each."""
    path = log.with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(rows)
    _load_csv(database, table, path)


def _place_requests(database: duckdb.DuckDBPyConnection, host_wall_ns: int, generator: dict[str, Any]) -> ClockOffset:
    """Move one generator's requests to the host's monotonic clock; return by how much the two wall clocks differ.

    Each request that nginx logged gives four times, as in NTP: sent and ended by the generator's clock, begun
    and logged by the host's. nginx cannot begin before the client has sent, nor log long after the client has
    its answer; so each request encloses the offset, and the narrowest enclosure is taken. An offset that
    its error does not tell from zero is zero: on the testbed both sides have one clock.

    Source: RFC 5905 section 8
    """
    number, generator_wall_ns = generator["generator"], generator["wall_minus_monotonic_ns"]
    row = database.execute(
        """
        WITH enclosed AS (
            SELECT access.end_ns + $host AS logged, access.end_ns + $host - CAST(request_s * 1e9 AS BIGINT) AS begun,
                   start_ns + $generator AS sent, requests.end_ns + $generator AS ended
            FROM requests JOIN nginx_access access USING (id)
            WHERE generator = $number
        )
        SELECT CAST(((begun - sent) + (logged - ended)) / 2 AS BIGINT),
               CAST(greatest((ended - sent) - (logged - begun), 0) / 2 + 2000000 AS BIGINT) AS error
        FROM enclosed ORDER BY error LIMIT 1
        """,
        {"host": host_wall_ns, "generator": generator_wall_ns, "number": number},
    ).fetchone()
    clock = ClockOffset(0, None) if row is None else ClockOffset(0 if abs(row[0]) <= row[1] else row[0], row[1])
    shift = generator_wall_ns + clock.offset_ns - host_wall_ns
    moved = ", ".join(f"{field.name} = {field.name} + $shift" for field in REQUESTS.fields if field.unit == "ns")
    database.execute(f"UPDATE requests SET {moved} WHERE generator = $number", {"shift": shift, "number": number})
    return clock


def _find_phases(database: duckdb.DuckDBPyConnection) -> Phases:
    """Return when the first request began and the last one ended."""
    database.execute("UPDATE requests SET phase = 'flood'")
    row = database.execute("SELECT min(start_ns), max(end_ns) FROM requests").fetchone()
    return Phases(*(row or (None, None)))


def _phase_of(phases: Phases | None) -> str:
    """Return the column that gives a row its phase: before the first request, until the last one ended, after that."""
    if phases is None:
        return ""
    if phases.flood_start_ns is None:
        return ", 'baseline' AS phase"
    ended = f"WHEN t_ns <= {phases.flood_end_ns} THEN 'flood'" if phases.flood_end_ns is not None else ""
    return f", CASE WHEN t_ns < {phases.flood_start_ns} THEN 'baseline' {ended} ELSE 'drain' END AS phase"
