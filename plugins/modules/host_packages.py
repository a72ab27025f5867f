#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: host_packages
short_description: Installs packages without starting, restarting or upgrading anything, and may die at any moment
description:
  - Installs what is missing and nothing else. Packages that are there are not upgraded, none is removed.
  - The next task finishes an installation that was interrupted. What others have interrupted is theirs, and only said.
  - C(/var/lib/floodmark/installing) is there until an installation is finished. C(/var/lib/floodmark/masked) names the
    unit that this module has masked.
options:
  packages:
    description: Debian packages.
    type: list
    elements: str
    required: true
  program:
    description: The program that the packages are wanted for. Where it is there already, nothing is installed.
    type: path
  masked:
    description:
      - A unit of the packages that would start when they are installed. It is masked before, and stays masked.
      - A host that has such a unit of its own is refused, because the packages would restart it.
    type: str
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Install nginx
  host_packages:
    packages: [nginx]
    program: /usr/sbin/nginx
    masked: nginx.service
"""
RETURN = r"""
"""

import contextlib
import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

STATE = Path("/var/lib/floodmark")
# deb-systemd-helper masks units of packages that are removed, and unmasks them when the packages come back.
MASKS_OF_DEBIANS_HELPER = Path("/var/lib/systemd/deb-systemd-helper-masked")
# What dpkg has not yet written into its status; apt-get refuses to work while something is there.
JOURNAL = Path("/var/lib/dpkg/updates")
# Another apt, such as the one of a run whose control node was killed, gets this time to end (s).
LOCK_TIMEOUT_S = 300
LOCK_RETRY_S = 2
INSTALL = [
    "install", "--no-install-recommends", "--no-remove", "--fix-broken",
    "--option=Dpkg::Options::=--force-confdef", "--option=Dpkg::Options::=--force-confold",
]  # fmt: skip
ENVIRONMENT = {
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    # needrestart(1) would restart services of the host whose libraries were upgraded at any time before.
    "NEEDRESTART_MODE": "l",
    "NEEDRESTART_SUSPEND": "1",
}


class Packages:
    """What a task wants of a host.

    Args:
        module: with the options of the task.
    """

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.packages: list[str] = module.params["packages"]
        self.program: str | None = module.params["program"]
        self.unit: str | None = module.params["masked"]

    def install(self) -> bool:
        """Install what is missing; return whether there was anything to do."""
        interrupted = (STATE / "installing").exists()
        if not interrupted and self.program and Path(self.program).exists():
            return False
        missing = self.missing()
        if not (missing or interrupted):
            return False
        if not self.module.check_mode:
            self.need_apt(missing)
            if missing and self.unit:
                self.mask(self.unit)
            not_ours = set() if interrupted else self.unfinished()
            write(STATE / "installing", " ".join(self.packages))
            problem = self.install_missing(finish_first=interrupted)
            if not problem or self.unfinished() <= not_ours:
                (STATE / "installing").unlink()
                with contextlib.suppress(OSError):  # it holds something else
                    STATE.rmdir()
            if problem:
                self.module.fail_json(msg=problem)
        return True

    def states(self, *packages: str) -> dict[str, str]:
        """Return the three letters that dpkg-query(1) has for the state of each package; of all without a name."""
        # ii  nginx
        # iUR nginx-common
        _rc, out, _err = self.module.run_command(
            ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\\n", *packages]
        )
        return {line.split()[1]: line[:3] for line in out.splitlines()}

    def missing(self) -> list[str]:
        """Return which of the packages are not installed, or not completely."""
        states = self.states(*self.packages)
        return [name for name in self.packages if states.get(name, "")[1:] != "i "]

    def unfinished(self) -> set[str]:
        """Return which packages of the host dpkg has begun to install, and not come to an end with."""
        begun = {name for name, state in self.states().items() if state[1] in "HUF" or state[2] == "R"}
        return begun | ({"the journal"} if any(JOURNAL.glob("[0-9]*")) else set())

    def need_apt(self, missing: list[str]) -> None:
        if not self.module.get_bin_path("apt-get"):
            self.module.fail_json(
                msg=f"this host lacks {' '.join(missing)} and has no apt-get to install it with, as Debian and Ubuntu "
                "have: install it by hand"
            )

    def mask(self, unit: str) -> None:
        """Keep a unit that is not there yet from ever being started.

        Args:
            unit: of a package that is going to be installed.
        """
        # LoadState=not-found
        # FragmentPath=
        _rc, out, _err = self.module.run_command(["systemctl", "show", "--property=LoadState,FragmentPath", unit])
        shown = dict(line.split("=", 1) for line in out.splitlines())
        if shown["LoadState"] not in ("not-found", "masked"):
            self.module.fail_json(
                msg=f"this host has no {self.program}, and a service {unit} ({shown['FragmentPath']}) that the package "
                f"{' '.join(self.packages)} would restart: link {self.program} to the program that the service runs, "
                "and that one is used"
            )
        helper = MASKS_OF_DEBIANS_HELPER / unit
        if shown["LoadState"] == "not-found" or helper.exists():
            write(STATE / "masked", unit)
            helper.unlink(missing_ok=True)
            self.run("systemctl", "mask", unit)

    def run(self, *command: str) -> None:
        rc, out, err = self.module.run_command(list(command))
        if rc != 0:
            self.module.fail_json(msg="{} failed: {}".format(" ".join(command), (err or out).strip()))

    def install_missing(self, *, finish_first: bool) -> str:
        """Run apt-get until everything is installed; return why that failed, or nothing.

        Args:
            finish_first: whether one of before was interrupted. Only then what dpkg has begun is ours to finish.
        """
        # This waits until another apt-get has ended. dpkg does not wait, and so it comes later.
        rc, said = self.apt_get(*INSTALL, *self.missing())
        if rc != 0 and finish_first:
            self.module.run_command(["dpkg", "--configure", "--pending", "--force-confold"], environ_update=ENVIRONMENT)
            # dpkg configures nothing that was unpacked in part, and apt-get unpacks it again only when it is told to.
            torn = [name for name, state in self.states().items() if state[2] == "R"]
            rc, said = self.apt_get(*INSTALL, "--reinstall", *torn, *self.missing())
        if rc != 0:
            self.apt_get("update")
            rc, said = self.apt_get(*INSTALL, *self.missing())
        if rc == 0:
            return ""
        # E: Unable to locate package nginx
        errors = [line[3:].strip() for line in said.splitlines() if line.startswith("E: ")]
        return (
            f"apt-get could not install {' '.join(self.packages)} on this host: {'; '.join(errors) or said.strip()}: "
            "repair that there and run this again, or install it by hand"
        )

    def apt_get(self, *arguments: str) -> tuple[int, str]:
        """Run apt-get, once no other one runs; return its exit status and what it said."""
        deadline_s = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            command = ["apt-get", "--quiet", "--yes", *arguments]
            rc, out, err = self.module.run_command(command, environ_update=ENVIRONMENT)
            # E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)
            if rc == 0 or "Could not get lock" not in err or time.monotonic() > deadline_s:
                return rc, out + err
            time.sleep(LOCK_RETRY_S)


def write(path: Path, line: str) -> None:
    """Write a line that is there after a power cut, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    with path.open("w", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "program": {"type": "path"},
            "masked": {"type": "str"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=Packages(module).install())


if __name__ == "__main__":
    main()
