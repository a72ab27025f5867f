#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: guard
short_description: Looks after the promise that a host is left as it was found
description:
  - A run holds a host by a record and by the transient service C(floodmark-run.service), to which all units of the
    run are bound. The program C(lease.py) is that service; it undoes the run when the lease ends.
  - This module looks at a host, begins the lease, and ends it.
options:
  state:
    description:
      - V(checked) looks and changes nothing, V(armed) begins the lease, V(restored) ends it and so undoes the run.
    type: str
    required: true
    choices: [checked, armed, restored]
  run_id:
    description: The run.
    type: str
    required: true
  owner:
    description: Whose run it is, as C(user@host pid N since TIME).
    type: str
    default: nobody
  keeper:
    description: The user of this host that may renew the lease, where sudo does not say which it is.
    type: str
    default: root
  runs_dir:
    description: Where the host keeps what a run writes.
    type: path
    default: /var/lib/floodmark/runs
  program:
    description: Where C(lease.py) is.
    type: path
    default: /usr/lib/floodmark/lease.py
  ports:
    description: Ports that have to be free or held by the units of a run.
    type: list
    elements: int
    default: []
  units:
    description:
      - The systemd units that the run is going to start; systemd remembers how they ended. Without any the host is held
        while it is provisioned.
    type: list
    elements: str
    default: []
  free_mb:
    description: Space that O(runs_dir) needs.
    type: int
    default: 200
  memory_mb:
    description: Memory that must be available.
    type: int
    default: 0
  lease_s:
    description: Time without a renewal after which the host undoes the run.
    type: int
    default: 15
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
ended:
  description:
    - Why the lease ended, in the words of who ended it; V(expired), V(stopped) or V(killed) on the host itself.
    - Empty if this module has ended it.
  type: str
  returned: when O(state=restored)
failures:
  description: Which units of the run failed, each with its last words.
  type: list
  returned: when O(state=restored)
fingerprint:
  description: What the host was provisioned with; empty when it was not.
  type: str
  returned: when O(state=checked)
run:
  description:
    - The run that the host is held by, or an empty dictionary. Its C(holds) says whether its lease goes on; if not, it
      has left something to undo.
  type: dict
  returned: when O(state=checked)
