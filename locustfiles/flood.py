"""The flood: many users at once, each with one request at a time, every request logged.

    locust -f locustfiles/flood.py --headless --users 32 --host http://198.18.7.2:8080 \
        --load-shape burst --output results/…/load

Two load shapes:

    burst      every user sends exactly one request: the study's loop of 32 curls
    sustained  users send again when they were answered, until the duration is over

The first requests are spread evenly over a short time, as those of a loop are. All in one moment, nginx
would read and pass them on in one go, faster than any server accepts: that is a race and no fault.

A flood ends by itself when every request has ended. The upstream's queue is what is measured, so a
request that is answered badly is a result and not a failure of the run.
"""

from __future__ import annotations

import resource
import sys
import time
from argparse import Namespace
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any
from urllib.parse import urlsplit

import gevent.socket
import psutil
from gevent.event import Event
from locust import User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from floodmark.loadgen.client import Client
from floodmark.loadgen.request_log import RequestLog, write_summary


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add what a flood wants to know beyond Locust's own options."""
    group = parser.add_argument_group("Floodmark")
    group.add_argument("--load-shape", choices=["burst", "sustained"], default="burst")
    group.add_argument("--start-spread-ms", type=int, default=50, help="time over which users send for the first time")
    group.add_argument("--duration-s", type=int, default=10, help="how long a sustained flood sends")
    group.add_argument("--think-time-ms", type=int, default=50, help="pause of a sustained user after an answer")
    group.add_argument("--payload-bytes", type=int, default=0, help="body of a POST; 0 sends GET")
    group.add_argument(
        "--reuse-connections",
        type=lambda text: text == "true",
        default=False,
        help="true keeps client connections open",
    )
    group.add_argument("--answer-timeout-s", type=int, default=60, help="how long a user waits for its answer")
    group.add_argument("--start-after-s", type=float, default=0.0, help="time without load before the flood")
    group.add_argument("--id-prefix", default="", help="what the numbers of the requests begin with")
    group.add_argument("--output", type=Path, default=Path(), help="folder for requests.csv and load.json")


class Flood:
    """What all users share: the starting signal, the log, and when it is over.

    Args:
        environment: Locust's.
    """

    def __init__(self, environment: Environment) -> None:
        options: Namespace = environment.parsed_options
        self.options = options
        self.environment = environment
        self.log = RequestLog(options.output / "requests.csv")
        self.method = "POST" if options.payload_bytes else "GET"
        target = urlsplit(environment.host)
        # Looked up once: a look-up for each request would load modules and start threads in the first of them.
        self.address = gevent.socket.getaddrinfo(target.hostname, target.port, type=SOCK_STREAM)[0][4][:2]
        body = b"x" * options.payload_bytes
        connection = "keep-alive" if options.reuse_connections else "close"
        self._before_id = f"{self.method} / HTTP/1.1\r\nHost: {target.netloc}\r\nX-Floodmark-Id: ".encode()
        self._after_id = f"\r\nConnection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        self.begin = Event()
        self.begin_ns = 0
        self.issued = 0
        self._turns = 0
        self.cpu_warning = False
        self.late_max_ns = 0
        self._cpu_s = 0.0
        self._users_left = options.num_users
        # Locust takes a second to start, and the baseline goes on meanwhile.
        self._start_at = psutil.Process().create_time() + options.start_after_s

    def request(self, request_id: str) -> bytes:
        """Return a whole request; all are alike but for their number, by which nginx logs them."""
        return self._before_id + request_id.encode() + self._after_id

    def start(self) -> None:
        """Give the signal, once all users stand ready and the baseline is over."""
        gevent.sleep(max(0.0, self._start_at - time.time()))
        self._cpu_s = -time.process_time()
        self.begin_ns = time.monotonic_ns()
        self.begin.set()

    def await_turn(self) -> None:
        """Wait for the signal, then for this user's place in the spread."""
        turn = self._turns
        self._turns += 1
        self.begin.wait()
        due_ns = self.begin_ns + turn * self.options.start_spread_ms * 1_000_000 // self.options.num_users
        gevent.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
        self.late_max_ns = max(self.late_max_ns, time.monotonic_ns() - due_ns)

    def is_over(self) -> bool:
        """Tell whether a sustained flood has sent long enough."""
        return time.monotonic_ns() >= self.begin_ns + self.options.duration_s * 1_000_000_000

    def user_is_done(self) -> None:
        """Count a user that sends no more; the last one ends the flood."""
        self._users_left -= 1
        if self._users_left == 0:
            self._cpu_s += time.process_time()
            self.environment.runner.quit()

    def give_up(self, reason: str) -> None:
        """End a flood that can no longer be recorded; what is unfinished then makes the run invalid."""
        print(f"floodmark: the flood was given up: {reason}", file=sys.stderr)
        self.environment.process_exit_code = 1
        self.environment.runner.quit()

    def finish(self) -> None:
        """Close the log and write down what the generator knows about itself."""
        self.log.close()
        write_summary(
            self.options.output / "load.json",
            self.log,
            unfinished=self.issued - self.log.count,
            late_max_s=self.late_max_ns / 1e9,
            # A flood that was cut off has no last user.
            cpu_s=self._cpu_s if self._cpu_s >= 0 else self._cpu_s + time.process_time(),
            cpu_warning=self.cpu_warning,
        )


flood: Flood


@events.init.add_listener
def prepare(environment: Environment, **_more: Any) -> None:
    """Make the flood and connect it to Locust's events."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # Locust itself is content with 10,000
    global flood  # noqa: PLW0603 - Locust makes the users itself, so they have to find it here
    flood = Flood(environment)
    environment.events.spawning_complete.add_listener(lambda **_: gevent.spawn(flood.start))
    environment.events.quitting.add_listener(lambda **_: flood.finish())


@events.cpu_warning.add_listener
def note_cpu_warning(**_more: Any) -> None:
    """Remember that Locust had too little processor time to be trusted."""
    flood.cpu_warning = True


class FloodUser(User):
    """Sends one request at a time and waits for its end."""

    wait_time = constant(0)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options = environment.parsed_options
        self._client = Client(flood.address, options.answer_timeout_s, reuse=options.reuse_connections)

    def on_start(self) -> None:
        """Stand ready until it is this user's turn."""
        flood.await_turn()

    def on_stop(self) -> None:
        """Leave no connection behind."""
        self._client.close()

    @task
    def send(self) -> None:
        """Send one request; then think and send again, or be done."""
        flood.issued += 1
        try:
            self._send_one(f"{flood.options.id_prefix}{flood.issued}")
        except Exception as error:
            # Locust would go on with the next request, for ever.
            flood.give_up(f"{type(error).__name__}: {error}")
            raise StopUser from error
        if flood.options.load_shape == "sustained":
            gevent.sleep(flood.options.think_time_ms / 1000)
            if not flood.is_over():
                return
        flood.user_is_done()
        raise StopUser

    def _send_one(self, request_id: str) -> None:
        request = flood.request(request_id)
        start_ns = time.monotonic_ns()
        answer = self._client.exchange(request)
        end_ns = time.monotonic_ns()
        flood.log.write(request_id, start_ns, end_ns, answer)
        good = answer.status == 200 and not answer.error
        self.environment.events.request.fire(
            request_type=flood.method,
            name="flood",
            response_time=(end_ns - start_ns) / 1e6,
            response_length=answer.body_bytes or 0,
            exception=None if good else FloodError(answer.error or f"status {answer.status}"),
            context={},
        )


class FloodError(Exception):
    """What Locust counts as a failure: an answer other than a complete 200."""
