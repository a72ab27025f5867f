"""What people see who look on while a run goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from collectors import live
from collectors.fields import ACCEPT_QUEUE, STUB_STATUS
from collectors.live import Follower, Looker
from tests.conftest import ROOT


def add(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(lines))


def test_only_complete_lines_that_were_added_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    follower = Follower(path)
    assert follower.lines() == []
    add(path, "one\ntwo\nthr")
    assert follower.lines() == ["one", "two"]
    assert follower.lines() == []
    add(path, "ee\n")
    assert follower.lines() == ["three"]


def test_who_is_far_behind_gets_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_BYTES", 10)
    path = tmp_path / "file"
    add(path, "first\nsecond\nthird\n")
    follower = Follower(path)
    assert follower.lines() == ["third"], "of the second only a part was read"
    add(path, "fourth\n")
    assert follower.lines() == ["fourth"]


def test_the_deepest_queue_since_the_last_look_is_not_missed(tmp_path: Path) -> None:
    looker = Looker(tmp_path)
    path = tmp_path / "accept_queue.csv"
    add(path, ",".join(ACCEPT_QUEUE.columns) + "\n")
    add(path, "1,upstream,0,8,unix_diag,\n", "2,upstream,9,8,unix_diag,\n", "3,front,1,511,inet_diag,\n")
    add(path, "4,upstream,2,8,unix_diag,\n", "5,upstream,,,,gone\n")
    queues = looker.look()["accept_queue"]
    assert (queues["upstream"]["depth_conns"], queues["upstream"]["most_conns"]) == (2, 9)
    assert queues["front"]["limit_conns"] == 511
    assert "accept_queue" not in looker.look()
    add(path, "6,upstream,1,8,unix_diag,\n")
    assert looker.look()["accept_queue"]["upstream"]["most_conns"] == 1


def test_what_failed_is_absent_and_never_zero(tmp_path: Path) -> None:
    columns = STUB_STATUS.columns
    add(tmp_path / "stub_status.csv", ",".join(columns) + "\n", "1" + "," * (len(columns) - 1) + "refused\n")
    assert Looker(tmp_path).look() == {"statuses": {}}


def test_answers_are_counted_from_the_beginning(tmp_path: Path) -> None:
    looker = Looker(tmp_path)
    add(tmp_path / "nginx-access.log", '{"status":"502"}\n{"status":"504"}\n{"sta')
    assert looker.look()["statuses"] == {"502": 1, "504": 1}
    add(tmp_path / "nginx-access.log", 'tus":"502"}\nbroken\n')
    assert looker.look()["statuses"] == {"502": 2, "504": 1}


def test_it_ends_with_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "collectors.live", folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline()) == {"statuses": {}}
        shutil.rmtree(folder)
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_it_ends_when_nobody_listens(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "collectors.live", tmp_path], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
