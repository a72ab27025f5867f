"""Source process: memory, descriptors and cpu of nginx's processes and of the upstream.

    813 (nginx) S 811 811 811 0 -1 …            /proc/PID/stat: parent is field 4, user and system time 14 and 15
    VmSize:     11684 kB                        /proc/PID/status
    Private_Dirty:       872 kB                 /proc/PID/smaps_rollup

Source: fs/proc/array.c, fs/proc/task_mmu.c
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Union

Row = tuple[Union[int, float, str, None], ...]

# Where systemd's tree of control groups may be mounted: v2, and v1 with or without a v2 beside it.
CGROUP_MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"))
# With strace=true it is in nginx's unit as well, as strace.py starts it there.
TRACER = "strace"
# Looking at more descriptors in one go would take longer than the fastest source can wait.
FDS_A_STEP = 100
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_STATUS = re.compile(r"^(VmSize|Threads|voluntary_ctxt_switches|nonvoluntary_ctxt_switches):\s+(\d+)", re.MULTILINE)
_ROLLUP = re.compile(r"^(Rss|Pss|Private_Dirty):\s+(\d+)", re.MULTILINE)


def unit_processes(units: dict[str, str]) -> dict[str, Path]:
    """Find out where the kernel lists the processes of systemd units.

    Args:
        units: name -> systemd unit, running.

    Returns:
        Name -> cgroup.procs, for the units that run.
    """
    found: dict[str, Path] = {}
    shown = subprocess.run(
        ["systemctl", "show", "--property=ControlGroup", *units.values()], capture_output=True, text=True, check=False
    )
    # ControlGroup=/system.slice/floodmark-nginx.service
    groups = [line.partition("=")[2].lstrip("/") for line in shown.stdout.splitlines() if line]
    for name, group in zip(units, groups):
        lists = (mount / group / "cgroup.procs" for mount in CGROUP_MOUNTS)
        path = next((path for path in lists if group and path.exists()), None)
        if path:
            found[name] = path
    return found


def parent_and_cpu_s(stat: str) -> tuple[int, float]:
    """Return the parent's pid and the user and system time of one /proc/PID/stat."""
    # The name stands in brackets and may hold blanks and brackets itself; field 3 follows its last one.
    fields = stat.rpartition(")")[2].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _role_of_nginx(parent: int, siblings: list[int]) -> str:
    return "nginx-worker" if parent in siblings else "nginx-master"


class Processes:
    """Follows the processes of two units, one at each reading: all at once would take too long for the beat.

    Args:
        nginx_unit: the process whose parent is not of the unit is the master, the others are workers.
        upstream_unit: the misbehaving server.
    """

    def __init__(self, nginx_unit: str, upstream_unit: str) -> None:
        self._units = {"nginx": nginx_unit, "upstream": upstream_unit}
        self._lists = unit_processes(self._units)
        self.readings_a_round = sum(max(1, len(self._pids(name))) for name in self._units)
        self._turns = self._rounds()

    def read(self, now_ns: int) -> Iterator[Row | None]:  # noqa: ARG002 - all sources are called alike
        """Yield the row of the next process, after as many pauses as its descriptors take."""
        yield from next(self._turns)

    def _pids(self, name: str) -> list[int]:
        """Return the processes of a unit, none when it has stopped."""
        try:
            pids = [int(line) for line in self._lists[name].read_text().split()]
        except (KeyError, OSError):
            return []
        return [pid for pid in pids if _name_of(pid) != TRACER]

    def _rounds(self) -> Iterator[Iterable[Row | None]]:
        """Yield the reading of one process after the other, for ever."""
        while True:
            for name, unit in self._units.items():
                pids = self._pids(name)
                if not pids:
                    yield [_failed(name, None, f"{unit} does not run")]
                for pid in pids:
                    yield _look_at(name, pid, pids)


def _look_at(name: str, pid: int, siblings: list[int]) -> Iterator[Row | None]:
    folder = f"/proc/{pid}"
    role = name
    try:
        parent, cpu_s = parent_and_cpu_s(_text(f"{folder}/stat"))
        if name == "nginx":
            role = _role_of_nginx(parent, siblings)
        status = _numbers(_STATUS, f"{folder}/status")
        yield None
        memory = _numbers(_ROLLUP, f"{folder}/smaps_rollup")
        yield None
        links = os.open(f"{folder}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fds = os.listdir(links)  # noqa: PTH208 - a Path for each would cost more than the kernel does
            sockets = deleted = deleted_bytes = 0
            names = iter(fds)
            while some := list(itertools.islice(names, FDS_A_STEP)):
                yield None
                for fd in some:
                    target = _target(links, fd)
                    sockets += target.startswith("socket:")
                    if target.endswith(" (deleted)") and target.startswith("/"):
                        deleted += 1
                        deleted_bytes += _size(links, fd)
        finally:
            os.close(links)
    except OSError as why:
        reason = "the process has ended" if isinstance(why, (FileNotFoundError, ProcessLookupError)) else str(why)
        yield _failed(role, pid, reason)
        return
    yield (
        role,
        pid,
        status["VmSize"] * 1024,
        memory["Rss"] * 1024,
        memory["Pss"] * 1024,
        memory["Private_Dirty"] * 1024,
        len(fds),
        sockets,
        deleted,
        deleted_bytes,
        status["Threads"],
        cpu_s,
        status["voluntary_ctxt_switches"],
        status["nonvoluntary_ctxt_switches"],
        None,
    )


def _target(links: int, fd: str) -> str:
    # socket:[31213], pipe:[…], anon_inode:[eventpoll], /var/log/…, /var/cache/floodmark-nginx/body/0000000007 (deleted)
    try:
        # From the open folder the kernel has to find one name and not five.
        return os.readlink(fd, dir_fd=links)
    except FileNotFoundError:
        return ""  # it was closed meanwhile


def _size(links: int, fd: str) -> int:
    try:
        return os.stat(fd, dir_fd=links).st_size
    except FileNotFoundError:
        return 0


def _name_of(pid: int) -> str:
    try:
        return _text(f"/proc/{pid}/comm").rstrip("\n")
    except OSError:
        return ""  # it has ended meanwhile; who looks at it will say so


def _text(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode()
    finally:
        os.close(fd)


def _numbers(pattern: re.Pattern[str], path: str) -> dict[str, int]:
    return {name: int(value) for name, value in pattern.findall(_text(path))}


def _failed(role: str, pid: int | None, reason: str) -> Row:
    return (role, pid, *[None] * 12, reason)
