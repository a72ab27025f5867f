"""Hosts that are virtual machines: a kernel of their own on the shared root file system.

The kernel is started directly, without a boot loader, with an initramfs of our making: it loads the modules
for disk and network, sets the address, mounts the root and lays this host's own files over it.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import subprocess
import tempfile
from pathlib import Path

from ansible.module_utils.testbed import PREFIX_LENGTH, Host, HostError, Testbed, boot_id, run

# Where udev is missing, systemd would wait a minute and a half for the device of a login on the serial line.
KERNEL_ARGUMENTS = "console=ttyS0 net.ifnames=0 panic=-1 systemd.getty_auto=0 systemd.show_status=0"
# How long a kernel under KVM may take until its first program has run.
KVM_TRIAL_S = 15
# Tells the control node that the host is up, over its second serial line.
READY_UNIT = """\
[Unit]
Description=Tell the control node that this host is up
After=ssh.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo READY=1 >/dev/ttyS1'
"""


def pack(folder: Path) -> bytes:
    """Return a folder as a compressed archive for the kernel's initramfs.

    Equal folders give equal archives: all belongs to root and to no time, because in virtual time the kernel's work to
    unpack it would show a difference.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst
    """
    archive = bytearray()
    names = [".", *sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))]
    for number, name in enumerate([*names, "TRAILER!!!"], start=1):
        path = folder / name
        mode, content = 0, b""
        if number <= len(names):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                content = str(path.readlink()).encode()
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
        # inode, mode, uid, gid, links, mtime, size, four numbers of devices, length of the name, checksum
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += b"\0" * (-len(archive) % 4) + content
        archive += b"\0" * (-len(archive) % 4)
    return gzip.compress(bytes(archive), compresslevel=1, mtime=0)


class VirtualMachine(Host):
    """A virtual machine with a copy-on-write disk above a shared image.

    Args:
        testbed: that it is of.
        name: of the host.
        disk: image of the root file system.
        kernel: the kernel's image, or empty: the boot loader on the disk has the word.
        initramfs: archive with the first program and its modules.
        modules: image of a file system with the folder RELEASE, or empty.
        accelerator: auto, kvm or tcg.
        arguments: more arguments of the kernel.
        memory_mb: size of its memory.
    """

    def __init__(
        self,
        testbed: Testbed,
        name: str,
        *,
        disk: str,
        kernel: str,
        initramfs: str,
        memory_mb: int,
        modules: str = "",
        accelerator: str = "auto",
        arguments: str = "",
    ) -> None:
        super().__init__(testbed, name)
        self.disk = disk
        self.kernel = kernel
        self.shared_initramfs = initramfs
        self.memory_mb = memory_mb
        self.modules = modules
        self.wanted_accelerator = accelerator
        self.arguments = arguments

    def make_network(self) -> None:
        """Make the host's end on the bridge."""
        run("ip", "tuntap", "add", "dev", self.interface, "mode", "tap")
        run("ip", "link", "set", self.interface, "master", self.testbed.bridge, "up")

    def make_files(self) -> None:
        """Make the disk, unless there is one, and the initramfs with this host's name, address and keys."""
        is_new = self.make_disk()
        if not self.kernel:
            if is_new:
                raise HostError(
                    f"host {self.name} is to boot the kernel on its own disk, and has none: a disk does not outlive a "
                    "boot of the control node. Start it with another testbed_kernel, and install one."
                )
            return  # its disk has them from an earlier boot
        with tempfile.TemporaryDirectory(dir=str(self.folder)) as folder:
            root = Path(folder)
            own = root / "own"
            own.mkdir()
            self.write_own_files(own)
            wanted = own / "etc/systemd/system/multi-user.target.wants"
            wanted.mkdir(parents=True)
            (wanted.parent / "floodmark-ready.service").write_text(READY_UNIT, encoding="ascii")
            (wanted / "floodmark-ready.service").symlink_to("../floodmark-ready.service")
            (root / "address").write_text(f"{self.address}/{PREFIX_LENGTH}", encoding="ascii")
            # The kernel unpacks archives one after the other.
            shared = Path(self.shared_initramfs).read_bytes()
            (self.folder / "initramfs").write_bytes(shared + pack(root))

    def make_disk(self) -> bool:
        """Lay a disk above the shared image, unless there is one, and tell whether it was made.

        It stays for the next boot, because to provision it takes minutes.
        """
        disk, below = self.folder / "disk.qcow2", self.folder / "disk-is-above"
        if disk.exists() and below.exists() and below.read_text(encoding="utf-8") == self.disk:
            return False
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.disk, "-F", "raw", str(disk))
        below.write_text(self.disk, encoding="utf-8")
        return True

    def boot(self, timeout_s: int) -> None:
        """Start the machine and wait until its systemd says that it is up."""
        devices = [
            *("-drive", f"file={self.folder}/disk.qcow2,if=virtio,format=qcow2,cache=unsafe"),
            *("-netdev", f"tap,id=net,ifname={self.interface},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=net,mac={self.mac_address}"),
            *("-device", "virtio-rng-pci"),
        ]
        if self.modules:
            devices += ["-drive", f"file={self.modules},if=virtio,format=raw,readonly=on"]
        console = self.folder / "console.log"
        console.unlink(missing_ok=True)
        command = self.command(self.accelerator(), console)
        if self.kernel:
            arguments = f"{KERNEL_ARGUMENTS} {self.arguments}".strip()
            command += self.direct_boot(self.folder / "initramfs", arguments)
        with (self.folder / "qemu.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *devices, "-serial", "stdio"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert process.stdout
        with process.stdout:
            self.wait_until_ready(process.stdout.fileno(), process, timeout_s)

    def command(self, accelerator: str, console: Path) -> list[str]:
        """Return the start of a command line of QEMU."""
        # TCG walks page tables in software: a fifth level of them would cost at every miss.
        cpu = "host" if accelerator == "kvm" else "max,la57=off"
        # Translated code takes a gigabyte if it may, and is not missed when it takes this.
        options = "kvm" if accelerator == "kvm" else "tcg,tb-size=128"
        return [
            *("qemu-system-x86_64", "-name", f"guest={self.machine}"),
            *("-machine", "q35", "-accel", options, "-cpu", cpu),
            *("-smp", "1", "-m", str(self.memory_mb)),
            *("-nodefaults", "-no-user-config", "-display", "none"),
            *("-serial", f"file:{console}"),
        ]

    def direct_boot(self, initramfs: Path | str, arguments: str) -> list[str]:
        """Return the options of QEMU that start a kernel without a boot loader; it cannot start it a second time."""
        return ["-no-reboot", "-kernel", self.kernel, "-initrd", str(initramfs), "-append", arguments]

    def accelerator(self) -> str:
        """Return kvm where a kernel really runs under it, else tcg, or what was asked for."""
        if self.wanted_accelerator != "auto":
            return self.wanted_accelerator
        return "kvm" if self.kvm_works() else "tcg"

    def kvm_works(self) -> bool:
        """Tell whether a kernel boots under KVM: that its device can be opened says little.

        What was tried since this machine was booted is kept, a line for each kernel: one that boots nowhere says
        nothing about KVM.
        """
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return False
        record, kernel = self.testbed.folder / "kvm", self.kernel
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        # 3a5f…-…-… works /var/cache/floodmark/kernels/linux-image-6.1.0-56-cloud-amd64-11/vmlinuz
        tried = {line.split(" ", 2)[2]: line.split(" ", 2)[1] for line in lines if line.startswith(f"{boot_id()} ")}
        if "works" not in tried.values() and kernel and kernel not in tried:
            tried[kernel] = "works" if self.boots_and_powers_off("kvm") else "fails"
            written = "".join(f"{boot_id()} {how} {what}\n" for what, how in tried.items())
            record.write_text(written, encoding="utf-8")
        return "works" in tried.values()

    def boots_and_powers_off(self, accelerator: str) -> bool:
        """Tell whether the kernel runs its first program in time, which powers off.

        QEMU ends as well when a kernel panics or the processor gives up; the kernel's own last line is what counts.

        Source: kernel/reboot.c kernel_power_off
        """
        log = self.folder / "trial.log"
        log.unlink(missing_ok=True)  # what an earlier trial said would count, when QEMU cannot even begin
        command = self.command(accelerator, log)
        command += self.direct_boot(self.shared_initramfs, f"{KERNEL_ARGUMENTS} rdinit=/power-off")
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=KVM_TRIAL_S, check=False)
        return log.exists() and b"reboot: Power down" in log.read_bytes()

    def console(self) -> str:
        """Return the end of the serial log, and what QEMU itself said."""
        said = (self.folder / "qemu.log").read_text(encoding="utf-8", errors="replace").strip()
        with contextlib.suppress(FileNotFoundError):
            said = f"{super().console()}\n{said}".strip()
        return said
