from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.errors import RunError
from floodmark.runs import RunFolder, find_run, new_run, point_latest_at


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


def test_without_runs_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="make case CASE=3"):
        find_run("latest", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_damaged_run_json_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        RunFolder(tmp_path).read_run()
