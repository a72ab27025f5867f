"""A flood that begins, changes and ends as somebody wants it on Locust's web page.

    ansible-playbook web-ui.yml -e case=3

A Locust user stands for a client, as in flood.py. What users are to a flood depends on its shape:

    burst      each of them sends one request when it comes
    sustained  each sends again when it was answered
    open       requests start when they were planned to; so many may be in flight as there are users

The flood goes on until it is stopped, or until nothing is left to send; a change of users or rate takes hold at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust import User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from floodmark.loadgen.arrivals import ClosedLoop, OpenLoop, parse_steps, planned
from floodmark.loadgen.client import raise_descriptor_limit
from floodmark.loadgen.epoch import Epoch
from floodmark.loadgen.generator import Generator
from floodmark.loadgen.request_log import RequestLog
from floodmark.loadgen.requests import composer, look_up, method_of, teller
from floodmark.loadgen.summary import summarize
from floodmark.web.access_log import AccessLog
from floodmark.web.control import Settings
from floodmark.web.pages import add_pages
from floodmark.web.session import NO_FLOOD, Hold, Session

MS = 1_000_000
# A rate without a time goes on until somebody stops it, which is earlier than this.
UNTIL_STOPPED_S = 86400
# What the form asks for. The values come from the case.
SHOWN = {
    "load_shape": "burst: each user sends once. sustained: again when answered. open: at the rate, answered or not",
    "rate": "open: requests per second, or steps and ramps: 100:10 100-500:20",
    "arrivals": "open: evenly spaced, or at random",
    "start_spread_ms": "burst: time over which the users send",
    "think_time_ms": "sustained: pause after an answer",
    "payload_bytes": "body of a POST; 0 sends GET",
    "keepalive": "keep connections for later requests",
}
CHOICES = {
    "load_shape": ["burst", "sustained", "open"],
    "arrivals": ["poisson", "constant"],
    "keepalive": ["false", "true"],
}


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Let the form ask for a flood's parameters."""
    for name, meaning in SHOWN.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default="", choices=CHOICES.get(name), help=meaning)


def arguments_of(hold: Hold) -> list[str]:
    """Return Locust's own command line for a case: the form takes its values from there."""
    users = hold.parameters["users"]
    values = {name: str(hold.parameters[name]).lower() for name in SHOWN}
    return [f"--users={users}", f"--spawn-rate={users}", f"--host={hold.target}"] + [
        f"--{name.replace('_', '-')}={value}" for name, value in values.items()
    ]


