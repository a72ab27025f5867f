"""What was handed over is on disk; what cannot be written ends the agent with a reason."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors import fields
from collectors.output import MOST_PENDING_BYTES, Output, OutputError

ROW = (5, 1, 2, 3, 4, 5, 6, None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_rows_and_failures_are_on_disk_after_close(tmp_path: Path) -> None:
    output = Output(tmp_path)
    table = output.table(fields.TCP_EXT)
    table.add(ROW)
    output.hand_over()
    table.add_failure(6, 'no "such" file, really')
    output.close()
    header, row, failure = (tmp_path / "tcp_ext.csv").read_text().splitlines()
    assert header == ",".join(fields.TCP_EXT.columns)
    assert (row, failure) == ("5,1,2,3,4,5,6,", '6,,,,,,,"no ""such"" file, really"')


def test_a_clean_end_says_how_many_rows_each_table_has(tmp_path: Path) -> None:
    output = Output(tmp_path)
    table, empty = output.table(fields.TCP_EXT), output.table(fields.PROCESS)
    for number in range(5):
        table.add(ROW)
        output.hand_over()
        table.add_failure(number, "a reason\nof two lines")
    assert not (tmp_path / "written.json").exists()
    output.close()
    assert json.loads((tmp_path / "written.json").read_text()) == {table.name: 10, empty.name: 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["process.csv", "tcp_ext.csv", "written.json"]
    # Who writes into the folder again has not ended yet.
    again = Output(tmp_path)
    assert not (tmp_path / "written.json").exists()
    again.close()


def test_a_full_disk_is_said_and_what_was_written_stays(small_disk: Path) -> None:
    output = Output(small_disk)
    table = output.table(fields.TCP_EXT)

    def write_too_much() -> None:
        try:
            for _ in range(2):
                for _ in range(10_000):
                    table.add(ROW)
                output.hand_over()
        finally:
            output.close()

    # The thread that writes may find it out before the second half is handed over, or in the end.
    with pytest.raises(OutputError, match=r"cannot write to .*No space left on device"):
        write_too_much()
    assert not (small_disk / "written.json").exists()
    lines = (small_disk / "tcp_ext.csv").read_text().splitlines()
    assert len(lines) > 1000
    assert set(lines[1:-1]) == {"5,1,2,3,4,5,6,"}


def test_a_disk_that_takes_nothing_ends_the_agent_before_its_memory_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, release = os.pipe()
    real_write = os.write

    def hang(fd: int, data: bytes) -> int:
        os.read(blocked, 1)
        return real_write(fd, data)

    output = Output(tmp_path)
    table = output.table(fields.TCP_EXT)
    monkeypatch.setattr(os, "write", hang)
    table.add_failure(1, "x" * MOST_PENDING_BYTES)
    with pytest.raises(OutputError, match="8 MiB wait for the disk"):
        output.hand_over()
    os.close(release)


def test_tables_have_no_more_than_was_planned_for_them(tmp_path: Path) -> None:
    output = Output(tmp_path, most_bytes=3000)
    table = output.table(fields.TCP_EXT)

    def write_too_much() -> None:
        for _ in range(1000):
            table.add(ROW)
            output.hand_over()

    with pytest.raises(OutputError, match="the tables have more than the 3000 bytes that were planned for them"):
        write_too_much()
    with pytest.raises(OutputError):
        output.close()
    assert 3000 < (tmp_path / "tcp_ext.csv").stat().st_size < 3100
    assert not (tmp_path / "written.json").exists()
