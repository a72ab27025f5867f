"""The flood: requests by the ten thousand from one process, every one of them logged.

    locust -f locustfiles/flood.py --headless --users 32 --host http://198.18.7.2:8080 \
        --load-shape burst --output results/…/load

Three load shapes:

    burst      every user sends exactly one request: the study's loop of 32 curls. Several bursts are the same again,
               and a user who still waits for its answer then sends nothing
    sustained  users send again when they were answered, until the duration is over: a closed loop
    open       requests start when they were planned to, answered or not: an open loop

The first requests of users are spread evenly over a short time, as those of a loop are. All in one moment, nginx
would read and pass them on in one go, faster than any server accepts: that is a race and no fault.

Locust's users stand for the clients, and one generator sends for all of them: a greenlet for each request would cost
more than the request. A flood ends by itself when every request has ended. The upstream's queue is what is measured,
so a request that is answered badly is a result and not a failure of the run.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult, Event
from locust import User, constant, events, task
from locust import __version__ as locust_version
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from floodmark.loadgen.arrivals import ClosedLoop, Load, OpenLoop, bursts, parse_steps, planned, spread
from floodmark.loadgen.client import raise_descriptor_limit
from floodmark.loadgen.epoch import Epoch, SharedEpoch, baseline_end_ns
from floodmark.loadgen.generator import Generator
from floodmark.loadgen.machine_log import MachineLog, write_description
from floodmark.loadgen.request_log import RequestLog
from floodmark.loadgen.requests import composer, look_up, method_of, teller
from floodmark.loadgen.summary import summarize

MS = 1_000_000
# Messages between the master and its workers, in the order in which they are sent.
READY = "floodmark_ready"  # a worker can begin
CLOCK = "floodmark_clock"  # the master's time; the worker sends it back with its own
EPOCH = "floodmark_epoch"  # when to begin, on the worker's clock
ENDED = "floodmark_ended"  # a worker has sent everything, and all requests have ended
# How long before the end of the baseline clocks are read, and how many readings of each are taken.
READ_CLOCKS_S = 1.0
READINGS = 8
# A worker that does not answer keeps the others waiting for at most this; by then Locust has found that it is lost.
ANSWERS_S = 5.0
# How often the state of workers is checked: Locust has no event for a lost worker.
LOOK_S = 0.5


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add what a flood wants to know beyond Locust's own options."""
    group = parser.add_argument_group("Floodmark")
    group.add_argument("--load-shape", choices=["burst", "sustained", "open"], default="burst")
    group.add_argument("--start-spread-ms", type=int, default=50, help="time over which users send for the first time")
    group.add_argument("--bursts", type=int, default=1, help="burst: how many times it is sent")
    group.add_argument(
        "--burst-every-s", type=int, default=10, help="from the beginning of a burst to that of the next"
    )
    group.add_argument("--duration-s", type=int, default=10, help="how long a sustained or open flood sends")
    group.add_argument("--think-time-ms", type=int, default=50, help="pause of a sustained user after an answer")
    group.add_argument("--rate", default="100", help="open: requests per second, or steps and ramps: 100:10 100-500:20")
    group.add_argument("--arrivals", choices=["constant", "poisson"], default="poisson", help="open: how they come")
    group.add_argument("--arrival-seed", type=int, default=1, help="open: of arrivals at random")
    group.add_argument("--payload-bytes", type=int, default=0, help="body of a POST; 0 sends GET")
    group.add_argument("--keepalive", type=_boolean, default=False, help="true keeps connections for later requests")
    group.add_argument(
        "--connection-header", choices=["close", "keep-alive"], default="close", help="of clients that close"
    )
    group.add_argument("--answer-timeout-s", type=float, default=60, help="how long a client waits for its answer")
    group.add_argument("--start-after-s", type=float, default=0.0, help="time without load before the flood")
    group.add_argument("--id-prefix", default="", help="what the numbers of the requests begin with")
    group.add_argument("--leader-version", default=locust_version, help="of the Locust that leads several processes")
    group.add_argument("--output", default=".", help="folder for requests.N.csv and load.N.json of process N")


def _boolean(text: str) -> bool:
    return text.lower() == "true"


