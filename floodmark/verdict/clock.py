"""How the clocks of a load generator and of the measured host are brought together.

Each request that nginx logged was seen from both sides. nginx cannot begin it before the client has sent it, and the
client cannot read the first byte before nginx has sent it; so each request bounds the shift between the two monotonic
clocks from both sides, as in NTP, and every request has to agree. When nginx logs a request is no bound: with
`Connection: close` it lingers, and logs after the client has closed.

nginx knows the millisecond, of a time that it takes once for each turn of its event loop: what it says is at most a
millisecond early, and never late.

Source: RFC 5905 section 8; nginx ngx_times.c ngx_time_update, ngx_http_request.c ngx_http_set_lingering_close
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import duckdb

from collectors.fields import REQUESTS
from floodmark.model.load import GeneratorSummary
from floodmark.verdict.rules import CLOCK_RATE

# nginx cuts its times to milliseconds.
NGINX_CUT_NS = 1_000_000
# Two clocks of their own need not run at the same rate: an oscillator is off by some tens of ppm, and a guest's
# calibration by more. What is beyond this is no clock that can be measured by.
RATE_TOLERANCE = (CLOCK_RATE.limit or 0) * 1e-6


@dataclass(frozen=True)
class Shift:
    """What takes times of one load generator to the clock of the host.

    Attributes:
        shift_ns: host's monotonic clock minus the generator's.
        error_ns: how wrong that is at most; None where nothing tells it.
        contradiction_ns: by how much the requests contradict each other; 0 where one shift fits all.
        tolerated_ns: how much of that the different rates of two clocks may explain; the error has it in it.
        offset_ns: host's wall clock minus the generator's, which follows from it.
    """

    shift_ns: int
    error_ns: int | None
    contradiction_ns: int
    tolerated_ns: int
    offset_ns: int


@dataclass(frozen=True)
class HostClock:
    """The clock of the measured host.

    Attributes:
        wall_ns: how far its wall clock is ahead of its monotonic clock.
        wall_error_ns: how wrong that may be.
        kernel_boot_id: machines that share it share their monotonic clock; None where it was not recorded.
    """

    wall_ns: int
    wall_error_ns: int
    kernel_boot_id: str | None


def shift_of(database: duckdb.DuckDBPyConnection, host: HostClock, generator: GeneratorSummary) -> Shift:
    """Return the shift between the clocks of one generator and of the host.

    Args:
        database: with the tables requests, on the generator's monotonic clock, and nginx_access, on the host's.
        host: its clock.
        generator: what it said of itself.
    """
    low, high, span_ns = _bounds(database, generator.generator, host.wall_error_ns)
    contradiction_ns = max(low - high, 0) if low is not None and high is not None else 0
    wall_shift_ns = generator.wall_minus_monotonic_ns - host.wall_ns
    if host.kernel_boot_id is not None and host.kernel_boot_id == generator.kernel_boot_id:
        # One clock: the requests can only confirm it.
        outside_ns = max(low or 0, -(high or 0), contradiction_ns, 0)
        return Shift(0, 0, outside_ns, 0, -wall_shift_ns)
    if low is None or high is None:
        return Shift(wall_shift_ns, None, 0, 0, 0)
    tolerated_ns = round(RATE_TOLERANCE * span_ns)
    middle_ns, error_ns = (low + high) // 2, abs(high - low) // 2 + tolerated_ns + 1
    unknown = host.kernel_boot_id is None or generator.kernel_boot_id is None
    if unknown and abs(middle_ns - wall_shift_ns) <= error_ns:
        # Nothing tells the two wall clocks apart, so they are taken for one; that may be wrong by as much again.
        return Shift(wall_shift_ns, error_ns + abs(middle_ns - wall_shift_ns), contradiction_ns, tolerated_ns, 0)
    return Shift(middle_ns, error_ns, contradiction_ns, tolerated_ns, middle_ns - wall_shift_ns)


class _Bounds(NamedTuple):
    """The greatest lower and the least upper bound of the shift (ns), and over what time requests give them."""

    low: int | None
    high: int | None
    span_ns: int


def _bounds(database: duckdb.DuckDBPyConnection, generator: int, wall_error_ns: int) -> _Bounds:
    """Return what the requests of one generator say of the shift."""
    row = database.execute(
        """
        SELECT max(begun_ns + CAST(coalesce(upstream_header_s, upstream_response_s, 0) * 1e9 AS BIGINT) - first_byte_ns)
                   - $cut - $wall_error,
               min(begun_ns - coalesce(connected_ns, start_ns)) + $cut + $wall_error,
               coalesce(max(begun_ns) - min(begun_ns), 0)
        FROM (
            SELECT end_ns - CAST(request_s * 1e9 AS BIGINT) AS begun_ns, upstream_header_s, upstream_response_s, id
            FROM nginx_access
        ) JOIN requests USING (id)
        WHERE generator = $generator
        """,
        {"cut": NGINX_CUT_NS, "wall_error": wall_error_ns, "generator": generator},
    ).fetchone()
    return _Bounds(None, None, 0) if row is None else _Bounds(*row)


def move_requests(database: duckdb.DuckDBPyConnection, generator: int, shift: Shift) -> None:
    """Move the requests of one generator to the host's monotonic clock."""
    if shift.shift_ns:
        moved = ", ".join(f"{field.name} = {field.name} + $shift" for field in REQUESTS.fields if field.unit == "ns")
        database.execute(
            f"UPDATE requests SET {moved} WHERE generator = $number", {"shift": shift.shift_ns, "number": generator}
        )
