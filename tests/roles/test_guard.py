"""How the guard decides who holds a host, and what it makes of the end of a lease."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import load_file

guard = load_file("roles/guard/library/guard.py")


class Failed(Exception):  # noqa: N818 - it is what a module says
    """What the module has ended with."""


class Host:
    """A host that a run holds, and what is done on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.folder = folder
        self.record = folder / "floodmark-run.json"
        self.is_active, self.answer, self.undone = True, "undone []", (0, "[]", "")
        self.hold("run1")
        monkeypatch.setattr(guard, "RECORD", self.record)

    def hold(self, run_id: str) -> None:
        self.record.write_text(json.dumps({"run_id": run_id, "owner": "somebody"}))

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        self.done.append(" ".join(command))
        if command[1] == "is-active":
            return 0 if self.is_active else 3, "", ""
        if command[-1] == "undo":
            return self.undone
        return 0, self.answer + "\n" if "end" in command else "", ""

    def module(self, **given: Any) -> Any:
        def fail(msg: str) -> None:
            raise Failed(msg)

        params = {
            "run_id": "run1", "runs_dir": str(self.folder), "program": str(self.folder / "lease.py"), "owner": "me",
            "keeper": "root", "lease_s": 15, "units": ["floodmark-nginx.service"], **given,
        }  # fmt: skip
        return guard.Guard(SimpleNamespace(params=params, run_command=self.run_command, fail_json=fail))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "run1").mkdir()
    return Host(tmp_path, monkeypatch)


def test_a_host_is_armed_only_when_nobody_holds_it(host: Host) -> None:
    with pytest.raises(Failed, match="held by run run1 of somebody"):
        host.module(run_id="run2").armed()
    assert json.loads(host.record.read_text())["run_id"] == "run1"
    host.record.unlink()
    assert host.module(run_id="run2").armed() == {"changed": True}
    record = json.loads(host.record.read_text())
    assert (record["run_id"], record["lease_s"], record["folder"]) == ("run2", 15, str(host.folder / "run2"))
    (service,) = (one for one in host.done if one.startswith("systemd-run"))
    assert "--property=Before=floodmark-nginx.service" in service


def test_a_host_that_is_provisioned_has_a_lease_without_a_folder(host: Host) -> None:
    host.record.unlink()
    host.module(units=[]).armed()
    assert "folder" not in json.loads(host.record.read_text())


@pytest.mark.parametrize(("given", "uid"), [({}, 0), ({"SUDO_UID": "1000"}, 1000), ({"SUDO_UID": "me"}, 0)])
def test_the_user_that_logs_in_may_renew_the_lease(
    host: Host, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], uid: int
) -> None:
    host.record.unlink()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    host.module().armed()
    assert json.loads(host.record.read_text())["keeper"] == uid


@pytest.mark.parametrize("text", ["", "{", '"x"'])
def test_a_record_that_is_damaged_still_holds_the_host(host: Host, text: str) -> None:
    host.record.write_text(text)
    holder = host.module().holder()
    assert (holder["run_id"], holder["owner"]) == ("unknown", "somebody who left no record")
    assert host.module(run_id="unknown").restored()["changed"]


def test_a_record_whose_service_is_gone_says_that_something_is_left(host: Host) -> None:
    host.is_active = False
    assert host.module().holder()["holds"] is False


@pytest.mark.parametrize("answer", ['undone ["a failed: x"]', "gone", "left floodmark-nginx.service is still active"])
def test_a_run_is_undone_by_its_service_or_without_it(host: Host, answer: str) -> None:
    host.answer, host.undone = answer, (0, '["a failed: x"]', "")
    (host.folder / "run1/end.json").write_text('{"why": "over", "failures": []}')
    assert host.module().restored() == {"changed": True, "ended": "", "failures": ["a failed: x"]}
    assert (f"/usr/bin/python3 -B {host.folder}/lease.py undo" in host.done) == (not answer.startswith("undone"))


def test_a_run_that_was_ended_before_says_by_what(host: Host) -> None:
    host.record.unlink()
    (host.folder / "run1/end.json").write_text('{"why": "expired", "failures": []}')
    assert host.module().restored() == {"changed": False, "ended": "expired", "failures": []}
    assert host.done == []


def test_a_host_that_another_run_holds_is_left_alone(host: Host) -> None:
    host.hold("run2")
    assert host.module().restored() == {"changed": False, "ended": "taken by run run2", "failures": []}
    assert not [one for one in host.done if "lease.py" in one]


def test_a_host_that_is_not_as_it_was_is_said(host: Host) -> None:
    host.answer, host.undone = "gone", (1, "", "lease: kernel parameters could not be put back: …")
    with pytest.raises(Failed, match="the host is not as it was: lease: kernel parameters could not be put back"):
        host.module().restored()
