#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: guard
short_description: Looks after the promise that a host is left as it was found
description:
  - A run is held together by the systemd target C(floodmark-run.target); stopping it undoes the run.
  - This module looks at a host, arms the timer that stops the target by itself, and stops it.
options:
  state:
    description:
      - V(checked) looks and changes nothing, V(armed) reserves the host for a run, V(restored) undoes the run.
      - Before V(restored) stops anything it writes C(units.json) into the folder of the run, what each of its units is
        then; only if the run still holds the host.
    type: str
    required: true
    choices: [checked, armed, restored]
  run_id:
    description: The run.
    type: str
    required: true
  owner:
    description: Who runs it, as C(user@host pid N).
    type: str
    default: nobody
  runs_dir:
    description: Where the host keeps what a run writes.
    type: path
    default: /var/lib/floodmark/runs
  ports:
    description: Ports that have to be free or held by the units of a run.
    type: list
    elements: int
    default: []
  units:
    description: The systemd units that the run is going to start; systemd remembers how they ended.
    type: list
    elements: str
    default: []
  free_mb:
    description: Space that O(runs_dir) needs.
    type: int
    default: 200
  timeout_s:
    description: Time after which the host undoes the run by itself.
    type: int
    default: 120
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Undo a run
  guard:
    state: restored
    run_id: 20261123T031500-3-unix
    runs_dir: /var/lib/floodmark/runs
"""
RETURN = r"""
failures:
  description: Which units of the run failed, each with its last words, and why C(units.json) was not written.
  type: list
  returned: when O(state=restored)
held:
  description: Whether this run still held the host; if not, the timer has undone it before.
  type: bool
  returned: when O(state=restored)
fingerprint:
  description: What the host was provisioned with; empty when it was not.
  type: str
  returned: when O(state=checked)
run:
  description: The run that holds the host now, or an empty dictionary.
  type: dict
  returned: when O(state=checked)
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import TypedDict

from ansible.module_utils.basic import AnsibleModule

TARGET = "floodmark-run.target"
TIMER = "floodmark-guard"
RECORD = Path("/run/floodmark-run.json")
FINGERPRINT = Path("/usr/lib/floodmark/provisioned")
# What the kernel parameters were; it is gone when they are back (roles/sysctl/files/sysctl.py).
SYSCTLS_BEFORE = Path("/run/floodmark-sysctl/before.json")
# What is asked of each unit: org.freedesktop.systemd1(5).
PROPERTIES = (
    "Id", "ActiveState", "SubState", "Result", "NRestarts", "MainPID", "ExecMainCode", "ExecMainStatus",
    "ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic", "InactiveExitTimestampMonotonic",
)  # fmt: skip


class Holder(TypedDict):
    """The record of the run that holds the host."""

    run_id: str
    owner: str


class Unit(TypedDict):
    """One unit of units.json; times are monotonic (ns), None where nothing has happened."""

    name: str
    active_state: str
    sub_state: str
    result: str
    restarts: int
    main_pid: int | None
    active_since_ns: int | None
    inactive_since_ns: int | None
    exit_status: int | None
    read_ns: int


class Checked(TypedDict):
    """What the host is; see RETURN."""

    changed: bool
    fingerprint: str
    run: Holder | dict[str, str]


class Armed(TypedDict):
    """That the run holds the host now."""

    changed: bool


class Restored(TypedDict):
    """What was undone; see RETURN."""

    changed: bool
    held: bool
    failures: list[str]


def units_that_started(shown: str, read_ns: int) -> list[Unit]:
    """Return what the units of a run are, those that were started.

    Args:
        shown: what systemctl show prints, a block for each unit.
        read_ns: when it was asked, on CLOCK_MONOTONIC.
    """
    # Id=floodmark-agent.service
    # ActiveState=active
    # ActiveEnterTimestampMonotonic=1796521407
    units: list[Unit] = []
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines())
        # The timer has a service of its own, which undoes the run.
        if not unit or unit["Id"] == TIMER + ".service" or unit["InactiveExitTimestampMonotonic"] == "0":
            continue
        units.append(
            {
                "name": unit["Id"],
                "active_state": unit["ActiveState"],
                "sub_state": unit["SubState"],
                "result": unit["Result"],
                "restarts": int(unit["NRestarts"]),
                "main_pid": int(unit["MainPID"]) or None,
                "active_since_ns": int(unit["ActiveEnterTimestampMonotonic"]) * 1000 or None,
                "inactive_since_ns": int(unit["InactiveEnterTimestampMonotonic"]) * 1000 or None,
                # A main process that has not ended has the code 0 (systemd.exec(5) has the others).
                "exit_status": int(unit["ExecMainStatus"]) if unit["ExecMainCode"] != "0" else None,
                "read_ns": read_ns,
            }
        )
    return sorted(units, key=lambda unit: unit["name"])


