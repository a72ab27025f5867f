"""The key figures of one host in one run, each described once: meaning, unit, the tables that it rests on, and its n.

What could not be measured is None, and `Verdict.missing` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict

from floodmark.inputs.cases import Workload
from floodmark.model.stored import Part

BASELINE, FLOOD, DRAIN = "baseline", "flood", "drain"
PHASES = (BASELINE, FLOOD, DRAIN)


@dataclass(frozen=True)
class Rests:
    """What a key figure means and what it rests on.

    Attributes:
        meaning: what it is, for the reader of a table.
        unit: of the figure; empty for shares, and for counts by name.
        tables: that it is computed from.
        phases: of them, where they have phases.
        n: name of the figure that says how many readings or requests it rests on.
    """

    meaning: str
    unit: str
    tables: tuple[str, ...]
    phases: tuple[str, ...] = (FLOOD,)
    n: str = ""


_QUEUE = ("accept_queue",)
_CONNS = ("upstream_conns",)
_MOMENT = ("accept_queue", "upstream_conns", "stub_status")
_FRONT_MOMENT = ("accept_queue", "stub_status", "requests")
_STATUS = ("stub_status",)
_REQUESTS = ("requests",)
_WAITS = ("queue_waits",)
_EVENTS = ("upstream_events",)
_TCP = ("tcp_ext",)
_AGENT = ("agent",)
_LOADED = (FLOOD, DRAIN)
_DRAINED = (DRAIN,)


class Latency(Part):
    """How long requests with one status, or one error, took, from their intended start to their end (s)."""

    n: int
    median_s: float
    p99_s: float
    max_s: float


class SourceCost(Part):
    """What one source of the agent cost: readings, readings lost, the median time of one, and its share of a core."""

    n: int
    lost: int | None
    inside_median_us: float | None
    core_share: float


class Metrics(Part):
    """Key figures of one host. Those of older runs may lack some; what is not a key figure any more is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    # --- the upstream's accept queue
    accept_queue_max: Annotated[
        int | None, Rests("deepest accept queue", "conns", _QUEUE, _LOADED, n="accept_queue_n")
    ] = None
    accept_queue_median: Annotated[
        int | None, Rests("median depth of the queue in the flood", "conns", _QUEUE, n="accept_queue_n")
    ] = None
    accept_queue_last: Annotated[int | None, Rests("depth at the end of the drain", "conns", _QUEUE, _DRAINED)] = None
    accept_queue_n: Annotated[int | None, Rests("readings of the queue in the flood", "readings", _QUEUE)] = None
    queue_limit: Annotated[int | None, Rests("limit of the queue, as the kernel has it", "conns", ())] = None
    time_to_full_s: Annotated[float | None, Rests("first request until the queue is full", "s", _QUEUE)] = None
    plateau_median: Annotated[
        int | None, Rests("median depth from the first deepest reading on", "conns", _QUEUE, n="plateau_n")
    ] = None
    plateau_p99: Annotated[int | None, Rests("99th percentile of the same", "conns", _QUEUE, n="plateau_n")] = None
    plateau_n: Annotated[int | None, Rests("readings from the first deepest one on", "readings", _QUEUE)] = None
    overshoot: Annotated[int | None, Rests("connections above the limit, at most", "conns", _QUEUE, _LOADED)] = None
    queue_area_conn_s: Annotated[
        float | None,
        Rests("waiting in the queue, all connections together, in the flood", "conn·s", _QUEUE, n="accept_queue_n"),
    ] = None
    queue_area_drain_conn_s: Annotated[
        float | None, Rests("the same in the drain, for drain_s", "conn·s", _QUEUE, _DRAINED)
    ] = None
    dead_in_queue_last: Annotated[
        int | None,
        Rests("connections in the queue whose client has gone, at the end of the drain", "conns", _CONNS, _DRAINED),
    ] = None
    drain_s: Annotated[float | None, Rests("end of the flood until the queue is empty", "s", _QUEUE, _DRAINED)] = None
    recovery_s: Annotated[
        float | None, Rests("end of the flood until upstream and nginx are idle", "s", _MOMENT, _DRAINED)
    ] = None
    accepted_max: Annotated[
        int | None, Rests("most accepted connections that were not closed", "conns", _CONNS, _LOADED)
    ] = None

    # --- a pause of the upstream
    pause_s: Annotated[
        float | None, Rests("how long the upstream did not accept, by its own clock", "s", _EVENTS, ())
    ] = None
    pause_dead_conns: Annotated[
        int | None, Rests("connections in the queue without a client when it accepted again", "conns", _CONNS)
    ] = None
    pause_queue_recovery_s: Annotated[
        float | None, Rests("from then until the queue is empty", "s", _QUEUE, _LOADED)
    ] = None
    pause_clients_recovery_s: Annotated[
        float | None, Rests("from then until the last one who had waited is answered", "s", _REQUESTS, ())
    ] = None

    # --- the trace
    waits_n: Annotated[int | None, Rests("connections that were accepted", "conns", _WAITS, ())] = None
    wait_median_ms: Annotated[
        float | None, Rests("wait of a connection for accept(), median", "ms", _WAITS, (), n="waits_n")
    ] = None
    wait_p99_ms: Annotated[
        float | None, Rests("wait of a connection for accept(), p99", "ms", _WAITS, (), n="waits_n")
    ] = None
    wait_max_ms: Annotated[
        float | None, Rests("wait of a connection for accept(), longest", "ms", _WAITS, (), n="waits_n")
    ] = None
    waits_unaccepted: Annotated[int | None, Rests("connections that nobody accepted", "conns", _WAITS, ())] = None
    waits_area_conn_s: Annotated[
        float | None, Rests("all waits together, until the end of the drain", "conn·s", _WAITS, (), n="waits_n")
    ] = None
    trace_agreement_share: Annotated[
        float | None,
        Rests("share of the readings of the queue that agree with the trace", "", (*_QUEUE, *_WAITS), _LOADED),
    ] = None

    # --- nginx
    front_queue_max: Annotated[int | None, Rests("deepest accept queue of nginx itself", "conns", _QUEUE, _LOADED)] = (
        None
    )
    front_queue_limit: Annotated[int | None, Rests("its limit", "conns", _QUEUE, _LOADED)] = None
    active_max: Annotated[
        int | None, Rests("highest Active, without the agent's poll", "conns", _STATUS, _LOADED, n="active_n")
    ] = None
    active_median: Annotated[
        int | None, Rests("median Active in the flood, without the agent's poll", "conns", _STATUS, n="active_n")
    ] = None
    active_n: Annotated[int | None, Rests("readings of the status page in the flood", "readings", _STATUS)] = None
    identity_share: Annotated[
        float | None,
        Rests(
            "share of the moments of the flood in which Active = Q + A + 1 at the upstream", "", _MOMENT, n="identity_n"
        ),
    ] = None
    identity_n: Annotated[int | None, Rests("moments of the flood that had connections", "moments", _MOMENT)] = None
    identity_drain_share: Annotated[
        float | None,
        Rests(
            "share of the moments of the drain in which Active = Q + A + 1 at the upstream",
            "",
            _MOMENT,
            _DRAINED,
            n="identity_drain_n",
        ),
    ] = None
    identity_drain_n: Annotated[
        int | None, Rests("moments of the drain that had connections", "moments", _MOMENT, _DRAINED)
    ] = None
    identity_front_share: Annotated[
        float | None,
        Rests(
            "share of the moments of the flood in which Active = Q + A + 1 in front of nginx, as the study draws it",
            "",
            _FRONT_MOMENT,
            n="identity_front_n",
        ),
    ] = None
    identity_front_n: Annotated[
        int | None,
        Rests("moments of the flood that had clients, none of which came or went just then", "moments", _FRONT_MOMENT),
    ] = None
    listen_overflows: Annotated[
        int | None, Rests("growth of ListenOverflows since the baseline", "events", _TCP, _LOADED)
    ] = None
    listen_drops: Annotated[int | None, Rests("growth of ListenDrops since the baseline", "events", _TCP, _LOADED)] = (
        None
    )
    front_overflows: Annotated[
        int | None,
        Rests(
            "growth of ListenOverflows that the upstream's queue does not explain", "events", (*_TCP, *_QUEUE), _LOADED
        ),
    ] = None

    # --- clients
    sent: Annotated[int | None, Rests("requests that were sent", "requests", _REQUESTS, ())] = None
    given_up: Annotated[int | None, Rests("requests that their client gave up", "requests", _REQUESTS, ())] = None
    request_median_s: Annotated[
        float | None,
        Rests(
            "a request until its good answer, median; anything else ranks above all numbers",
            "s",
            _REQUESTS,
            (),
            n="request_n",
        ),
    ] = None
    request_p99_s: Annotated[
        float | None, Rests("a request until its good answer, p99", "s", _REQUESTS, (), n="request_n")
    ] = None
    request_max_s: Annotated[
        float | None, Rests("a request until its good answer, longest", "s", _REQUESTS, (), n="request_n")
    ] = None
    request_n: Annotated[
        int | None,
        Rests("requests that were due: sent or dropped, without those of the warm-up", "requests", _REQUESTS, ()),
    ] = None
    good_n: Annotated[int | None, Rests("good answers: complete, and not 5xx", "requests", _REQUESTS, ())] = None
    goodput_per_s: Annotated[
        float | None, Rests("good answers a second, over the flood", "1/s", _REQUESTS, (), n="request_n")
    ] = None
    requests_per_s: Annotated[
        float | None, Rests("requests sent a second, over the flood", "1/s", _REQUESTS, (), n="sent")
    ] = None

    # --- the load generator
    dropped: Annotated[int | None, Rests("requests that were due and not sent", "requests", (), ())] = None
    requested_per_s: Annotated[float | None, Rests("rate of an open flood that was asked for", "1/s", (), ())] = None
    achieved_per_s: Annotated[float | None, Rests("rate that was sent", "1/s", _REQUESTS, (), n="sent")] = None
    generator_late_p99_ms: Annotated[
        float | None, Rests("how late requests started, p99", "ms", _REQUESTS, (), n="sent")
    ] = None
    generator_late_max_ms: Annotated[
        float | None, Rests("how late requests started, at most", "ms", _REQUESTS, (), n="sent")
    ] = None
    generator_cpu_share: Annotated[
        float | None, Rests("most of a core that a generator used while it was sending", "", (), ())
    ] = None
    flood_s: Annotated[float | None, Rests("length of the flood", "s", _REQUESTS, ())] = None

    # --- the agent
    agent_cpu_share: Annotated[float | None, Rests("share of a core that the agent used", "", _AGENT, PHASES)] = None
    agent_lost_share: Annotated[float | None, Rests("share of its readings that it lost", "", _AGENT, PHASES)] = None
    agent_lateness_max_ms: Annotated[float | None, Rests("how late a reading was, at most", "ms", _AGENT, PHASES)] = (
        None
    )
    agent_lateness_p99_ms: Annotated[
        float | None, Rests("how late a reading of the queue was, p99", "ms", _AGENT, PHASES)
    ] = None

    # --- clocks
    clock_offset_ms: Annotated[
        float | None,
        Rests("wall clock of the host ahead of that of the generator", "ms", (*_REQUESTS, "nginx_access"), ()),
    ] = None
    clock_error_ms: Annotated[float | None, Rests("how wrong that may be", "ms", (*_REQUESTS, "nginx_access"), ())] = (
        None
    )

    # --- several numbers under one name
    states: Annotated[
        dict[str, int | None], Rests("rows of /proc/net/unix by state, median", "socks", ("unix_states",), _LOADED)
    ] = {}
    status: Annotated[dict[str, int], Rests("answers by HTTP status", "requests", _REQUESTS, ())] = {}
    errors: Annotated[
        dict[str, int], Rests("requests without a complete answer, by error", "requests", _REQUESTS, ())
    ] = {}
    latency: Annotated[
        dict[str, Latency],
        Rests("time of a request by what came of it: its status, or its error", "s", _REQUESTS, ()),
    ] = {}
    nginx_errors: Annotated[
        dict[str, int], Rests("lines of nginx's error log, by kind", "lines", ("nginx_errors",), ())
    ] = {}
    agent_sources: Annotated[dict[str, SourceCost], Rests("what each source cost", "", _AGENT, PHASES)] = {}


