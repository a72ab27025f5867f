"""What the guard writes about the units of a run before it stops them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import load_file

guard = load_file("roles/guard/library/guard.py")

# As systemctl of systemd 252 prints it: the agent has ended after SIGTERM, the upstream has failed, the trace was not
# asked for, and the timer has just started its own service.
SHOWN = """\
MainPID=0
Result=success
NRestarts=0
ExecMainCode=1
ExecMainStatus=0
Id=floodmark-agent.service
ActiveState=inactive
SubState=dead
InactiveExitTimestampMonotonic=2002324639
ActiveEnterTimestampMonotonic=2002326930
InactiveEnterTimestampMonotonic=2002832729

MainPID=0
Result=exit-code
NRestarts=2
ExecMainCode=1
ExecMainStatus=3
Id=floodmark-upstream@2.service
ActiveState=failed
SubState=failed
InactiveExitTimestampMonotonic=1915414014
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=1915420265

MainPID=216
Result=success
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
Id=floodmark-nginx.service
ActiveState=active
SubState=running
InactiveExitTimestampMonotonic=1915396540
ActiveEnterTimestampMonotonic=1915396541
InactiveEnterTimestampMonotonic=0

MainPID=0
Result=success
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
Id=floodmark-trace.service
ActiveState=inactive
SubState=dead
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0

MainPID=0
Result=success
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
Id=floodmark-guard.service
ActiveState=activating
SubState=start
InactiveExitTimestampMonotonic=1
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0
"""
NGINX = {
    "name": "floodmark-nginx.service",
    "active_state": "active",
    "sub_state": "running",
    "result": "success",
    "restarts": 0,
    "main_pid": 216,
    "active_since_ns": 1915396541000,
    "inactive_since_ns": None,
    "exit_status": None,
    "read_ns": 7,
}


class Host:
    """A host that a run holds, and what is done on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.shown = (0, SHOWN, "")
        self.folder = folder
        self.failed = ""
        self.record = folder / "floodmark-run.json"
        self.hold("run1")
        monkeypatch.setattr(guard, "RECORD", self.record)
        monkeypatch.setattr(guard, "SYSCTLS_BEFORE", folder / "before.json")

    @property
    def units(self) -> Path:
        return self.folder / "run1/units.json"

    def hold(self, run_id: str) -> None:
        self.record.write_text(json.dumps({"run_id": run_id, "owner": "somebody"}))

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        self.done.append(" ".join(command[:2]) + (" with units.json" if self.units.exists() else ""))
        if command[1] == "show":
            return self.shown
        if command[1] == "is-active":
            return 0 if self.record.exists() else 3, "", ""
        return 0, self.failed if command[1] == "list-units" else "", ""

    def restore(self) -> dict[str, Any]:
        params = {"run_id": "run1", "runs_dir": str(self.folder)}
        module = SimpleNamespace(params=params, run_command=self.run_command, fail_json=pytest.fail)
        return dict(guard.Guard(module).restored())


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "run1").mkdir()
    return Host(tmp_path, monkeypatch)


def test_a_unit_that_was_started_is_described_and_no_other() -> None:
    agent, nginx, upstream = guard.units_that_started(SHOWN, 7)
    assert nginx == NGINX
    assert (agent["name"], agent["active_state"], agent["exit_status"]) == ("floodmark-agent.service", "inactive", 0)
    assert (agent["active_since_ns"], agent["inactive_since_ns"]) == (2002326930000, 2002832729000)
    assert (upstream["result"], upstream["exit_status"], upstream["restarts"]) == ("exit-code", 3, 2)
    assert (upstream["active_since_ns"], upstream["main_pid"]) == (None, None)


def test_without_units_there_is_an_empty_list() -> None:
    assert guard.units_that_started("", 7) == []


def test_the_units_are_written_before_anything_is_stopped(host: Host) -> None:
    assert host.restore() == {"changed": True, "held": True, "failures": []}
    assert [unit["name"] for unit in json.loads(host.units.read_text())] == [
        "floodmark-agent.service", "floodmark-nginx.service", "floodmark-upstream@2.service",
    ]  # fmt: skip
    assert "systemctl show" in host.done
    assert "systemctl stop with units.json" in host.done
    assert "systemctl stop" not in host.done


def test_they_are_written_when_a_unit_has_failed(host: Host) -> None:
    host.failed = "floodmark-upstream@2.service loaded failed failed Floodmark upstream, case 2\n"
    assert host.restore()["failures"] == ["floodmark-upstream@2.service failed: it said nothing"]
    assert host.units.exists()


@pytest.mark.parametrize("holder", ["run2", None])
def test_a_host_that_the_run_does_not_hold_is_not_described(host: Host, holder: str | None) -> None:
    if holder:
        host.hold(holder)
    else:
        host.record.unlink()
    assert not host.restore()["held"]
    assert not host.units.exists()


def test_what_could_not_be_written_is_said_and_the_host_is_restored(host: Host) -> None:
    host.units.parent.rmdir()
    (failure,) = host.restore()["failures"]
    assert failure == f"{host.units} was not written: No such file or directory"
    assert "systemctl stop" in host.done
    host.hold("run1")
    host.shown = (1, "", "Failed to connect to bus: Host is down\n")
    (failure,) = host.restore()["failures"]
    assert failure.endswith("was not written: systemctl show: Failed to connect to bus: Host is down")
