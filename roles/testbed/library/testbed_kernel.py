#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: testbed_kernel
short_description: Gets a kernel that a virtual machine can boot
description:
  - Takes Debian's cloud kernel of a version from the package sources of a release, or an image of the user's own,
    and makes of it what a host of the testbed needs; once, in a folder named after the kernel.
options:
  cache_dir:
    description: Folder that keeps the kernels.
    type: path
    required: true
  debian_release:
    description:
      - Codename of a Debian release. On a machine of that release its own package sources are used, on another Debian
        the same mirrors with this release. Needed with O(version).
    type: str
  version:
    description: Debian's kernel of this version, such as V(6.1) or V(6.12); the newest that the sources offer.
    type: str
  image:
    description: Image of a kernel of one's own, instead of O(version).
    type: path
  modules:
    description: Its modules, a folder such as C(lib/modules/6.2.0); not needed where all is built in.
    type: path
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Get a kernel of Debian
  testbed_kernel:
    cache_dir: /var/cache/floodmark
    debian_release: bookworm
    version: "6.12"
"""
RETURN = r"""
kernel:
  description: Image of the kernel.
  type: str
  returned: success
initramfs:
  description: Archive with the first program and the modules for disk and network.
  type: str
  returned: success
modules:
  description: Image of a file system with all modules; empty when there are none.
  type: str
  returned: success
release:
  description: What uname says; empty when there are no modules to tell it.
  type: str
  returned: success
