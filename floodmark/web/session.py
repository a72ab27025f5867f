"""What is held up at the moment, what was seen of it, and what is wished for next."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult, Event
from gevent.server import StreamServer
from gevent.socket import socket as gevent_socket
from gevent.socket import wait_read
from pydantic import BaseModel, ConfigDict

from floodmark.errors import FloodmarkError
from floodmark.inputs.cases import Case, find_case, load_cases
from floodmark.inputs.inventory import CAPS, check_caps
from floodmark.inputs.parameters import Parameters, resolve_parameters
from floodmark.values import ParameterValue, ParameterValues
from floodmark.web.control import Question, Settings
from floodmark.web.feed import MOST_SAMPLES, Feed, Sample

APPLYING, HELD, RESTORING, FAILED = "applying", "held", "restoring", "failed"
NO_FLOOD = "no flood"


class Hold(BaseModel):
    """A case that a host has.

    Attributes:
        host: its name in the inventory.
        run_id: names it there.
        case: its number.
        title: its title.
        parameters: all of them.
        answer_timeout_s: how long a client waits.
        target: URL of its nginx.
        way: the command that runs a shell line on the host.
        folder: where agent and nginx write on the host.
        load: where floods write here.
        at_most_s: for so long.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    run_id: str
    case: int
    title: str
    parameters: ParameterValues
    answer_timeout_s: float
    target: str
    way: list[str]
    folder: str
    load: str
    at_most_s: float


class Session:
    """One session of the page, over all the cases that it holds up in turn.

    Args:
        settings: of it.

    Attributes:
        state: of the host: applying, held, restoring or failed.
        hold: what it has, or had last.
        failure: why a case could not be held up.
        phase: what is going on.
        marks: when that changed (s since the epoch), and to what.
        samples: what was seen.
        was_held: set when the first case is held up, or could not be.
        on_hold: is told of each case that is held up.
        on_leave: is called before it is left.
        on_end: is called when the session is over.
    """

    def __init__(self, settings: Settings) -> None:
        self.state = APPLYING
        self.hold: Hold | None = None
        self.failure = ""
        self.phase = NO_FLOOD
        self.marks: list[tuple[float, str]] = []
        self.samples: deque[Sample] = deque(maxlen=MOST_SAMPLES)
        self.on_hold: Callable[[Hold], None] = lambda _: None
        self.on_leave: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.was_held = Event()
        self._settings = settings
        self._wish: AsyncResult = AsyncResult()

    # --- what people wish -----------------------------------------------------------------------

    def cases(self) -> dict[int, Case]:
        """Return all cases, by number."""
        return load_cases()

    def resolve(self, case: object, **given: ParameterValue) -> tuple[Case, Parameters]:
        """Return a case and its parameters in this session, checked.

        Args:
            case: its number.
            given: parameters that are to be other than they were given at the start.

        Raises:
            FloodmarkError: there is no such case, or a parameter is not allowed.
        """
        found = find_case(case, self.cases())
        layers = [found.parameters.model_dump(), *self._settings.layers, given]
        parameters = resolve_parameters(*layers, origin="the web page")
        check_caps(parameters, {CAPS: self._settings.caps})
        return found, parameters

    def wish_for(self, case: object) -> None:
        """Leave what is held up, and hold up another case.

        Raises:
            FloodmarkError: there is no such case, or something else is under way.
        """
        found, _ = self.resolve(case)
        if self._wish.ready() or self.state not in (HELD, FAILED):
            raise FloodmarkError(f"the host is {self.state}: wait until that is done.")
        self._wish.set(found.number)

    def end(self) -> None:
        """Leave what is held up, and end."""
        self._wish = AsyncResult() if self._wish.ready() else self._wish
        self._wish.set(None)

    def mark(self, phase: str) -> None:
        """Note that something has begun."""
        self.phase = phase
        self.marks.append((time.time(), phase))

    # --- what Ansible asks ----------------------------------------------------------------------

    def serve(self) -> None:
        """Let Ansible ask, and end when it is gone."""
        listener = gevent_socket(socket.AF_UNIX)
        listener.bind(self._settings.control)
        listener.listen()
        StreamServer(listener, self._answer).start()
        gevent.spawn(self._close_when_the_owner_is_gone)
        gevent.spawn(self._end_when_the_owner_is_to)

    def say_ready(self) -> None:
        """Tell whoever has started this process that the page is served."""
        with gevent_socket(socket.AF_UNIX) as ready:
            ready.connect(f"{self._settings.room}/ready")

    def _answer(self, connection: Any, _address: Any) -> None:
        with connection, connection.makefile("rw") as lines:
            question: Question = json.loads(lines.readline())
            if "hold" in question:
                self._hold_up(Hold.model_validate(question["hold"]))
                lines.write("{}\n")
            elif "failure" in question:
                case = self._next(question["failure"])
                lines.write(json.dumps({"case": case}) + "\n")
        if "failure" in question and case is None:
            self._close()

    def _hold_up(self, hold: Hold) -> None:
        """Hold up a case until there is a wish."""
        self.hold, self.state, self.failure = hold, HELD, ""
        self.samples.append(Sample(time.time(), NO_FLOOD))  # so that no line goes from one case to another
        self.mark(f"case {hold.case}")
        self.phase = NO_FLOOD
        self.on_hold(hold)
        self.was_held.set()
        feed = Feed(hold.way, hold.folder)
        following = gevent.spawn(feed.follow, lambda: self.phase, self.samples.append)
        following.link_value(lambda ended: self._lose_sight(hold, ended.value))
        gevent.spawn_later(hold.at_most_s, self._end_hold, hold)
        self._wish.wait()
        self.state = RESTORING
        self.on_leave()
        feed.close()

    def _lose_sight(self, hold: Hold, said: str) -> None:
        if self.hold is hold and self.state == HELD:
            self.failure = f"the session with host {hold.host} has ended, and nothing is seen of it any more: {said}"

    def _end_hold(self, hold: Hold) -> None:
        if self.hold is hold and self.state == HELD:
            self.end()

    def _next(self, failure: str) -> int | None:
        """Return the case that is wished for, waiting for a wish where the last one came to nothing."""
        self.failure = failure
        if failure:
            self.state = FAILED
            self.mark("failed")
            self.was_held.set()
        case: int | None = self._wish.get()
        self._wish = AsyncResult()
        self.state = APPLYING
        return case

    def _close_when_the_owner_is_gone(self) -> None:
        wait_read(self._settings.owner.died)
        self._close()

    def _end_when_the_owner_is_to(self) -> None:
        wait_read(self._settings.owner.ends)
        self.end()

    def _close(self) -> None:
        shutil.rmtree(self._settings.room, ignore_errors=True)
        self.on_end()
