"""Source process: memory, descriptors and cpu of nginx's processes and of the upstream.

    7f0c0e5f6000-7ffd4b5d9000 ---p 00000000 00:00 0                  [rollup]
    Rss:                3952 kB
    Pss:                1402 kB
    Private_Dirty:       872 kB

Source: /proc/PID/smaps_rollup, fs/proc/task_mmu.c
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Union

import psutil

from collectors.errors import Unreadable

Row = tuple[Union[int, float, str, None], ...]

SEARCH_INTERVAL_NS = 1_000_000_000


def parse_smaps_rollup(text: str) -> dict[str, int]:
    """Return the sums of one smaps_rollup: name -> bytes."""
    sums = {}
    for line in text.splitlines()[1:]:
        name, value, _unit = line.split()
        sums[name.rstrip(":")] = int(value) * 1024
    return sums


def main_pid(unit: str) -> int:
    """Return the main process of a systemd unit.

    Raises:
        Unreadable: the unit has none.
    """
    shown = subprocess.run(
        ["systemctl", "show", "--property=MainPID", "--value", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    pid = int(shown.stdout.strip() or 0)
    if not pid:
        raise Unreadable(f"{unit} does not run")
    return pid


def child_pids(pid: int) -> list[int]:
    """Return the children of a process; psutil would look at every process of the host for that.

    One line of numbers: `813 814 `.
    Source: /proc/PID/task/PID/children, fs/proc/array.c
    """
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Processes:
    """Follows the processes of two units, one process at each reading: all at once would take a millisecond.

    Args:
        nginx_unit: its main process is the master, that one's children are the workers.
        upstream_unit: the misbehaving server.
    """

    def __init__(self, nginx_unit: str, upstream_unit: str) -> None:
        self._units = {"nginx-master": nginx_unit, "upstream": upstream_unit}
        self._found: dict[str, psutil.Process] = {}
        self._search_again_ns: dict[str, int] = {}
        for role in self._units:  # asking systemd takes long, so it is done before the first reading
            with contextlib.suppress(Unreadable, psutil.Error):
                self._find(role)
        self._round = self._all()
        self.readings_a_round = max(1, len(self._round))

    def read(self, now_ns: int) -> list[Row]:
        """Return the row of the next process; a unit without a process has a reason."""
        self._round = self._round or self._all()
        role, pid = self._round.pop(0)
        if pid is not None:
            return [_row(role, psutil.Process(pid))] if psutil.pid_exists(pid) else [_gone(role, pid)]
        try:
            return [_row(role, self._process(role, now_ns))]
        except (Unreadable, psutil.Error) as why:
            self._found.pop(role, None)
            return [_failed(role, None, str(why))]

    def _all(self) -> list[tuple[str, int | None]]:
        """List what there is to read: the units' main processes by their role, nginx's workers by their number."""
        workers: list[tuple[str, int | None]] = []
        if "nginx-master" in self._found:
            with contextlib.suppress(OSError):
                workers = [("nginx-worker", pid) for pid in child_pids(self._found["nginx-master"].pid)]
        return [*((role, None) for role in self._units), *workers]

    def _process(self, role: str, now_ns: int) -> psutil.Process:
        process = self._found.get(role)
        if process is None or not process.is_running():
            if now_ns < self._search_again_ns.get(role, 0):
                raise Unreadable(f"{self._units[role]} does not run")
            self._search_again_ns[role] = now_ns + SEARCH_INTERVAL_NS
            process = self._find(role)
        return process

    def _find(self, role: str) -> psutil.Process:
        process = self._found[role] = psutil.Process(main_pid(self._units[role]))
        return process


def _gone(role: str, pid: int) -> Row:
    return _failed(role, pid, "the process has ended")


def _failed(role: str, pid: int | None, reason: str) -> Row:
    return (role, pid, *[None] * 9, reason)


def _row(role: str, process: psutil.Process) -> Row:
    try:
        sums = parse_smaps_rollup(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
        with process.oneshot():
            cpu = process.cpu_times()
            switches = process.num_ctx_switches()
            return (
                role,
                process.pid,
                process.memory_info().vms,
                sums.get("Rss"),
                sums.get("Pss"),
                sums.get("Private_Dirty"),
                process.num_fds(),
                process.num_threads(),
                cpu.user + cpu.system,
                switches.voluntary,
                switches.involuntary,
                None,
            )
    except (psutil.Error, OSError) as why:
        return _failed(role, process.pid, str(why))
