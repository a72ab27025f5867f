"""What each process of a flood knows about itself: load.N.json beside its requests.N.csv."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from locust import __version__ as locust_version

from collectors.clocks import kernel_boot_id, wall_minus_monotonic
from collectors.errors import Unreadable
from floodmark.loadgen.epoch import Epoch
from floodmark.loadgen.generator import Generator
from floodmark.loadgen.request_log import RequestLog


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The content of load.N.json. Times are on the monotonic clock of the process.

    Attributes:
        generator: number N of this process, from 0.
        generators: processes of the flood.
        requests: rows that it wrote to requests.N.csv.
        requests_sha256: SHA-256 of that file as it was closed, in hexadecimal.
        unfinished: requests that were sent and had not ended when the flood was cut off.
        dropped: requests that were due and not sent, because as many as allowed were in flight.
        begin_ns: the epoch of the flood: intended starts count from it (ns).
        begin_error_ns: how far that may be from the leader's epoch (ns); 0 for a single process.
        first_start_ns: when the first request started (ns), or None if there was none.
        last_end_ns: when the last one ended (ns), or None.
        sending_s: time from the epoch, or from when the process was told if that was later, until the last request was
            sent or dropped (s, to 10 ms).
        cpu_sending_s: processor time of the process in that time (s).
        cpu_s: its processor time until the last request ended (s).
        cpu_warning: whether Locust found that the process had used more than 90 % of a processor for 10 s.
        longest_stall_ms: the longest time by which the loop was late for its 10 ms timer, until the last request ended
            (ms): the process was stopped, got no processor time or was busy elsewhere.
        wall_minus_monotonic_begin_ns: the wall clock less the monotonic clock at the epoch (ns).
        wall_minus_monotonic_ns: the same at the end (ns). If they differ, the wall clock was set meanwhile.
        kernel_boot_id: names the boot of the kernel it ran on; hosts with the same one share its monotonic clock. None
            where it cannot be read.
        locust_version: of this process.
        leader_version: of the Locust that led it.
    """

    generator: int
    generators: int
    requests: int
    requests_sha256: str
    unfinished: int
    dropped: int
    begin_ns: int
    begin_error_ns: int
    first_start_ns: int | None
    last_end_ns: int | None
    sending_s: float
    cpu_sending_s: float
    cpu_s: float
    cpu_warning: bool
    longest_stall_ms: float
    wall_minus_monotonic_begin_ns: int
    wall_minus_monotonic_ns: int
    kernel_boot_id: str | None
    locust_version: str
    leader_version: str

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def summarize(
    generator: Generator,
    log: RequestLog,
    epoch: Epoch,
    *,
    generators: int = 1,
    cpu_warning: bool,
    leader_version: str = locust_version,
) -> Summary:
    """Return what a process knows about itself after its flood.

    Args:
        generator: one that has begun, and sends no more.
        log: its log, closed.
        epoch: when it should have begun.
        generators: processes of the flood.
        cpu_warning: whether Locust has warned.
        leader_version: of the Locust that leads.
    """
    usage = generator.usage
    assert usage
    return Summary(
        generator=log.generator,
        generators=generators,
        requests=log.count,
        requests_sha256=log.sha256,
        unfinished=generator.issued - log.count,
        dropped=generator.dropped,
        begin_ns=epoch.begin_ns,
        begin_error_ns=epoch.error_ns,
        first_start_ns=log.first_start_ns or None,
        last_end_ns=log.last_end_ns or None,
        sending_s=round(usage.sending_ns / 1e9, 6),
        cpu_sending_s=round(usage.cpu_sending_ns / 1e9, 6),
        cpu_s=round(usage.cpu_ns / 1e9, 6),
        cpu_warning=cpu_warning,
        longest_stall_ms=round(usage.longest_stall_ns / 1e6, 3),
        wall_minus_monotonic_begin_ns=usage.wall_minus_monotonic_ns,
        wall_minus_monotonic_ns=wall_minus_monotonic().offset_ns,
        kernel_boot_id=_kernel_boot_id(),
        locust_version=locust_version,
        leader_version=leader_version,
    )


def _kernel_boot_id() -> str | None:
    try:
        return kernel_boot_id()
    except Unreadable:
        return None
