#!/usr/bin/python3
"""The lease by which a run holds this host, and the undoing of the run.

    lease.py hold              the service: holds the host as long as the lease is renewed, then undoes the run
    lease.py undo              undoes what a service that was killed has left; nothing happens where nothing is left
    lease.py end RUN_ID WHY    ends the lease and waits until the run is undone
    lease.py renew RUN_ID      what the control node runs through ssh: renews the lease with each line that it sends
    lease.py status            prints in JSON who holds this host, and what deviates from what was before
    lease.py restore           undoes whatever is left, of a run of any version; also a run that goes on

All units of a run are bound to the transient service floodmark-run.service (BindsTo= in systemd.unit(5)): whenever it
ends, systemd stops them, and each undoes its own change when it stops. The lease ends when its time is over, when the
control node says so, or when somebody stops the service. Then this program writes down what the units of the run are,
stops them, makes sure that the host is as it was, and removes the record of the run, in this order: as long as the
record is there, something may be left to undo, and no other run takes the host.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

SERVICE = "floodmark-run.service"
UNITS = "floodmark-*"
# Those of a load generator (floodmark/runner/fleet.py).
FLOODS = "floodmark-locust-"
RECORD = Path("/run/floodmark-run.json")
SOCKET = Path("/run/floodmark-run/lease")
# What the kernel parameters were; it is gone when they are back (roles/sysctl/files/sysctl.py). The second is where
# Floodmark had it when a timer undid its runs.
SYSCTLS_BEFORE = (Path("/run/floodmark-sysctl.json"), Path("/run/floodmark-sysctl/before.json"))
SYSCTLS_SET = Path("/run/sysctl.d/60-floodmark.conf")
SYSCTL_PROGRAM = Path("/usr/lib/floodmark/sysctl.py")
RUNS = Path("/var/lib/floodmark/runs")
# The longest time between two signs of life to systemd (s), which kills a service that gives none (WatchdogSec=).
SIGN_OF_LIFE_S = 2.0
# The longest time that stopping all units may take (s); the longest TimeoutStopSec= of them is 30.
STOP_TIMEOUT_S = 60.0
# What is asked of each unit: org.freedesktop.systemd1(5).
PROPERTIES = (
    "Id", "ActiveState", "SubState", "Result", "NRestarts", "MainPID", "ExecMainCode", "ExecMainStatus",
    "ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic", "InactiveExitTimestampMonotonic",
)  # fmt: skip
# Why a lease has ended.
EXPIRED, STOPPED, KILLED = "expired", "stopped", "killed"


class LeaseError(Exception):
    """Something that keeps this program from what it is to do."""


def now_s() -> float:
    """Return the time on a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is complete or not there at all."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def tell_systemd(state: str) -> None:
    """Tell systemd a state, as sd_notify(3) does; a systemd that does not hear it is no reason to give up."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.sendall(state.encode())


def read_record() -> dict[str, object] | None:
    """Return the record of the run that holds the host; None where no run does.

    A record that cannot be read says that something is left to undo, but not of which run.
    """
    # {"run_id": "20261130T154004Z-case2-unix", "owner": "me@desk pid 812 since 170", "lease_s": 15, "keeper": 1000,
    #  "folder": "/var/lib/floodmark/runs/20261130T154004Z-case2-unix"}
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        record = None
    unknown: dict[str, object] = {"run_id": "unknown", "owner": "somebody who left no record"}
    return {**unknown, **record} if isinstance(record, dict) else unknown


# --- the lease ------------------------------------------------------------------------------------


class Lease:
    """The lease of one run, which is renewed and ended through a socket.

    Args:
        record: of the run.
    """

    def __init__(self, record: dict[str, object]) -> None:
        self.run_id = str(record["run_id"])
        self.length_s = float(str(record["lease_s"]))
        self.ends_s = now_s() + self.length_s
        self._asker = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        SOCKET.unlink(missing_ok=True)
        self._socket.bind(str(SOCKET))
        # The user that the control node logs in as may renew it without being root.
        SOCKET.chmod(0o600)
        os.chown(SOCKET, int(str(record["keeper"])), -1)

    def hold(self) -> str:
        """Return why the lease has ended, once it has."""
        while (left_s := self.ends_s - now_s()) > 0:
            tell_systemd("WATCHDOG=1")
            self._socket.settimeout(min(left_s, SIGN_OF_LIFE_S))
            try:
                said, sender = self._socket.recvfrom(4096)
            except socket.timeout:
                continue
            # b'renew 20261130T154004Z-case2-unix'
            # b'end 20261130T154004Z-case2-unix Ctrl-C'
            verb, run_id, why = [*said.decode(errors="replace").split(" ", 2), "", ""][:3]
            if run_id != self.run_id or verb not in ("renew", "end"):
                self.answer(sender, "gone")
            elif verb == "end":
                self._asker = sender
                return why
            else:
                self.ends_s = now_s() + self.length_s
                self.answer(sender, "held")
        return EXPIRED

    def answer(self, sender: str, text: str) -> None:
        """Answer who has asked, if that still waits for it."""
        if sender:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), socket.MSG_DONTWAIT, sender)

    def answer_end(self, text: str) -> None:
        """Answer who has ended the lease, and all who have asked since; then nobody can ask any more."""
        self.answer(self._asker, text)
        SOCKET.unlink(missing_ok=True)
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.answer(self._socket.recvfrom(4096)[1], text)


def hold() -> int:
    """Hold the host until the lease ends, then undo the run."""
    record = read_record()
    if record is None or "lease_s" not in record:
        raise LeaseError(f"there is no run to hold the host for: {RECORD} is missing or damaged")
    lease = Lease(record)
    try:
        signal.signal(signal.SIGTERM, _stop)
        tell_systemd("READY=1")
        why = lease.hold()
    except _Stopped:
        why = STOPPED
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        said = undo(why)
    except LeaseError as error:
        lease.answer_end(f"left {error}")
        raise
    lease.answer_end(f"undone {json.dumps(said)}")
    return 0


class _Stopped(BaseException):
    """Somebody stops the service."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


