"""What sources cover, on readings written here: whole, with holes, and with reasons."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import duckdb
import pytest

from floodmark.verdict.coverage import Coverage, coverage_of, windows_of
from floodmark.verdict.tables import create_tables

S, MS = 1_000_000_000, 1_000_000
FLOOD_START, FLOOD_END = 3 * S, 8 * S
# From half a second before the baseline of two seconds to a second after the drain of two.
KHZ = range(S // 2, 11 * S, MS)


def phase_of(t_ns: int, end_ns: int = FLOOD_END) -> str:
    return "baseline" if t_ns < FLOOD_START else "flood" if t_ns <= end_ns else "drain"


def cover(
    times_ns: Iterable[int], failed: Collection[int] = (), hz: float = 1000, end_ns: int = FLOOD_END
) -> dict[str, Coverage]:
    """Return phase -> coverage of the queue by readings at some times, of which some have failed."""
    database = duckdb.connect()
    create_tables(database)
    times = list(times_ns)
    database.execute(
        "INSERT INTO accept_queue (t_ns, listener, depth_conns, reason, phase) "
        "SELECT unnest($t), 'upstream', unnest($depth), unnest($reason), unnest($phase)",
        {
            "t": times,
            "depth": [None if one in failed else 1 for one in times],
            "reason": ["refused" if one in failed else None for one in times],
            "phase": [phase_of(one, end_ns) for one in times],
        },
    )
    found = coverage_of(database, {"accept_queue": hz}, windows_of(FLOOD_START, end_ns, 2, 2))
    return {one.phase: one for one in found if one.source == "accept_queue"}


def broken(found: dict[str, Coverage]) -> dict[str, list[str]]:
    """Return phase -> ids of the checks that it does not keep."""
    return {phase: ids for phase, one in found.items() if (ids := [each.id for each in one.checks() if not each.ok])}


def test_a_source_that_was_read_all_the_time_has_no_hole() -> None:
    found = cover(KHZ)
    assert broken(found) == {}
    flood = found["flood"]
    assert (flood.expected, flood.made, flood.good, flood.gap_ns) == (5000, 5000, 5000, MS)


def test_an_agent_that_is_stopped_a_second_into_the_flood_leaves_a_hole_in_flood_and_drain() -> None:
    found = cover(range(S // 2, 4 * S, MS))
    assert broken(found) == {"flood": ["source_read", "source_gap"], "drain": ["source_read", "source_gap"]}
    assert (found["flood"].made, found["drain"].made) == (1000, 0)
    # From the last reading to the end of the drain: nobody looked.
    assert found["flood"].gap_ns == found["drain"].gap_ns == 10 * S - (4 * S - MS)


def test_an_agent_that_started_late_leaves_a_hole_in_the_baseline() -> None:
    found = cover(range(2 * S, 11 * S, MS))
    assert broken(found) == {"baseline": ["source_gap"]}
    assert found["baseline"].gap_ns == S


@pytest.mark.parametrize(("frozen_ms", "seen"), [(1000, True), (150, True), (15, False)])
def test_an_agent_that_stood_still_is_seen(frozen_ms: int, seen: bool) -> None:
    times = [one for one in KHZ if not 5 * S <= one < 5 * S + frozen_ms * MS]
    assert (broken(cover(times)) != {}) == seen


def test_a_short_gap_in_a_long_flood_is_a_hole_although_the_share_is_high() -> None:
    """120 ms of 20 s are 0.6 %."""
    times = [one for one in range(S // 2, 30 * S, MS) if not 5 * S <= one < 5 * S + 120 * MS]
    assert broken(cover(times, end_ns=23 * S)) == {"flood": ["source_gap"]}


def test_two_readings_that_are_missing_at_20_hz_are_no_hole() -> None:
    times = [one for one in KHZ if one % (50 * MS) == 0 and not 5 * S <= one < 5 * S + 100 * MS]
    assert broken(cover(times, hz=20)) == {}


@pytest.mark.parametrize(("one_in", "expected"), [(2, {}), (3, ["source_read"])])
def test_readings_that_are_lost_one_by_one_are_a_hole_when_fewer_than_half_are_left(
    one_in: int, expected: Collection[str]
) -> None:
    """The phase was seen from end to end, at a lower rate; what that may hide is for `agent_punctual` to say."""
    found = cover(range(S // 2, 11 * S, one_in * MS))
    assert broken(found) == (dict.fromkeys(("baseline", "flood", "drain"), expected) if expected else {})


def test_a_source_that_fails_half_of_the_time_is_not_whole_and_the_reason_is_said() -> None:
    found = cover(KHZ, failed={one for one in KHZ if one >= FLOOD_START and one % (2 * MS) == 0})
    assert broken(found) == {"flood": ["source_answered"], "drain": ["source_answered"]}
    (sentence,) = (one.sentence for one in found["flood"].checks() if not one.ok)
    assert "only 50.0% of the readings of accept_queue of upstream in the flood have a value (2500 of 5000" in sentence
    assert sentence.endswith("refused")


def test_a_source_that_is_silent_from_the_middle_on_has_a_gap_as_long_as_that() -> None:
    found = cover(KHZ, failed={one for one in KHZ if one >= 5 * S})
    assert broken(found) == {
        "flood": ["source_answered", "source_gap"],
        "drain": ["source_answered", "source_gap"],
    }
    assert found["flood"].gap_ns == 5 * S + MS


def test_a_source_that_wrote_nothing_covers_nothing() -> None:
    found = cover([])
    assert {phase: (one.made, one.gap_ns) for phase, one in found.items()} == dict.fromkeys(
        ("baseline", "flood", "drain"), (0, 9 * S)
    )
    assert set(broken(found)) == {"baseline", "flood", "drain"}


def test_a_reading_now_and_then_may_be_late() -> None:
    assert broken(cover([one + (30 * MS if one % S == 0 else 0) for one in KHZ])) == {}


def test_what_is_read_seldom_needs_no_reading_in_a_short_phase() -> None:
    times = list(range(S // 2, 11 * S, S // 2))
    database = duckdb.connect()
    create_tables(database)
    for one in times:
        short = "baseline" if one < FLOOD_START else "drain"
        database.execute(
            "INSERT INTO process (t_ns, role, pid, phase) VALUES (?, 'nginx-worker', 7, ?)", [one + MS, short]
        )
    windows = windows_of(FLOOD_START - 100 * MS, FLOOD_START - 50 * MS, 2, 2)
    found = [one for one in coverage_of(database, {"process": 2}, windows) if one.source == "process"]
    assert [(one.phase, one.stream, one.expected, one.has_hole) for one in found] == [
        ("baseline", "7", 4, False), ("flood", "7", 0, False), ("drain", "7", 4, False),
    ]  # fmt: skip


def test_a_process_that_ends_is_a_hole_in_its_own_stream() -> None:
    database = duckdb.connect()
    create_tables(database)
    for one in range(S // 2, 11 * S, S // 10):
        for pid, end in ((7, 11 * S), (8, 5 * S)):
            if one < end:
                database.execute(
                    "INSERT INTO process (t_ns, role, pid, phase) VALUES (?, 'nginx-worker', ?, ?)",
                    [one, pid, phase_of(one)],
                )
    found = coverage_of(database, {"process": 10}, windows_of(FLOOD_START, FLOOD_END, 2, 2))
    assert {(one.stream, one.phase) for one in found if one.source == "process" and one.has_hole} == {
        ("8", "flood"), ("8", "drain"),
    }  # fmt: skip
