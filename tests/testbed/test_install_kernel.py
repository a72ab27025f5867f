"""A kernel on a host with a boot loader: a virtual machine that boots from its own disk stands for a real host."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.testbed.conftest import ROOT, evidence, run

pytestmark = pytest.mark.timeout(1200)

HOSTS = """
all:
  children:
    proxies: {hosts: {real1: }}
    testbed: {hosts: {real1: }}
  vars:
    testbed_driver: qemu
    testbed_qemu_packages: [grub-pc, initramfs-tools, kmod, linux-image-cloud-amd64]
"""
# What an installer does on a real host. The disk has no partitions, so GRUB notes the blocks of its core (--force).
# Few modules make a small initramfs, which is not long in the making on an emulated processor.
MAKE_BOOTABLE = """set -eu
uuid=$(blkid -s UUID -o value /dev/vda)
echo "UUID=$uuid / ext4 defaults 0 1" >/etc/fstab
cat >/etc/default/grub.d/testbed.cfg <<'END'
GRUB_TIMEOUT=0
GRUB_TERMINAL=serial
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX="console=ttyS0 net.ifnames=0 panic=-1 systemd.getty_auto=0 systemd.show_status=0"
END
cat >/etc/systemd/system/testbed-network.service <<'END'
[Service]
Type=oneshot
ExecStart=ip link set lo up
ExecStart=ip address add ADDRESS/24 dev eth0
ExecStart=ip link set eth0 up
[Install]
WantedBy=multi-user.target
END
systemctl enable --quiet testbed-network.service
echo MODULES=list >/etc/initramfs-tools/conf.d/testbed
printf '%s\\n' virtio_pci virtio_blk virtio_net ext4 >/etc/initramfs-tools/modules
grub-install --force /dev/vda
update-grub
# GRUB does not read the journal of the file system.
fsfreeze --freeze / && fsfreeze --unfreeze /
"""


class Kernel(NamedTuple):
    """A package on the control node."""

    name: str
    file: Path

    @property
    def release(self) -> str:
        """What uname says of it."""
        return self.name.removeprefix("linux-image-")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options of ansible-playbook for the one host; how to reach it is in inventory/group_vars."""
    path = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    path.write_text(HOSTS)
    return ["-i", "inventory/testbed.yml", "-i", str(path), "--limit", "real1"]


@pytest.fixture(scope="module")
def real1(hosts: list[str]) -> Iterator[Callable[[str], str]]:
    """Start a host that GRUB boots from its disk; return a function that runs a shell line there."""

    def up(kernel: str) -> None:
        done = run(
            "ansible-playbook", "playbooks/testbed-up.yml", *hosts, "-e", f"testbed_kernel={kernel}", timeout_s=600
        )
        assert done.returncode == 0, evidence(done)

    def on_host(line: str) -> str:
        done = ssh(line)
        assert done.returncode == 0, evidence(done) + console()
        return done.stdout

    existed = (ROOT / ".testbed").exists()
    try:
        up("6.1")
        address = (ROOT / ".testbed/hosts/real1/address").read_text()
        on_host(MAKE_BOOTABLE.replace("ADDRESS", address))
        up("disk")
        yield on_host
    finally:
        if existed:  # other tests go on with it
            switch_off()
        else:
            down = run("ansible-playbook", "playbooks/testbed-down.yml", *hosts)
            assert down.returncode == 0, evidence(down)


def switch_off() -> None:
    """End the virtual machine alone, which may be in the middle of a boot."""
    for process in psutil.process_iter(["cmdline"]):
        if f"file:{ROOT / '.testbed/hosts/real1/console.log'}" in (process.info["cmdline"] or []):
            process.terminate()
            process.wait(10)


def ssh(line: str) -> subprocess.CompletedProcess[str]:
    address = (ROOT / ".testbed/hosts/real1/address").read_text()
    return run(
        "ssh", "-i", ".testbed/ssh/id_ed25519", "-o", "UserKnownHostsFile=.testbed/ssh/known_hosts",
        "-o", "ConnectTimeout=10", f"root@{address}", line,
    )  # fmt: skip


