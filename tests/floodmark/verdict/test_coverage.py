"""What sources cover, on readings written here: whole, with holes, and with reasons."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from floodmark.verdict.coverage import Coverage, coverage_of, windows_of
from floodmark.verdict.tables import create_tables

S = 1_000_000_000
MS = 1_000_000
FLOOD = (3 * S, 8 * S)
KHZ = range(int(0.5 * S), 11 * S, MS)


def cover(times_ns: Iterable[int], failed: Iterable[int] = (), hz: float = 1000) -> dict[str, Coverage]:
    """Return phase -> coverage of the queue by readings at some times, of which some failed."""
    database = duckdb.connect()
    create_tables(database)
    refused = set(failed)
    rows = [
        (t_ns, "upstream", None if t_ns in refused else 1, "refused" if t_ns in refused else None, phase(t_ns))
        for t_ns in times_ns
    ]
    database.execute("CREATE TABLE given (t BIGINT, l VARCHAR, d BIGINT, r VARCHAR, p VARCHAR)")
    database.executemany("INSERT INTO given VALUES (?, ?, ?, ?, ?)", rows[:1] or [[0, "", 0, "", ""]])
    frame = {name: [row[place] for row in rows] for place, name in enumerate("tldrp")}
    database.execute(
        "INSERT INTO accept_queue (t_ns, listener, depth_conns, reason, phase) "
        "SELECT unnest($t), unnest($l), unnest($d), unnest($r), unnest($p)",
        frame,
    ) if rows else None
    found = coverage_of(database, {"accept_queue": hz}, windows_of(*FLOOD, 2, 2))
    return {one.phase: one for one in found if one.source == "accept_queue"}


def phase(t_ns: int) -> str:
    return "baseline" if t_ns < FLOOD[0] else "flood" if t_ns <= FLOOD[1] else "drain"


def holes(found: dict[str, Coverage]) -> list[str]:
    return [name for name, one in found.items() if one.has_hole]