@dataclass
class Flood:
    """One flood: from Start to Stop, or until nothing is left to send.

    Attributes:
        environment: Locust's.
        hold: the case that is flooded.
        number: which flood of this case.
        users: that are there now.
        cpu_warning: whether Locust has too little processor time to be trusted.
    """

    environment: Environment
    hold: Hold
    number: int
    users: int = 0
    cpu_warning: bool = False
    over: Event = field(default_factory=Event)
    _load: ClosedLoop | OpenLoop | None = None
    _begin_ns: int = 0

    def __post_init__(self) -> None:
        options = self.options
        folder = Path(self.hold.load) / f"flood-{self.number}"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._log = RequestLog(folder / "requests.0.csv", 0)
        target, host = look_up(self.hold.target)
        payload_bytes, keepalive = int(options.payload_bytes), options.keepalive == "true"
        self._generator = Generator(
            target,
            composer(
                host,
                payload_bytes=payload_bytes,
                keepalive=keepalive,
                connection_header=str(self.hold.parameters["connection_header"]),
                id_prefix=f"{self.hold.run_id}/{self.number}-",
            ),
            timeout_s=self.hold.answer_timeout_s,
            reuse=keepalive,
            most_in_flight=None,
            log=self._log,
            on_end=teller(self.environment, method_of(payload_bytes)),
        )

    @property
    def options(self) -> Namespace:
        """What the form says."""
        options: Namespace = self.environment.parsed_options
        return options

    def add_user(self) -> None:
        """Let one more user take part."""
        self.users += 1
        now_ns = time.monotonic_ns()
        begins = self._load is None
        if begins:
            self._begin_ns = now_ns
            self._load = self._first_load(now_ns)
        if isinstance(self._load, ClosedLoop):
            self._load.add(self._due_ns(now_ns))
        else:
            self._generator.most_in_flight = self.users
        if begins:
            gevent.spawn(self._run)

    def remove_user(self) -> None:
        """Let one user less take part."""
        self.users -= 1
        if isinstance(self._load, ClosedLoop):
            self._load.remove()
        else:
            self._generator.most_in_flight = self.users

    def change_rate(self) -> None:
        """Take the rate that the form has now."""
        if isinstance(self._load, OpenLoop):
            self._load.change(self._times(), time.monotonic_ns())

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._generator.stop()
        if self._load is not None:
            self.over.wait()

    def _first_load(self, now_ns: int) -> ClosedLoop | OpenLoop:
        if self.options.load_shape == "open":
            return OpenLoop(self._times(), now_ns)
        # A user of a burst does not send again: the end is at the beginning.
        end_ns = now_ns if self.options.load_shape == "burst" else None
        return ClosedLoop(iter(()), now_ns, int(self.options.think_time_ms) * MS, end_ns)

    def _times(self) -> Any:
        seed = time.time_ns() if self.options.arrivals == "poisson" else None
        return planned(parse_steps(self.options.rate, UNTIL_STOPPED_S), seed=seed)

    def _due_ns(self, now_ns: int) -> int:
        """Return when a user who has just come sends first: those of a burst share its time evenly."""
        if self.options.load_shape != "burst":
            return now_ns
        spread_ns = int(self.options.start_spread_ms) * MS
        users: int = self.options.num_users
        return max(now_ns, self._begin_ns + (self.users - 1) * spread_ns // users)

    def _run(self) -> None:
        assert self._load is not None
        try:
            self._generator.run(self._load, self._begin_ns)
        finally:
            self._log.close()
            if self._generator.usage:
                summary = summarize(self._generator, self._log, Epoch(self._begin_ns, 0), cpu_warning=self.cpu_warning)
                summary.write(self._folder / "load.0.json")
            self.over.set()
        if self.environment.runner.state in ("spawning", "running"):  # nothing is left to send
            self.environment.runner.stop()


class Floods:
    """What the page's buttons do.

    Args:
        environment: Locust's.
        session: what is held up.
    """

    def __init__(self, environment: Environment, session: Session) -> None:
        self._environment = environment
        self._session = session
        self._count = 0
        self._rate, self._users = "", 0
        self.now: Flood | None = None

    def take_case(self, hold: Hold) -> None:
        """Let the form have the values of a case."""
        self._count = 0
        sys.argv[1:] = arguments_of(hold)
        self._environment.host = hold.target
        for name, value in hold.parameters.items():
            if name in SHOWN:
                setattr(self._environment.parsed_options, name, str(value).lower())
        self._environment.parsed_options.num_users = hold.parameters["users"]
        self._environment.parsed_options.spawn_rate = hold.parameters["users"]

    def begin(self) -> None:
        """Begin a flood: Start was pressed."""
        assert self._session.hold
        self._count += 1
        options = self._environment.parsed_options
        self._rate, self._users = options.rate, options.num_users
        self.now = Flood(self._environment, self._session.hold, self._count)
        what = f"{options.rate} a second" if options.load_shape == "open" else f"{options.num_users} users"
        self._session.mark(f"flood {self._count}: {options.load_shape}, {what}")

    def change(self, user_count: int) -> None:
        """Note that users or rate have been changed."""
        options = self._environment.parsed_options
        if self.now is None or self.now.over.is_set():
            return
        if options.load_shape == "open" and options.rate != self._rate:
            self._rate = options.rate
            self.now.change_rate()
            self._session.mark(f"flood {self._count}: {options.rate} a second")
        if user_count != self._users:
            self._users = user_count
            self._session.mark(f"flood {self._count}: {options.load_shape}, {user_count} users")

    def warn(self) -> None:
        """Note that Locust has too little processor time to be trusted."""
        if self.now is not None:
            self.now.cpu_warning = True

    def end(self) -> None:
        """End the flood: Stop was pressed, or it has nothing left to send."""
        if self.now is not None:
            self.now.stop()
            self._session.mark(NO_FLOOD)


floods: Floods


@events.init.add_listener
def prepare(environment: Environment, web_ui: Any, **_more: Any) -> None:
    """Connect Locust's events, its page and the session that Ansible talks to."""
    global floods  # noqa: PLW0603 - Locust makes the users itself, so they have to find it here
    raise_descriptor_limit()
    settings = Settings.read()
    session = Session(settings)
    floods = Floods(environment, session)
    access_log = AccessLog(settings.room)

    def begin(hold: Hold) -> None:
        floods.take_case(hold)
        access_log.follow(hold.way, hold.folder)

    def leave() -> None:
        environment.runner.stop()
        access_log.leave()

    session.on_hold, session.on_leave = begin, leave
    session.on_end = lambda: os.kill(os.getpid(), signal.SIGTERM)
    environment.events.test_start.add_listener(lambda **_: floods.begin())
    environment.events.spawning_complete.add_listener(lambda user_count, **_: floods.change(user_count))
    environment.events.cpu_warning.add_listener(lambda **_: floods.warn())
    environment.events.test_stop.add_listener(lambda **_: floods.end())
    add_pages(web_ui, session, access_log, settings.password)
    session.serve()
    gevent.spawn(say_ready, web_ui, session)


def say_ready(web_ui: Any, session: Session) -> None:
    """Say that the page is there once its port is open: Locust opens it after all listeners of init."""
    while not (web_ui.server and web_ui.server.started):
        gevent.sleep(0)
    session.say_ready()


class FloodUser(User):
    """Stands for one client; the generator sends for it."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Take part."""
        self._flood = floods.now
        if self._flood:
            self._flood.add_user()

    def on_stop(self) -> None:
        """Take part no more."""
        if self._flood:
            self._flood.remove_user()

    @task
    def stand_by(self) -> None:
        """Be there until it is stopped."""
        Event().wait()
