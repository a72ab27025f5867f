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
from typing import Any

from collectors.fields import ACCEPT_QUEUE, PROCESS, STUB_STATUS, UNIX_STATES, UPSTREAM_CONNS, Table

LOOK_S = 0.25
# Who looks on after a long time wants what is now.
MOST_BYTES = 2_000_000


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

    def new(self) -> list[dict[str, Any]]:
        """Return them as column -> value; readings that failed, and values that are missing, are left out."""
        rows = []
        for row in csv.DictReader(self._follower.lines(), fieldnames=self._table.columns):
            if row["reason"] or row[self._table.columns[0]] == self._table.columns[0]:
                continue  # it failed; or it is the header
            known: dict[str, Any] = {name: value for name, value in row.items() if value}
            for name in self._numbers:
                if name in known:
                    known[name] = float(known[name]) if "." in known[name] else int(known[name])
            rows.append(known)
        return rows


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

    def look(self) -> dict[str, Any]:
        """Return what has been added."""
        seen: dict[str, Any] = {}
        queues: dict[str, Any] = {}
        for row in self._queues.new():
            before = queues.get(row["listener"], {}).get("most_conns", 0)
            queues[row["listener"]] = {**row, "most_conns": max(before, row.get("depth_conns", 0))}
        if queues:
            seen["accept_queue"] = queues
        for name, rows in self._single.items():
            added = rows.new()
            if added:
                seen[name] = added[-1]
        processes = {row["pid"]: row for row in self._processes.new()}
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
