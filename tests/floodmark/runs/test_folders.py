from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from floodmark.errors import RunError
from floodmark.runs.folders import RunFolder, find_run, labs_in, new_run, point_latest_at, runs_in
from tests.floodmark.verdict.test_judge import NoAccept

FLOODMARK = Path(sys.executable).with_name("floodmark")


def test_two_runs_of_the_same_second_have_two_folders(tmp_path: Path) -> None:
    names = {new_run(2, "unix", tmp_path).run_id for _ in range(5)}
    assert len(names) == 5


def test_latest_follows_the_newest_run(tmp_path: Path) -> None:
    for _ in range(2):
        run = new_run(2, "tcp", tmp_path)
        point_latest_at(run)
    assert find_run("latest", tmp_path).run_id == run.run_id


def test_a_run_that_does_not_exist_is_answered_with_the_nearest(tmp_path: Path) -> None:
    run = new_run(3, "unix", tmp_path)
    with pytest.raises(RunError, match=f"did you mean '{run.run_id}'"):
        find_run(run.run_id[:-1], tmp_path)


def test_what_is_no_run_is_not_the_newest(tmp_path: Path) -> None:
    run = new_run(3, "unix", tmp_path)
    (tmp_path / "bench").mkdir()
    with pytest.raises(RunError, match=f"The newest is {run.run_id}"):
        find_run("nothing", tmp_path)


def test_a_lab_is_no_run(tmp_path: Path) -> None:
    for name in (
        "20260101T000000Z-lab-single-request",
        "20260101T000001Z-case2-unix-single-request",
        "latest",
        "suites",
    ):
        (tmp_path / name).mkdir()
    assert [path.name for path in runs_in(tmp_path)] == ["20260101T000001Z-case2-unix-single-request"]
    assert [path.name for path in labs_in(tmp_path)] == ["20260101T000000Z-lab-single-request"]


def test_without_runs_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="make case CASE=3"):
        find_run("latest", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_damaged_run_json_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        RunFolder(tmp_path).read_run()


def test_results_that_cannot_be_written_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file, where a folder belongs")
    with pytest.raises(RunError, match=r"results cannot be written: Not a directory\. Make it writable"):
        new_run(2, "unix", tmp_path / "results")


@pytest.mark.parametrize("command", ["judge", "report"])
def test_a_run_on_a_read_only_file_system_stays_as_it_is(tmp_path: Path, command: str) -> None:
    path = tmp_path / "20260101T000000Z-case2-unix"
    path.mkdir()
    fake = NoAccept(path)
    fake.write()
    fake.write_plan("proxy1")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    read_only = f"mount --bind {path} {path} && mount -o remount,ro,bind {path} && exec {FLOODMARK}"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", f"{read_only} {command} {path}/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("floodmark: ")
    assert "cannot be written" in done.stderr
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
