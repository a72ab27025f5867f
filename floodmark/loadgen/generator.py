"""The loop of a flood: sends what is due and hears what has come, in one greenlet for all connections."""

from __future__ import annotations

import time
from collections.abc import Callable

from gevent.hub import get_hub

from collectors.clocks import wall_minus_monotonic
from floodmark.loadgen.arrivals import Load
from floodmark.loadgen.client import Client, Exchange, Target
from floodmark.loadgen.request_log import RequestLog
from floodmark.loadgen.timer import Timer

READABLE = 1
# How often requests are checked for their timeout. By how much that comes late is how long the loop was stalled.
EXPIRY_NS = 10_000_000
# What is lost when a generator is killed: lines of at most so long.
FLUSH_NS = 100_000_000
# After so many requests answers have their turn.
MOST_SENT = 32


class Usage:
    """Processor time that a generator has used since its load began, and the longest stall of its loop.

    Args:
        began_ns: when the load began on the monotonic clock, or when the generator was told, if that was later.

    Attributes:
        wall_minus_monotonic_ns: the wall clock less the monotonic clock when the load began.
        sending_ns: time from then until the last request was sent or dropped, to 10 ms.
        cpu_sending_ns: processor time of this process meanwhile.
        cpu_ns: its processor time until the last request ended.
        longest_stall_ns: the longest time by which the loop was late for its 10 ms timer.
    """

    def __init__(self, began_ns: int) -> None:
        self.wall_minus_monotonic_ns = wall_minus_monotonic().offset_ns
        self.sending_ns = self.cpu_sending_ns = self.cpu_ns = self.longest_stall_ns = 0
        self._began_ns = began_ns
        self._cpu_began_ns = time.process_time_ns()
        self._taken = 0

    def note(self, now_ns: int, taken: int, late_ns: int = 0) -> None:
        """Bring it up to date.

        Args:
            now_ns: the time on the monotonic clock.
            taken: requests that were sent or dropped until now.
            late_ns: by how much the loop was late, if it was.
        """
        self.cpu_ns = time.process_time_ns() - self._cpu_began_ns
        if taken != self._taken:
            self._taken = taken
            self.sending_ns, self.cpu_sending_ns = now_ns - self._began_ns, self.cpu_ns
        self.longest_stall_ns = max(self.longest_stall_ns, late_ns)


class Generator:
    """Sends the requests of a load and tells of each that has ended.

    Args:
        target: where to.
        compose: makes a whole request of its number.
        timeout_s: for a whole request, from connecting to the last byte.
        reuse: keep connections for later requests.
        most_in_flight: a request that would be one more at a time is dropped; None is no limit. It may be changed.
        log: where each request is written that has ended.
        on_end: is given it then.

    Attributes:
        issued: requests that were sent.
        dropped: requests that were due and not sent, because as many as allowed were in flight.
        usage: what it has used since its load began; None before.
    """

    def __init__(
        self,
        target: Target,
        compose: Callable[[int], tuple[str, bytes]],
        *,
        timeout_s: float,
        reuse: bool,
        most_in_flight: int | None,
        log: RequestLog,
        on_end: Callable[[Exchange], None],
    ) -> None:
        self.client = Client(target, timeout_s, reuse=reuse, on_end=self._ended)
        self.issued = 0
        self.dropped = 0
        self.usage: Usage | None = None
        self._compose = compose
        self.most_in_flight = most_in_flight
        self._stopped = False
        self._log = log
        self._on_end = on_end
        self._load: Load | None = None

    def stop(self) -> None:
        """Let `run` end soon, whatever is in flight; what is cut off is not logged."""
        self._stopped = True

    def run(self, load: Load, begin_ns: int) -> None:
        """Send what a load plans, until it is over and every request has ended, or until it is stopped.

        Args:
            load: when to send.
            begin_ns: when it begins, on the monotonic clock. If that has passed, what was due since is sent late.
        """
        self._load = load
        client, timer = self.client, Timer()
        client.watch(timer.fileno())
        hub = get_hub()
        ready = hub.loop.io(client.fileno(), READABLE)
        began_ns = max(begin_ns, time.monotonic_ns())
        try:
            timer.wake_at(began_ns)
            while not self._stopped and time.monotonic_ns() < began_ns:
                hub.wait(ready)
            self.usage = usage = Usage(began_ns)
            expiry_ns = began_ns + EXPIRY_NS
            while not self._stopped and (client.in_flight or not load.is_over):
                due_ns = load.due_ns()
                timer.wake_at(expiry_ns if due_ns is None else min(due_ns, expiry_ns))
                hub.wait(ready)
                client.handle()
                now_ns = time.monotonic_ns()
                if now_ns >= expiry_ns:
                    client.expire(now_ns)
                    self._log.flush(now_ns, FLUSH_NS)
                    usage.note(now_ns, self.issued + self.dropped, now_ns - expiry_ns)
                    expiry_ns = now_ns + EXPIRY_NS
                self._send_due(load)
        finally:
            if self.usage:
                self.usage.note(time.monotonic_ns(), self.issued + self.dropped)
            ready.close()
            client.close()
            timer.close()

    def _send_due(self, load: Load) -> None:
        for _ in range(MOST_SENT):
            due_ns = load.due_ns()
            if due_ns is None or due_ns > time.monotonic_ns():
                return
            load.take()
            if self.most_in_flight is not None and self.client.in_flight >= self.most_in_flight:
                self.dropped += 1
                continue
            self.issued += 1
            number, request = self._compose(self.issued)
            self.client.send(number, request, due_ns)

    def _ended(self, exchange: Exchange) -> None:
        assert self._load is not None
        self._load.ended(exchange.end_ns)
        self._log.add(exchange)
        self._on_end(exchange)
