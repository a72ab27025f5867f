"""What the machine of a load generator did during the flood: machine.N.csv, and host.N.json, which says what it is."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import gevent

from collectors.errors import Unreadable
from collectors.fields import GENERATOR_MACHINE
from collectors.host import describe_machine
from collectors.machine import Machine

# A reading takes the generator a tenth of a millisecond, which it could send requests in.
INTERVAL_S = 0.5


class MachineLog:
    """Reads the counters of this machine now and then, from a greenlet of its own.

    Args:
        path: machine.N.csv; it is replaced.
        generator: number of the process that writes it.
    """

    def __init__(self, path: Path, generator: int) -> None:
        self._generator = generator
        self._machine = Machine({})
        self._file = path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(GENERATOR_MACHINE.columns)
        self.rows = 0
        self._greenlet = gevent.spawn(self._read_now_and_then)

    def close(self) -> None:
        """Read once more, and finish the file."""
        if self._file.closed:
            return
        self._greenlet.kill()
        self._read()
        self._file.close()
        self._machine.close()

    def _read_now_and_then(self) -> None:
        while True:
            self._read()
            gevent.sleep(INTERVAL_S)

    def _read(self) -> None:
        now_ns = time.monotonic_ns()
        empty = (None,) * (len(GENERATOR_MACHINE.columns) - 3)
        try:
            rows = [row for row in self._machine.read(now_ns) if row is not None]
        except (Unreadable, OSError) as why:
            rows = [(*empty, str(why))]
        for row in rows:
            self._csv.writerow((self._generator, now_ns, *row))
            self.rows += 1


def write_description(path: Path) -> None:
    """Write what this machine is, as host.json of a proxy host says it."""
    path.write_text(json.dumps(describe_machine(), indent=2) + "\n", encoding="utf-8")