# --- undoing a run --------------------------------------------------------------------------------


def undo(why: str) -> list[str]:
    """Undo the run that holds the host.

    Args:
        why: the lease has ended.

    Returns:
        A sentence for each unit that had failed before, and for what could not be written.

    Raises:
        LeaseError: something could not be undone; the record stays.
    """
    record = read_record()
    if record is None:
        return []
    said = _describe_end(Path(str(record["folder"])), why) if record.get("folder") else []
    _undo_units_and_parameters()
    RECORD.unlink(missing_ok=True)
    return said


def _undo_units_and_parameters() -> None:
    """Stop all units, and make sure that the host is as it was.

    Raises:
        LeaseError: it is not.
    """
    # They are named, so that all of them are waited for. Those of an earlier version are among them.
    units = [name for name, _state in _units()]
    if units:
        _command(["systemctl", "stop", *units], STOP_TIMEOUT_S)
    if any(path.exists() for path in SYSCTLS_BEFORE):
        # Its unit could not put them back, or is gone; what was in the way may be gone as well.
        _command(["/usr/bin/python3", "-B", str(SYSCTL_PROGRAM), "restore"], STOP_TIMEOUT_S)
    left = _left()
    if left:
        raise LeaseError("; ".join(left))
    if units:
        _command(["systemctl", "reset-failed", *units], STOP_TIMEOUT_S)


def restore() -> None:
    """Undo what any run has left, whether there is a record of it or not; a run that goes on is ended.

    Raises:
        LeaseError: something could not be undone.
    """
    # The service undoes its run when it is stopped. What it could not undo is tried again.
    _command(["systemctl", "stop", SERVICE], STOP_TIMEOUT_S)
    undo(STOPPED)
    _undo_units_and_parameters()


