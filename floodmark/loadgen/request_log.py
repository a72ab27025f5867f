"""The log of a flood: one line for each request, and what the generator knows about itself.

Nothing is aggregated here: Locust's own percentiles come from rounded buckets, ours from this file.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

from collectors.fields import REQUESTS
from floodmark.loadgen.client import Exchange

# More at a time would hold up requests that are due.
MOST_UNWRITTEN = 100


class RequestLog:
    """Writes requests.N.csv, in the columns of the registry.

    Args:
        path: the file; it is replaced.
        generator: number of the process that sends.
    """

    def __init__(self, path: Path, generator: int) -> None:
        self.generator = generator
        self._file = path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(REQUESTS.columns)
        self._file.flush()
        self._unwritten: list[Exchange] = []
        self._flushed_ns = 0
        self.count = 0
        self.first_start_ns = 0
        self.last_end_ns = 0

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
        """Finish the file."""
        self.flush(time.monotonic_ns())
        self._file.close()


def write_summary(path: Path, log: RequestLog, **more: Any) -> None:
    """Write load.N.json: what ingest needs beside the requests.

    Args:
        path: the file.
        log: the finished log.
        more: what else the generator knows about itself.
    """
    wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
    summary = {
        "generator": log.generator,
        "requests": log.count,
        "first_start_ns": log.first_start_ns or None,
        "last_end_ns": log.last_end_ns or None,
        "wall_minus_monotonic_ns": wall_ns - monotonic_ns,
        **more,
    }
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
