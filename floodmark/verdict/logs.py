"""nginx's logs and what strace captured of it, as rows of their tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import duckdb
from pydantic import BaseModel, ValidationError

from collectors.fields import NGINX_ERRORS, SYSCALLS
from floodmark.errors import RunError
from floodmark.model.check import Check
from floodmark.verdict.rules import LOG_WHOLE
from floodmark.verdict.strace import parse_strace, roles_of
from floodmark.verdict.tables import CHUNK_BYTES, Cell, Phases, load_rows, sql_text, whole_lines


def load_access_log(database: duckdb.DuckDBPyConnection, path: Path, wall_ns: int) -> list[Check]:
    """Load nginx's access log; return the checks that it does not keep.

    {"id":"7","msec":"1795402563.103","pid":"812","client":"198.18.7.1","request":"POST / HTTP/1.1","status":"504",
    "bytes_sent":"316","request_time":"5.004","upstream_connect_time":"0.000","upstream_header_time":"",
    "upstream_response_time":"5.004","upstream_status":"504"}

    nginx knows the millisecond. Of its times `-` and an empty text mean that there was none, and a list is the sum of
    its attempts. A full disk leaves pieces of lines, and foreign requests bytes that are no text.
    """
    if not path.exists():
        return [LOG_WHOLE.check(False, ok=False, subject=path.name, why="is missing: nginx wrote none")]
    checks: list[Check] = []
    shape = json.dumps(dict.fromkeys(("id", "msec", *_READ_AS), "VARCHAR"))
    # What is there and cannot be read makes a line a damaged one.
    values = ", ".join(f"{name}: TRY({read.format(f'one.{name}')})" for name, read in _READ_AS.items())
    sound = " AND ".join(
        f"(new.{name} IS NOT NULL OR one.{name} IS NULL OR one.{name} IN ('', '-'))" for name in _READ_AS
    )
    with whole_lines(path, checks) as whole:
        # Materialized, or DuckDB would read each value twice, once of them for the filter.
        database.execute(
            f"""
            INSERT INTO nginx_access
            WITH read AS MATERIALIZED (
                SELECT one, TRY(CAST(CAST(one.msec AS DECIMAL(18, 3)) * 1000 AS BIGINT) * 1000000 - $wall_ns) AS end_ns,
                       {{{values}}} AS new
                FROM (
                    SELECT CASE WHEN json_valid(line) THEN TRY(json_transform(line, '{shape}')) END AS one
                    FROM read_csv({sql_text(whole)}, columns={{'line': 'VARCHAR'}}, header=false, auto_detect=false,
                                  delim=chr(1), quote='', escape='', new_line='\\n', strict_mode=false,
                                  ignore_errors=true)
                )
            )
            SELECT one.id, end_ns, unnest(new) FROM read
            WHERE one.id IS NOT NULL AND end_ns IS NOT NULL AND {sound}
            """,
            {"wall_ns": wall_ns},
        )
        with whole.open("rb") as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
        row = database.execute("SELECT count(*) FROM nginx_access").fetchone()
    damaged = lines - (row[0] if row else 0)
    if damaged:
        why = f"has {damaged} damaged lines, which were left out"
        checks.append(LOG_WHOLE.check(damaged, ok=False, subject=path.name, why=why))
    return checks


# A time of nginx, which is a list of those of its attempts: 5.004, 0.001
_SECONDS = (
    "CASE WHEN {0} IN ('', '-') THEN NULL WHEN regexp_full_match({0}, '[0-9.]+') THEN CAST({0} AS DOUBLE) "
    "ELSE list_sum(CAST(list_filter(regexp_split_to_array(trim({0}), '[,:]\\s*'), lambda part: part NOT IN ('', '-')) "
    "AS DOUBLE[])) END"
)
# How a field becomes a column, in the order of the table.
_READ_AS = {
    "pid": "CAST({0} AS BIGINT)",
    "status": "CAST({0} AS BIGINT)",
    "bytes_sent": "CAST({0} AS BIGINT)",
    "request_time": "CAST({0} AS DOUBLE)",
    "upstream_connect_time": _SECONDS,
    "upstream_header_time": _SECONDS,
    "upstream_response_time": _SECONDS,
    "upstream_status": "nullif({0}, '')",
}


# 2026/11/23 03:15:01 [error] 812#812: *5 connect() to unix:/run/… failed (11: Resource temporarily
# unavailable) while connecting to upstream, client: 198.18.7.1, server: _, request: …
_ERROR_LINE = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] (\d{1,9})#\d+: (?:\*\d+ )?(.*)", re.ASCII)
_UNWRITTEN = re.compile(r'write\(\) to ".*/([^/"]+)" failed \(\d+: ([^)]+)\)')
_ERRNO = re.compile(r"\((\d{1,9}): ", re.ASCII)


class ErrorLine(NamedTuple):
    """A row of the table nginx_errors."""

    end_ns: int
    level: str
    worker_pid: int
    errno: int | None
    message: str


def parse_error_log(lines: Iterator[str], wall_ns: int, utc_offset_s: int) -> list[ErrorLine]:
    """Return the rows of the table nginx_errors.

    Args:
        lines: the log.
        wall_ns: how far the host's wall clock is ahead of its monotonic clock.
        utc_offset_s: of the host's time zone, in which nginx writes this log.
    """
    rows: list[ErrorLine] = []
    for line in lines:
        match = _ERROR_LINE.match(line)
        if match and (second := _second(match[1])) is not None:
            _time, level, pid, text = match.groups()
            errno = _ERRNO.search(text)
            message = text.partition(", client:")[0]
            number = int(errno.group(1)) if errno else None
            rows.append(ErrorLine((second - utc_offset_s) * 1_000_000_000 - wall_ns, level, int(pid), number, message))
    return rows


@lru_cache
def _second(time: str) -> int | None:
    """Return a time of the error log in seconds, None if there is none; thousands of its lines have the same."""
    try:
        return int(datetime.strptime(time, "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def load_error_log(database: duckdb.DuckDBPyConnection, path: Path, wall_ns: int, utc_offset_s: int) -> list[Check]:
    """Load nginx's error log; return the check that it could not write another log.

    Args:
        database: with the table nginx_errors.
        path: the log; a missing one has no lines.
        wall_ns: how far the host's wall clock is ahead of its monotonic clock.
        utc_offset_s: of the host's time zone, in which nginx writes this log.
    """
    rows = parse_error_log(_lines(path), wall_ns, utc_offset_s)
    load_rows(database, NGINX_ERRORS, rows, path)
    for row in rows:
        # write() to "/var/lib/floodmark/runs/…/nginx-access.log" failed (27: File too large) while logging request
        if found := _UNWRITTEN.match(row.message):
            return [LOG_WHOLE.check(False, ok=False, subject=found[1], why=f"lacks lines: {found[2]}, says nginx")]
    return []


def _lines(path: Path) -> Iterator[str]:
    """Yield the complete lines of a log; a missing log has none."""
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as opened:
            yield from (line for line in opened if line.endswith("\n"))


class _Captured(BaseModel):
    """strace.json: why nothing was captured, and who was who: {"reason": null, "processes": {"812": "master"}}."""

    reason: str | None
    processes: dict[int, str] = {}


def load_strace(database: duckdb.DuckDBPyConnection, raw: Path, wall_ns: int, phases: Phases) -> None:
    """Load what strace has captured, or why it has not; nothing where it was not wanted."""
    description = raw / "strace.json"
    if not description.exists():
        return
    try:
        about = _Captured.model_validate_json(description.read_bytes())
    except ValidationError as error:
        raise RunError(f"{description.name} is damaged: {error.errors()[0]['msg']}.") from None
    rows: list[tuple[Cell, ...]] = []
    if about.reason is not None:
        rows.append((*[None] * (len(SYSCALLS.columns) - 1), about.reason))
    # strace.812
    files = {int(path.suffix[1:]): path for path in raw.glob("strace.*") if path.suffix[1:].isdecimal()}
    calls = {pid: parse_strace(_lines(path), wall_ns) for pid, path in files.items()}
    # Before format 8 strace came when nginx had started, and the host said who was who.
    roles = about.processes or roles_of(calls)
    for pid, role in roles.items():
        rows += ((call.t_ns, role, pid, *call[1:], None) for call in calls.get(pid, []))
    load_rows(database, SYSCALLS, rows, description, phases)