def status() -> dict[str, object]:
    """Return who holds this host, and what deviates from what was before Floodmark's runs; nothing is changed.

    Returns:
        `run`: run_id, owner and whether it holds the host, or None. `floods`: units of Locust, on a load generator.
        `left`: a sentence for each thing that is not as it was. `unfetched`: runs whose files were not fetched.
    """
    record = read_record()
    units = _units()
    floods = [name for name, state in units if name.startswith(FLOODS) and state not in ("failed", "inactive")]
    return {
        "run": record and {"run_id": record["run_id"], "owner": record["owner"], "holds": _is_active(SERVICE)},
        "floods": floods,
        "left": _left(),
        "unfetched": sorted(path.name for path in RUNS.glob("*") if any(path.iterdir())) if RUNS.is_dir() else [],
    }


def _is_active(unit: str) -> bool:
    return _command(["systemctl", "is-active", "--quiet", unit], STOP_TIMEOUT_S)[0] == 0


def _describe_end(folder: Path, why: str) -> list[str]:
    """Write what the units of the run are before they are stopped, and why the lease has ended.

    What is there already stays: who comes first has seen the run as it was.

    Returns:
        A sentence for each unit that had failed, and for what could not be written.
    """
    path, failures = folder / "units.json", _failed_units()
    if path.exists():
        return failures
    read_ns = time.monotonic_ns()
    # Without --all those that are not active are left out.
    rc, out = _command(
        ["systemctl", "show", "--all", "--property=" + ",".join(PROPERTIES), UNITS + ".service"], STOP_TIMEOUT_S
    )
    if rc != 0:
        return [*failures, f"{path} was not written: systemctl show: {out.strip()}"]
    try:
        write_atomically(path, json.dumps(units_that_started(out, read_ns), indent=2) + "\n")
        write_atomically(folder / "end.json", json.dumps({"why": why, "failures": failures}, indent=2) + "\n")
    except OSError as error:
        return [*failures, f"{path} was not written: {error.strerror}"]
    return failures


def units_that_started(shown: str, read_ns: int) -> list[dict[str, object]]:
    """Return what the units of a run are, those that were started.

    Args:
        shown: what systemctl show prints, a block for each unit.
        read_ns: when it was asked, on CLOCK_MONOTONIC.
    """
    # Id=floodmark-agent.service
    # ActiveState=active
    # ActiveEnterTimestampMonotonic=1796521407
    units: list[dict[str, object]] = []
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines())
        if not unit or unit["Id"] == SERVICE or unit["InactiveExitTimestampMonotonic"] == "0":
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
    return sorted(units, key=lambda unit: str(unit["name"]))


def _failed_units() -> list[str]:
    """Return a sentence for each unit that ended by itself: its name and its last words."""
    sentences = []
    for unit in (name for name, state in _units() if state == "failed"):
        _rc, said = _command(
            ["journalctl", "--no-pager", "--output=cat", "--lines=20", f"--unit={unit}", "_TRANSPORT=stdout"],
            STOP_TIMEOUT_S,
        )
        sentences.append(f"{unit} failed: {(said.strip().splitlines() or ['it said nothing'])[-1]}")
    return sentences


def _units() -> list[tuple[str, str]]:
    """Return name and state of the units of Floodmark that systemd knows, but for the service of the lease."""
    # floodmark-agent.service loaded active running Floodmark agent
    _rc, out = _command(["systemctl", "list-units", "--all", "--plain", "--no-legend", UNITS], STOP_TIMEOUT_S)
    units = [line.split() for line in out.splitlines()]
    return [(unit[0], unit[2]) for unit in units if len(unit) > 2 and unit[0] != SERVICE]


