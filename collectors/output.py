"""What the agent writes: one CSV file for each table, without waiting for a disk.

Rows gather in memory. Ten times a second they are handed to a thread that writes them, so that a disk that is
slow for a while delays no reading. What was handed over is in the kernel's hands and survives SIGKILL.

At a clean end written.json says how many rows each table has, so that a reader can tell a whole file from a cut one:

    {"accept_queue": 24446, "unix_states": 62, …}
"""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Union

from collectors.fields import Table

Row = tuple[Union[int, float, str, None], ...]

# A disk that has taken nothing for this long a record will not come back in time.
MOST_PENDING_BYTES = 8 << 20


class OutputError(Exception):
    """Rows can no longer be written; the text says why."""


class TableWriter:
    """The rows of one table on their way to its file.

    Attributes:
        add: takes a row, as cheaply as can be; it is formatted later, many at once.
        count: how many rows `take` has returned, without the header.
    """

    def __init__(self, path: Path, table: Table) -> None:
        self.name = table.name
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._empty: Row = (None,) * (len(table.columns) - 2)
        self._rows: list[Row] = [table.columns]
        self.count = -1
        self.add = self._rows.append

    def add_failure(self, t_ns: int, reason: str) -> None:
        """Take a row that says why there is no reading."""
        self.add((t_ns, *self._empty, reason))

    def take(self) -> bytes:
        """Return what has gathered, and begin anew."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(self._rows)
        self.count += len(self._rows)
        self._rows.clear()
        return text.getvalue().encode()


class Output:
    """All tables of one agent and the thread that writes them.

    Args:
        folder: where the files go.
        record: name of the file that says at a clean end how many rows each table has.
        most_bytes: how much the tables may have together; 0 is no limit.
    """

    def __init__(self, folder: Path, record: str = "written.json", most_bytes: int = 0) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._record = folder / record
        self._record.unlink(missing_ok=True)
        self._writers: list[TableWriter] = []
        self._queue: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()
        self._handed_bytes = self._written_bytes = 0
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def table(self, table: Table) -> TableWriter:
        """Begin the file of a table."""
        writer = TableWriter(self._folder / f"{table.name}.csv", table)
        self._writers.append(writer)
        return writer

    def hand_over(self) -> None:
        """Pass on what has gathered.

        Raises:
            OutputError: the disk is full or broken, or has taken nothing for too long.
        """
        self._pass_on()
        self._check()

    def close(self) -> None:
        """Write everything that is left, wait for it, and write down how many rows there are.

        Raises:
            OutputError: it could not be written.
        """
        self._pass_on()
        self._queue.put(None)
        self._thread.join()
        for writer in self._writers:
            os.close(writer.fd)
        self._check()
        unfinished = self._record.with_suffix(".new")
        counts = {writer.name: writer.count for writer in self._writers}
        unfinished.write_text(json.dumps(counts) + "\n", encoding="ascii")
        unfinished.rename(self._record)

    def _pass_on(self) -> None:
        for writer in self._writers:
            data = writer.take()
            self._handed_bytes += len(data)
            self._queue.put((writer.fd, data))

    def _check(self) -> None:
        if self._error:
            raise OutputError(f"cannot write to {self._folder}: {self._error.strerror}")
        if self._most_bytes and self._handed_bytes > self._most_bytes:
            raise OutputError(
                f"cannot write to {self._folder}: the tables have more than the {self._most_bytes} bytes that were "
                "planned for them"
            )
        pending = self._handed_bytes - self._written_bytes
        if pending > MOST_PENDING_BYTES:
            raise OutputError(f"cannot write to {self._folder}: {pending >> 20} MiB wait for the disk")

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            fd, data = item
            try:
                while data:
                    written = os.write(fd, data)
                    self._written_bytes += written
                    data = data[written:]
            except OSError as error:
                self._error = error
                return
