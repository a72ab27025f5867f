"""What others took of a machine, on readings of its counters that were written here."""

from __future__ import annotations

import duckdb
import pytest

from collectors.fields import MACHINE
from floodmark.verdict.contention import of_a_machine, read_use
from floodmark.verdict.tables import create_tables

S = 1_000_000_000
FLOOD = (3 * S, 8 * S)


class Counters:
    """The counters of a machine with two processors, read ten times a second for ten seconds."""

    def __init__(self, **per_s: float | None) -> None:
        """Take how much each counter grows in a second."""
        self.per_s = {"cpu_idle_s": 2.0, **per_s}
        self.steps: dict[str, float] = {}

    def broken(self, flood: tuple[int, int] = FLOOD, generators_s: float = 0) -> dict[str, float]:
        """Return id -> value of the checks that are not kept."""
        database = duckdb.connect()
        create_tables(database)
        for tenth in range(101):
            row = {
                field.name: None if (grows := self.per_s.get(field.name, 0)) is None else grows * tenth / 10
                for field in MACHINE.fields
                if field.name not in ("t_ns", "reason")
            }
            for name, step in self.steps.items():
                row[name] = (row[name] or 0) + (step if tenth >= 50 else 0)
            columns = ["t_ns", *row]
            database.execute(
                f"INSERT INTO machine ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [tenth * S // 10, *row.values()],
            )
        use = read_use(database, "machine", *flood)
        return {one.id: float(one.value or 0) for one in of_a_machine(use, "the host", generators_s) if not one.ok}


def test_a_machine_that_is_left_alone_breaks_no_rule() -> None:
    assert Counters(cpu_user_s=0.4, units_cpu_us=400_000, cpu_idle_s=1.6).broken() == {}


def test_what_the_hypervisor_took_is_seen() -> None:
    assert Counters(cpu_steal_s=0.2, cpu_idle_s=1.8).broken() == {"cpu_stolen": pytest.approx(0.1)}


def test_sixty_per_cent_that_others_took_are_seen() -> None:
    """Of 2 processor seconds a second 1.3 are busy, and 0.1 of these are the run's own."""
    counters = Counters(cpu_user_s=1.0, cpu_system_s=0.3, cpu_idle_s=0.7, units_cpu_us=100_000)
    assert counters.broken() == {"cpu_taken": pytest.approx(0.6)}


def test_load_generators_on_the_same_kernel_are_no_others() -> None:
    counters = Counters(cpu_user_s=1.0, cpu_idle_s=1.0, units_cpu_us=100_000)
    assert counters.broken(generators_s=4.5) == {}


def test_programs_that_yield_to_all_others_take_nothing_from_them() -> None:
    assert Counters(cpu_nice_s=1.9, cpu_idle_s=0.1, units_cpu_us=0).broken() == {}


@pytest.mark.parametrize(
    ("counter", "per_s", "broken"),
    [
        ("psi_cpu_some_us", 600_000, {"cpu_pressure": pytest.approx(0.6)}),
        ("psi_memory_some_us", 20_000, {"memory_pressure": pytest.approx(0.02)}),
        ("psi_io_some_us", 300_000, {"io_pressure": pytest.approx(0.3)}),
        ("throttled_us", 1_000, {"cpu_throttled": pytest.approx(5)}),
    ],
)
def test_pressure_and_throttling_are_seen(counter: str, per_s: float, broken: dict[str, float]) -> None:
    assert Counters(**{counter: per_s}).broken() == broken


@pytest.mark.parametrize("step_s", [-5, 5])
def test_a_wall_clock_that_was_set_is_seen_although_it_may_be_right_at_both_ends_of_the_flood(step_s: int) -> None:
    counters = Counters()
    counters.steps["wall_minus_monotonic_ns"] = step_s * S
    assert counters.broken() == {"clock_set": 5000}


def test_a_clock_that_is_slewed_by_500_ppm_is_seen() -> None:
    assert Counters(raw_minus_monotonic_ns=500_000).broken() == {"clock_rate": pytest.approx(500, rel=0.01)}


def test_what_the_kernel_does_not_count_is_not_judged() -> None:
    missing = ("psi_cpu_some_us", "psi_memory_some_us", "psi_io_some_us", "throttled_us")
    assert Counters(**dict.fromkeys(missing, None)).broken() == {}


def test_without_the_processor_time_of_its_units_nobody_knows_who_took_the_rest() -> None:
    counters = Counters(cpu_user_s=1.5, cpu_idle_s=0.5, units_cpu_us=None)
    assert set(counters.broken()) == {"cpu_taken"}


def test_a_flood_that_was_over_at_once_is_judged_by_the_second_around_it() -> None:
    counters = Counters(cpu_steal_s=0.2, cpu_idle_s=1.8)
    assert counters.broken((3 * S, 3 * S + 50_000_000)) == {"cpu_stolen": pytest.approx(0.1)}


def test_a_machine_that_was_not_read_is_not_known() -> None:
    database = duckdb.connect()
    create_tables(database)
    checks = list(of_a_machine(read_use(database, "machine", *FLOOD), "the host", 0))
    assert {one.id for one in checks} == {"cpu_stolen", "cpu_taken", "clock_set"}
    assert not any(one.ok for one in checks)
    assert checks[0].sentence.startswith("it is not known whether the hypervisor left the machine its processors")
