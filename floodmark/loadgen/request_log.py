"""The log of a flood: one line for each request, and what the generator knows about itself.

Nothing is aggregated here: Locust's own percentiles come from rounded buckets, ours from this file.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from collectors.fields import REQUESTS


class Answer(NamedTuple):
    """How one request ended.

    Attributes:
        status: HTTP status, or None when no status line came.
        error: class of the error, or an empty text for a complete answer.
        detail: the client's own words for the error.
        body_bytes: bytes of the body that came, or None when no status line came.
    """

    status: int | None
    error: str
    detail: str
    body_bytes: int | None


class RequestLog:
    """Writes requests.csv, in the columns of the registry; a line is on disk when its request has ended.

    Args:
        path: the file; it is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="", buffering=1)
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(REQUESTS.columns)
        self.count = 0
        self.first_start_ns = 0
        self.last_end_ns = 0

    def write(self, request_id: str, start_ns: int, end_ns: int, answer: Answer) -> None:
        """Add one request; the times are on the generator's monotonic clock."""
        self._csv.writerow((request_id, start_ns, end_ns, *answer))  # csv writes None as an empty field
        self.count += 1
        self.first_start_ns = min(self.first_start_ns or start_ns, start_ns)
        self.last_end_ns = max(self.last_end_ns, end_ns)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def write_summary(
    path: Path, log: RequestLog, *, unfinished: int, late_max_s: float, cpu_s: float, cpu_warning: bool
) -> None:
    """Write load.json: what ingest needs beside the requests.

    Args:
        path: the file.
        log: the finished log.
        unfinished: requests that were started and never ended.
        late_max_s: how long after its place in the spread a user has sent for the first time, at most.
        cpu_s: processor time of the generator between its first and its last request.
        cpu_warning: whether Locust warned that it was saturated.
    """
    wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
    summary: dict[str, Any] = {
        "requests": log.count,
        "unfinished": unfinished,
        "first_start_ns": log.first_start_ns or None,
        "last_end_ns": log.last_end_ns or None,
        "late_max_s": round(late_max_s, 6),
        "cpu_s": round(cpu_s, 6),
        "cpu_warning": cpu_warning,
        "wall_minus_monotonic_ns": wall_ns - monotonic_ns,
    }
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
