"""Whether a machine was left to the run: what others took of it, from two readings of its counters around the flood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from floodmark.model.check import Check
from floodmark.verdict import rules

# The kernel counts processor time in ticks of 10 ms: over a shorter time shares of it say nothing.
AT_LEAST_NS = 1_000_000_000
# Processor time that is not idle. Programs with a lower priority yield to others, so theirs is nobody's loss.
BUSY = "cpu_user_s + cpu_system_s + cpu_irq_s + cpu_softirq_s"
TIMES = f"{BUSY} + cpu_nice_s + cpu_idle_s + cpu_iowait_s + cpu_steal_s"


@dataclass(frozen=True)
class Use:
    """What became of a machine between two readings; what the kernel does not count is None.

    Attributes:
        seconds: between the readings.
        total_s: time of all its processors.
        busy_s: of it, in programs of the usual priority and in the kernel.
        steal_s: of it, taken by the hypervisor.
        own_s: of it, used by the units of the run.
        throttled_ms: how long these were kept from running.
        pressure: resource -> share of the time in which some task waited for it.
        wall_moved_ms: how far the wall clock moved against the monotonic clock, between any two readings of the run.
        rate_ppm: how fast the monotonic clock ran beside the one that nobody slews, in millionths.
    """

    seconds: float
    total_s: float
    busy_s: float
    steal_s: float
    own_s: float | None
    throttled_ms: float | None
    pressure: dict[str, float | None]
    wall_moved_ms: float
    rate_ppm: float


def read_use(database: duckdb.DuckDBPyConnection, table: str, start_ns: int, end_ns: int) -> Use | None:
    """Return what became of a machine in a time, None where it was not read before and after it.

    Args:
        database: with the table.
        table: machine, or a query with its columns.
        start_ns: beginning of the time.
        end_ns: its end; a short time is taken longer.
    """
    row = database.execute(
        f"""
        WITH readings AS (SELECT * FROM {table} WHERE reason IS NULL),
        first AS (SELECT * FROM readings WHERE t_ns <= $start ORDER BY t_ns DESC LIMIT 1),
        last AS (SELECT * FROM readings WHERE t_ns >= $end ORDER BY t_ns LIMIT 1),
        clocks AS (
            SELECT (max(wall_minus_monotonic_ns) - min(wall_minus_monotonic_ns)) / 1e6 AS wall_moved_ms,
                   (arg_max(raw_minus_monotonic_ns, t_ns) - arg_min(raw_minus_monotonic_ns, t_ns)) * 1e6
                       / nullif(max(t_ns) - min(t_ns), 0) AS rate_ppm
            FROM readings
        ),
        summed AS (SELECT t_ns, units_cpu_us, throttled_us, psi_cpu_some_us, psi_memory_some_us, psi_io_some_us,
                          {TIMES} AS total_s, {BUSY} AS busy_s, cpu_steal_s FROM readings),
        a AS (SELECT * FROM summed WHERE t_ns = (SELECT t_ns FROM first)),
        b AS (SELECT * FROM summed WHERE t_ns = (SELECT t_ns FROM last))
        SELECT (b.t_ns - a.t_ns) / 1e9, b.total_s - a.total_s, b.busy_s - a.busy_s, b.cpu_steal_s - a.cpu_steal_s,
               (b.units_cpu_us - a.units_cpu_us) / 1e6, (b.throttled_us - a.throttled_us) / 1e3,
               b.psi_cpu_some_us - a.psi_cpu_some_us, b.psi_memory_some_us - a.psi_memory_some_us,
               b.psi_io_some_us - a.psi_io_some_us, wall_moved_ms, abs(rate_ppm)
        FROM a CROSS JOIN b CROSS JOIN clocks
        """,
        {"start": start_ns, "end": max(end_ns, start_ns + AT_LEAST_NS)},
    ).fetchone()
    if row is None or not row[1]:
        return None
    seconds, total_s, busy_s, steal_s, own_s, throttled_ms, *waited_us, wall_moved_ms, rate_ppm = row
    pressure = {
        name: None if us is None else us / 1e6 / seconds
        for name, us in zip(("cpu", "memory", "io"), waited_us, strict=True)
    }
    return Use(seconds, total_s, busy_s, steal_s, own_s, throttled_ms, pressure, wall_moved_ms or 0.0, rate_ppm or 0.0)


def of_a_machine(use: Use | None, machine: str, flood_s: float, *, is_measured: bool = True) -> Iterator[Check]:
    """Yield whether a machine was left to the run.

    Args:
        use: what became of it in the flood; None where it was not read.
        machine: what it is called.
        flood_s: processor time of load generators that run on the same kernel (s); they are not others.
        is_measured: whether the units of the run are on it; they are not others either.
    """
    if use is None:
        why = "the source machine was not read before and after the flood"
        for rule in (rules.CPU_STOLEN, rules.CPU_TAKEN, rules.CLOCK_SET):
            yield rule.cannot_tell(why, subject=machine)
        return
    yield rules.CPU_STOLEN.check(_share(use.steal_s, use.total_s), subject=machine)
    if is_measured and use.own_s is None:
        yield rules.CPU_TAKEN.cannot_tell("the processor time of the run's own units is not known", subject=machine)
    else:
        others_s = max(0.0, use.busy_s - (use.own_s or 0.0) - flood_s)
        yield rules.CPU_TAKEN.check(_share(others_s, use.total_s), subject=machine)
    for name, rule in (
        ("cpu", rules.CPU_PRESSURE), ("memory", rules.MEMORY_PRESSURE), ("io", rules.IO_PRESSURE),
    ):  # fmt: skip
        share = use.pressure[name]
        if share is not None:
            yield rule.check(round(min(share, 1.0), 4), subject=machine)
    if use.throttled_ms is not None:
        yield rules.CPU_THROTTLED.check(round(use.throttled_ms, 3), subject=machine)
    yield rules.CLOCK_SET.check(round(use.wall_moved_ms, 3), subject=machine)
    yield rules.CLOCK_RATE.check(round(use.rate_ppm, 1), subject=machine)


def _share(part_s: float, whole_s: float) -> float:
    return round(min(part_s / whole_s, 1.0), 4)
