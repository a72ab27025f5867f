"""Says four times a second what the agent sees, to people who look on: one JSON object a line.

    python3 -m collectors.live FOLDER

It reads what was added to the agent's files and to nginx's log since it looked last, so the agent has nothing to do
with it. It ends when the folder is gone, which is when a run is over, and when nobody reads what it says.

    {"accept_queue": {"upstream": {"depth_conns": 9, "most_conns": 9, "limit_conns": 8}, …},
     "unix_states": {…}, "upstream_conns": {…}, "stub_status": {…}, "process": [{…}, …], "statuses": {"502": 23}}

What could not be read, or has not been read yet, is absent.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TypedDict, Union, cast

from collectors.fields import ACCEPT_QUEUE, PROCESS, STUB_STATUS, UNIX_STATES, UPSTREAM_CONNS, Table

LOOK_S = 0.25
# Who looks on after a long time wants what is now.
MOST_BYTES = 2_000_000

# A row of one of the agent's tables: column -> value, without the columns that have none.
Row = dict[str, Union[int, float, str]]


# --- one line, for those who read it: of each row the columns that they use -----------------------


class Queue(TypedDict, total=False):
    """The newest row of accept_queue of one listener; most_conns is its deepest since the line before."""

    t_ns: int
    listener: str
    depth_conns: int
    limit_conns: int
    most_conns: int


class UnixStates(TypedDict, total=False):
    """The newest row of unix_states."""

    unconnected_socks: int
    connecting_socks: int
    connected_socks: int


class UpstreamConns(TypedDict, total=False):
    """The newest row of upstream_conns."""

    accepted_conns: int


class StubStatus(TypedDict, total=False):
    """The newest row of stub_status."""

    active_conns: int


class Process(TypedDict, total=False):
    """The newest row of process of one process."""

    pid: int
    role: str
    rss_bytes: int


class Seen(TypedDict, total=False):
    """One line: listener -> its queue, newest rows, and HTTP status -> how many answers nginx has logged."""

    accept_queue: dict[str, Queue]
    unix_states: UnixStates
    upstream_conns: UpstreamConns
    stub_status: StubStatus
    process: list[Process]
    statuses: dict[str, int]


# --- reading --------------------------------------------------------------------------------------


class Follower:
    """Reads the lines that were added to a file.

    Args:
        path: the file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self) -> list[str]:
        """Return the complete lines that were added since the last time."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                skips = size - self._at > MOST_BYTES
                self._at = file.seek(size - MOST_BYTES if skips else self._at)
                added = file.read()
        except FileNotFoundError:
            return []
        whole, newline, _ = added.rpartition(b"\n")
        self._at += len(whole) + len(newline)
        return whole.decode(errors="replace").split("\n")[int(skips) :] if newline else []


class Rows:
    """Reads the rows that were added to one of the agent's tables.

    Args:
        folder: where the agent writes.
        table: which one.
    """

    def __init__(self, folder: Path, table: Table) -> None:
        self._table = table
        self._follower = Follower(folder / f"{table.name}.csv")
        self._numbers = [field.name for field in table.fields if field.type != "text"]

    def new(self) -> list[Row]:
        """Return them as column -> value; readings that failed, and values that are missing, are left out."""
        rows = []
        for row in csv.DictReader(self._follower.lines(), fieldnames=self._table.columns):
            if row["reason"] or row[self._table.columns[0]] == self._table.columns[0]:
                continue  # it failed; or it is the header
            rows.append({name: self._value(name, text) for name, text in row.items() if text})
        return rows

    def _value(self, column: str, text: str) -> int | float | str:
        if column not in self._numbers:
            return text
        return float(text) if "." in text else int(text)


class Looker:
    """What is seen of a run.

    Args:
        folder: where the agent and nginx write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queues = Rows(folder, ACCEPT_QUEUE)
        self._single = {table.name: Rows(folder, table) for table in (UNIX_STATES, UPSTREAM_CONNS, STUB_STATUS)}
        self._processes = Rows(folder, PROCESS)
        self._access_log = Follower(folder / "nginx-access.log")
        self._statuses: Counter[str] = Counter()

    def look(self) -> Seen:
        """Return what has been added."""
        seen: Seen = {}
        queues: dict[str, Queue] = {}
        # Each table has the columns of collectors/fields.py, so its rows are of its type.
        for row in cast("list[Queue]", self._queues.new()):
            most_conns = queues.get(row["listener"], {}).get("most_conns", 0)
            row["most_conns"] = max(most_conns, row.get("depth_conns", 0))
            queues[row["listener"]] = row
        if queues:
            seen["accept_queue"] = queues
        added = {name: rows.new() for name, rows in self._single.items()}
        seen.update(cast(Seen, {name: rows[-1] for name, rows in added.items() if rows}))
        processes = {row["pid"]: row for row in cast("list[Process]", self._processes.new())}
        if processes:
            seen["process"] = list(processes.values())
        self._count_answers()
        seen["statuses"] = dict(self._statuses)
        return seen

    def _count_answers(self) -> None:
        for line in self._access_log.lines():
            try:
                self._statuses[json.loads(line)["status"]] += 1
            except (ValueError, KeyError):
                continue  # a full disk leaves pieces of lines


def main() -> int:
    """Say what is seen until there is nothing to see."""
    folder = Path(sys.argv[1])
    looker = Looker(folder)
    next_s = time.monotonic()
    try:
        while folder.is_dir():
            print(json.dumps(looker.look()), flush=True)
            next_s += LOOK_S
            time.sleep(max(0.0, next_s - time.monotonic()))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
