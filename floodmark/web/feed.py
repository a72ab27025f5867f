"""What the agent sees of a case that is held, as it comes from the host."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from collectors.live import Seen, StubStatus, UnixStates, UpstreamConns

# Nobody needs to keep what a session of hours has seen four times a second.
MOST_SAMPLES = 4 * 3600
STATUSES = ("200", "500", "502", "504")

LOOK = "cd /usr/lib/floodmark && exec python3 -B -m collectors.live {folder}"


class Sample(NamedTuple):
    """One look at the host; what could not be read is None.

    Attributes:
        time_s: when it came here, since the epoch.
        phase: what was going on.
        t_ns: the host's monotonic clock at the newest reading of the queue.
        depth_conns: the accept queue then.
        most_conns: its deepest since the look before.
        limit_conns: its limit.
        unconnected_socks: rows of /proc/net/unix on the socket's path in state 01.
        connecting_socks: the same, 02.
        connected_socks: the same, 03.
        active_conns: Active of nginx's status page, our own poll included.
        accepted_conns: connections that the upstream has accepted and not closed.
        worker_rss_bytes: resident memory of all workers of nginx.
        status_200: answers with this status since the case was applied, and so on.
        status_500: as above.
        status_502: as above.
        status_504: as above.
        status_other: as above.
    """

    time_s: float
    phase: str
    t_ns: int | None = None
    depth_conns: int | None = None
    most_conns: int | None = None
    limit_conns: int | None = None
    unconnected_socks: int | None = None
    connecting_socks: int | None = None
    connected_socks: int | None = None
    active_conns: int | None = None
    accepted_conns: int | None = None
    worker_rss_bytes: int | None = None
    status_200: int | None = None
    status_500: int | None = None
    status_502: int | None = None
    status_504: int | None = None
    status_other: int | None = None


class Reader:
    """Makes samples of the lines of `collectors.live`; sources that are read seldom keep their newest row."""

    def __init__(self) -> None:
        self._states: UnixStates = {}
        self._accepted: UpstreamConns = {}
        self._status: StubStatus = {}
        self._workers: dict[int, int] = {}

    def read(self, line: str, phase: str, now_s: float) -> Sample:
        """Return what one line says.

            {"accept_queue": {"upstream": {"depth_conns": 9, "most_conns": 9, …}}, "unix_states": {…}, "statuses": {…}}

        Args:
            line: as it came.
            phase: what is going on.
            now_s: since the epoch.
        """
        seen: Seen = json.loads(line)
        queue = seen.get("accept_queue", {}).get("upstream", {})
        self._states = seen.get("unix_states") or self._states
        self._accepted = seen.get("upstream_conns") or self._accepted
        self._status = seen.get("stub_status") or self._status
        for row in seen.get("process", []):
            if row["role"] == "nginx-worker" and "rss_bytes" in row:
                self._workers[row["pid"]] = row["rss_bytes"]
        statuses = seen["statuses"]
        return Sample(
            now_s,
            phase,
            t_ns=queue.get("t_ns"),
            depth_conns=queue.get("depth_conns"),
            most_conns=queue.get("most_conns"),
            limit_conns=queue.get("limit_conns"),
            unconnected_socks=self._states.get("unconnected_socks"),
            connecting_socks=self._states.get("connecting_socks"),
            connected_socks=self._states.get("connected_socks"),
            active_conns=self._status.get("active_conns"),
            accepted_conns=self._accepted.get("accepted_conns"),
            worker_rss_bytes=sum(self._workers.values()) if self._workers else None,
            status_other=sum(count for name, count in statuses.items() if name not in STATUSES),
            **{f"status_{name}": statuses.get(name, 0) for name in STATUSES},
        )


class Feed:
    """The session with the host.

    Args:
        way: the command that runs a shell line there.
        folder: where agent and nginx write on the host.
    """

    def __init__(self, way: Sequence[str], folder: str) -> None:
        self._process = subprocess.Popen(
            [*way, LOOK.format(folder=folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def follow(self, phase: Callable[[], str], take: Callable[[Sample], None]) -> str:
        """Take samples until the host has nothing to say any more.

        Args:
            phase: says what is going on.
            take: is given each sample.

        Returns:
            What the session said on its standard error, the last line of it.
        """
        reader = Reader()
        with self._process as process:
            assert process.stdout
            assert process.stderr
            for line in process.stdout:
                take(reader.read(line, phase(), time.time()))
            said = process.stderr.read().strip()
        return (said.splitlines() or ["it said nothing"])[-1]

    def close(self) -> None:
        """End the session."""
        self._process.terminate()
