"""Hosts in virtual time: a provisioned disk, booted by an emulated processor whose clock counts instructions.

`-icount shift=0` lets QEMU's clock advance by one nanosecond with each instruction, and `sleep=off` lets it jump over
idle time. What comes from outside would come at another instruction each time, so nothing does: there is no network,
the disks are memory (a completion of a real one arrives in the host's time), and random numbers follow from a seed.

Source: drivers/char/random.c random_init_early
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import select
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from ansible.module_utils.testbed import LAST_OF_CONSOLE, Host, HostError, Testbed, boot_id, move_whole, run
from ansible.module_utils.testbed_qemu import KERNEL_ARGUMENTS, VirtualMachine, pack


class Fixed(TypedDict):
    """What decides, besides disk and kernel, what a guest does: most of it options of QEMU by their names."""

    machine: str
    cpu: str
    cpus: int
    icount: str
    rtc: str
    kernel_arguments: str


# What must be the same wherever and whenever a guest boots, so that it does the same.
FIXED: Fixed = {
    "machine": "q35,nvdimm=on",
    # Its random numbers would be the control node's. A string instruction counts once for each repetition, so a kernel
    # that clears memory by it would have the longer path: here all use loops (erms, fsrm, and rep_good below).
    "cpu": "max,la57=off,rdrand=off,rdseed=off,erms=off,fsrm=off",
    "cpus": 1,
    "icount": "shift=0,sleep=off,align=off",
    "rtc": "base=2026-01-01T00:00:00,clock=vm",
    # hpet: 10 ns a step, and nothing to calibrate. No layout and no hash of Python's is left to chance, no timer
    # of systemd's goes off.
    "kernel_arguments": (
        "clocksource=hpet clearcpuid=rep_good nokaslr norandmaps random.trust_cpu=off "
        "systemd.unit=floodmark-virtual.target systemd.mask=timers.target systemd.setenv=PYTHONHASHSEED=0"
    ),
}
# Room for the results; what is not written takes none.
RESULTS_BYTES = 64 << 20
# Room in the table of memory for disks: root, results, modules.
MEMORY_SLOTS = "slots=3,maxmem=32G"
POWER_OFF_TIMEOUT_S = 120


class StartState:
    """The disk that boots in virtual time begin with: never written to, and shared by all kernels.

    Attributes:
        disk: the image.
        record: its checksum, written last, and the boot of the control node in which it was found to have that.
    """

    def __init__(self, testbed: Testbed, key: str) -> None:
        folder = testbed.folder / "start-states"
        self.disk = folder / f"{key}.raw"
        self.record = folder / f"{key}.json"

    def exists(self) -> bool:
        """Tell whether it is there, whole: a power cut of the control node may have damaged it."""
        try:
            # {"sha256": "9f86d081…", "boot_id": "3a5f…-…"}
            record = json.loads(self.record.read_text(encoding="ascii"))
            if record.get("boot_id") == boot_id():
                return True
            whole = bool(record["sha256"] == self._sha256())
        except (OSError, ValueError, AttributeError, KeyError):
            return False
        if whole:
            self._write_record(record["sha256"])
        return whole

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        with self.disk.open("rb") as opened:
            for block in iter(lambda: opened.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()

    def _write_record(self, sha256: str) -> None:
        written = self.record.with_suffix(f".{os.getpid()}.tmp")
        written.write_text(json.dumps({"sha256": sha256, "boot_id": boot_id()}), encoding="ascii")
        move_whole(written, self.record)

    def save(self, disk: Path) -> None:
        """Make it from the disk of a host that has powered off."""
        self.disk.parent.mkdir(exist_ok=True)
        self.record.unlink(missing_ok=True)
        run("qemu-img", "convert", "-O", "raw", str(disk), str(self.disk))
        # The record is synced with its file system, and so the image.
        self._write_record(self._sha256())


class VirtualTime(VirtualMachine):
    """A virtual machine that is booted once, measures itself and powers off.

    Args:
        testbed: that it is of.
        name: of the host.
        start_state: names the disk.
        kernel: the kernel's image.
        initramfs: archive with the first program and its modules.
        memory_mb: size of its memory.
        modules: image of a file system with the folder RELEASE, or empty.
        arguments: more arguments of the kernel.
    """

    def __init__(
        self,
        testbed: Testbed,
        name: str,
        start_state: str,
        *,
        kernel: str,
        initramfs: str,
        memory_mb: int,
        modules: str = "",
        arguments: str = "",
    ) -> None:
        super().__init__(
            testbed,
            name,
            disk="",
            kernel=kernel,
            initramfs=initramfs,
            memory_mb=memory_mb,
            modules=modules,
            arguments=arguments,
        )
        self.start_state = StartState(testbed, start_state)
        # Beside the host that was provisioned, if that one runs.
        self.machine += "-virtual"
        # Where its serial line is logged; measure() has it among the results.
        self.log = self.folder / "console.log"

    def measure(self, config: Mapping[str, object], seed: int, target: Path, timeout_s: int) -> None:
        """Boot, wait until the guest has powered off, and keep what it wrote.

        Args:
            config: what the guest shall measure.
            seed: of all random numbers.
            target: folder for host.tar.gz, console.log and virtual.json.
            timeout_s: how long that may take, in the control node's time.

        Raises:
            HostError: it did not end in time, or left no results; with the end of its console.
        """
        if not self.start_state.exists():
            raise HostError(
                f"the disk that {self.name} boots from in virtual time is missing: it could not be provisioned, as the "
                "host that was to do it says"
            )
        self.stop()
        target.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = target / "console.log"
        with tempfile.TemporaryDirectory(dir=str(self.folder)) as folder:
            scratch = Path(folder)
            results = scratch / "results"
            with results.open("wb") as opened:
                opened.truncate(RESULTS_BYTES)
            (scratch / "initramfs").write_bytes(self.initramfs(scratch, config))
            self.run_to_its_end([*self.virtual_command(scratch, seed)], timeout_s)
            self.keep(results, target / "host.tar.gz")
        record = {**FIXED, "memory_mb": self.memory_mb, "qemu": self.qemu_version(),
                  "start_state": json.loads(self.start_state.record.read_text(encoding="ascii"))["sha256"]}  # fmt: skip
        (target / "virtual.json").write_text(json.dumps(record, indent=2) + "\n", encoding="ascii")

    def initramfs(self, scratch: Path, config: Mapping[str, object]) -> bytes:
        """Return the archive that the kernel unpacks: the shared one, and what this boot shall measure."""
        root = scratch / "root"
        own = root / "own/etc"
        (own / "floodmark").mkdir(parents=True)
        (own / "floodmark/virtual.json").write_text(json.dumps(config), encoding="ascii")
        # Whichever host the disk was provisioned on.
        (own / "hostname").write_text("floodmark\n", encoding="ascii")
        return Path(self.shared_initramfs).read_bytes() + pack(root)

    def virtual_command(self, scratch: Path, seed: int) -> Iterator[str]:
        """Return the command line of QEMU."""
        disks = [(self.start_state.disk, "off"), (scratch / "results", "on")]
        if self.modules:
            disks.append((Path(self.modules), "off"))
        # A boot whose control process was killed is of no use to anybody.
        yield from ("setpriv", "--pdeathsig", "KILL")
        yield from ("qemu-system-x86_64", "-name", f"guest={self.machine}")
        yield from ("-machine", FIXED["machine"], "-accel", "tcg,tb-size=128", "-cpu", FIXED["cpu"])
        yield from ("-smp", str(FIXED["cpus"]), "-m", f"{self.memory_mb}M,{MEMORY_SLOTS}")
        yield from ("-icount", FIXED["icount"], "-rtc", FIXED["rtc"])
        yield from ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-net", "none")
        yield from ("-kernel", self.kernel, "-initrd", str(scratch / "initramfs"))
        # The kernel takes its command line for its first entropy; here nothing else differs from boot to boot.
        arguments = f"{KERNEL_ARGUMENTS} {FIXED['kernel_arguments']} {self.arguments} floodmark.seed={seed}"
        yield from ("-append", arguments, "-serial", f"file:{self.log}")
        for number, (path, share) in enumerate(disks):
            # Not shared means that what the guest writes is its own and gone with it.
            memory = f"memory-backend-file,id=disk{number},mem-path={path},size={path.stat().st_size},share={share}"
            yield from ("-object", memory, "-device", f"nvdimm,memdev=disk{number}")

    def run_to_its_end(self, command: Sequence[str], timeout_s: int) -> None:
        """Run QEMU until the guest has powered off."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise HostError(
                f"host {self.name} had not powered off after {timeout_s} s, so it was ended: shorter windows "
                "(virtual_window_ms) take less, testbed_virtual_timeout_s=N allows more; its console "
                f"says:\n{self.console()}"
            ) from None
        if done.returncode != 0:
            raise HostError(f"host {self.name} did not boot in virtual time: {done.stderr.strip()}\n{self.console()}")

    def keep(self, results: Path, archive: Path) -> None:
        """Write what the guest left on its device as an archive."""
        try:
            with tarfile.open(str(results), "r:") as left:
                members = left.getmembers()
        except tarfile.TarError:
            members = []
        if not members:
            raise HostError(f"host {self.name} powered off without results; its console says:\n{self.console()}")
        last = members[-1]
        # Two empty blocks end an archive.
        end = last.offset_data + (-(-last.size // tarfile.BLOCKSIZE) + 2) * tarfile.BLOCKSIZE
        with results.open("rb") as opened, gzip.open(str(archive), "wb") as packed:
            packed.write(opened.read(end))
        # As floodmark/runs/archive.py reads it, which a module cannot import.
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        archive.with_name(archive.name + ".sha256").write_text(f"{digest}  {archive.name}\n", encoding="ascii")

    def console(self) -> str:
        """Return the end of the serial log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return text[-LAST_OF_CONSOLE:].strip() or "nothing"

    @staticmethod
    def qemu_version() -> str:
        """Return the version of QEMU, which decides what an emulated instruction is."""
        # QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)
        return run("qemu-system-x86_64", "--version").partition("version ")[2].split()[0]


def wait_until_powered_off(host: Host) -> None:
    """Wait until a host that was told to power off has done so.

    Raises:
        HostError: it has not, in time.
    """
    pid = host.pid()
    if pid is None:
        return
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended], [], [], POWER_OFF_TIMEOUT_S)
    os.close(ended)
    if not ready:
        raise HostError(f"host {host.name} had not powered off after {POWER_OFF_TIMEOUT_S} s, {host.console()}")