def _left() -> list[str]:
    """Return a sentence for each thing that a run has changed and that is not undone."""
    left = [f"{name} is still {state}" for name, state in _units() if state not in ("failed", "inactive")]
    records = [path for path in SYSCTLS_BEFORE if path.exists()]
    left += [_kernel_parameters_left(path) for path in records]
    if SYSCTLS_SET.exists() and not records:
        left.append(
            f"{SYSCTLS_SET} sets kernel parameters, and what they were before is lost: set them by hand, then remove it"
        )
    return left


def _kernel_parameters_left(path: Path) -> str:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        wanted = " ".join(f"{name}={value}" for name, value in before.items())
        present = ", ".join(f"{name} is {_value(name)} and was {value}" for name, value in before.items())
    except (OSError, ValueError, AttributeError) as error:
        return f"kernel parameters were not put back, and {path} does not say what they were: {error}"
    return (
        f"kernel parameters were not put back ({present}): set them with sysctl -w {wanted}, then remove {path} and "
        f"{SYSCTLS_SET}"
    )


def _value(name: str) -> str:
    """Return what a kernel parameter is now."""
    try:
        return " ".join(Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").split())
    except OSError as error:
        return f"unreadable ({error.strerror})"


def _command(command: list[str], timeout_s: float) -> tuple[int, str]:
    """Run a program and show systemd meanwhile that this one lives; return its status and what it said."""
    deadline_s = now_s() + timeout_s
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while True:
            tell_systemd("WATCHDOG=1")
            try:
                out, _ = process.communicate(timeout=SIGN_OF_LIFE_S)
            except subprocess.TimeoutExpired:
                if now_s() > deadline_s:
                    process.kill()
                    return 1, f"it did not end within {timeout_s:g} s"
                continue
            return process.returncode, out


# --- the control node's end -----------------------------------------------------------------------


def ask(verb: str, run_id: str, why: str = "", timeout_s: float = STOP_TIMEOUT_S) -> str:
    """Ask who holds the lease on this host.

    Args:
        verb: renew, or end.
        run_id: whose lease.
        why: it is to end.
        timeout_s: for the answer; a lease that is ended answers when the run is undone.

    Returns:
        held; undone and what undo() says, in JSON; left and what is left to undo; gone where this run does not hold the
        host.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asker:
        asker.bind("")  # the kernel chooses a name for it, to which the answer goes
        asker.settimeout(SIGN_OF_LIFE_S)
        deadline_s = now_s() + timeout_s
        try:
            asker.connect(str(SOCKET))
            asker.send(" ".join(filter(None, (verb, run_id, why))).encode())
            while now_s() < deadline_s:
                with contextlib.suppress(socket.timeout):
                    return asker.recv(65536).decode()
                if not SOCKET.exists():  # it has ended, and had no time for another answer
                    return "gone"
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN):
                return "gone"
            return f"left {error}"
    return f"left no answer within {timeout_s:g} s"


def renew(run_id: str) -> int:
    """Pass on each line of standard input, and print what the lease answers."""
    # renew
    # end Ctrl-C
    for line in sys.stdin:
        verb, _, why = line.strip().partition(" ")
        print(ask(verb, run_id, why), flush=True)
    return 0


def main() -> int:
    """Do as the command line says."""
    try:
        if sys.argv[1:] == ["hold"]:
            return hold()
        if sys.argv[1:] == ["undo"]:
            print(json.dumps(undo(KILLED)))
            return 0
        if sys.argv[1:] == ["status"]:
            print(json.dumps(status()))
            return 0
        if sys.argv[1:] == ["restore"]:
            restore()
            return 0
        if sys.argv[1:2] == ["end"] and len(sys.argv) == 4:
            print(ask("end", sys.argv[2], sys.argv[3]))
            return 0
        if sys.argv[1:2] == ["renew"] and len(sys.argv) == 3:
            return renew(sys.argv[2])
    except (LeaseError, OSError, KeyError, ValueError) as error:
        print(f"lease: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
