"""The agent: reads each source at its own rate and writes what it read.

    python3 -m collectors.agent /etc/floodmark/agent.json

It knows no metric. Deadlines are absolute on the monotonic clock; a reading that is late is made
at once, readings that were missed altogether are counted and not made up for. SIGTERM and SIGINT end it
with its last rows on disk; of what it wrote before a SIGKILL at most the last half second is missing.
"""

from __future__ import annotations

import csv
import gc
import io
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Callable, Protocol, Union

from collectors import fields
from collectors.accept_queue import AcceptQueue
from collectors.config import Config, read_config
from collectors.errors import Unreadable
from collectors.process import Processes
from collectors.stub_status import StubStatus
from collectors.tcp_ext import TcpExt
from collectors.unix_states import UnixStates
from collectors.upstream_conns import UpstreamConns

Row = tuple[Union[int, float, str, None], ...]

FLUSH_INTERVAL_NS = 500_000_000
# Sources whose rates divide each other would come due together for ever; all at once they take longer than
# one beat of the fastest. No multiple of a millisecond, so that the slow ones fall between two beats of that.
STAGGER_NS = 3_300_000


class Source(Protocol):
    """What can be read: rows without their time, in the order of the table's columns."""

    def read(self, now_ns: int) -> list[Row]:
        """Return the rows of one reading, or raise Unreadable with the reason."""


class TableWriter:
    """Appends rows of one table to its CSV file."""

    def __init__(self, folder: Path, table: fields.Table) -> None:
        self._empty: Row = (None,) * (len(table.columns) - 2)
        self._file = (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="")
        self._buffer = io.StringIO(newline="")
        self._csv = csv.writer(self._buffer, lineterminator="\n")
        self._csv.writerow(table.columns)

    def write(self, t_ns: int, rows: list[Row]) -> None:
        """Add the rows of one reading."""
        for row in rows:
            self._csv.writerow((t_ns, *row))

    def write_failure(self, t_ns: int, reason: str) -> None:
        """Add a row that says why there is no reading."""
        self._csv.writerow((t_ns, *self._empty, reason))

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._file.write(self._buffer.getvalue())
        self._file.flush()
        self._buffer.seek(0)
        self._buffer.truncate()


class Beat:
    """One source with its rate, its next deadline and its file."""

    def __init__(self, source: Source, table: fields.Table, rate_hz: float, folder: Path, start_ns: int) -> None:
        self.source = source
        self.writer = TableWriter(folder, table)
        self.interval_ns = int(1e9 / rate_hz)
        self.due_ns = start_ns

    def fire(self, now_ns: int) -> int:
        """Make the reading that is due; return how many were missed before it."""
        missed = (now_ns - self.due_ns) // self.interval_ns
        self.due_ns += (missed + 1) * self.interval_ns
        self.record(lambda: self.source.read(now_ns), now_ns)
        return missed

    def record(self, reading: Callable[[], list[Row]], t_ns: int) -> None:
        """Write the rows of a reading, or why there are none."""
        try:
            self.writer.write(t_ns, reading())
        except (Unreadable, OSError) as why:
            self.writer.write_failure(t_ns, str(why))


class Ledger:
    """Source agent: lateness, losses and cost since the row before."""

    def __init__(self) -> None:
        self._cpu_s = time.process_time()
        self._reset()

    def _reset(self) -> None:
        self.ticks = self.lost = self.lateness_max_ns = self.lateness_sum_ns = 0

    def note(self, lateness_ns: int, missed: int) -> None:
        """Count one reading."""
        self.ticks += 1
        self.lost += missed
        self.lateness_sum_ns += lateness_ns
        self.lateness_max_ns = max(self.lateness_max_ns, lateness_ns)

    def read(self, now_ns: int) -> list[Row]:  # noqa: ARG002 - all sources are called alike
        """Return the row and begin a new one."""
        cpu_s = time.process_time()
        row: Row = (
            self.ticks, self.lost, self.lateness_max_ns, self.lateness_sum_ns, round(cpu_s - self._cpu_s, 6), None,
        )  # fmt: skip
        self._cpu_s = cpu_s
        self._reset()
        return [row]


class Agent:
    """All sources of one configuration and the loop that reads them."""

    def __init__(self, config: Config) -> None:
        self._ledger = Ledger()
        self._status = StubStatus(config.front.port, config.status_path)
        processes = Processes(config.nginx_unit, config.upstream_unit)
        rates_hz = {**config.rates_hz, "process": config.rates_hz["process"] * processes.readings_a_round}
        sources: dict[str, Source] = {
            "accept_queue": AcceptQueue(config.listeners),
            "unix_states": UnixStates(config.upstream),
            "upstream_conns": UpstreamConns(config.upstream),
            "stub_status": self._status,
            "process": processes,
            "tcp_ext": TcpExt(),
            "agent": self._ledger,
        }
        start_ns = time.monotonic_ns()
        self._beats = {
            name: Beat(source, fields.TABLES[name], rates_hz[name], config.output, start_ns + index * STAGGER_NS)
            for index, (name, source) in enumerate(sources.items())
        }
        self._stop = False

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """End the loop after the reading that is under way."""
        self._stop = True

    def run(self) -> None:
        """Read until told to stop; everything is on disk when it returns."""
        beats = list(self._beats.values())
        status = self._beats["stub_status"]
        flush_ns = time.monotonic_ns() + FLUSH_INTERVAL_NS
        while not self._stop:
            next_ns = min(beat.due_ns for beat in beats)
            answer_fd = self._status.fileno()
            # An answer of nginx may come before the next deadline; select() keeps microseconds.
            wait_s = max(0, next_ns - time.monotonic_ns()) / 1e9
            readable, _, _ = select.select([answer_fd] if answer_fd >= 0 else [], [], [], wait_s)
            if readable:
                status.record(self._status.receive, time.monotonic_ns())
            for beat in beats:
                now_ns = time.monotonic_ns()
                if now_ns >= beat.due_ns:
                    lateness_ns = now_ns - beat.due_ns
                    self._ledger.note(lateness_ns, beat.fire(now_ns))
            if time.monotonic_ns() >= flush_ns:
                self._flush()
                flush_ns += FLUSH_INTERVAL_NS
        self._beats["agent"].fire(time.monotonic_ns())
        self._flush()

    def _flush(self) -> None:
        for beat in self._beats.values():
            beat.writer.flush()


def notify(state: str) -> None:
    """Tell systemd a state, as sd_notify(3) does; nothing happens without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.sendall(state.encode())


def main() -> int:
    """Run the agent; the status is 0 after SIGTERM, 1 when its output could not be written."""
    config = read_config(Path(sys.argv[1]))
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Wake up at the deadline and not up to 50 us after it (PR_SET_TIMERSLACK of prctl(2)).
    Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")
    agent = Agent(config)
    signal.signal(signal.SIGTERM, agent.stop)
    signal.signal(signal.SIGINT, agent.stop)
    # Everything that lives now lives until the end; what comes after is freed by reference counts.
    gc.freeze()
    gc.disable()
    notify("READY=1")
    try:
        agent.run()
    except OSError as error:
        print(f"floodmark agent: cannot write to {config.output}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
