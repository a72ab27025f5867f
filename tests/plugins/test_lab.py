"""How a lab that Ansible runs is ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from floodmark.model.lab import LabPoint, LabRecord
from floodmark.model.stored import save
from floodmark.owner import Owner
from tests.conftest import load_file

action = load_file("plugins/action/floodmark_lab.py")
POINT = LabPoint(point="case 1", case=1, varied={}, takes_s=1)
RECORD = LabRecord(lab="study", question="?", inventory="i", given={}, points=[POINT])


@pytest.fixture
def makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes the runs of a lab for a process that is given, with a program in the place of floodmark."""

    save(tmp_path / "lab.json", RECORD)

    def make(owner: Owner, program: str) -> dict[str, Any]:
        (tmp_path / "floodmark").write_text(f'#!/bin/bash\necho "$*" >{tmp_path}/called\n{program}\n', encoding="utf-8")
        (tmp_path / "floodmark").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.setattr(action.Owner, "of_this_task", lambda: owner)
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = SimpleNamespace(args={"study": True})
        made: dict[str, Any] = plugin._make_runs(str(tmp_path), {})
        assert (tmp_path / "called").read_text() == f"study --quiet -e @/dev/stdin {tmp_path}\n"
        return made

    return make


def test_its_status_and_what_it_said_are_those_of_the_task(makes: Any) -> None:
    owner = Owner.of(os.getpid())
    done = makes(owner, "echo the pump is broken >&2; exit 2")
    assert (done["failed"], done["rc"], done["stderr"]) == (True, 2, "the pump is broken\n")
    assert "failed" not in makes(owner, "")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("killed", [True, False], ids=["is killed", "is to end"])
def test_it_ends_with_the_playbook(makes: Any, tmp_path: Path, killed: bool) -> None:
    with subprocess.Popen(["sleep", "600"]) as playbook:
        owner = Owner.of(playbook.pid)

        def end() -> None:
            while not (tmp_path / "called").exists():
                time.sleep(0.01)
            if killed:
                playbook.kill()
            else:
                os.eventfd_write(owner.ends, 1)

        ending = threading.Thread(target=end)
        ending.start()
        try:
            assert makes(owner, "exec sleep 600")["rc"] == -15
        finally:
            ending.join()
            playbook.kill()
