#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: testbed_tree
short_description: Builds the root file system of the testbed's hosts, once
description:
  - Runs mmdebstrap with the package sources of a Debian release. The result is kept under a name that
    follows from release, sources and packages, and is never changed afterwards.
options:
  cache_dir:
    description: Folder that keeps the root file systems.
    type: path
    required: true
  debian_release:
    description:
      - Codename of a Debian release. On a machine of that release its own package sources are used, on another Debian
        the same mirrors with this release.
    type: str
    required: true
  packages:
    description: Debian packages that the hosts need.
    type: list
    elements: str
    required: true
  disk:
    description: Whether an image of the root file system is wanted too, for virtual machines.
    type: bool
    default: false
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Build the root file system
  testbed_tree:
    cache_dir: /var/cache/floodmark
    debian_release: bookworm
    packages: [systemd, systemd-sysv, openssh-server]
"""
RETURN = r"""
path:
  description: The root file system.
  type: str
  returned: success
disk:
  description: An ext4 image with the same content.
  type: str
  returned: when O(disk)
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testbed import HostError, move_whole
from ansible.module_utils.testbed_sources import ReleaseSources

# The image is sparse: what a host does not write takes no space.
DISK_SIZE = "4G"
# Raised when the recipe below changes, so that older trees are not taken for new ones.
RECIPE = 1
RECIPE_OPTIONS = [
    "--variant=minbase",
    "--mode=root",
    "--quiet",
    # A power cut during the build would cost a build and nothing else.
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # The packaged nginx is not ours and must not answer on port 80; periodic jobs would disturb a measurement.
    '--customize-hook=chroot "$1" systemctl mask nginx.service apt-daily.timer apt-daily-upgrade.timer',
    '--customize-hook=chroot "$1" systemctl mask dpkg-db-backup.timer e2scrub_all.timer fstrim.timer',
    # Every host brings keys of its own.
    '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id',
]


def path_of(cache: Path, sources: ReleaseSources, packages: Sequence[str]) -> Path:
    """Return where a root file system is kept: it changes with release, sources, packages and recipe."""
    what = (RECIPE, RECIPE_OPTIONS, sources.release, sources.lines, packages)
    return cache / f"{sources.release}-{hashlib.sha256(repr(what).encode()).hexdigest()[:12]}"


def proxies(module: AnsibleModule) -> list[str]:
    """Return apt's proxy settings of this machine as options of mmdebstrap."""
    # Acquire::http::Proxy "http://127.0.0.1:3142";
    _rc, out, _err = module.run_command(["apt-config", "dump", "Acquire"])
    return ["--aptopt=" + line for line in out.splitlines() if "::Proxy" in line.split(" ")[0] and '""' not in line]


def build(module: AnsibleModule, sources: ReleaseSources, packages: Sequence[str], tree: Path) -> None:
    """Build a tree beside its final place and move it there whole."""
    building = Path(tempfile.mkdtemp(prefix="building-", dir=str(tree.parent)))
    try:
        command = ["mmdebstrap", *RECIPE_OPTIONS, *proxies(module), "--include=" + ",".join(packages),
                   sources.release, str(building / "tree"), *sources.lines]  # fmt: skip
        rc, out, err = module.run_command(command)
        if rc != 0:
            module.fail_json(
                msg="mmdebstrap could not build the root file system; its last lines are:\n"
                + "\n".join((out + err).splitlines()[-15:])
            )
        move_whole(building / "tree", tree)
    finally:
        shutil.rmtree(str(building), ignore_errors=True)


def make_disk(module: AnsibleModule, tree: Path, disk: Path) -> None:
    """Write an image with the content of a tree and move it to its place whole."""
    building = disk.with_suffix(".building")
    building.unlink(missing_ok=True)
    rc, out, err = module.run_command(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(building), DISK_SIZE])
    if rc != 0:
        module.fail_json(msg="mke2fs could not write the image of the root file system: " + (out + err).strip())
    move_whole(building, disk)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cache_dir": {"type": "path", "required": True},
            "debian_release": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "disk": {"type": "bool", "default": False},
        }
    )
    if os.geteuid() != 0:
        module.fail_json(msg="the testbed needs root, because it starts containers: run the command as root")
    packages = sorted(module.params["packages"])
    cache = Path(module.params["cache_dir"])
    cache.mkdir(parents=True, exist_ok=True)
    try:
        sources = ReleaseSources(module.params["debian_release"], cache)
        tree = path_of(cache, sources, packages)
        with (cache / "lock").open("w") as lock:  # two checkouts may build at the same time
            fcntl.flock(lock, fcntl.LOCK_EX)
            missing = not tree.exists()
            if missing:
                sources.refresh()  # it says clearly when there is no such release, and mmdebstrap does not
                build(module, sources, packages, tree)
            disk = Path(f"{tree}.ext4")
            disk_missing = module.params["disk"] and not disk.exists()
            if disk_missing:
                make_disk(module, tree, disk)
    except (HostError, OSError) as failure:
        module.fail_json(msg=str(failure))
    module.exit_json(changed=missing or disk_missing, path=str(tree), disk=str(disk))


if __name__ == "__main__":
    main()
