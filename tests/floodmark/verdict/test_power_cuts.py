"""A power cut of the control node, at any moment while a run is judged: every finished run can still be read."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from floodmark.errors import RunError
from floodmark.runs.archive import open_archive, write_checksum
from floodmark.runs.folders import RunFolder, find_run
from floodmark.runs.verdicts import read_description, read_verdicts
from floodmark.verdict.judge import judge_run
from tests.floodmark.power_cut import PowerCut
from tests.floodmark.verdict.test_judge import NoAccept

RUN_ID = "20260101T000000Z-case2-unix"
# Each is judged again, which takes a moment.
JUDGED_AGAIN = 6


@pytest.fixture
def fake(tmp_path: Path) -> NoAccept:
    """A run that was fetched and not judged yet."""
    run = tmp_path / "results" / RUN_ID
    run.mkdir(parents=True, exist_ok=True)
    fake = NoAccept(run)
    fake.write()
    fake.write_plan("proxy1")
    archive = fake.run.host("proxy1").archive
    write_checksum(archive, hashlib.sha256(archive.read_bytes()).hexdigest())
    return fake


def read_all(run: RunFolder) -> None:
    """Read everything that a finished run has, and find it whole."""
    assert run.read_run().valid
    (verdict,) = read_verdicts(run)
    assert verdict.seen
    assert verdict.seen.sent == 12
    host = run.host("proxy1")
    read_description(host)
    assert duckdb.read_parquet(str(host.table("requests"))).shape[0] == 12
    assert duckdb.read_parquet(str(host.table("accept_queue"))).shape[0] > 12
    with open_archive(host.archive) as opened:
        assert opened.getnames()
    assert (run.load("proxy1") / "requests.0.csv").read_text().count("\n") == 13


def logs_of(run: RunFolder) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in run.load("proxy1").glob("*")}


def look_at(states: list[str], unfinished: list[Path], keep: Path, was_finished: bool) -> object:
    """Return what looks at a results folder after a power cut."""

    def look(left: Path, step: str) -> None:
        states.append(step)
        run = RunFolder(left / RUN_ID)
        try:
            if run.record.exists():
                read_all(run)
                return
        except (RunError, OSError, AssertionError, duckdb.Error) as error:
            pytest.fail(f"{step}: {error}")
        assert not was_finished, step
        run.read_plan()
        with pytest.raises(RunError, match="is not complete"):
            run.read_run()
        unfinished.append(shutil.copytree(left, keep / str(len(unfinished))))

    return look


def test_when_it_is_judged_for_the_first_time(fake: NoAccept, tmp_path: Path) -> None:
    room, keep = tmp_path / "room", tmp_path / "keep"
    room.mkdir()
    keep.mkdir()
    states: list[str] = []
    unfinished: list[Path] = []
    # Locust has written its logs and has not waited for the disk.
    unsynced = set(fake.run.load("proxy1").iterdir())
    with PowerCut(fake.run.path.parent, room, look_at(states, unfinished, keep, False), unsynced).watch():  # type: ignore[arg-type]
        judge_run(fake.run)
    read_all(RunFolder(room / "left" / RUN_ID))
    assert len(states) > len(unfinished) > 10
    for left in unfinished[:: max(1, len(unfinished) // JUDGED_AGAIN)]:
        run = RunFolder(left / RUN_ID)
        assert judge_run(run).valid is (logs_of(run) == logs_of(fake.run)), "valid only with all that Locust has logged"


def test_when_it_is_judged_again_it_can_be_read_all_the_time(fake: NoAccept, tmp_path: Path) -> None:
    judge_run(fake.run)
    room = tmp_path / "room"
    room.mkdir()
    states: list[str] = []
    with PowerCut(fake.run.path.parent, room, look_at(states, [], room, True), set()).watch():  # type: ignore[arg-type]
        judge_run(find_run(RUN_ID, fake.run.path.parent))
    assert len(states) > 10


def test_what_is_written_is_for_its_user_alone(fake: NoAccept) -> None:
    before = set(fake.run.path.rglob("*"))
    judge_run(fake.run)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in set(fake.run.path.rglob("*")) - before}
    assert {"run.json", "verdict.json", "host.json", "requests.parquet"} <= modes.keys()
    assert set(modes.values()) == {0o600}


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for what was fetched, and for less than a judgement makes of it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "results"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_a_sentence_and_the_run_can_be_judged_later(full_disk: Path, fake: NoAccept) -> None:
    judge_run(fake.run)
    read_all(fake.run)
    before = {path: path.read_bytes() for path in fake.run.path.rglob("*") if path.is_file()}
    (full_disk / "ballast").write_bytes(bytes(full_disk_left(full_disk)))
    with pytest.raises(RunError, match=r"results/.* cannot be written: No space left on device\. Free some"):
        judge_run(fake.run)
    read_all(fake.run)
    assert {path: path.read_bytes() for path in fake.run.path.rglob("*") if path.is_file()} == before
    (full_disk / "ballast").unlink()
    judge_run(fake.run)
    read_all(fake.run)


def full_disk_left(folder: Path) -> int:
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize
