"""The registry of checks: every rule that a run is held against, each described once.

A rule says what must be so, its limit and unit, what follows when it is not, and the sentence that a reader gets then.
The terminal, the report, JUnit, `floodmark edge`, suites, `floodmark show --json` and docs/checks.md read it; nobody
else decides by the text of a sentence.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from floodmark.model.check import Check, Measured, Severity
from floodmark.text import number, percent

INVALID, NOTE = Severity.INVALID, Severity.NOTE


class About(StrEnum):
    """What a rule is about: the headings of docs/checks.md."""

    CASE = "The case"
    COMPLETENESS = "Completeness"
    CLOCKS = "Clocks"
    CONTENTION = "Contention"
    FLOOD = "The load generator"
    NGINX = "nginx"
    AGENT = "The agent"
    VIRTUAL = "Virtual time"


class Bound(StrEnum):
    """How a value is held against its limit."""

    AT_MOST = "at most"
    AT_LEAST = "at least"
    EXACTLY = "exactly"


_KEPT: dict[Bound, Callable[[float, float], bool]] = {
    Bound.AT_MOST: operator.le, Bound.AT_LEAST: operator.ge, Bound.EXACTLY: operator.eq,
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: permanent; programs know it by this.
        about: what it is about.
        severity: what follows when it is not kept; `rested` rules are only a note where nothing rests on the source.
        asks: what must be so, as a sentence without its stop.
        fails: the sentence when it is not so; it may use {subject}, {value}, {limit} and words of its own.
        unit: of value and limit; `share` is shown in per cent.
        bound: how the value is held against the limit.
        limit: what is allowed; None where each run has its own.
        rested: the severity holds where an expectation, a claim or a compared metric of the run rests on the source.
        may: the parameter that asks for what the rule forbids; with it the rule is only a note.
    """

    id: str
    about: About
    severity: Severity
    asks: str
    fails: str
    unit: str = ""
    bound: Bound = Bound.AT_MOST
    limit: float | None = None
    rested: bool = False
    may: str = ""

    def check(
        self,
        value: Measured,
        *,
        limit: Measured = None,
        ok: bool | None = None,
        subject: str = "",
        severity: Severity | None = None,
        **words: str,
    ) -> Check:
        """Hold a value against this rule.

        Args:
            value: what was seen.
            limit: what is allowed, where the rule itself has no limit.
            ok: whether the rule is kept, where that is more than comparing two numbers.
            subject: what it is applied to.
            severity: another one than the rule's.
            words: what else its sentence uses.
        """
        allowed = self.limit if limit is None else limit
        if ok is None:
            assert isinstance(value, (int, float)), f"{self.id}: {value}"
            assert isinstance(allowed, (int, float)), f"{self.id}: {allowed}"
            ok = _KEPT[self.bound](value, allowed)
        shown, most = self.shown(value), self.shown(allowed)
        of = f" ({subject})" if subject else ""
        sentence = (
            f"{self.asks}{of}: {shown}" + (f", {self.bound} {most}" if allowed is not None else "")
            if ok
            else self.fails.format(subject=subject, value=shown, limit=most, **words)
        )
        return Check(
            id=self.id, subject=subject, severity=severity or self.severity, ok=ok, value=value, limit=allowed,
            unit=self.unit, sentence=sentence,
        )  # fmt: skip

    def cannot_tell(self, why: str, *, subject: str = "", severity: Severity = NOTE) -> Check:
        """Return the check of something that nobody can tell, and why.

        Args:
            why: it cannot be told.
            subject: what the rule is applied to.
            severity: what follows.
        """
        of = f" ({subject})" if subject else ""
        return Check(
            id=self.id, subject=subject, severity=severity, ok=False, value=None, limit=self.limit, unit=self.unit,
            sentence=f"it is not known whether {self.asks[0].lower()}{self.asks[1:]}{of}: {why}",
        )  # fmt: skip

    def shown(self, value: Measured) -> str:
        """Return a value or a limit as people read it, with its unit."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, (int, float)):
            if self.unit == "share":
                return percent(float(value))
            return f"{number(value)} {self.unit}".rstrip()
        return "not known" if value is None else str(value)

    @property
    def shown_limit(self) -> str:
        """The limit in words: `at most 90 %`; empty where each run has its own."""
        return "" if self.limit is None else f"{self.bound} {self.shown(self.limit)}"


# --- the case -------------------------------------------------------------------------------------

FAULT_OBSERVED = Rule(
    "fault_observed",
    About.CASE,
    INVALID,
    "The misbehaviour of the case was seen",
    "the fault was not observed: {subject} is {value}, and it takes {limit}",
)
STATED = Rule(
    "expectations_stated",
    About.CASE,
    NOTE,
    "Our model states its expectations for these parameters",
    "not stated for these parameters, because they need {conditions}: {names} ({value})",
    limit=0,
)

# --- completeness ---------------------------------------------------------------------------------

RESULTS_READABLE = Rule(
    "results_readable",
    About.COMPLETENESS,
    INVALID,
    "What the host wrote was fetched and can be read",
    "{why}",
)
RECORDED = Rule(
    "recorded",
    About.COMPLETENESS,
    INVALID,
    "A verdict of before checks had names is kept as it was written",
    "{why}",
)
NOT_ENDED = Rule(
    "not_ended",
    About.COMPLETENESS,
    INVALID,
    "Nobody ended the run before it was over",
    "the run was ended by {value} before it was over",
)
LEASE_HELD = Rule(
    "lease_held",
    About.COMPLETENESS,
    INVALID,
    "The run held its host until it was over",
    "the host was restored before the run was over: {why}",
)
FLOOD_SENT = Rule(
    "flood_sent",
    About.COMPLETENESS,
    INVALID,
    "There was a flood",
    "there was no flood: no request was sent",
    "requests",
    Bound.AT_LEAST,
    1,
)
FLOOD_FINISHED = Rule(
    "flood_finished",
    About.COMPLETENESS,
    INVALID,
    "Every request that was sent has ended",
    "{value} were sent and never ended: the flood was cut off",
    "requests",
    limit=0,
)
GENERATORS_REPORTED = Rule(
    "generators_reported",
    About.COMPLETENESS,
    INVALID,
    "Every process of the flood has said what it did",
    "{value} of {of} of the flood were lost, number {numbers}: what they sent is not known; locust.log in the run's "
    "folder load/ may say why",
    "processes",
    limit=0,
)
PHASE_LENGTH = Rule(
    "phase_length",
    About.COMPLETENESS,
    INVALID,
    "Each phase was as long as asked",
    "the {subject} was observed for {value}, and {limit} were asked for: {why}",
    "s",
    Bound.AT_LEAST,
)
SOURCE_READ = Rule(
    "source_read",
    About.COMPLETENESS,
    INVALID,
    "Every source was read at least half as often as asked",
    "the agent has only {value} of the readings of {subject} that it should have made ({made} of {expected}; limit "
    "{limit}, longest gap {gap})",
    "share",
    Bound.AT_LEAST,
    0.5,
    rested=True,
)
SOURCE_ANSWERED = Rule(
    "source_answered",
    About.COMPLETENESS,
    INVALID,
    "Every reading of a source has a value",
    "only {value} of the readings of {subject} have a value ({good} of {made}; limit {limit}, longest gap {gap}): "
    "{why}",
    "share",
    Bound.AT_LEAST,
    rested=True,
)
SOURCE_GAP = Rule(
    "source_gap",
    About.COMPLETENESS,
    INVALID,
    "No source was silent for long",
    "{subject} has a gap of {value} without a value (limit {limit}); {share} of its readings are there",
    "ms",
    rested=True,
)
UNIT_ACTIVE = Rule(
    "unit_active",
    About.COMPLETENESS,
    INVALID,
    "Every unit that was started was active until it was stopped",
    "{subject} was not active all the time: {why}",
)
LOG_WHOLE = Rule(
    "log_whole",
    About.COMPLETENESS,
    INVALID,
    "Every log is there and can be read to its end",
    "{subject} {why}",
)
ROWS_COUNTED = Rule(
    "rows_counted",
    About.COMPLETENESS,
    INVALID,
    "Every log has as many rows as its writer has counted",
    "{subject} has {value}, and {writer} counted {limit}: {why}",
    "rows",
    Bound.EXACTLY,
)
ROWS_UNIQUE = Rule(
    "rows_unique",
    About.COMPLETENESS,
    INVALID,
    "No request is in a log twice",
    "{value} stand more than once in {subject}",
    "requests",
    limit=0,
)

# --- clocks ---------------------------------------------------------------------------------------

CLOCKS_AGREE = Rule(
    "clocks_agree",
    About.CLOCKS,
    INVALID,
    "One offset between the clocks of generator and host fits all requests",
    "no offset between the clocks of generator {subject} and of the host fits all requests: they contradict each other "
    "by {value} (limit {limit}). A clock was set or ran wrong in the flood, or nginx's log is not of this flood",
    "ms",
)
CLOCK_SET = Rule(
    "clock_set",
    About.CLOCKS,
    INVALID,
    "No wall clock was set during the run",
    "the wall clock of {subject} was set during the run: it moved by {value} against the monotonic clock "
    "(limit {limit})",
    "ms",
    limit=1,
)
CLOCK_RATE = Rule(
    "clock_rate",
    About.CLOCKS,
    NOTE,
    "No clock was being slewed",
    "the clock of {subject} ran {value} off the rate of its hardware (limit {limit}): it was being slewed, and times "
    "are wrong by as much",
    "ppm",
    limit=200,
)

# --- contention -----------------------------------------------------------------------------------

CPU_STOLEN = Rule(
    "cpu_stolen",
    About.CONTENTION,
    NOTE,
    "The hypervisor left the machine its processors",
    "the hypervisor took {value} of the processor time of {subject} during the flood (limit {limit}): times may be too "
    "long",
    "share",
    limit=0.05,
)
CPU_TAKEN = Rule(
    "cpu_taken",
    About.CONTENTION,
    NOTE,
    "No other program took much of the processors",
    "other programs took {value} of the processor time of {subject} during the flood (limit {limit}): times may be too "
    "long",
    "share",
    limit=0.25,
)
CPU_PRESSURE = Rule(
    "cpu_pressure",
    About.CONTENTION,
    NOTE,
    "Programs seldom waited for a processor",
    "on {subject} some program waited for a processor in {value} of the flood (PSI, limit {limit}): times may be too "
    "long",
    "share",
    limit=0.5,
)
MEMORY_PRESSURE = Rule(
    "memory_pressure",
    About.CONTENTION,
    NOTE,
    "Programs did not wait for memory",
    "on {subject} some program waited for memory in {value} of the flood (PSI, limit {limit})",
    "share",
    limit=0.01,
)
IO_PRESSURE = Rule(
    "io_pressure",
    About.CONTENTION,
    NOTE,
    "Programs seldom waited for a disk",
    "on {subject} some program waited for a disk in {value} of the flood (PSI, limit {limit})",
    "share",
    limit=0.25,
)
CPU_THROTTLED = Rule(
    "cpu_throttled",
    About.CONTENTION,
    NOTE,
    "No control group was throttled",
    "control groups of {subject} were throttled for {value} during the flood: they have a CPU quota (CPUQuota=, "
    "cpu.max)",
    "ms",
    limit=0,
)

# --- the load generator ---------------------------------------------------------------------------

GENERATOR_SATURATED = Rule(
    "generator_saturated",
    About.FLOOD,
    INVALID,
    "The load generator had processor time left while it was sending",
    "the load generator was saturated: {subject} used {value} of a core for {for_s} (limit {limit}). Late requests "
    "would look like a slow proxy: use more processes or a lower rate",
    "share",
    limit=0.9,
)
GENERATOR_WARNED = Rule(
    "generator_warned",
    About.FLOOD,
    INVALID,
    "Locust gave no warning of a busy processor",
    "the load generator was saturated: Locust warned that {subject} used too much processor time. Use more processes "
    "or a lower rate",
)
GENERATOR_STALLED = Rule(
    "generator_stalled",
    About.FLOOD,
    INVALID,
    "The load generator never stood still",
    "the load generator stood still: the loop of {subject} was late by {value} (limit {limit}), so answers were read "
    "too late",
    "ms",
    limit=500,
)
GENERATOR_ON_TIME = Rule(
    "generator_on_time",
    About.FLOOD,
    INVALID,
    "Requests of an open flood start when they were planned to",
    "the load generator was late: one request of a hundred started more than {value} after its time (limit {limit}). "
    "Use a lower rate, or more processes or machines",
    "ms",
    limit=10,
)
GENERATOR_PROMPT = Rule(
    "generator_prompt",
    About.FLOOD,
    NOTE,
    "Requests of a burst or a sustained flood start when they were meant to",
    "the load generator sent requests up to {value} late (limit {limit}); start_spread_ms gives it more time",
    "ms",
    limit=100,
)
GENERATORS_TOGETHER = Rule(
    "generators_together",
    About.FLOOD,
    NOTE,
    "All processes of the flood began together",
    "the processes of the flood began up to {value} apart (limit {limit}): the burst was spread by as much",
    "ms",
    limit=50,
)
GENERATOR_DROPPED = Rule(
    "generator_dropped",
    About.FLOOD,
    NOTE,
    "No request that was due was dropped",
    "{value} that were due were not sent, because {users} were in flight already; users=N allows more",
    "requests",
    limit=0,
)
GENERATOR_GAVE_UP = Rule(
    "generator_gave_up",
    About.FLOOD,
    NOTE,
    "No client gave up",
    "{value} were given up by their client after {after}: the host was too slow for this flood, or nginx kept them "
    "longer than its timeouts allow",
    "requests",
    limit=0,
)
GENERATOR_RESOURCES = Rule(
    "generator_resources",
    About.FLOOD,
    INVALID,
    "The load generator had descriptors and ports for all requests",
    "the load generator could not send {value}: it had no free descriptor or port for them",
    "requests",
    limit=0,
)
GENERATOR_VERSION = Rule(
    "generator_version",
    About.FLOOD,
    INVALID,
    "All processes of the flood run one version of Locust",
    "{subject} of the flood ran Locust {value} and was led by {limit}: remove /opt/floodmark-loadgen on its machine, "
    "and the next run installs it again",
)
GENERATORS_ALLOWED = Rule(
    "generators_allowed",
    About.FLOOD,
    INVALID,
    "nginx answers the load generators",
    "nginx refused {value} of the flood with 403: the host sees the load generators under other addresses "
    "than they have, so name these in floodmark_flood_from of its inventory",
    "requests",
    limit=0,
)
FOREIGN_REQUESTS = Rule(
    "foreign_requests",
    About.FLOOD,
    INVALID,
    "All requests that nginx logged are of this flood",
    "{value} in nginx's log are not of this flood: something else sends to the same port",
    "requests",
    limit=0,
)

# --- nginx ----------------------------------------------------------------------------------------

WORKERS_ALIVE = Rule(
    "workers_alive",
    About.NGINX,
    INVALID,
    "No worker of nginx died",
    "{value} of nginx's workers died in the run ({why}), and with them the connections that they had: look for 'Out of "
    "memory' in the kernel log of the host",
    limit=0,
)
FRONT_OVERFLOWED = Rule(
    "front_overflowed",
    About.NGINX,
    INVALID,
    "nginx's own accept queue did not overflow",
    "nginx's own accept queue overflowed {value} (ListenOverflows), so clients waited there and not at the upstream: "
    "raise nginx_listen_backlog or lower users",
    "times",
    limit=0,
    may="front_may_overflow",
)
FRONT_FULL = Rule(
    "front_full",
    About.NGINX,
    NOTE,
    "nginx's own accept queue was never full",
    "nginx's own accept queue was full: {value} waited there, and its limit is {limit}",
    "connections",
)

# --- the agent ------------------------------------------------------------------------------------

AGENT_CHEAP = Rule(
    "agent_cheap",
    About.AGENT,
    NOTE,
    "The agent used little of a core",
    "the agent used {value} of a core (limit {limit}): it may have disturbed the host",
    "share",
    limit=0.15,
)
AGENT_PUNCTUAL = Rule(
    "agent_punctual",
    About.AGENT,
    NOTE,
    "The agent lost almost no reading",
    "the agent lost {value} of its readings (limit {limit}): short peaks may be missing",
    "share",
    limit=0.001,
)
QUEUE_BY_DIAG = Rule(
    "queue_by_diag",
    About.AGENT,
    NOTE,
    "The kernel tells depth and limit of the queue (unix_diag)",
    "the kernel has no unix_diag: the queue was counted in /proc/net/unix, ten times a second, its limit was computed "
    "and not read back, and connections whose client has gone are not known",
)
SCHEDULED_FIRST = Rule(
    "scheduled_first",
    About.AGENT,
    NOTE,
    "The upstream runs before other programs (SCHED_FIFO)",
    "the upstream had no real-time priority ({value}): behind other processes it may let a short queue overflow",
)
TRACE_WHOLE = Rule(
    "trace_whole",
    About.AGENT,
    NOTE,
    "The trace followed every connection",
    "{why}",
)
STRACE_CAPTURED = Rule(
    "strace_captured",
    About.AGENT,
    NOTE,
    "strace captured nginx's system calls",
    "nginx's system calls were not captured: {why}",
)
STRACE_SLOWS = Rule(
    "strace_slows",
    About.AGENT,
    NOTE,
    "nginx was not slowed by strace",
    "strace stopped nginx at each system call: what it did is true, how long it took is not",
)

# --- virtual time ---------------------------------------------------------------------------------

WORKLOADS_FINISHED = Rule(
    "workloads_finished",
    About.VIRTUAL,
    INVALID,
    "Every workload came to its end",
    "a workload ended early: {why}",
)
CLOCK_COUNTS = Rule(
    "clock_counts",
    About.VIRTUAL,
    INVALID,
    "The clock counts instructions: one nanosecond for each",
    "the clock does not count instructions: {passed} ns passed with {counted} of them",
    "share",
    limit=0.001,
)
WORKLOAD_STEADY = Rule(
    "workload_steady",
    About.VIRTUAL,
    NOTE,
    "Every workload has steady windows",
    "{subject}: {why}",
)

RULES: dict[str, Rule] = {one.id: one for one in list(globals().values()) if isinstance(one, Rule)}
# Broken by a flood that is too much for the load generator: at a lower rate they may hold.
GENERATOR_AT_ITS_END = frozenset(
    one.id for one in (GENERATOR_SATURATED, GENERATOR_WARNED, GENERATOR_ON_TIME, GENERATOR_RESOURCES)
)