class WorkloadFigure(Part):
    """What one workload took in virtual time, over its steady windows.

    Attributes:
        median: of the windows (instructions, or s), None where they did not become steady.
        half_spread: half the distance of the quartiles, as a share of the median.
        undetected_drift: drift over the steady windows that could not have been seen, as a share of the median.
        warm_up: windows before the steady ones.
        steady: windows that the median is of.
        operations: how often it was done in all windows.
        idle_ns: how long the processor was idle in them.
    """

    median: float | None = None
    half_spread: float | None = None
    undetected_drift: float | None = None
    warm_up: int | None = None
    steady: int = 0
    operations: int = 0
    idle_ns: int = 0


class VirtualMetrics(Part):
    """Key figures of a run in virtual time. A figure of a workload has the name that `WORKLOADS` gives it."""

    workloads: dict[Workload, WorkloadFigure]
    instructions_per_request: float | None = None
    instructions_per_request_refused: float | None = None
    request_timeout_s: float | None = None
    instructions_per_connection_accepted: float | None = None
    instructions_per_connection_refused: float | None = None
    instructions_per_status_read: float | None = None
    instructions_per_empty_loop: float | None = None
    queue_limit: int | None = None
    accept_queue_max: int | None = None
    states: dict[str, int | None] = {}
    status: dict[str, int] = {}
    errors: dict[str, int] = {}
    nginx_errors: dict[str, int] = {}


# The key figures that comparisons test; a hole in what they rest on makes a run invalid.
COMPARED = (
    "time_to_full_s", "drain_s", "recovery_s", "queue_area_conn_s", "wait_median_ms", "wait_p99_ms",
    "request_median_s", "request_p99_s", "request_max_s", "goodput_per_s",
)  # fmt: skip


def described() -> Iterator[tuple[str, Rests]]:
    """Yield name and description of each key figure."""
    for name, field in Metrics.model_fields.items():
        yield name, next(one for one in field.metadata if isinstance(one, Rests))