class Flood:
    """What one process sends, and what it notes about it.

    Args:
        environment: Locust's.
    """

    def __init__(self, environment: Environment) -> None:
        self.options: Namespace = environment.parsed_options
        self.environment = environment
        self.over = Event()
        self.cpu_warning = False
        self._run: gevent.Greenlet | None = None
        self._log: RequestLog | None = None
        self._machine_log: MachineLog | None = None
        self._generator: Generator | None = None
        self._epoch: Epoch | None = None
        self._from_leader: AsyncResult[Epoch] = AsyncResult()
        runner = environment.runner
        if isinstance(runner, WorkerRunner):
            runner.register_message(CLOCK, self._answer_clock)
            runner.register_message(EPOCH, lambda msg, **_: self._from_leader.set(Epoch(**msg.data)))

    def start(self) -> None:
        """Start the flood, once: Locust says again that all users are there when a lost worker has come back."""
        if self._run is None:
            self._run = gevent.spawn(self.run)

    def run(self) -> None:
        """Send this process's share of it, from the epoch on, and say that it is done."""
        runner = self.environment.runner
        self._log = RequestLog(self._path("requests", "csv"), runner.worker_index)
        write_description(self._path("host", "json"))
        self._machine_log = MachineLog(self._path("machine", "csv"), runner.worker_index)
        try:
            self._generator = self._make_generator(self._log)
            # What is there will stay: to look through it for garbage would hold up all requests for 40 ms.
            gc.collect()
            gc.freeze()
            self._epoch = self._await_epoch()
            self._generator.run(self._load(self._epoch.begin_ns), self._epoch.begin_ns)
            self._log.close()
        except Exception as error:  # noqa: BLE001 - whatever it was, Locust has to end; what is unfinished is counted
            print(f"floodmark: the flood was given up: {type(error).__name__}: {error}", file=sys.stderr)
            self.environment.process_exit_code = 1
        self.over.set()
        if isinstance(runner, WorkerRunner):
            runner.send_message(ENDED)  # the master ends all workers when the last of them is done
        else:
            runner.quit()

    def finish(self) -> None:
        """Close the log and write down what the generator knows about itself."""
        if self._run and not self.over.is_set():
            self._run.kill()  # the flood is cut off
        if self._log is None:
            return
        self._log.close()
        if self._machine_log:
            self._machine_log.close()
        if self._generator is None or self._generator.usage is None or self._epoch is None:
            return  # it was ended before it began
        summarize(
            self._generator,
            self._log,
            self._epoch,
            generators=self._share()[1],
            cpu_warning=self.cpu_warning,
            leader_version=self.options.leader_version,
        ).write(self._path("load", "json"))

    def _await_epoch(self) -> Epoch:
        """Return when to begin; a worker says that it is ready, and waits to be told."""
        if isinstance(self.environment.runner, WorkerRunner):
            self.environment.runner.send_message(READY)
            epoch: Epoch = self._from_leader.get()
            return epoch
        return Epoch(max(time.monotonic_ns(), baseline_end_ns(self.options.start_after_s)), 0)

    def _answer_clock(self, msg: Any, **_more: Any) -> None:
        worker_ns = time.monotonic_ns()
        self.environment.runner.send_message(CLOCK, {**msg.data, "worker_ns": worker_ns})

    def _path(self, name: str, kind: str) -> Path:
        return Path(self.options.output) / f"{name}.{self.environment.runner.worker_index}.{kind}"

    def _make_generator(self, log: RequestLog) -> Generator:
        options = self.options
        target, host = look_up(self.environment.host)
        share, of = self._share()
        compose = composer(
            host,
            payload_bytes=options.payload_bytes,
            keepalive=options.keepalive,
            connection_header=options.connection_header,
            id_prefix=options.id_prefix,
            share=share,
            of=of,
        )
        return Generator(
            target,
            compose,
            timeout_s=options.answer_timeout_s,
            reuse=options.keepalive,
            most_in_flight=math.ceil(options.num_users / of) if options.load_shape != "sustained" else None,
            log=log,
            on_end=teller(self.environment, method_of(options.payload_bytes)),
        )

    def _share(self) -> tuple[int, int]:
        """Return which of the flood's processes this is, from 0, and how many there are."""
        runner = self.environment.runner
        # The master sends its own value to its workers.
        return (runner.worker_index, self.options.expect_workers) if isinstance(runner, WorkerRunner) else (0, 1)

    def _load(self, begin_ns: int) -> Load:
        options = self.options
        share, of = self._share()
        if options.load_shape == "open":
            seed = options.arrival_seed if options.arrivals == "poisson" else None
            steps = parse_steps(options.rate, options.duration_s)
            return OpenLoop(planned(steps, seed=seed, share=share, of=of), begin_ns)
        first = spread(options.num_users, options.start_spread_ms * MS, share=share, of=of)
        if options.load_shape == "burst":
            return OpenLoop(bursts(options.bursts, options.burst_every_s * 1000 * MS, list(first)), begin_ns)
        return ClosedLoop(first, begin_ns, options.think_time_ms * MS, begin_ns + options.duration_s * 1000 * MS)


