"""Source machine: what the whole machine did, and who else used it.

    cpu  6826 531 4290 90831 400 0 112 40 0 0                       /proc/stat, in ticks
    ctxt 1990473                                                    /proc/stat
    0.78 0.27 0.13 2/111 13114                                      /proc/loadavg
    some avg10=20.83 avg60=11.98 avg300=3.58 total=17294488         /proc/pressure/cpu, total in µs
    usage_usec 377562960                                            cpu.stat of a control group of version 2
    throttled_usec 12000                                            the same, where the controller cpu is on
    2400000                                                         cpufreq/scaling_cur_freq, in kHz

Source: fs/proc/stat.c show_stat, fs/proc/loadavg.c, kernel/sched/psi.c psi_show, kernel/sched/core.c
cpu_extra_stat_show, kernel/cgroup/rstat.c cgroup_base_stat_cputime_show,
drivers/cpufreq/cpufreq.c show_scaling_cur_freq
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from collectors.clocks import minus_monotonic
from collectors.errors import Unreadable
from collectors.output import Row
from collectors.process import TICKS_PER_S, unit_processes

CLOCK_TRIES = 5
# user, nice, system, idle, iowait, irq, softirq, steal; guest time, which follows, is contained in user and nice.
CPU_STATES = 8


class KernelFile:
    """A file of /proc or /sys that is kept open: to open it can take longer than to read it.

    Args:
        path: the file; it is opened when it is read for the first time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._size = 4096

    def read(self) -> bytes:
        """Return what it contains now.

        Raises:
            Unreadable: it does not exist, or the kernel does not give it.
        """
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            while len(text := os.pread(self._fd, self._size, 0)) == self._size:
                self._size *= 2
        except OSError as error:
            raise Unreadable(f"{self._path}: {error.strerror}") from error
        return text

    def read_if_there(self) -> bytes:
        """Return what it contains now; nothing if it does not exist or the kernel does not give it."""
        try:
            return self.read()
        except Unreadable:
            return b""

    def close(self) -> None:
        """Close it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def cpu_times_and_switches(stat: bytes) -> tuple[float, ...]:
    """Return the seconds of all processors in each of CPU_STATES, and the number of context switches.

    Args:
        stat: content of /proc/stat.

    Raises:
        Unreadable: it has no such lines.
    """
    cpu = stat.partition(b"\n")[0].split()
    switches = stat.rpartition(b"\nctxt ")[2].split(b"\n")[0]
    if cpu[:1] != [b"cpu"] or len(cpu) <= CPU_STATES or not switches.isdigit():
        raise Unreadable("/proc/stat does not begin with the times of all processors, or has no line ctxt")
    return (*(int(ticks) / TICKS_PER_S for ticks in cpu[1 : CPU_STATES + 1]), int(switches))


class Pressure(NamedTuple):
    """How long tasks have waited for a resource since the kernel was booted (µs); None where the kernel has no PSI.

    Attributes:
        some: at least one task waited.
        full: all tasks that had something to do waited.
    """

    some: int | None = None
    full: int | None = None


def parse_pressure(text: bytes) -> Pressure:
    """Return the totals of a file of /proc/pressure; an empty text has none."""
    found = {}
    for line in text.decode().splitlines():
        kind, *_averages, total = line.split()
        found[kind] = int(total.partition("=")[2])
    return Pressure(found.get("some"), found.get("full"))


class CpuUse(NamedTuple):
    """What control groups of version 2 have used (µs); None where the kernel does not count it.

    Attributes:
        used: processor time.
        throttled: how long they were kept from running by cpu.max.
    """

    used: int | None = None
    throttled: int | None = None


def parse_cpu_stat(text: bytes) -> CpuUse:
    """Return what a cpu.stat says; an empty text says nothing."""
    found = dict(line.split() for line in text.splitlines())
    used, throttled = (int(found[name]) if name in found else None for name in (b"usage_usec", b"throttled_usec"))
    return CpuUse(used, throttled)


class Units:
    """The control groups of systemd units.

    Args:
        units: name -> systemd unit.
    """

    def __init__(self, units: Mapping[str, str]) -> None:
        groups = [path.parent for path in unit_processes(dict(units)).values()] if units else []
        above = {parent for group in groups for parent in group.parents} - set(groups)
        # A unit that did not run has no group, and then there is no sum of all.
        self._own = [KernelFile(group / "cpu.stat") for group in groups] if len(groups) == len(units) else []
        self._above = [KernelFile(path) for group in sorted(above) if (path := group / "cpu.stat").exists()]

    def read(self) -> CpuUse:
        """Return the processor time of the units, and how long they or a group above them were throttled.

        Both are None when a unit has ended: without its part a sum would be smaller than the one before.
        """
        own = [parse_cpu_stat(file.read_if_there()) for file in self._own]
        used = [use.used for use in own if use.used is not None]
        if not used or len(used) < len(own):
            return CpuUse()
        above = [parse_cpu_stat(file.read_if_there()) for file in self._above]
        throttled = [use.throttled for use in (*own, *above) if use.throttled is not None]
        return CpuUse(sum(used), sum(throttled) if throttled else None)

    def close(self) -> None:
        """Close the files."""
        for file in (*self._own, *self._above):
            file.close()


class Machine:
    """Reads the counters of the whole machine.

    Args:
        units: name -> systemd unit whose processor time is summed up; none on a load generator.
        root: where /proc and /sys are.
    """

    def __init__(self, units: Mapping[str, str], root: Path = Path("/")) -> None:
        self._units = Units(units)
        self._stat = KernelFile(root / "proc/stat")
        self._load = KernelFile(root / "proc/loadavg")
        self._pressure = [KernelFile(root / "proc/pressure" / name) for name in ("cpu", "memory", "io")]
        frequencies = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        self._frequencies = [KernelFile(path) for path in sorted(frequencies)]

    def read(self, now_ns: int) -> Iterator[Row | None]:  # noqa: ARG002 - all sources are called alike
        """Yield one row; what this kernel does not count is empty."""
        offsets = (minus_monotonic(clock, CLOCK_TRIES) for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC_RAW))
        wall_ns, raw_ns = (offset.offset_ns for offset in offsets)
        counted = cpu_times_and_switches(self._stat.read())
        load = float(self._load.read().split()[0])
        cpu, memory, io = (parse_pressure(file.read_if_there()) for file in self._pressure)
        use = self._units.read()
        khz = []
        for file in self._frequencies:
            # Older x86 kernels ask the processor and wait for it, and sleep for 10 ms when the last time was more than
            # a second ago (arch/x86/kernel/cpu/aperfmperf.c arch_freq_get_on_cpu, msleep() until 2022).
            yield None
            text = file.read_if_there().strip()
            if text.isdigit():  # "<unknown>" where the driver cannot tell
                khz.append(int(text))
        mhz = sum(khz) / len(khz) / 1000 if khz else None
        yield (*counted, load, cpu.some, *memory, *io, *use, mhz, wall_ns, raw_ns, None)

    def close(self) -> None:
        """Close the files."""
        self._units.close()
        for file in (self._stat, self._load, *self._pressure, *self._frequencies):
            file.close()