def console() -> str:
    """Return all that the host has written since it was switched on; it was rebooted since."""
    return (ROOT / ".testbed/hosts/real1/console.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    """Return Debian's cloud kernel 6.12, as a file: the host has no way to the package sources."""
    # linux-image-6.12-cloud-amd64
    #   Depends: linux-image-6.12.117+deb12-cloud-amd64
    asked = run("apt-cache", "depends", "linux-image-6.12-cloud-amd64")
    found = re.search(r"Depends: (linux-image-\S+)", asked.stdout)
    assert found, evidence(asked)
    folder = tmp_path_factory.mktemp("kernel")
    subprocess.run(["apt-get", "download", found[1]], cwd=folder, check=True, capture_output=True)
    (file,) = folder.glob("*.deb")
    return Kernel(found[1], file)


def build(folder: Path, *, image: bytes = b"", architecture: str = "amd64") -> Kernel:
    """Build a package that has the image of a kernel, or none, and neither modules nor an initramfs."""
    kernel = Kernel("linux-image-6.12.1-mine", folder / "linux-image-6.12.1-mine_1_amd64.deb")
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "boot").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: {kernel.name}\nVersion: 1\nArchitecture: {architecture}\nMaintainer: me <me@example.net>\n"
        "Description: a kernel of my own\n"
    )
    (tree / "DEBIAN/postinst").write_text("#!/bin/sh\nupdate-grub\n")
    (tree / "DEBIAN/postinst").chmod(0o755)
    if image:
        (tree / f"boot/vmlinuz-{kernel.release}").write_bytes(image)
    subprocess.run(["dpkg-deb", "--build", "-Zgzip", tree, kernel.file], check=True, capture_output=True)
    return kernel


