#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_boot
short_description: Says what a host's GRUB is to boot, and refuses hosts where that cannot be said
description:
  - A kernel is named by its release. The entry of GRUB's menu is found by the identifiers that C(update-grub) gives
    them, which do not change when other kernels come and go.
options:
  state:
    description:
      - V(checked) looks and changes nothing, V(default) has a kernel booted from now on, V(once) has it booted
        the next time only.
    type: str
    required: true
    choices: [checked, default, once]
  release:
    description: What C(uname -r) says of the kernel.
    type: str
  sha256:
    description: Hash that the kernel's image has to have.
    type: str
  control_node:
    description: Boot identifier of the control node, which is refused.
    type: str
    default: ""
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Try a kernel
  kernel_boot:
    state: once
    release: 6.12.117+deb12-cloud-amd64
"""
RETURN = r"""
release:
  description: What C(uname -r) says of the kernel that runs.
  type: str
  returned: when O(state=checked)
version:
  description: What C(uname -v) says of it.
  type: str
  returned: when O(state=checked)
architecture:
  description: What the host is, in Debian's words.
  type: str
  returned: when O(state=checked)
entry:
  description: The entry of GRUB's menu.
  type: str
  returned: otherwise
"""

import hashlib
import os
import platform
import re
import shutil
from pathlib import Path
from typing import TypedDict

from ansible.module_utils.basic import AnsibleModule

MENU = Path("/boot/grub/grub.cfg")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROGRAMS = ("update-grub", "grub-editenv", "grub-probe", "grub-reboot", "grub-set-default")
# Where GRUB only reads (00_header of Debian's grub-common): there it could not forget what it was to boot once.
READ_ONLY_BELOW = ("diskfilter", "lvm", "cryptodisk")
READ_ONLY_FILE_SYSTEMS = ("btrfs", "cpiofs", "newc", "odc", "romfs", "squash4", "tarfs", "zfs")
# submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-0b1c…' {
# 	menuentry 'Debian GNU/Linux, with Linux 6.1.0' … $menuentry_id_option 'gnulinux-6.1.0-advanced-0b1c…' {
ENTRY = re.compile(r"(\s*)(submenu|menuentry) .*\$menuentry_id_option '([^']+)'")
# Which of them grub-set-default and grub-reboot write (grubenv).
NOTES = {"default": ("saved_entry", "grub-set-default"), "once": ("next_entry", "grub-reboot")}


class Checked(TypedDict):
    """What a host is; see RETURN."""

    changed: bool
    release: str
    version: str
    architecture: str


class Noted(TypedDict):
    """What it is to boot; see RETURN."""

    changed: bool
    entry: str


class MenuError(Exception):
    """What the menu lacks, in one sentence."""


def find_entry(menu: str, release: str) -> str:
    """Return the name of a kernel's entry: `gnulinux-advanced-UUID>gnulinux-RELEASE-advanced-UUID`.

    Args:
        menu: text of grub.cfg.
        release: of the kernel.

    Raises:
        MenuError: it is not there; with the kernels that are.
    """
    submenu = ""
    entries: dict[str, str] = {}
    for line in menu.splitlines():
        found = ENTRY.match(line)
        if not found:
            continue
        indent, kind, name = found.groups()
        kernel = re.fullmatch(r"gnulinux-(.+)-advanced-.+", name)
        if kind == "submenu":
            submenu = name
        elif kernel:
            entries[kernel.group(1)] = f"{submenu}>{name}" if indent else name
    if release not in entries:
        raise MenuError(
            f"GRUB's menu ({MENU}) has no entry for the kernel {release}, only for {', '.join(entries) or 'none'}: run "
            "update-grub on the host and see what it says"
        )
    return entries[release]


class Boot:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params

    def output(self, *command: str) -> str:
        rc, out, err = self.module.run_command(list(command))
        if rc != 0:
            self.module.fail_json(msg="{} failed: {}".format(" ".join(command), (err or out).strip()))
        return out

    # --- checked ------------------------------------------------------------------------------

    def checked(self) -> Checked:
        for refuse in (self.need_root, self.need_own_kernel, self.need_debian_with_grub, self.need_grub_that_writes,
                       self.need_no_run):  # fmt: skip
            refuse()
        self.entry_of(platform.release())
        return {
            "changed": False, "release": platform.release(), "version": platform.version(),
            "architecture": self.output("dpkg", "--print-architecture").strip(),
        }  # fmt: skip

    def need_root(self) -> None:
        if os.geteuid() != 0:
            self.module.fail_json(
                msg=f"the tasks on this host run as uid {os.geteuid()}, and they need root: set ansible_become: true "
                "for the host, or ansible_user: root"
            )

    def need_own_kernel(self) -> None:
        if BOOT_ID.read_text(encoding="ascii").strip() == self.params["control_node"]:
            self.module.fail_json(
                msg="this host is the control node, by another name or as a container on it (both have boot_id "
                f"{self.params['control_node']}), and rebooting it would end this playbook: leave it out with --limit"
            )
        rc, out, _err = self.module.run_command(["systemd-detect-virt", "--container"])
        if rc == 0:
            self.module.fail_json(
                msg=f"this host is a container ({out.strip()}), whose kernel is that of the machine below: install the "
                "kernel there, or take a virtual machine"
            )

    def need_debian_with_grub(self) -> None:
        missing = [program for program in ("dpkg", "apt-get", *PROGRAMS) if not shutil.which(program)]
        missing += [] if MENU.exists() else [str(MENU)]
        if missing:
            self.module.fail_json(
                msg=f"this host lacks {', '.join(missing)}: kernels are installed on Debian and Ubuntu with GRUB; "
                "install this one by hand"
            )
        # BOOT_IMAGE=/boot/vmlinuz-6.1.0-56-cloud-amd64 root=UUID=… ro
        if "BOOT_IMAGE=" not in Path("/proc/cmdline").read_text(encoding="utf-8"):
            self.module.fail_json(
                msg="this host was not booted by its GRUB (/proc/cmdline has no BOOT_IMAGE=), so it is not GRUB that "
                "chooses what it boots: give the kernel to what does; for a host of the testbed that is testbed_kernel"
            )

    def need_grub_that_writes(self) -> None:
        below = self.output("grub-probe", "--target=abstraction", str(MENU.parent)).split()
        file_system = self.output("grub-probe", "--target=fs", str(MENU.parent)).strip()
        reasons = [one for one in below if one in READ_ONLY_BELOW]
        reasons += [file_system] if file_system in READ_ONLY_FILE_SYSTEMS else []
        if reasons:
            self.module.fail_json(
                msg=f"{MENU.parent} lies on {', '.join(reasons)}, which GRUB cannot write to: it would boot the new "
                "kernel again and again, even if that panics. Put /boot on a partition of its own with ext4, or "
                "install the kernel by hand with somebody at the console"
            )

    def need_no_run(self) -> None:
        if self.module.run_command(["systemctl", "is-active", "--quiet", "floodmark-run.service"])[0] == 0:
            self.module.fail_json(
                msg="a run measures this host just now (floodmark-run.service is active): wait until it is over, or "
                "stop it on the host with 'systemctl stop floodmark-run.service'"
            )

    # --- default, once ------------------------------------------------------------------------

    def entry_of(self, release: str) -> str:
        try:
            return find_entry(MENU.read_text(encoding="utf-8", errors="replace"), release)
        except MenuError as error:
            self.module.fail_json(msg=str(error))

    def note(self) -> Noted:
        self.need_image()
        entry = self.entry_of(self.params["release"])
        variable, program = NOTES[self.params["state"]]
        # saved_entry=gnulinux-advanced-0b1c…>gnulinux-6.1.0-56-cloud-amd64-advanced-0b1c…
        noted = f"{variable}={entry}" in self.output("grub-editenv", "list").splitlines()
        if not noted and not self.module.check_mode:
            self.output(program, entry)
        return {"changed": not noted, "entry": entry}

    def need_image(self) -> None:
        image = Path(f"/boot/vmlinuz-{self.params['release']}")
        found = hashlib.sha256(image.read_bytes()).hexdigest() if image.exists() else "none"
        if self.params["sha256"] not in (None, found):
            self.module.fail_json(
                msg=f"{image} is not the image of the package, of whose version another build was installed before: "
                "remove that one first ('apt-get purge' with the package's name on the host)"
            )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["checked", "default", "once"]},
            "release": {"type": "str"},
            "sha256": {"type": "str"},
            "control_node": {"type": "str", "default": ""},
        },
        required_if=[("state", "default", ["release"]), ("state", "once", ["release"])],
        supports_check_mode=True,
    )
    boot = Boot(module)
    if module.params["state"] == "checked":
        module.exit_json(**boot.checked())
    module.exit_json(**boot.note())


if __name__ == "__main__":
    main()
