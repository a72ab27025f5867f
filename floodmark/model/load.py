"""What each process of a flood says of itself: load.N.json."""

from __future__ import annotations

from typing import ClassVar

from floodmark.model.stored import Stored


class GeneratorSummary(Stored):
    """One process of a flood. Times are on its own monotonic clock (ns).

    Attributes:
        generator: its number, from 0.
        generators: how many processes the flood has.
        requests: rows that it wrote into requests.N.csv; None in runs that did not count them.
        requests_sha256: of that file as it was closed.
        begin_ns: when the flood began, as the leader said; begin_error_ns is how wrong that may be.
        unfinished: requests that were sent and had not ended.
        dropped: requests that were due and not sent, because as many as allowed were in flight.
        cpu_s: processor time over the whole flood (s).
        sending_s: how long it had something to send (s); cpu_sending_s is the processor time of that.
        longest_stall_ms: the longest time that its own loop was late.
        wall_minus_monotonic_ns: at the end; the other at the beginning.
        machine_id: boot id of the kernel that it ran on.
    """

    newest: ClassVar[int] = 1

    generator: int
    generators: int
    requests: int | None = None
    requests_sha256: str | None = None
    machine_rows: int | None = None
    begin_ns: int | None = None
    begin_error_ns: int | None = None
    first_start_ns: int | None = None
    last_end_ns: int | None = None
    wall_minus_monotonic_ns: int
    wall_minus_monotonic_begin_ns: int | None = None
    unfinished: int = 0
    dropped: int = 0
    cpu_s: float = 0
    cpu_warning: bool = False
    sending_s: float | None = None
    cpu_sending_s: float | None = None
    longest_stall_ms: float | None = None
    locust_version: str | None = None
    leader_version: str | None = None
    kernel_boot_id: str | None = None