def install(hosts: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("ansible-playbook", "playbooks/install-kernel.yml", *hosts, *arguments, timeout_s=900)


def refuses(done: subprocess.CompletedProcess[str], *sentences: str) -> None:
    assert done.returncode != 0, evidence(done)
    for sentence in sentences:
        assert sentence in done.stderr, evidence(done)
    assert "Traceback" not in done.stdout + done.stderr, evidence(done)


# --- what is refused before a host is asked anything ----------------------------------------------


@pytest.fixture
def nobody(tmp_path: Path) -> list[str]:
    """Return the options for a host that does not answer: whoever asks it fails."""
    path = tmp_path / "nobody.yml"
    path.write_text("all: {children: {proxies: {hosts: {gone: {ansible_host: 127.0.0.1, ansible_port: 1}}}}}\n")
    return ["-i", str(path)]


@pytest.mark.parametrize("name", ["localhost", "me"])
def test_the_control_node_is_refused(name: str, tmp_path: Path) -> None:
    """No kernel is named, so that nothing can happen if it is not."""
    path = tmp_path / "here.yml"
    path.write_text(f"all: {{children: {{proxies: {{hosts: {{{name}: {{ansible_connection: local}}}}}}}}}}\n")
    refuses(install(["-i", str(path)]), f"{name} is the control node, and rebooting it would end this playbook")


def test_the_control_node_is_refused_by_any_other_name_too() -> None:
    """The module alone, which reboots nothing; the control node stands for a host that ssh reaches."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    done = run(
        "ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", "kernel_boot",
        "-a", f"state=checked control_node={boot_id}", "-e", f"ansible_python_interpreter={sys.executable}",
        ANSIBLE_LIBRARY="roles/kernel/library",
    )  # fmt: skip
    assert done.returncode != 0
    assert "this host is the control node, by another name or as a container on it" in done.stdout, evidence(done)


def test_no_package_is_refused(nobody: list[str]) -> None:
    refuses(install(nobody), "kernel_package is not set for gone: give the name of a package")


def test_a_file_that_is_not_there_is_refused(nobody: list[str]) -> None:
    done = install(nobody, "-e", "kernel_package=../none.deb")
    refuses(done, f"there is no file {ROOT.parent}/none.deb on the control node")


def test_a_package_without_a_kernel_is_refused(nobody: list[str], tmp_path: Path) -> None:
    other = build(tmp_path)
    path = os.path.relpath(other.file, ROOT)  # as typed in the folder where the command is given
    refuses(install(nobody, "-e", f"kernel_package={path}"), f"the package {other.name} 1 holds no kernel")


# --- on the host ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_container_and_a_kernel_for_another_machine_are_refused_and_nothing_changes(
    hosts: list[str], real1: Callable[[str], str], tmp_path: Path
) -> None:
    before = real1("grub-editenv list; ls /etc/default/grub.d /boot; cat /proc/sys/kernel/random/boot_id")
    foreign = build(tmp_path, image=b"a kernel", architecture="arm64")

    done = install(hosts, "-e", f"kernel_package={foreign.file}")
    refuses(done, f"{foreign.file} is for arm64, and the host is amd64")
    # So do containers tell what they are (systemd-detect-virt).
    real1("echo systemd-nspawn >/run/systemd/container")
    try:
        done = install(hosts, "-e", f"kernel_package={foreign.file}")
        refuses(done, "this host is a container (systemd-nspawn), whose kernel is that of the machine below")
    finally:
        real1("rm /run/systemd/container")
    assert real1("grub-editenv list; ls /etc/default/grub.d /boot; cat /proc/sys/kernel/random/boot_id") == before


@pytest.mark.slow
def test_a_package_from_the_control_node_is_installed_booted_and_kept(
    hosts: list[str], real1: Callable[[str], str], newer: Kernel
) -> None:
    older = real1("uname -r").strip()
    would = install(hosts, "-e", f"kernel_package={newer.file}", "--check", "-v")
    assert would.returncode == 0, evidence(would)
    assert f"would install {newer.name}" in would.stdout, evidence(would)
    assert "saved_entry" not in real1("grub-editenv list")

    done = install(hosts, "-e", f"kernel_package={newer.file}")
    assert done.returncode == 0, evidence(done) + console()
    assert real1("uname -r").strip() == newer.release
    noted = real1("grub-editenv list").splitlines()
    assert [line for line in noted if line.startswith("saved_entry=") and f">gnulinux-{newer.release}-" in line], noted
    assert not [line for line in noted if line.startswith("next_entry=g")], "GRUB forgets what it was to boot once"
    assert older in real1("ls /boot"), "what the host can fall back to is still there"
    assert "floodmark-kernel.deb" not in real1("ls /var/cache")

    again = install(hosts, "-e", f"kernel_package={newer.name}", "-v")  # by its name now
    assert again.returncode == 0, evidence(again)
    assert "changed=0" in again.stdout, evidence(again)


@pytest.mark.slow
def test_a_kernel_that_panics_costs_one_boot_and_the_host_comes_back_with_the_one_before(
    hosts: list[str], real1: Callable[[str], str], newer: Kernel, tmp_path: Path
) -> None:
    """It has no initramfs, so no driver for its disk. It comes by its name, from sources of the host's own."""
    before = real1("uname -r; grub-editenv list | grep saved_entry")
    subprocess.run(["dpkg-deb", "--extract", newer.file, tmp_path / "newer"], check=True)
    broken = build(tmp_path, image=(tmp_path / f"newer/boot/vmlinuz-{newer.release}").read_bytes())
    offer(broken, real1)

    done = install(hosts, "-e", f"kernel_package={broken.name}")
    refuses(done, f"real1 was told to boot {broken.release}", f"and came back with {newer.release}")
    assert "Unable to mount root fs" in console(), evidence(done) + console()
    assert real1("uname -r; grub-editenv list | grep saved_entry") == before

    # What is said when it does not come back in time.
    done = install(hosts, "-e", f"kernel_package={broken.name}", "-e", "kernel_boot_timeout_s=1")
    refuses(done, f"real1 was told to boot {broken.release} and did not come back within 1 s", "power-cycle it")


def offer(kernel: Kernel, real1: Callable[[str], str]) -> None:
    """Give the host package sources of its own that hold one package."""
    data = kernel.file.read_bytes()
    control = run("dpkg-deb", "--field", str(kernel.file)).stdout
    index = f"{control}Filename: ./{kernel.file.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    real1("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* && mkdir -p /srv/sources")
    real1("echo 'deb [trusted=yes] file:/srv/sources ./' >/etc/apt/sources.list")
    real1(f"cat >/srv/sources/Packages <<'END'\n{index}END")
    address = (ROOT / ".testbed/hosts/real1/address").read_text()
    copied = run(
        "scp", "-q", "-i", ".testbed/ssh/id_ed25519", "-o", "UserKnownHostsFile=.testbed/ssh/known_hosts",
        str(kernel.file), f"root@{address}:/srv/sources/",
    )  # fmt: skip
    assert copied.returncode == 0, evidence(copied)
