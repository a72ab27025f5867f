"""A power cut of the control node, at any moment while a run is judged: every finished run can still be read."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from floodmark.errors import RunError
from floodmark.runs.archive import open_archive, write_checksum
from floodmark.runs.folders import RunFolder, find_run
from floodmark.runs.verdicts import read_description, read_verdicts
from floodmark.verdict.judge import judge_run
from tests.conftest import ROOT
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


# --- a real file system that stops ------------------------------------------------------------------

# Judges a run, and at the n-th step lets the file system stop as it is on the disk, and this process with it.
JUDGE_UNTIL = """
import fcntl, itertools, os, struct, sys
from pathlib import Path
from floodmark.runs.folders import RunFolder
from floodmark.verdict.judge import judge_run
EXT4_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2
steps, last = itertools.count(1), int(sys.argv[2])
run = RunFolder(Path(sys.argv[1]))
def counted(really):
    def step(*arguments, **named):
        if next(steps) == last:
            fcntl.ioctl(os.open(run.path, os.O_RDONLY), EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
            os._exit(9)
        return really(*arguments, **named)
    return step
for name in ("fsync", "replace", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
judge_run(run)
print(next(steps) - 1)
"""
MOMENTS = int(os.environ.get("FLOODMARK_POWER_CUTS", "6"))


# In a mount namespace of its own: a container that is started meanwhile would keep the file system mounted.
MOUNTED = """
set -e
mount -o loop,commit=300,noauto_da_alloc,data=writeback "$1" "$2"
{}
umount "$2"
"""
FILL = "rm -rf $2/*; cp -a $3 $2/; sync --file-system $2"
CUT = 'status=0; $3 -c "$4" $2/$5 $6 || status=$?; umount $2; exit $status'
TAKE = "cp -a $2/* $3"


class Disk:
    """A file system in a file, mounted as one that promises as little as ext4 can."""

    def __init__(self, room: Path) -> None:
        self._image, self._folder = room / "image", room / "mounted"
        self._folder.mkdir()
        with self._image.open("wb") as image:
            image.truncate(16 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", str(self._image)], check=True)

    def mounted(self, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a script with it; its arguments are those from $3 on."""
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED.format(script), "sh",
             str(self._image), str(self._folder), *map(str, arguments)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def judge_until(self, step: int, run: RunFolder) -> subprocess.CompletedProcess[str]:
        """Begin with a run as it is, and judge it until a step."""
        done = self.mounted(FILL, run.path)
        assert done.returncode == 0, done.stderr
        return self.mounted(CUT, sys.executable, JUDGE_UNTIL, run.run_id, step)

    def take(self, target: Path) -> None:
        """Copy what is on it."""
        target.mkdir()
        done = self.mounted(TAKE, target)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("was_finished", [False, True], ids=["first", "again"])
def test_when_the_power_of_a_real_disk_is_cut(fake: NoAccept, tmp_path: Path, was_finished: bool) -> None:
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("only root can mount an image, by a loop device")
    disk = Disk(tmp_path)
    if was_finished:
        judge_run(fake.run)
    done = disk.judge_until(-1, fake.run)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    seed = int(os.environ.get("FLOODMARK_SEED", random.randrange(2**32)))
    for step in sorted(random.Random(seed).sample(range(1, steps + 1), min(MOMENTS, steps))):
        where = f"step {step} of {steps}, FLOODMARK_SEED={seed}"
        cut = disk.judge_until(step, fake.run)
        assert cut.returncode == 9, (where, cut.stderr)
        disk.take(left := tmp_path / str(step))
        run = RunFolder(left / RUN_ID)
        assert run.record.exists() or not was_finished, where
        if not run.record.exists():
            judge_run(run)
        read_all(run)
