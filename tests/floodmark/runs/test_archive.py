"""Archives as another machine may send them, also a hostile one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from floodmark.runs.archive import unpack


def archive(*members: tuple[str, bytes, bytes]) -> tarfile.TarFile:
    """Return an archive of members: name, type, content or target of a link."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content.decode()
            made.addfile(member, io.BytesIO(content))
    file.seek(0)
    return tarfile.open(fileobj=file)


def test_files_and_folders_come_out_as_they_went_in(tmp_path: Path) -> None:
    folder = (".", tarfile.DIRTYPE, b"")
    with archive(folder, ("./a.csv", tarfile.REGTYPE, b"1\n"), ("./b/c.csv", tarfile.REGTYPE, b"")) as opened:
        unpack(opened, tmp_path / "out")
    assert (tmp_path / "out/a.csv").read_bytes() == b"1\n"
    assert (tmp_path / "out/b/c.csv").read_bytes() == b""


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with archive((name, tarfile.REGTYPE, b"x")) as opened, pytest.raises(tarfile.TarError, match="leads out of"):
        unpack(opened, tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    outside = (tmp_path / "secret").as_posix().encode()
    with archive(("link", tarfile.SYMTYPE, outside), ("null", tarfile.CHRTYPE, b"")) as opened:
        unpack(opened, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))
