"""The clocks of this machine: how they differ, and which kernel they belong to."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from collectors.errors import Unreadable

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Where the testbed shows its containers the boot id of the kernel they run on (roles/testbed).
SHOWN_BOOT_ID = Path("/run/host/floodmark/kernel-boot-id")
# A reading that nobody waits for can be made until one of its tries was not interrupted.
CAREFUL_TRIES = 50


class Offset(NamedTuple):
    """How far a clock is ahead of CLOCK_MONOTONIC.

    Attributes:
        offset_ns: the clock minus CLOCK_MONOTONIC.
        error_ns: width of the interval of CLOCK_MONOTONIC in which the clock was read.
    """

    offset_ns: int
    error_ns: int


def minus_monotonic(clock: int, tries: int) -> Offset:
    """Return how far a clock is ahead of CLOCK_MONOTONIC, from the tightest of some readings.

    Args:
        clock: such as time.CLOCK_REALTIME.
        tries: number of readings, each between two of CLOCK_MONOTONIC.
    """
    tightest = None
    for _ in range(tries):
        before = time.monotonic_ns()
        read = time.clock_gettime_ns(clock)
        after = time.monotonic_ns()
        if tightest is None or after - before < tightest.error_ns:
            tightest = Offset(read - (before + after) // 2, after - before)
    assert tightest
    return tightest


def wall_minus_monotonic() -> Offset:
    """Return how far the wall clock is ahead of CLOCK_MONOTONIC, with care: it is read once or twice a run."""
    return minus_monotonic(time.CLOCK_REALTIME, CAREFUL_TRIES)


def kernel_boot_id(shown: Path = SHOWN_BOOT_ID, own: Path = BOOT_ID) -> str:
    """Return the id of the kernel's boot: two hosts with the same one have the same CLOCK_MONOTONIC.

    In a container of systemd-nspawn /proc has the id of the container: nspawn mounts another file over the kernel's.

    Args:
        shown: a file with the kernel's id, for containers; it need not exist.
        own: the file of /proc.

    Raises:
        Unreadable: there is no such file, or only the id of a container.

    Source: drivers/char/random.c proc_do_uuid; systemd src/nspawn/nspawn.c setup_boot_id
    """
    # 3f1a2f0c-5e0b-4c39-a6c5-1f5f5f2b9f11
    try:
        if shown.exists():
            return shown.read_text(encoding="ascii").strip()
        if own.stat().st_dev != own.parent.stat().st_dev:
            raise Unreadable(f"{own} is that of a container: another file is mounted there, and {shown} is missing")
        return own.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Unreadable(f"{error.filename}: {error.strerror}") from error