class Guard:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params

    def systemctl(self, *arguments: str) -> tuple[int, str, str]:
        return self.module.run_command(["systemctl", *arguments])

    def is_active(self, unit: str) -> bool:
        return self.systemctl("is-active", "--quiet", unit)[0] == 0

    def holder(self) -> Holder | None:
        """Return who holds the host: the record of a run that was armed and not yet restored; None where nobody does.

        It counts only while the run's target is up or its timer is set: a record alone holds nothing.
        """
        if not (self.is_active(TARGET) or self.is_active(TIMER + ".timer")):
            return None
        try:
            record: Holder = json.loads(RECORD.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {"run_id": "unknown", "owner": "somebody who left no record"}
        return record

    # --- checked ------------------------------------------------------------------------------

    def checked(self) -> Checked:
        self.need_root()
        self.need_systemd()
        holder = self.holder()
        if not holder:
            self.need_ports()
        self.need_space()
        fingerprint = FINGERPRINT.read_text(encoding="utf-8").strip() if FINGERPRINT.exists() else ""
        return {"changed": False, "fingerprint": fingerprint, "run": holder or {}}

    def need_root(self) -> None:
        if os.geteuid() != 0:
            self.module.fail_json(
                msg=f"the tasks on this host run as uid {os.geteuid()}, and they need root: set ansible_become: true "
                "for the host, or ansible_user: root"
            )

    def need_systemd(self) -> None:
        if not Path("/run/systemd/system").is_dir():
            self.module.fail_json(msg="this host was not booted by systemd, which a proxy host has to be")

    def need_ports(self) -> None:
        # State Recv-Q Send-Q Local Address:Port Peer Address:Port Process
        # LISTEN 0 511 0.0.0.0:8080 0.0.0.0:* users:(("nginx",pid=812,fd=6))
        for port in self.params["ports"]:
            _rc, out, _err = self.module.run_command(["ss", "-Hltnp", f"sport = :{port}"])
            if out.strip():
                fields = out.split()
                holder = fields[-1] if "users:" in fields[-1] else "an unknown process"
                self.module.fail_json(
                    msg=f"port {port} is in use by {holder}: stop it, or choose another with "
                    "-e nginx_listen_port=N (clients) or -e upstream_port=N (the upstream on TCP)"
                )

    def need_space(self) -> None:
        folder = Path(self.params["runs_dir"])
        while not folder.exists():
            folder = folder.parent
        free_mb = shutil.disk_usage(str(folder)).free // 1000000
        if free_mb < self.params["free_mb"]:
            self.module.fail_json(
                msg=f"{folder} has {free_mb} MB free and a run needs {self.params['free_mb']} MB: free some space; "
                f"runs that were never fetched lie in {self.params['runs_dir']}"
            )

    # --- armed --------------------------------------------------------------------------------

    def armed(self) -> Armed:
        holder = self.holder()
        if holder and holder["run_id"] != self.params["run_id"]:
            self.module.fail_json(msg="the host is held by run {run_id} of {owner}".format(**holder))
        record: Holder = {"run_id": self.params["run_id"], "owner": self.params["owner"]}
        (Path(self.params["runs_dir"]) / self.params["run_id"]).mkdir(parents=True, exist_ok=True)
        fresh = RECORD.with_suffix(".new")
        fresh.write_text(json.dumps(record), encoding="utf-8")
        fresh.rename(RECORD)
        self.run(
            "systemd-run", "--quiet", "--unit=" + TIMER, f"--on-active={self.params['timeout_s']}s",
            "--timer-property=AccuracySec=100ms",
            # systemd forgets how a unit ended unless another one names it. The order itself changes nothing.
            "--timer-property=Before=" + " ".join(self.params["units"]),
            "--description=Undo Floodmark run " + record["run_id"],
            "/bin/sh", "-c", f"systemctl stop {TARGET}; rm -f {RECORD}",
        )  # fmt: skip
        self.run("systemctl", "start", TARGET)
        return {"changed": True}

    def run(self, *command: str) -> None:
        rc, out, err = self.module.run_command(list(command))
        if rc != 0:
            self.module.fail_json(msg="{} failed: {}".format(" ".join(command), (err or out).strip()))

    # --- restored -----------------------------------------------------------------------------

    def restored(self) -> Restored:
        holder = self.holder()
        if holder and holder["run_id"] != self.params["run_id"]:
            # A host that somebody else holds is not ours to touch.
            return {"changed": False, "held": False, "failures": []}
        unwritten = self.write_units() if holder else []
        failures = self.failed_units() + unwritten
        # Stopping the target stops its units; they are named as well, so that all of them are waited for.
        self.run("systemctl", "stop", TARGET, "floodmark-*.service")
        self.need_all_undone()
        self.systemctl("stop", TIMER + ".timer")
        self.systemctl("reset-failed", "floodmark-*")
        RECORD.unlink(missing_ok=True)
        return {"changed": bool(holder), "held": bool(holder), "failures": failures}

    def write_units(self) -> list[str]:
        """Write what the units of the run are before they are stopped; return why that could not be done, if so."""
        path = Path(self.params["runs_dir"]) / self.params["run_id"] / "units.json"
        read_ns = time.monotonic_ns()
        # Without --all those that are not active are left out.
        rc, out, err = self.systemctl("show", "--all", "--property=" + ",".join(PROPERTIES), "floodmark-*.service")
        if rc != 0:
            return [f"{path} was not written: systemctl show: {err.strip()}"]
        try:
            path.write_text(json.dumps(units_that_started(out, read_ns), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            return [f"{path} was not written: {error.strerror}"]
        return []

    def failed_units(self) -> list[str]:
        """Return a sentence for each unit that ended by itself: its name and its last words."""
        # floodmark-agent.service loaded failed failed Floodmark agent
        _rc, out, _err = self.systemctl("list-units", "--state=failed", "--plain", "--no-legend", "floodmark-*")
        words = []
        for line in out.splitlines():
            unit = line.split()[0]
            _rc, said, _err = self.module.run_command(
                ["journalctl", "--no-pager", "--output=cat", "--lines=20", "--unit=" + unit, "_TRANSPORT=stdout"]
            )
            words.append("{} failed: {}".format(unit, (said.strip().splitlines() or ["it said nothing"])[-1]))
        return words

    def need_all_undone(self) -> None:
        if SYSCTLS_BEFORE.exists():
            before = json.loads(SYSCTLS_BEFORE.read_text(encoding="utf-8"))
            wanted = " ".join(f"{name}={value}" for name, value in before.items())
            _rc, said, _err = self.module.run_command(
                ["journalctl", "--no-pager", "--output=short-precise", "--lines=12", "--unit=floodmark-sysctl.service"]
            )
            self.module.fail_json(
                msg=f"the kernel parameters could not be put back; set them by hand: sysctl -w {wanted}; "
                f"then remove {SYSCTLS_BEFORE}. The journal of the unit ends with:\n{said.strip()}"
            )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["checked", "armed", "restored"]},
            "run_id": {"type": "str", "required": True},
            "owner": {"type": "str", "default": "nobody"},
            "runs_dir": {"type": "path", "default": "/var/lib/floodmark/runs"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "free_mb": {"type": "int", "default": 200},
            "timeout_s": {"type": "int", "default": 120},
        }
    )
    guard = Guard(module)
    if module.params["state"] == "checked":
        module.exit_json(**guard.checked())
    if module.params["state"] == "armed":
        module.exit_json(**guard.armed())
    module.exit_json(**guard.restored())


if __name__ == "__main__":
    main()
