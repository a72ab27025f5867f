"""Archives as another machine may send them, also a hostile one."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pytest

import floodmark.runs.archive as archive_module
from floodmark.errors import RunError
from floodmark.runs.archive import checksum_file, open_archive, unpack, verify, write_checksum
from floodmark.verdict.ingest import extract_archive


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


# --- an archive on the disk -----------------------------------------------------------------------

FLIPS = 400
CONTENT = b"".join(b"%d,upstream,%d,8,unix_diag,\n" % (number * 1_000_003, number % 9) for number in range(300))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A small archive as a host packs it, with its SHA-256."""
    path = tmp_path / "host.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        member = tarfile.TarInfo("./accept_queue.csv")
        member.size = len(CONTENT)
        made.addfile(member, io.BytesIO(CONTENT))
    write_checksum(path, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def read(path: Path) -> bytes:
    with open_archive(path) as opened:
        file = opened.extractfile("./accept_queue.csv")
        assert file
        return file.read()


def flipped(whole: bytes) -> list[bytes]:
    """Return the archive with one bit changed, FLIPS times."""
    places = random.Random(1).sample(range(len(whole) * 8), FLIPS)
    return [
        b"%b%c%b" % (whole[: place // 8], whole[place // 8] ^ 1 << place % 8, whole[place // 8 + 1 :])
        for place in places
    ]


def test_a_whole_archive_is_read_with_and_without_its_checksum(packed: Path) -> None:
    assert read(packed) == CONTENT
    checksum_file(packed).unlink()
    assert read(packed) == CONTENT


def test_every_changed_bit_is_refused_by_the_checksum(packed: Path) -> None:
    for damaged in flipped(packed.read_bytes()):
        packed.write_bytes(damaged)
        with pytest.raises(RunError, match=r"host\.tar\.gz is damaged: its SHA-256 is \w{64}, and \w{64} was expected"):
            read(packed)


def test_without_a_checksum_a_changed_bit_is_refused_or_changes_nothing(packed: Path) -> None:
    """gzip does not check the time and the system in its header, nor the last bits before the CRC."""
    checksum_file(packed).unlink()
    refusals = []
    for damaged in flipped(packed.read_bytes()):
        packed.write_bytes(damaged)
        try:
            assert read(packed) == CONTENT
        except RunError as error:
            refusals.append(str(error))
    assert all(one.startswith(f"{packed} is damaged: ") and one.endswith("run the case again.") for one in refusals)
    assert len(refusals) > FLIPS * 0.98


@pytest.mark.parametrize("kept", [0, 5, 17, -9, -4, -1])
def test_an_archive_that_was_cut_off_is_refused(packed: Path, kept: int) -> None:
    checksum_file(packed).unlink()
    packed.write_bytes(packed.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"is damaged: a (whole gzip stream|tar archive) was expected"):
        read(packed)


def test_an_archive_that_is_none_is_refused_and_a_missing_one_is_missing(tmp_path: Path, packed: Path) -> None:
    checksum_file(packed).unlink()
    with tarfile.open(packed, "w") as made:
        made.addfile(tarfile.TarInfo("host.json"))
    with pytest.raises(RunError, match="Not a gzipped file"):
        read(packed)
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "none.tar.gz")
    with pytest.raises(RunError, match=r"is damaged: .*Is a directory"):
        verify(tmp_path)


@pytest.mark.parametrize("text", ["", "0123\n", f"{'0' * 64}  other.tar.gz\n", f"{'x' * 64}  host.tar.gz\n", "\xff"])
def test_a_checksum_that_is_none_is_refused(packed: Path, text: str) -> None:
    checksum_file(packed).write_text(text)
    with pytest.raises(RunError, match=r"host\.tar\.gz\.sha256 is damaged: .* one line of sha256sum"):
        read(packed)


def test_what_goes_wrong_with_the_content_is_not_said_of_the_archive(packed: Path) -> None:
    with pytest.raises(OSError, match="No space left"), open_archive(packed):
        raise OSError(28, "No space left on device")


# --- an archive that is too much ------------------------------------------------------------------


def bomb(path: Path, *members: tarfile.TarInfo) -> Path:
    """Pack members of zeros: a thousandth of what they unpack to."""
    with tarfile.open(path, "w:gz", compresslevel=1) as made:
        for member in members:
            made.addfile(member, Zeros(member.size))
    return path


class Zeros(io.RawIOBase):
    """A file of zeros."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        count = self.left if size < 0 else min(size, self.left)
        self.left -= count
        return bytes(count)


def file_of(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


MB = 1_000_000


@pytest.mark.parametrize("with_checksum", [True, False])
def test_an_archive_that_unpacks_to_more_than_a_run_may_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_checksum: bool
) -> None:
    monkeypatch.setattr(archive_module, "MOST_BYTES", 20 * MB)
    path = bomb(tmp_path / "host.tar.gz", file_of("a.csv", 5 * MB), file_of("b.csv", 50 * MB))
    if with_checksum:
        write_checksum(path, hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(RunError, match=r"host\.tar\.gz is refused: it unpacks to more than 20 MB, and no run"):
        extract(path, tmp_path / "out")
    left = sum(one.stat().st_size for one in tmp_path.rglob("*.csv"))
    assert left <= 20 * MB


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100 * MB, 90 * MB, 10 * MB))
    path = bomb(tmp_path / "host.tar.gz", file_of("a.csv", 5 * MB), file_of("b.csv", 50 * MB))
    with pytest.raises(OSError, match=r"No space left on device: .*/out"):
        extract_archive(path, tmp_path / "out")
    assert not (tmp_path / "out/b.csv").exists()


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MOST_MEMBERS", 100)
    path = bomb(tmp_path / "host.tar.gz", *(file_of(f"{number}.csv", 0) for number in range(200)))
    with pytest.raises(RunError, match=r"it has more than 100 files, and no run"):
        extract(path, tmp_path / "out")
    assert len(list(tmp_path.glob("out/*"))) <= 100


def test_a_header_that_would_take_all_memory_is_refused(tmp_path: Path) -> None:
    """tarfile holds names and attributes in memory, however long an archive says that they are."""
    header = file_of("././@PaxHeader", 400 * MB)
    header.type = tarfile.XHDTYPE
    path = bomb(tmp_path / "host.tar.gz", header, file_of("a.csv", 0))
    tracemalloc.start()
    try:
        with pytest.raises(RunError, match=r"is refused: .* of 400000\d\d\d bytes at once"):
            extract(path, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 50 * MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "names", [("a", "a/b"), ("a/b", "a"), ("x" * 300,), ("a\0b",), (".",), ("..",)], ids=lambda names: repr(names)[:20]
)
def test_names_that_cannot_be_made_are_a_sentence(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "host.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as made:
        for name in names:
            member = tarfile.TarInfo("name")
            member.pax_headers = {"path": name}
            made.addfile(member)
    with pytest.raises(RunError, match=r"host\.tar\.gz is damaged: "):
        extract(path, tmp_path / "out")


def extract(path: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    with open_archive(path) as opened:
        unpack(opened, target)