"""

import fcntl
import json
import os
import pwd
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from ansible.module_utils.basic import AnsibleModule

SERVICE = "floodmark-run.service"
RECORD = Path("/run/floodmark-run.json")
FINGERPRINT = Path("/usr/lib/floodmark/provisioned")
# What ends the lease when this module is asked to, and not something before.
OVER = "over"


class Holder(TypedDict):
    """The run that a host is held by."""

    run_id: str
    owner: str
    holds: bool


class Checked(TypedDict):
    """What the host is; see RETURN."""

    changed: bool
    fingerprint: str
    run: Holder | dict[str, str]


class Changed(TypedDict):
    """That something was done."""

    changed: bool


class End(TypedDict):
    """Why a lease has ended, and a sentence for each unit that had failed before."""

    why: str
    failures: list[str]


class Restored(TypedDict):
    """What was undone; see RETURN."""

    changed: bool
    ended: str
    failures: list[str]


class Guard:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params

    def run(self, *command: str) -> str:
        rc, out, err = self.module.run_command(list(command))
        if rc != 0:
            self.module.fail_json(msg="{} failed: {}".format(" ".join(command), (err or out).strip()))
        return str(out)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one control node at a time decide who holds the host."""
        folder = os.open(Path(self.params["program"]).parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def holder(self) -> Holder | None:
        """Return whom the host is held by; None where nobody holds it, and nothing is left to undo."""
        try:
            record = json.loads(RECORD.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            record = None
        record = record if isinstance(record, dict) else {}
        return {
            "run_id": record.get("run_id", "unknown"),
            "owner": record.get("owner", "somebody who left no record"),
            "holds": self.module.run_command(["systemctl", "is-active", "--quiet", SERVICE])[0] == 0,
        }

    def write_record(self, content: dict[str, object]) -> None:
        record = {"run_id": self.params["run_id"], "owner": self.params["owner"], **content}
        fresh = RECORD.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(RECORD)

    # --- checked ------------------------------------------------------------------------------

    def checked(self) -> Checked:
        self.need_root()
        self.need_systemd()
        holder = self.holder()
        if not holder:
            self.need_ports()
        self.need_space()
        self.need_memory()
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

    def need_memory(self) -> None:
        # MemAvailable:   23640764 kB
        found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
        available_mb = int(found[1]) * 1024 // 1000000 if found else self.params["memory_mb"]
        if available_mb < self.params["memory_mb"]:
            self.module.fail_json(
                msg=f"it has {available_mb} MB of memory available and a run may take {self.params['memory_mb']} MB: "
                "ask for fewer users, smaller bodies or a smaller client_body_buffer_size_kb"
            )

    # --- armed --------------------------------------------------------------------------------

    def armed(self) -> Changed:
        content: dict[str, object] = {"lease_s": self.params["lease_s"], "keeper": self.keeper()}
        with self.locked():
            holder = self.holder()
            if holder:
                self.module.fail_json(msg="the host is held by run {run_id} of {owner}".format(**holder))
            if self.params["units"]:
                folder = Path(self.params["runs_dir"]) / self.params["run_id"]
                folder.mkdir(parents=True, exist_ok=True)
                content["folder"] = str(folder)
            self.wait_until_gone()
            self.write_record(content)
            program = f"/usr/bin/python3 -B {self.params['program']}"
            self.run(
                "systemd-run", "--quiet", "--unit=" + SERVICE, "--service-type=notify", "--collect",
                f"--description=Run {self.params['run_id']} of Floodmark: when this ends, it is undone",
                # For the case that it was killed; otherwise nothing is left to undo.
                f"--property=ExecStopPost={program} undo",
                "--property=RuntimeDirectory=floodmark-run", "--property=WatchdogSec=10",
                # A program that is frozen does not hear SIGABRT.
                "--property=WatchdogSignal=SIGKILL", "--property=TimeoutStopSec=90",
                # When memory is short it must live: nothing else undoes the run.
                "--property=OOMScoreAdjust=-900",
                # systemd forgets how a unit ended unless another one names it. The order itself changes nothing.
                *(["--property=Before=" + " ".join(self.params["units"])] if self.params["units"] else []),
                *program.split(), "hold",
            )  # fmt: skip
        # A host that is held while it is provisioned is as it was when the lease ends.
        return {"changed": bool(self.params["units"])}

    def keeper(self) -> int:
        """Return the uid that the control node logs in with."""
        try:
            return int(os.environ["SUDO_UID"])
        except (KeyError, ValueError):
            pass
        try:
            return pwd.getpwnam(self.params["keeper"]).pw_uid
        except KeyError:
            return os.getuid()

    def wait_until_gone(self) -> None:
        """Wait until the service of a run that was undone has ended, which may look at the record once more."""
        self.module.run_command(["systemctl", "stop", SERVICE])

    # --- restored -----------------------------------------------------------------------------

    def restored(self) -> Restored:
        holder = self.holder()
        if holder and holder["run_id"] != self.params["run_id"]:
            # A host that somebody else holds is not ours to touch.
            return {"changed": False, "ended": f"taken by run {holder['run_id']}", "failures": []}
        said = self.undo() if holder else None
        end = self.end()
        return {
            "changed": bool(holder),
            "ended": "" if end["why"] == OVER else end["why"],
            "failures": end["failures"] if said is None else said,
        }

    def undo(self) -> list[str]:
        """Undo the run, and return what lease.py says of it: a sentence for each unit that had failed, and so on."""
        program = ["/usr/bin/python3", "-B", self.params["program"]]
        answer, _, said = self.run(*program, "end", self.params["run_id"], OVER).strip().partition(" ")
        if answer != "undone":
            # The service is gone, or has not been able to; what it has said comes again.
            rc, said, err = self.module.run_command([*program, "undo"])
            if rc != 0:
                unit = "floodmark-sysctl.service"
                _rc, journal, _err = self.module.run_command(
                    ["journalctl", "--no-pager", "--output=short-precise", "--lines=12", "--unit=" + unit]
                )
                self.module.fail_json(
                    msg=f"the host is not as it was: {err.strip()}. The journal of {unit} ends with:\n{journal.strip()}"
                )
        self.wait_until_gone()
        sentences: list[str] = json.loads(said or "[]")
        return sentences

    def end(self) -> End:
        """Return what the lease has written about its end; nothing where there was none."""
        path = Path(self.params["runs_dir"]) / self.params["run_id"] / "end.json"
        try:
            content: End = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"why": "", "failures": []}
        return content


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["checked", "armed", "restored"]},
            "run_id": {"type": "str", "required": True},
            "owner": {"type": "str", "default": "nobody"},
            "keeper": {"type": "str", "default": "root"},
            "runs_dir": {"type": "path", "default": "/var/lib/floodmark/runs"},
            "program": {"type": "path", "default": "/usr/lib/floodmark/lease.py"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "free_mb": {"type": "int", "default": 200},
            "memory_mb": {"type": "int", "default": 0},
            "lease_s": {"type": "int", "default": 15},
        }
    )
    guard = Guard(module)
    states = {"checked": guard.checked, "armed": guard.armed, "restored": guard.restored}
    module.exit_json(**states[module.params["state"]]())


if __name__ == "__main__":
    main()
