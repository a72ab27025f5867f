"""The agent: reads each source at its own rate and writes what it read.

    python3 -m collectors.agent /etc/floodmark/agent.json

It knows no metric. Each source has a timer of the kernel's with absolute deadlines; a reading that is late is
made at once, beats that were missed altogether are counted and not made up for. SIGTERM and SIGINT end it with
its last rows on disk; of what it wrote before a SIGKILL at most the last tenth of a second is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Callable, Protocol, Union

from collectors import fields
from collectors.accept_queue import AcceptQueue
from collectors.config import AGENT_UNIT, Config, read_config
from collectors.errors import Unreadable
from collectors.loop import READABLE, Loop
from collectors.machine import Machine
from collectors.output import Output, OutputError, TableWriter
from collectors.process import Processes
from collectors.socket_memory import SocketMemory
from collectors.stub_status import StubStatus
from collectors.systemd import notify
from collectors.tcp_ext import TcpExt
from collectors.timer import Timer
from collectors.unix_states import UnixStates
from collectors.upstream_conns import upstream_conns

Row = tuple[Union[int, float, str, None], ...]
Reading = Callable[[], "Iterable[Row | None]"]

HAND_OVER_INTERVAL_NS = 100_000_000
COST_INTERVAL_NS = 100_000_000
# Sources whose rates divide each other would come due together for ever; all at once they take longer than
# one beat of the fastest. No multiple of a millisecond, so that the slow ones fall between two beats of that.
STAGGER_NS = 3_300_000


class Source(Protocol):
    """What can be read: rows without their time, in the order of the table's columns.

    A reading that takes longer than a beat of the fastest source has pauses: None instead of a row. Whatever
    is due meanwhile goes first.
    """

    def read(self, now_ns: int) -> Iterable[Row | None]:
        """Return the rows of one reading, or raise Unreadable with the reason."""


class Beat:
    """One source with its timer and its file.

    Args:
        source: what is read.
        interval_ns: from one reading to the next.
        table: where its rows go.
        ledger: where it is noted how late a reading was and how long it took.
        loop: goes on with readings that pause.
    """

    def __init__(self, source: Source, interval_ns: int, table: TableWriter, ledger: TableWriter, loop: Loop) -> None:
        self._source = source
        self._timer = Timer(interval_ns)
        self._table = table
        self._note = ledger.add
        self._loop = loop
        self._paused = False
        self._owed_ns = 0

    def start(self, first_ns: int) -> None:
        """Read for the first time at a time, and then in intervals."""
        self._timer.start(first_ns)
        self._loop.watch(self._timer.fd, READABLE, self.fire)

    def fire(self) -> None:
        """Make the reading that is due."""
        due_ns, lost = self._timer.last_due()
        now_ns = time.monotonic_ns()
        if self._paused:
            self._table.add_failure(now_ns, "the reading before this one was still under way")
        else:
            self._record(partial(self._source.read, now_ns), now_ns)
        inside_ns = time.monotonic_ns() - now_ns + self._owed_ns
        self._owed_ns = 0
        self._note((now_ns, self._table.name, now_ns - due_ns, inside_ns, lost, None, None))

    def deliver(self, reading: Reading, begun_ns: int = 0) -> None:
        """Take a reading whose answer has come later than its question, or the rest of one that has paused."""
        now_ns = time.monotonic_ns()
        self._record(reading, begun_ns or now_ns)
        self._owed_ns += time.monotonic_ns() - now_ns

    def _record(self, reading: Reading, t_ns: int) -> None:
        """Write the rows of a reading, or why there are none; after a pause go on when there is time."""
        self._paused = False
        try:
            for row in (rows := reading()):
                if row is None:
                    self._paused = True
                    self._loop.later(partial(self.deliver, lambda: rows, t_ns))
                    return
                self._table.add((t_ns, *row))
        except (Unreadable, OSError) as why:
            self._table.add_failure(t_ns, str(why))
        except Exception as why:  # noqa: BLE001 - a mistake in one source must not silence the others
            self._table.add_failure(t_ns, f"{type(why).__name__}: {why}")


class Agent:
    """All sources of one configuration and the loop that reads them.

    Args:
        config: what to read, how often, and where to write it.
    """

    def __init__(self, config: Config) -> None:
        self._loop = Loop()
        self._output = Output(config.output, most_bytes=config.most_bytes.get("agent", 0))
        self._ledger = self._output.table(fields.AGENT)
        self._rates_hz = config.rates_hz
        self._beats: list[Beat] = []
        self._cpu_s = time.process_time()
        self._add("accept_queue", AcceptQueue(config.listeners))
        self._add("unix_states", UnixStates(config.upstream))
        self._add("upstream_conns", upstream_conns(config.upstream))
        self._add("tcp_ext", TcpExt())
        self._add("socket_memory", SocketMemory())
        if "machine" in config.rates_hz:
            units = {"nginx": config.nginx_unit, "upstream": config.upstream_unit, "agent": AGENT_UNIT}
            self._add("machine", Machine(units))
        status = StubStatus(config.front.port, config.status_path, self._loop)
        status.deliver = self._add("stub_status", status).deliver
        processes = Processes(config.nginx_unit, config.upstream_unit)
        self._add("process", processes, processes.readings_a_round)

    def _add(self, name: str, source: Source, readings: int = 1) -> Beat:
        """Read a source at its rate, or at a multiple of it where one reading is a part of the whole."""
        interval_ns = int(1e9 / (self._rates_hz[name] * readings))
        beat = Beat(source, interval_ns, self._output.table(fields.TABLES[name]), self._ledger, self._loop)
        self._beats.append(beat)
        return beat

    def _every(self, interval_ns: int, act: Callable[[], None]) -> None:
        timer = Timer(interval_ns)
        timer.start(time.monotonic_ns() + interval_ns)

        def fire() -> None:
            timer.last_due()
            act()

        self._loop.watch(timer.fd, READABLE, fire)

    def _note_cost(self) -> None:
        cpu_s = time.process_time()
        self._ledger.add((time.monotonic_ns(), "agent", None, None, None, round(cpu_s - self._cpu_s, 6), None))
        self._cpu_s = cpu_s

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """End after the reading that is under way."""
        self._loop.stop()

    def run(self) -> None:
        """Read until told to stop; everything is on disk when it returns.

        Raises:
            OutputError: it could not be written.
        """
        self._every(COST_INTERVAL_NS, self._note_cost)
        self._every(HAND_OVER_INTERVAL_NS, self._output.hand_over)
        first_ns = time.monotonic_ns()
        for beat in self._beats:
            first_ns += STAGGER_NS
            beat.start(first_ns)
        self._loop.run()
        self._note_cost()
        self._output.close()


@contextlib.contextmanager
def start_exporter(address: str, folder: Path) -> Iterator[None]:
    """Serve metrics from a process of its own, which ends when its standard input does.

    Raises:
        Unreadable: it could not be started; it has said why.
    """
    if not address:
        yield
        return
    command = [sys.executable, "-B", "-m", "collectors.exporter", address, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as exporter:
        if exporter.stdout is None or exporter.stdout.readline() != b"ready\n":
            raise Unreadable(f"metrics could not be shown on {address}")
        yield


def main() -> int:
    """Run the agent; the status is 0 after SIGTERM, 1 when its output could not be written."""
    parser = argparse.ArgumentParser(prog="collectors.agent", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path, help="agent.json")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="show the newest values to Prometheus, on loopback only")
    options = parser.parse_args()
    config = read_config(options.config)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        agent = Agent(config)
        with start_exporter(options.metrics or config.metrics, config.output):
            signal.signal(signal.SIGTERM, agent.stop)
            signal.signal(signal.SIGINT, agent.stop)
            # Everything that lives now lives until the end; what comes after is freed by reference counts.
            gc.freeze()
            gc.disable()
            notify("READY=1")
            agent.run()
    except (Unreadable, OutputError, OSError) as error:
        print(f"floodmark agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
