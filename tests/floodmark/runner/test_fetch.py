"""What a host wrote, on its way to the control node: here the host is a shell on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from floodmark.runner.fetch import PART_BYTES, FetchError, Said, fetch
from floodmark.runs.archive import checksum_file, open_archive
from tests.conftest import evidence, run


class Unreachable(Exception):  # noqa: N818 - as Ansible says it
    """The session is gone."""


def say(line: str) -> Said:
    """Let a shell run a line, as a host would."""
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def wrote(tmp_path: Path) -> Path:
    """The folder of a run on the host: more than one part, and nothing that could be packed smaller."""
    folder = tmp_path / "host's runs" / "20260101T000000Z-case2-unix"
    folder.mkdir(parents=True)
    (folder / "host.json").write_text("{}")
    (folder / "accept_queue.csv").write_bytes(os.urandom(2 * PART_BYTES + PART_BYTES // 3))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "proxy1" / "raw" / "host.tar.gz"


def test_it_is_packed_fetched_checked_and_removed(wrote: Path, archive: Path) -> None:
    written = (wrote / "accept_queue.csv").read_bytes()
    fetch(say, str(wrote), archive)
    with open_archive(archive) as opened:
        file = opened.extractfile("./accept_queue.csv")
        assert file
        assert file.read() == written
    assert checksum_file(archive).exists()
    assert list(wrote.parent.iterdir()) == [], "nothing stays on the host"
    assert sorted(one.name for one in archive.parent.iterdir()) == ["host.tar.gz", "host.tar.gz.sha256"]


def test_no_more_than_some_parts_of_it_are_in_memory(wrote: Path, archive: Path) -> None:
    (wrote / "nginx-access.log").write_bytes(os.urandom(60 << 20))
    tracemalloc.start()
    try:
        fetch(say, str(wrote), archive)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert archive.stat().st_size > 60 << 20


def test_what_cannot_be_packed_stays_on_the_host(wrote: Path, archive: Path) -> None:
    def without_tar(line: str) -> Said:
        return say(f"tar() {{ echo 'tar: No space left on device' >&2; return 2; }}; {line}")

    with pytest.raises(FetchError, match=rf"could not be packed and stays in {wrote}: tar: No space left on device\."):
        fetch(without_tar, str(wrote), archive)
    assert [one.name for one in wrote.parent.iterdir()] == [wrote.name], "and no piece of an archive"
    assert not archive.exists()


def test_a_session_that_breaks_off_leaves_it_on_the_host(wrote: Path, archive: Path) -> None:
    lines: list[str] = []

    def breaks_off(line: str) -> Said:
        lines.append(line)
        if len(lines) == 3:
            raise Unreachable
        return say(line)

    with pytest.raises(Unreachable):
        fetch(breaks_off, str(wrote), archive)
    assert (wrote / "host.json").exists()
    assert list(archive.parent.glob("*host.tar.gz*")) == [checksum_file(archive)]
    fetch(say, str(wrote), archive)
    with open_archive(archive) as opened:
        assert "./host.json" in opened.getnames()


@pytest.mark.parametrize("damage", ["", "AAAA", "?"])
def test_what_arrives_damaged_is_refused_and_stays_on_the_host(wrote: Path, archive: Path, damage: str) -> None:
    def damages(line: str) -> Said:
        said = say(line)
        return Said(0, damage + said.output[len(damage) or 8 :], "") if "base64" in line else said

    with pytest.raises(FetchError, match=rf"did not arrive as the host packed it, and stays there in {wrote}"):
        fetch(damages, str(wrote), archive)
    assert (wrote / "host.json").exists()
    assert not archive.exists()


def test_no_room_here_is_said(wrote: Path, archive: Path) -> None:
    archive.parent.parent.mkdir()
    archive.parent.write_text("a file, where a folder belongs")
    with pytest.raises(FetchError, match=rf"host\.tar\.gz cannot be written: .*stays on the host in {wrote}"):
        fetch(say, str(wrote), archive)
    assert (wrote / "host.json").exists()


def test_ansible_fetches_it(wrote: Path, archive: Path) -> None:
    arguments = json.dumps({"folder": str(wrote), "archive": str(archive)})
    done = run("ansible", "localhost", "-c", "local", "-m", "floodmark_fetch", "-a", arguments)
    assert done.returncode == 0, evidence(done)
    assert '"problem": ""' in done.stdout
    with open_archive(archive) as opened:
        assert "./host.json" in opened.getnames()