class Leader:
    """What the master of several processes does: it gives them one epoch, and ends them when all are done or lost.

    Args:
        runner: Locust's.
        baseline_s: time without load, from the start of this process on.
    """

    def __init__(self, runner: MasterRunner, baseline_s: float) -> None:
        self._runner = runner
        self._baseline_s = baseline_s
        self._shared = SharedEpoch()
        self._ready: set[str] = set()
        self._readings: Counter[str] = Counter()
        self._told: set[str] = set()
        self._ended: set[str] = set()
        self._heard = Event()
        runner.register_message(READY, self._note_ready)
        runner.register_message(CLOCK, self._note_clock)
        runner.register_message(ENDED, self._note_end)
        gevent.spawn(self._give_epoch)
        gevent.spawn(self._end_without_lost_workers)

    def _left(self) -> set[str]:
        """Return the workers that are neither lost nor done."""
        return {client.id for client in self._runner.clients.all if client.state != STATE_MISSING} - self._ended

    def _give_epoch(self) -> None:
        """Wait for all workers, read their clocks, and tell each of them when to begin."""
        # A worker is ready after Locust has spawned the users, and Locust does that when all workers are connected.
        self._wait_until(lambda: bool(self._ready) and self._left() <= self._ready)
        earliest_ns = baseline_end_ns(self._baseline_s)
        gevent.sleep(max(0.0, (earliest_ns - time.monotonic_ns()) / 1e9 - READ_CLOCKS_S))
        for worker in self._left():
            self._ask(worker)
        self._wait_until(lambda: all(self._readings[worker] >= READINGS for worker in self._left()), ANSWERS_S)
        self._shared.choose(earliest_ns, time.monotonic_ns())
        for worker in self._left():
            self._tell(worker)
        while True:  # one that was lost may come back
            gevent.sleep(LOOK_S)
            for worker in self._left() - self._told:
                self._ask(worker)

    def _wait_until(self, condition: Callable[[], bool], at_most_s: float = math.inf) -> None:
        deadline = time.monotonic() + at_most_s
        while not condition() and (left_s := deadline - time.monotonic()) > 0:
            self._heard.clear()
            self._heard.wait(min(left_s, LOOK_S))

    def _ask(self, worker: str) -> None:
        self._runner.send_message(CLOCK, {"sent_ns": time.monotonic_ns()}, client_id=worker)

    def _tell(self, worker: str) -> None:
        """Tell a worker the epoch, once, if that is chosen and the worker's clock is known."""
        epoch = self._shared.of(worker)
        if epoch and worker not in self._told:
            self._told.add(worker)
            self._runner.send_message(EPOCH, epoch._asdict(), client_id=worker)

    def _note_ready(self, msg: Any, **_more: Any) -> None:
        self._ready.add(msg.node_id)
        self._heard.set()

    def _note_clock(self, msg: Any, **_more: Any) -> None:
        received_ns, worker = time.monotonic_ns(), msg.node_id
        self._shared.note_reply(worker, **msg.data, received_ns=received_ns)
        self._readings[worker] += 1
        self._heard.set()
        if self._readings[worker] < READINGS:
            self._ask(worker)
        else:
            self._tell(worker)

    def _note_end(self, msg: Any, **_more: Any) -> None:
        self._ended.add(msg.node_id)
        self._heard.set()
        self._quit_if_nobody_is_left()

    def _end_without_lost_workers(self) -> None:
        while True:
            gevent.sleep(1)
            self._quit_if_nobody_is_left()

    def _quit_if_nobody_is_left(self) -> None:
        if self._ended and not self._left():
            self._runner.quit()


flood: Flood


@events.init.add_listener
def prepare(environment: Environment, **_more: Any) -> None:
    """Make the flood and connect it to Locust's events."""
    if isinstance(environment.runner, MasterRunner):
        Leader(environment.runner, environment.parsed_options.start_after_s)
        return
    raise_descriptor_limit()
    global flood  # noqa: PLW0603 - Locust makes the users itself, so they have to find it here
    flood = Flood(environment)
    environment.events.spawning_complete.add_listener(lambda **_: flood.start())
    environment.events.cpu_warning.add_listener(lambda **_: setattr(flood, "cpu_warning", True))
    environment.events.quitting.add_listener(lambda **_: flood.finish())


class FloodUser(User):
    """Stands for one client; the generator sends for it."""

    wait_time = constant(0)

    @task
    def stand_by(self) -> None:
        """Be there until the flood is over."""
        flood.over.wait()
