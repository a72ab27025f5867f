"""Files of results: whole or not at all, for their user alone, and there after a power cut."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from floodmark.disk import make_folder, open_log, whole_file, write
from tests.floodmark.power_cut import PowerCut

OLD, NEW = "old\n", "new\n" * 1000


def test_what_is_written_is_there_for_its_user_alone(tmp_path: Path) -> None:
    write(tmp_path / "lab.json", NEW)
    assert (tmp_path / "lab.json").read_text() == NEW
    assert stat.S_IMODE((tmp_path / "lab.json").stat().st_mode) == 0o600
    make_folder(tmp_path / "a" / "b")
    with open_log(tmp_path / "a" / "said") as log:
        log.write(OLD)
    assert stat.S_IMODE((tmp_path / "a" / "said").stat().st_mode) == 0o600
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a" / "b")


def test_a_file_stays_as_it_was_when_writing_another_fails(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    write(path, OLD)

    def fail() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text(NEW)
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert [one.name for one in tmp_path.iterdir()] == ["verdict.json"]
    assert path.read_text() == OLD


@pytest.mark.parametrize("before", [None, OLD])
def test_after_a_power_cut_it_is_the_old_or_the_new_one(tmp_path: Path, before: str | None) -> None:
    root, room = tmp_path / "root", tmp_path / "room"
    root.mkdir()
    room.mkdir()
    if before is not None:
        (root / "verdict.json").write_text(before)
    seen: set[str | None] = set()

    def look(left: Path, _step: str) -> None:
        path = left / "verdict.json"
        seen.add(path.read_text() if path.exists() else None)

    with PowerCut(root, room, look, set()).watch():
        write(root / "verdict.json", NEW)
    assert seen == {before, NEW}
    (left,) = (room / "left").iterdir()
    assert left.read_text() == NEW, "what was written is on the disk"


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def without_a_sync(path: Path, text: str) -> None:
    path.with_suffix(".tmp").write_text(text)
    path.with_suffix(".tmp").replace(path)


@pytest.mark.parametrize("careless", [in_place, without_a_sync])
def test_the_power_cut_finds_what_is_written_without_care(
    tmp_path: Path, careless: Callable[[Path, str], None]
) -> None:
    root, room = tmp_path / "root", tmp_path / "room"
    root.mkdir()
    room.mkdir()
    (root / "file").write_text(OLD)
    seen: set[str] = set()
    with PowerCut(root, room, lambda left, _: seen.add((left / "file").read_text()), set()).watch():
        careless(root / "file", NEW)
    assert seen - {OLD, NEW}
