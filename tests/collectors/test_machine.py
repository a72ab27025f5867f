"""The counters of the whole machine, on captured text and beside other witnesses."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from collectors import machine
from collectors.clocks import kernel_boot_id, minus_monotonic
from collectors.errors import Unreadable
from collectors.fields import MACHINE
from collectors.machine import (
    CpuUse,
    KernelFile,
    Machine,
    Pressure,
    cpu_times_and_switches,
    parse_cpu_stat,
    parse_pressure,
)
from tests.conftest import ROOT

# Captured on Linux 6.18, the lines intr and softirq shortened; 70 of the ticks of user belong to guests.
STAT = b"""\
cpu  6826 531 4290 90831 400 3 112 40 70 0
cpu0 3144 274 1825 46160 72 0 11 19 0 0
cpu1 3681 257 2464 44670 328 0 100 20 0 0
intr 1990001 0 9 0
ctxt 1990473
btime 1795400000
processes 13114
procs_running 2
procs_blocked 0
softirq 881 0 13
"""
LOADAVG = b"0.78 0.27 0.13 2/111 13114\n"
PRESSURE = b"""\
some avg10=20.83 avg60=11.98 avg300=3.58 total=17294488
full avg10=0.00 avg60=0.00 avg300=0.00 total=2948377
"""
CPU_STAT = b"usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\n"
THROTTLED = CPU_STAT + b"nr_periods 9\nnr_throttled 2\nthrottled_usec 70\n"


def write(root: Path, **files: bytes) -> None:
    """Write files; two underscores in a name are a slash."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A /proc as a kernel without PSI has it, on a machine that does not tell its frequency."""
    write(tmp_path, proc__stat=STAT, proc__loadavg=LOADAVG)
    return tmp_path


def read(source: Machine) -> dict[str, Any]:
    (row,) = (row for row in source.read(0) if row)
    return dict(zip(MACHINE.columns[1:], row, strict=True))


