"""Shifts between two clocks, against floods whose true shift is known."""

from __future__ import annotations

import random

import duckdb
import pytest

from floodmark.model.load import GeneratorSummary
from floodmark.verdict.clock import HostClock, Shift, shift_of
from floodmark.verdict.tables import create_tables

MS = 1_000_000
WALL_NS = 1_700_000_000_123_456_789


class Flood:
    """Requests between a generator and a host whose monotonic clock is ahead of the generator's by `shift_ns`.

    Args:
        shift_ns: the true shift.
        seed: of all delays.
        delay_ms: the longest delay each way.
        drift: how much faster the host's clock runs.
    """

    def __init__(self, shift_ns: int, seed: int = 1, delay_ms: float = 50, drift: float = 0) -> None:
        self.shift_ns, self.delay_ms, self.drift = shift_ns, delay_ms, drift
        self.draw = random.Random(seed)
        self.database = duckdb.connect()
        create_tables(self.database)
        self.number = 0

    def delay_ns(self) -> int:
        return int(self.draw.uniform(0, self.delay_ms) * MS)

    def host_ns(self, generator_ns: int) -> int:
        return generator_ns + self.shift_ns + int(generator_ns * self.drift)

    def logged_ms(self, host_ns: int) -> int:
        """What nginx says of a time: its wall clock in whole milliseconds."""
        return (host_ns + WALL_NS) // MS

    def send(self, start_ns: int, took_ms: float = 3, *, lingers: bool = False) -> None:
        """One request: nginx begins it after a delay, answers, and logs it then, or when it has lingered."""
        self.number += 1
        connected_ns = start_ns + self.delay_ns()
        begun_ns = connected_ns + self.delay_ns()
        answered_ns = begun_ns + int(took_ms * MS)
        first_byte_ns = answered_ns + self.delay_ns()
        closed_ns = first_byte_ns + self.delay_ns() if lingers else answered_ns
        begun, answered, logged = (self.logged_ms(self.host_ns(one)) for one in (begun_ns, answered_ns, closed_ns))
        self.database.execute(
            "INSERT INTO requests (generator, id, start_ns, connected_ns, first_byte_ns) VALUES (0, ?, ?, ?, ?)",
            [str(self.number), start_ns, connected_ns, first_byte_ns],
        )
        self.database.execute(
            "INSERT INTO nginx_access (id, end_ns, request_s, upstream_header_s) VALUES (?, ?, ?, ?)",
            [str(self.number), logged * MS - WALL_NS, (logged - begun) / 1000, (answered - begun) / 1000],
        )

    def shift(self, host_kernel: str | None = "host", generator_kernel: str | None = "generator") -> Shift:
        generator = GeneratorSummary(
            schema_version=1,
            generator=0,
            generators=1,
            wall_minus_monotonic_ns=WALL_NS,
            kernel_boot_id=generator_kernel,
        )
        return shift_of(self.database, HostClock(WALL_NS, 0, host_kernel), generator)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("lingers", [False, True])
def test_the_error_is_a_bound_whatever_the_delays(seed: int, lingers: bool) -> None:
    draw = random.Random(seed)
    flood = Flood(draw.randint(-(10**13), 10**13), seed, delay_ms=draw.choice([0.1, 5, 50]))
    for number in range(draw.choice([1, 5, 200])):
        flood.send(number * 10 * MS, draw.uniform(0, 100), lingers=lingers)
    shift = flood.shift()
    assert shift.contradiction_ns == 0
    assert shift.error_ns is not None
    assert abs(shift.shift_ns - flood.shift_ns) <= shift.error_ns
    # It is no worse than the delays, and the millisecond that nginx cuts off, allow.
    assert shift.error_ns <= flood.delay_ms * MS + 2 * MS


@pytest.mark.parametrize("delay_ms", [5, 10, 20])
def test_a_log_entry_that_waits_for_the_clients_fin_moves_nothing(delay_ms: float) -> None:
    """With Connection: close nginx logs after the client's FIN, which seemed to shift the clocks by as much."""
    flood = Flood(0, delay_ms=delay_ms)
    for number in range(50):
        flood.send(number * 10 * MS, lingers=True)
    shift = flood.shift()
    assert shift.error_ns is not None
    assert abs(shift.shift_ns) <= shift.error_ns


def test_two_machines_of_one_kernel_have_one_clock() -> None:
    flood = Flood(0)
    for number in range(20):
        flood.send(number * 10 * MS)
    assert flood.shift("k", "k") == Shift(0, 0, 0, 0, 0)


def test_one_kernel_whose_requests_say_otherwise_is_a_contradiction() -> None:
    flood = Flood(200 * MS)
    flood.send(0)
    shift = flood.shift("k", "k")
    assert shift.shift_ns == 0
    assert 90 * MS < shift.contradiction_ns <= 200 * MS


@pytest.mark.parametrize("step_s", [-5, 5])
def test_a_clock_that_was_set_in_the_flood_contradicts_itself(step_s: int) -> None:
    flood = Flood(0)
    for number in range(20):
        if number == 10:
            flood.shift_ns += step_s * 1000 * MS
        flood.send(number * 10 * MS)
    contradiction_ms = flood.shift().contradiction_ns / MS
    assert 4_800 < contradiction_ms < 5_000


def test_a_clock_that_is_slewed_contradicts_itself_once_it_is_farther_off_than_the_delays() -> None:
    """500 ppm, the most that adjtime(3) does, are 100 ms in 200 s."""
    flood = Flood(0, drift=500e-6, delay_ms=1)
    for number in range(200):
        flood.send(number * 1000 * MS)
    shift = flood.shift()
    assert shift.contradiction_ns > 90 * MS > shift.tolerated_ns


@pytest.mark.parametrize("ppm", [-150, -30, 30, 150])
def test_two_clocks_may_run_at_rates_of_their_own_and_the_error_is_still_a_bound(ppm: int) -> None:
    flood = Flood(7 * MS, drift=ppm * 1e-6, delay_ms=2)
    for number in range(60):
        flood.send(number * 1000 * MS)
    shift = flood.shift()
    assert shift.contradiction_ns <= shift.tolerated_ns
    assert shift.error_ns is not None
    for generator_ns in (0, 30_000 * MS, 59_000 * MS):
        assert abs(shift.shift_ns - (flood.host_ns(generator_ns) - generator_ns)) <= shift.error_ns


def test_without_an_answer_that_nginx_logged_nothing_is_known() -> None:
    assert Flood(0).shift().error_ns is None


def test_wall_clocks_that_nothing_tells_apart_are_one_and_the_error_says_how_wrong_that_may_be() -> None:
    flood = Flood(0, delay_ms=5)
    for number in range(20):
        flood.send(number * 10 * MS)
    known, unknown = flood.shift(), flood.shift(None, None)
    assert (unknown.shift_ns, unknown.offset_ns) == (0, 0)
    assert known.error_ns is not None
    assert unknown.error_ns == known.error_ns + abs(known.shift_ns)
