"""The log of a flood: one line for each request.

Nothing is aggregated here: Locust's own percentiles come from rounded buckets, ours from this file.
"""

from __future__ import annotations

import csv
import hashlib
import time
from pathlib import Path

from collectors.fields import REQUESTS
from floodmark.loadgen.client import Exchange

# More at a time would hold up requests that are due.
MOST_UNWRITTEN = 100


class RequestLog:
    """Writes requests.N.csv, in the columns of the registry.

    Args:
        path: the file; it is replaced.
        generator: number of the process that sends.

    Attributes:
        count: rows that were written.
        first_start_ns: when the earliest request of them started, 0 while there is none.
        last_end_ns: when the latest ended, 0 while there is none.
        sha256: checksum of the file in hexadecimal, once it is closed.
    """

    def __init__(self, path: Path, generator: int) -> None:
        self.generator = generator
        self._path = path
        self._file = path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(REQUESTS.columns)
        self._file.flush()
        self._unwritten: list[Exchange] = []
        self._flushed_ns = 0
        self.count = 0
        self.first_start_ns = 0
        self.last_end_ns = 0
        self.sha256 = ""

    def add(self, exchange: Exchange) -> None:
        """Take one request that has ended."""
        self._unwritten.append(exchange)
        if len(self._unwritten) >= MOST_UNWRITTEN:
            self.flush(exchange.end_ns)

    def flush(self, now_ns: int, older_than_ns: int = 0) -> None:
        """Write what was taken, if the last time was so long ago."""
        if not self._unwritten or now_ns - self._flushed_ns < older_than_ns:
            return
        generator = (self.generator,)
        self._csv.writerows(generator + one for one in self._unwritten)  # csv writes None as an empty field
        self._file.flush()
        self.count += len(self._unwritten)
        first = min(one.start_ns for one in self._unwritten)
        self.first_start_ns = min(self.first_start_ns or first, first)
        self.last_end_ns = self._unwritten[-1].end_ns
        self._flushed_ns = now_ns
        self._unwritten.clear()

    def close(self) -> None:
        """Finish the file, and take its checksum."""
        if self._file.closed:
            return
        self.flush(time.monotonic_ns())
        self._file.close()
        with self._path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