"""

import fcntl
import hashlib
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernel_image import version_of
from ansible.module_utils.testbed import HostError, move_whole, run
from ansible.module_utils.testbed_qemu import pack
from ansible.module_utils.testbed_sources import ReleaseSources

# What stands between a kernel and its root file system and network here.
NEEDED_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "nfit", "nd_pmem", "ext4")
# Raised when the recipe below changes, so that older results are not taken for new ones.
RECIPE = 11
MIB = 1 << 20
# The archive has this host's own files and its address beside it, see testbed_qemu.py. In virtual time it has no
# address and its disks are memory, see testbed_virtual.py.
INIT = """\
#!/bin/busybox sh
b() { /bin/busybox "$@"; }
b mount -t devtmpfs devtmpfs /dev
b mount -t proc proc /proc
for module in /modules/*; do [ -e "$module" ] && b insmod "$module"; done
b ip link set lo up
root=/dev/vda modules=/dev/vdb
if [ -e /address ]; then
    b ip address add "$(b cat /address)" dev eth0
    b ip link set eth0 up
else
    # QEMU names them in no order: one is the root, one has the modules, and the one for the results is empty.
    for disk in /dev/pmem*; do
        b mount -t ext4 -o ro "$disk" /root 2>/dev/null || { b ln -s "$disk" /dev/floodmark-results; continue; }
        if [ -d /root/etc ]; then root=$disk; else modules=$disk; fi
        b umount /root
    done
fi
b mount -t ext4 "$root" /root || { echo 'floodmark: no root file system'; b poweroff -f; }
b mkdir -p /root/usr/lib/modules
[ -b "$modules" ] && b mount -t ext4 -o ro "$modules" /root/usr/lib/modules
b cp -a /own/. /root/
b umount /proc
exec /bin/busybox switch_root /root /sbin/init
"""
POWER_OFF = "#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n"


class OwnKernel(NamedTuple):
    """A kernel that somebody has built: its image, and its folder of modules if it has one."""

    image: str
    modules: str | None


class DebianKernel(NamedTuple):
    """A kernel of Debian: as much of its version as is known, and the package sources that have it."""

    version: str
    sources: ReleaseSources


def package_of(version: str, sources: ReleaseSources) -> str:
    """Return the newest package that holds Debian's cloud kernel of a version.

    Args:
        version: as much of it as is known, such as 6.1.
        sources: package sources that may have it.

    Raises:
        HostError: there is none; with the versions that there are.
    """
    architecture = run("dpkg", "--print-architecture").strip()
    # linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
    pattern = re.compile(rf"linux-image-([0-9][^ ]*)-cloud-{architecture}")
    offered: dict[tuple[int, ...], str] = {}
    for line in sources.apt("apt-cache", "search", "--names-only", "^linux-image-[0-9].*-cloud-").splitlines():
        found = pattern.fullmatch(line.split(" ")[0])
        # The metapackage of a version is named like a kernel of two numbers, and holds none.
        if found and found.group(1).count(".") > 1:
            offered[tuple(map(int, re.findall(r"\d+", found.group(1))))] = found.group(0)
    # 6.1, 6.1.0-56, or a whole release: 6.1.0-56-cloud-amd64, 6.12.117+deb12-cloud-amd64
    number = version.removesuffix(f"-cloud-{architecture}")
    wanted = tuple(map(int, re.findall(r"\d+", number))) if re.match(r"\d+(\.\d+)*([-+~][\w.+~-]*)?$", number) else None
    fitting = [numbers for numbers in offered if numbers[: len(wanted)] == wanted] if wanted else []
    if not fitting:
        if sources.refresh():  # the lists may be older than the kernel
            return package_of(version, sources)
        versions = ", ".join(sorted({f"{major}.{minor}" for major, minor, *_ in offered})) or "none"
        raise HostError(
            f"testbed_kernel={version} is not among the kernels that the package sources of {sources.release} offer: "
            f"{versions}; take one of these, or an image of your own (testbed_kernel_image)"
        )
    return offered[max(fitting)]


def unpack(package: str, sources: ReleaseSources, folder: Path) -> tuple[Path, Path]:
    """Get a package and unpack it; return the kernel's image and its folder of modules."""
    sources.apt("apt-get", "download", package, folder=folder)
    (archive,) = folder.glob("*.deb")
    run("dpkg-deb", "--extract", str(archive), str(folder / "unpacked"))
    archive.unlink()
    (image,) = (folder / "unpacked/boot").glob("vmlinuz-*")
    (modules,) = (folder / "unpacked/lib/modules").iterdir()
    return image, modules


def keep_configuration(image: Path, modules: Path, target: Path) -> None:
    """Put the kernel's configuration among its modules: Debian has it beside the image, a build tree as its .config."""
    for known in (image.with_name(f"config-{modules.name}"), modules / "build/.config"):
        if known.exists() and not target.exists():
            shutil.copy(str(known), str(target))


def need_one_release(image: Path, modules: Path) -> None:
    """Refuse modules that the kernel would not load: without them it finds neither its disk nor its network.

    Raises:
        HostError: the image says another release than the folder's name.
    """
    release = version_of(image.read_bytes()).partition(" ")[0]
    if release and release != modules.name:
        raise HostError(
            f"testbed_kernel_modules={modules} are of kernel {modules.name}, and testbed_kernel_image={image} is "
            f"{release}: name the folder lib/modules/{release} that was built with it"
        )


def needed_modules(base: Path, release: str) -> list[str]:
    """Return the files of the modules for disk and network, in the order in which they must be loaded."""
    files: list[str] = []
    for name in NEEDED_MODULES:
        # insmod /…/lib/modules/6.1.0-56-cloud-amd64/kernel/drivers/virtio/virtio_ring.ko
        # A module that does not exist is built in; if it is not, the serial log will say what is missing.
        done = subprocess.run(
            ["modprobe", "-d", str(base), "-S", release, "--show-depends", name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        files += [line.split()[1] for line in done.stdout.splitlines() if line.startswith("insmod ")]
    return list(dict.fromkeys(files))


def plain_module(path: str) -> bytes:
    """Return the content of a module, unpacked."""
    if path.endswith(".xz"):
        return lzma.decompress(Path(path).read_bytes())
    if path.endswith(".zst"):
        done = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True)
        return done.stdout
    return Path(path).read_bytes()


def make_initramfs(files: Sequence[str], target: Path) -> None:
    """Write the archive: busybox, our first program, and some modules."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise HostError("the program busybox is missing, which a kernel starts first: install Debian's busybox-static")
    with tempfile.TemporaryDirectory(dir=str(target.parent)) as name:
        root = Path(name)
        for folder in ("bin", "dev", "modules", "proc", "root"):
            (root / folder).mkdir()
        shutil.copy(busybox, str(root / "bin/busybox"))
        for program, text in (("init", INIT), ("power-off", POWER_OFF)):
            (root / program).write_text(text, encoding="ascii")
            (root / program).chmod(0o755)
        for number, path in enumerate(files):
            (root / f"modules/{number:02}-{Path(path).name.partition('.ko')[0]}.ko").write_bytes(plain_module(path))
        target.write_bytes(pack(root))


def make_modules_disk(folder: Path, target: Path) -> None:
    """Write a file system with the content of lib/modules."""
    used = sum(path.lstat().st_size + 4096 for path in folder.rglob("*"))
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-d",
        str(folder),
        str(target),
        f"{used * 5 // 4 // MIB + 16}M",
    )


def prepare(folder: Path, kernel: OwnKernel | DebianKernel) -> None:
    """Make all that a host needs of a kernel in a folder."""
    with tempfile.TemporaryDirectory(dir=str(folder)) as name:
        work = Path(name)
        modules: Path | None
        if isinstance(kernel, OwnKernel):
            image, modules = Path(kernel.image), Path(kernel.modules) if kernel.modules else None
        else:
            image, modules = unpack(package_of(kernel.version, kernel.sources), kernel.sources, work)
        shutil.copy(str(image), str(folder / "vmlinuz"))
        files: list[str] = []
        if modules:
            need_one_release(image, modules)
            # modprobe wants lib/modules/RELEASE below some folder.
            release = modules.name
            base = work / "base"
            shutil.copytree(str(modules), str(base / "lib/modules" / release), symlinks=True,
                            ignore=shutil.ignore_patterns("build", "source"))  # fmt: skip
            keep_configuration(image, modules, base / "lib/modules" / release / "config")
            run("depmod", "-b", str(base), release)
            files = needed_modules(base, release)
            make_modules_disk(base / "lib/modules", folder / "modules.ext4")
            (folder / "release").write_text(release, encoding="ascii")
        make_initramfs(files, folder / "initramfs")


def name_of(kernel: OwnKernel | DebianKernel) -> str:
    """Return the name of the folder for a kernel: it changes when the kernel does."""
    if isinstance(kernel, DebianKernel):
        return f"{package_of(kernel.version, kernel.sources)}-{RECIPE}"
    for option, path in kernel._asdict().items():
        if path and not Path(path).exists():
            raise HostError(f"testbed_kernel_{option}={path} does not exist; name the {option} of a kernel")
    parts = [(path, Path(path).stat().st_mtime_ns) for path in kernel if path]
    return "own-" + hashlib.sha256(repr((RECIPE, parts)).encode()).hexdigest()[:12]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cache_dir": {"type": "path", "required": True},
            "debian_release": {"type": "str"},
            "version": {"type": "str"},
            "image": {"type": "path"},
            "modules": {"type": "path"},
        },
        required_one_of=[("version", "image")],
        required_by={"version": ["debian_release"]},
    )
    params = module.params
    cache = Path(params["cache_dir"])
    kernels = cache / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    try:
        kernel = (
            OwnKernel(params["image"], params["modules"])
            if params["image"]
            else DebianKernel(params["version"], ReleaseSources(params["debian_release"], cache))
        )
        with (kernels / "lock").open("w") as lock:  # two checkouts may prepare the same kernel
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = kernels / name_of(kernel)
            if isinstance(kernel, DebianKernel) and not folder.exists() and kernel.sources.refresh():
                folder = kernels / name_of(kernel)  # there may be a newer one by now
            missing = not folder.exists()
            if missing:
                with tempfile.TemporaryDirectory(prefix="preparing-", dir=str(kernels)) as preparing:
                    (Path(preparing) / "kernel").mkdir()
                    prepare(Path(preparing) / "kernel", kernel)
                    move_whole(Path(preparing) / "kernel", folder)
    except (HostError, OSError, subprocess.SubprocessError) as failure:
        module.fail_json(msg=str(failure))
    disk, release = folder / "modules.ext4", folder / "release"
    module.exit_json(
        changed=missing,
        kernel=str(folder / "vmlinuz"),
        initramfs=str(folder / "initramfs"),
        modules=str(disk) if disk.exists() else "",
        release=release.read_text(encoding="ascii") if release.exists() else "",
    )


if __name__ == "__main__":
    main()
