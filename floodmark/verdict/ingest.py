"""From what a host wrote to the tables of a run.

The archive of the host stays as it is; its tables are read from a copy, given types by the registry
(`collectors/fields.py`), placed on one clock and divided into phases, and written as Parquet.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import duckdb
from pydantic import TypeAdapter, ValidationError

from collectors.fields import AGENT, GENERATOR_MACHINE, QUEUE_WAITS, REQUESTS, SOURCES, TABLES, UPSTREAM_EVENTS
from floodmark.errors import RunError
from floodmark.model.check import Check
from floodmark.model.host import HostDescription, LeaseEnd, UnitState
from floodmark.model.load import GeneratorSummary
from floodmark.model.stored import StoredT, load, write_json
from floodmark.runs.archive import open_archive, unpack
from floodmark.runs.folders import HostFolder, RunFolder
from floodmark.verdict.clock import HostClock, Shift, move_requests, shift_of
from floodmark.verdict.logs import load_access_log, load_error_log, load_strace
from floodmark.verdict.rules import GENERATORS_REPORTED, LOG_WHOLE
from floodmark.verdict.tables import Phases, create_tables, load_csv, write_table

# The format from which on a host says how many rows it wrote, and which of its units were active at the end.
FORMAT_WITH_EVIDENCE = 7
# So many of the processes that were lost are named by their numbers.
MOST_NAMED = 10
# [{"name": "floodmark-agent.service", "active_state": "active", …}, …]; {"accept_queue": 18000, …}
UNITS = TypeAdapter(list[UnitState])
ROWS_WRITTEN = TypeAdapter(dict[str, int])
# {"why": "over", "failures": []}
LEASE_END = TypeAdapter(LeaseEnd)

T = TypeVar("T")


@dataclass(frozen=True)
class Ingested:
    """One host's tables, open for questions, and what was noticed on the way.

    Attributes:
        database: holds the tables under their names.
        host: host.json.
        generators: what each process of the flood wrote about itself.
        phases: when the flood was.
        shifts: number of a generator -> what took its times to the host's clock.
        units: the units of the run at its end; None where the host did not say.
        written: table -> rows that the agent wrote; None where it did not say.
        lease_end: why the run no longer held the host; None where the host did not say.
        checks: rules that reading all of this has found broken.
    """

    database: duckdb.DuckDBPyConnection
    host: HostDescription
    generators: Sequence[GeneratorSummary]
    phases: Phases
    shifts: Mapping[int, Shift]
    units: Sequence[UnitState] | None
    written: Mapping[str, int] | None
    lease_end: LeaseEnd | None
    checks: Sequence[Check]

    @property
    def clock(self) -> Shift:
        """The least certain of the shifts."""
        return max(
            self.shifts.values(), key=lambda one: (one.contradiction_ns, one.error_ns is None, one.error_ns or 0)
        )

    @property
    def has_evidence(self) -> bool:
        """Whether this host was to say how many rows it wrote, and which units were active."""
        return self.host.format_version >= FORMAT_WITH_EVIDENCE


def ingest(run: RunFolder, folder: HostFolder, sources: Collection[str]) -> Ingested:
    """Read what one host wrote, and write its tables and host.json.

    Args:
        run: the run, with what the load generator wrote.
        folder: the host's results, with its archive.
        sources: names of the sources that the agent was to read, besides itself.

    Raises:
        RunError: the archive, or what the load generator wrote, is missing or damaged.
    """
    database = duckdb.connect()
    create_tables(database)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="floodmark-") as name:
        raw = Path(name)
        extract_archive(folder.archive, raw)
        host = read_part(HostDescription, raw / "host.json", folder.archive)
        wall_ns = host.clocks.wall_minus_monotonic_ns
        # Requests come first: they say of which phase a sample is.
        generators = _load_flood(database, run.load(folder.name), checks)
        checks += load_access_log(database, raw / "nginx-access.log", wall_ns)
        checks += load_error_log(database, raw / "nginx-error.log", wall_ns, host.clocks.utc_offset_s)
        clock = HostClock(wall_ns, host.clocks.wall_error_ns or 0, host.clocks.kernel_boot_id)
        shifts = {one.generator: shift_of(database, clock, one) for one in generators}
        for number, shift in shifts.items():
            move_requests(database, number, shift)
        phases = _find_phases(database)
        for table in (one for one in SOURCES if one is AGENT or one.name in sources):
            checks += load_csv(database, table, raw / f"{table.name}.csv", phases)
        # The one is only there with trace=true, the other not in runs before format 6.
        for table, divided in ((QUEUE_WAITS, phases), (UPSTREAM_EVENTS, None)):
            if (raw / f"{table.name}.csv").exists():
                checks += load_csv(database, table, raw / f"{table.name}.csv", divided)
        load_strace(database, raw, wall_ns, phases)
        units = _read_if_there(UNITS, raw / "units.json")
        written = _read_if_there(ROWS_WRITTEN, raw / "written.json")
        lease_end = _read_if_there(LEASE_END, raw / "end.json")
    for table in TABLES.values():
        write_table(database, table, folder)
    write_json(folder.description, host.facts())
    return Ingested(database, host, generators, phases, shifts, units, written, lease_end, checks)


def extract_archive(archive: Path, target: Path) -> None:
    """Unpack what a host wrote.

    Raises:
        RunError: it is missing or damaged.
        OSError: there is no room for it.
    """
    try:
        with open_archive(archive) as opened:
            unpack(opened, target)
    except FileNotFoundError:
        raise RunError(f"{archive} is missing: nothing was fetched from this host.") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None


def read_part(model: type[StoredT], path: Path, where: Path) -> StoredT:
    """Read a file of an archive or of a folder.

    Args:
        model: what it holds.
        path: the file.
        where: what it is a part of, for a message.

    Raises:
        RunError: it is missing or damaged.
    """
    if not path.exists():
        raise RunError(f"{where} has no {path.name}: the run stopped before it was written.")
    return load(model, path, called=f"{path.name} in {where}")


def _read_if_there(shape: TypeAdapter[T], path: Path) -> T | None:
    """Return what a file holds; None where there is none, or nothing that can be counted with."""
    try:
        return shape.validate_json(path.read_bytes()) if path.exists() else None
    except ValidationError:
        return None


def _load_flood(database: duckdb.DuckDBPyConnection, folder: Path, checks: list[Check]) -> list[GeneratorSummary]:
    """Load the requests of all processes of a flood, and return what each has written about itself.

    Raises:
        RunError: none of them came to an end.
    """
    generators = [read_part(GeneratorSummary, path, folder) for path in sorted(folder.glob("load.*.json"))]
    if not generators:
        raise RunError(f"{folder} has no load.*.json: the flood was ended before it could say what it had done.")
    there = {one.generator for one in generators}
    everyone = max(one.generators for one in generators)
    # How many there are is read from a file that may be damaged, so they are not counted through.
    lost = everyone - sum(one < everyone for one in there)
    named = islice((one for one in range(everyone) if one not in there), MOST_NAMED)
    numbers = ", ".join([*map(str, named), *(["…"] if lost > MOST_NAMED else [])])
    checks.append(GENERATORS_REPORTED.check(lost, of=str(everyone), numbers=numbers))
    for one in generators:
        path = folder / f"requests.{one.generator}.csv"
        checks += load_csv(database, REQUESTS, path)
        # Runs before format 7 have none.
        if (machine := folder / f"machine.{one.generator}.csv").exists():
            checks += load_csv(database, GENERATOR_MACHINE, machine)
        if one.requests_sha256 is not None and path.exists() and one.requests_sha256 != _sha256(path):
            why = "is not as its generator has closed it: its SHA-256 is another one"
            checks.append(LOG_WHOLE.check(False, ok=False, subject=path.name, why=why))
    return generators


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_phases(database: duckdb.DuckDBPyConnection) -> Phases:
    """Return when the first request began and the last one ended."""
    database.execute("UPDATE requests SET phase = 'flood'")
    row = database.execute("SELECT min(start_ns), max(end_ns) FROM requests").fetchone()
    return Phases(*(row or (None, None)))