@pytest.fixture
def groups(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control groups of two units in one slice, of which each and the slice are throttled."""
    for name in ("a", "b"):
        folder = root / "cg/system.slice" / name
        folder.mkdir(parents=True)
        (folder / "cpu.stat").write_bytes(THROTTLED)
    (root / "cg/cpu.stat").write_bytes(CPU_STAT)
    (root / "cg/system.slice/cpu.stat").write_bytes(b"usage_usec 9000\nthrottled_usec 500\n")
    found = {name: root / "cg/system.slice" / name / "cgroup.procs" for name in ("a", "b")}
    monkeypatch.setattr(machine, "unit_processes", lambda units: {name: found[name] for name in units if name in found})
    return root / "cg"


def test_a_reading_has_what_the_kernel_counts_and_nothing_where_it_does_not(root: Path) -> None:
    row = read(Machine({}, root))
    clocks = [row.pop(name) for name in ("wall_minus_monotonic_ns", "raw_minus_monotonic_ns")]
    assert all(isinstance(value, int) for value in clocks)
    assert {name: value for name, value in row.items() if value is not None} == {
        "cpu_user_s": 68.26,
        "cpu_nice_s": 5.31,
        "cpu_system_s": 42.9,
        "cpu_idle_s": 908.31,
        "cpu_iowait_s": 4.0,
        "cpu_irq_s": 0.03,
        "cpu_softirq_s": 1.12,
        "cpu_steal_s": 0.4,
        "switches_total": 1990473,
        "load_1m": 0.78,
    }


def test_this_machine_says_what_psutil_says() -> None:
    before, switches_before = psutil.cpu_times(), psutil.cpu_stats().ctx_switches
    with closing(Machine({})) as source:
        row = read(source)
        after, switches_after = psutil.cpu_times(), psutil.cpu_stats().ctx_switches
        for name in ("nice", "system", "idle", "iowait", "irq", "softirq", "steal"):
            assert getattr(before, name) <= row[f"cpu_{name}_s"] <= getattr(after, name)
        assert switches_before <= row["switches_total"] <= switches_after
        assert read(source)["switches_total"] >= row["switches_total"]


@pytest.mark.parametrize("text", [b"", b"cpu0 1 2 3 4 5 6 7 8\nctxt 5\n", b"cpu  1 2 3\nctxt 5\n", STAT[:60]])
def test_a_stat_that_is_none_is_no_reading(text: bytes) -> None:
    with pytest.raises(Unreadable, match="/proc/stat"):
        cpu_times_and_switches(text)


def test_without_proc_there_is_a_reason_and_no_row(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="proc/stat: No such file"):
        list(Machine({}, tmp_path).read(0))


def test_a_file_that_is_longer_than_was_thought_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "stat").write_bytes(b"x" * 70_000)
    with closing(KernelFile(tmp_path / "stat")) as file:
        assert len(file.read()) == 70_000
        (tmp_path / "stat").write_bytes(b"y")
        assert file.read() == b"y"


def test_pressure_is_read_where_the_kernel_has_it(root: Path) -> None:
    assert parse_pressure(PRESSURE) == Pressure(some=17294488, full=2948377)
    assert parse_pressure(b"") == Pressure(None, None)
    write(root, proc__pressure__cpu=PRESSURE, proc__pressure__io=PRESSURE.replace(b"17294488", b"5"))
    row = read(Machine({}, root))
    names = ("cpu_some", "memory_some", "memory_full", "io_some", "io_full")
    assert [row[f"psi_{name}_us"] for name in names] == [17294488, None, None, 5, 2948377]


def test_the_units_are_summed_up_and_every_group_above_them_is_counted_once(root: Path, groups: Path) -> None:
    assert parse_cpu_stat(THROTTLED) == CpuUse(3000, 70)
    source = Machine({"a": "a.service", "b": "b.service"}, root)
    assert [read(source)[name] for name in ("units_cpu_us", "throttled_us")] == [6000, 70 + 70 + 500]
    # The kernel gives ENODEV then; either way nothing is read.
    (groups / "system.slice/b/cpu.stat").write_bytes(b"")
    assert [read(source)[name] for name in ("units_cpu_us", "throttled_us", "reason")] == [None, None, None]


def test_without_the_controller_nothing_is_known_of_throttling(root: Path, groups: Path) -> None:
    for path in groups.rglob("cpu.stat"):
        path.write_bytes(CPU_STAT)
    assert [read(Machine({"a": "a.service"}, root))[name] for name in ("units_cpu_us", "throttled_us")] == [3000, None]


def test_version_1_of_control_groups_and_a_unit_that_does_not_run_have_no_sum(root: Path, groups: Path) -> None:
    assert read(Machine({"a": "a.service", "c": "c.service"}, root))["units_cpu_us"] is None
    for path in groups.rglob("cpu.stat"):
        path.unlink()
    assert read(Machine({"a": "a.service"}, root))["units_cpu_us"] is None


def test_the_frequency_is_a_mean_and_is_read_with_pauses(root: Path) -> None:
    for number in range(17):
        khz = b"<unknown>\n" if number == 3 else b"%d\n" % (2_000_000 + 100_000 * (number % 2))
        write(root, **{f"sys__devices__system__cpu__cpu{number}__cpufreq__scaling_cur_freq": khz})
    source = Machine({}, root)
    assert read(source)["frequency_mhz"] == pytest.approx((9 * 2000 + 7 * 2100) / 16)
    assert list(source.read(0)).count(None) == 17


def test_the_offset_of_a_clock_lies_between_two_readings() -> None:
    before = time.time_ns() - time.monotonic_ns()
    offset = minus_monotonic(time.CLOCK_REALTIME, tries=5)
    after = time.time_ns() - time.monotonic_ns()
    # Each difference here is wrong by what lies between its two readings, and a wall clock may be slewed.
    assert min(before, after) - 10**6 <= offset.offset_ns <= max(before, after) + 10**6
    assert 0 <= offset.error_ns < 10**9
    assert minus_monotonic(time.CLOCK_MONOTONIC, tries=1).offset_ns == pytest.approx(0, abs=10**6)


def test_the_boot_is_the_kernels_and_not_the_containers(tmp_path: Path) -> None:
    own = Path("/proc/sys/kernel/random/boot_id")
    shown = tmp_path / "kernel-boot-id"
    shown.write_text("3f1a2f0c-5e0b-4c39-a6c5-1f5f5f2b9f11\n")
    assert kernel_boot_id(shown, own) == "3f1a2f0c-5e0b-4c39-a6c5-1f5f5f2b9f11"
    shown.unlink()
    with pytest.raises(Unreadable, match="boot_id: No such file"):
        kernel_boot_id(shown, tmp_path / "boot_id")


def test_a_container_of_nspawn_is_not_taken_for_the_kernel() -> None:
    """It sees a file of its own over that of /proc."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    code = "from collectors.clocks import kernel_boot_id; print(kernel_boot_id())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == text
    mount = 'mount --bind LICENSE /proc/sys/kernel/random/boot_id && exec "$@"'
    mounted = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*mounted, "true"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")
    done = subprocess.run([*mounted, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Unreadable: /proc/sys/kernel/random/boot_id is that of a container" in done.stderr
