"""The parameters of a run: names, units, ranges and meanings, written once.

Their values are in `cases/base.yml`, a case file may set others, and `-e name=value` has the last
word. A parameter describes what is measured; variables of the roles (`nginx_*`, `testbed_*`, …)
describe how a host is prepared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from floodmark.errors import ParameterError, did_you_mean, shown
from floodmark.loadgen.arrivals import Step, parse_steps
from floodmark.values import ParameterValue, ParameterValues, Variables

Transport = Literal["unix", "tcp"]
LoadShape = Literal["burst", "sustained", "open"]
Arrivals = Literal["constant", "poisson"]
# listen() takes somaxconn as it is at that moment, so it matters what comes first.
Order = Literal["nginx,sysctl,upstream", "sysctl,nginx,upstream", "nginx,upstream,sysctl"]
ConnectionHeader = Literal["close", "keep-alive"]
# One process sends no more than this, and one connection takes a port for a minute.
MOST_PER_S = 50_000
# What the load generator has to know: options of locustfiles/flood.py, by the same names.
OF_THE_FLOOD = (
    "users", "load_shape", "start_spread_ms", "duration_s", "think_time_ms", "rate", "arrivals", "arrival_seed",
    "payload_bytes", "keepalive", "connection_header", "bursts", "burst_every_s",
)  # fmt: skip
# Those in which repetitions may differ.
SEEDS = ("virtual_seed", "arrival_seed")


def _number(unit: str, minimum: int, maximum: int, meaning: str) -> Any:
    return Field(ge=minimum, le=maximum, description=meaning, json_schema_extra={"unit": unit})


def _rate(table: str, minimum: int = 1) -> Any:
    nothing = "" if minimum else "; 0 leaves it out"
    return _number("readings/s", minimum, 5000, f"How often the agent reads the source {table}{nothing}.")


def _rates(text: str) -> str:
    """Refuse what the load generator could not read."""
    for step in parse_steps(text, duration_s=1):
        if max(step.first_rate, step.last_rate) > MOST_PER_S:
            raise ValueError
    return text


class Parameters(BaseModel):
    """All parameters of one run, complete and in range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Annotated[
        Transport, Field(description="How nginx reaches the upstream: a unix socket or TCP on loopback.")
    ]
    somaxconn: Annotated[
        int,
        _number(
            "conns", 0, 65535, "net.core.somaxconn during the run; it caps the backlog of whoever calls listen() then."
        ),
    ]
    order: Annotated[
        Order,
        Field(
            description="In which order nginx is started, somaxconn set and the upstream started; listen() takes "
            "somaxconn as it is at that moment."
        ),
    ]
    upstream_backlog: Annotated[int, _number("conns", 0, 65535, "What the upstream passes to listen().")]
    upstream_accepts_per_s: Annotated[
        int, _number("conns/s", 1, 10000, "How often an upstream that accepts slowly (case 6) calls accept() at most.")
    ]
    upstream_pause_after_s: Annotated[
        int,
        _number("s", 1, 3600, "When an upstream with a pause (case 12) stops accepting, from its first connection on."),
    ]
    upstream_pause_s: Annotated[int, _number("s", 1, 3600, "For how long it does not accept.")]
    nginx_workers: Annotated[int, _number("processes", 1, 64, "worker_processes of nginx.")]
    worker_connections: Annotated[
        int,
        _number(
            "conns",
            2,
            65536,
            "worker_connections of nginx: slots of one worker for everything it holds open.",
        ),
    ]
    nginx_listen_backlog: Annotated[
        int,
        _number(
            "conns",
            1,
            65535,
            "backlog of nginx's listen; somaxconn caps it as it is when nginx starts.",
        ),
    ]
    nginx_keepalive_timeout_s: Annotated[
        int, _number("s", 0, 3600, "keepalive_timeout of nginx: how long an idle client connection stays open.")
    ]
    front_may_overflow: Annotated[
        bool,
        Field(description="The run is about nginx's own accept queue too: that it overflows does not make it invalid."),
    ]
    nginx_listens: Annotated[
        int,
        _number(
            "",
            1,
            8,
            "listen directives of nginx, on ports from nginx_listen_port upwards; the flood goes to the first.",
        ),
    ]
    nginx_proxy_passes: Annotated[
        int,
        _number(
            "",
            1,
            8,
            "Locations with a proxy_pass: / and, from the second on, /floodmark-2 and so on, each to an upstream group "
            "of its own with the same servers.",
        ),
    ]
    load_shape: Annotated[
        LoadShape,
        Field(
            description="burst: each user sends one request, and one more in each further burst. sustained: users send "
            "again when answered. open: requests start at their times, answered or not."
        ),
    ]
    users: Annotated[
        int,
        _number(
            "users",
            1,
            10000,
            "Clients of the flood, each with one request at a time; an open flood drops what is due when all wait.",
        ),
    ]
    start_spread_ms: Annotated[
        int, _number("ms", 0, 60000, "Time over which the users send their first requests, evenly; 0 is all at once.")
    ]
    bursts: Annotated[int, _number("", 1, 10, "How many times a burst is sent.")]
    burst_every_s: Annotated[
        int,
        _number(
            "s",
            1,
            3600,
            "From the beginning of one burst to that of the next. A user who still waits then sends nothing in it: its "
            "request is dropped.",
        ),
    ]
    duration_s: Annotated[
        int, _number("s", 1, 3600, "How long a sustained or open flood sends new requests; a burst has no length.")
    ]
    warmup_s: Annotated[
        int,
        _number("s", 0, 3600, "Beginning of the flood that the key figures leave out; expectations do not."),
    ]
    rate: Annotated[
        str,
        Field(
            description="Requests per second of an open flood, for duration_s; or steps and ramps, each with its "
            "seconds: 100:10 100-500:20.",
            coerce_numbers_to_str=True,
        ),
        AfterValidator(_rates),
    ]
    arrivals: Annotated[
        Arrivals, Field(description="How requests of an open flood come: evenly spaced, or at random like people.")
    ]
    arrival_seed: Annotated[int, _number("", 0, 2**31 - 1, "Of arrivals at random; the same seed is the same flood.")]
    think_time_ms: Annotated[
        int, _number("ms", 0, 60000, "Pause of a sustained user between an answer and its next request.")
    ]
    locust_processes: Annotated[
        int, _number("processes", 1, 64, "Processes of each load generator, which share the flood; one takes one core.")
    ]
    payload_bytes: Annotated[int, _number("bytes", 0, 10485760, "Body of each POST request; 0 sends GET instead.")]
    keepalive: Annotated[bool, Field(description="Reuse client connections to nginx instead of one for each request.")]
    connection_header: Annotated[
        ConnectionHeader,
        Field(
            description="Connection header of clients that close after each answer; with keepalive=true it is "
            "keep-alive."
        ),
    ]
    proxy_connect_timeout_s: Annotated[
        int, _number("s", 1, 75, "proxy_connect_timeout of nginx (it has no effect on unix sockets).")
    ]
    proxy_read_timeout_s: Annotated[int, _number("s", 1, 600, "proxy_read_timeout and proxy_send_timeout of nginx.")]
    proxy_request_buffering: Annotated[
        bool, Field(description="proxy_request_buffering of nginx: read the whole request before connecting upstream.")
    ]
    proxy_buffering: Annotated[
        bool, Field(description="proxy_buffering of nginx: read the answer as fast as the upstream writes it.")
    ]
    client_body_buffer_size_kb: Annotated[
        int,
        _number("kB", 1, 16384, "client_body_buffer_size of nginx: how much of a request's body stays in its memory."),
    ]
    accept_queue_hz: Annotated[int, _rate("accept_queue")]
    unix_states_hz: Annotated[int, _rate("unix_states")]
    upstream_conns_hz: Annotated[int, _rate("upstream_conns")]
    stub_status_hz: Annotated[int, _rate("stub_status")]
    process_hz: Annotated[int, _rate("process")]
    tcp_ext_hz: Annotated[int, _rate("tcp_ext")]
    socket_memory_hz: Annotated[int, _rate("socket_memory")]
    machine_hz: Annotated[int, _rate("machine", minimum=0)]
    trace: Annotated[
        bool, Field(description="Follow every connection through the upstream's accept queue, by bpftrace.")
    ]
    strace: Annotated[
        bool, Field(description="Capture every system call of nginx, by strace; it slows nginx, so compare no times.")
    ]
    virtual_window_ms: Annotated[
        int,
        _number("ms", 4, 10000, "Length of a window in virtual time: a millisecond is a million instructions."),
    ]
    virtual_seed: Annotated[
        int,
        _number("", 1, 2**31 - 1, "Of all random numbers of a boot in virtual time; the same seed is the same boot."),
    ]
    virtual_extra_loop: Annotated[
        int, _number("turns", 0, 10000, "An empty loop after each accept() of connection_accepted, to see it found.")
    ]
    baseline_s: Annotated[int, _number("s", 1, 600, "Time without load before the flood.")]
    drain_s: Annotated[int, _number("s", 1, 600, "Time without load after the flood.")]

    @property
    def answer_timeout_s(self) -> int:
        """How long a client waits for its answer: longer than nginx can possibly take."""
        return self.proxy_connect_timeout_s + 2 * self.proxy_read_timeout_s + 5

    def somaxconn_at_listen(self, caller: Literal["nginx", "upstream"], before: int | None) -> int | None:
        """Return net.core.somaxconn at the moment when somebody calls listen().

        Args:
            caller: who.
            before: what it was before the run, None where nobody knows.
        """
        steps = self.order.split(",")
        return self.somaxconn if steps.index("sysctl") < steps.index(caller) else before

    @property
    def worker_slots(self) -> int:
        """Slots of a worker for clients and upstream connections; each listener and the master's channel have one."""
        return self.worker_connections - self.nginx_listens - 1

    @property
    def uncrowded(self) -> bool:
        """Whether no worker can run out of slots, however the kernel spreads the clients; our poll is one more."""
        return self.worker_slots >= 2 * self.users + 1

    @property
    def rates_hz(self) -> dict[str, int]:
        """Table -> readings a second, for the sources that the agent reads."""
        return {name.removesuffix("_hz"): value for name, value in self if name.endswith("_hz") and value}

    @property
    def steps(self) -> list[Step]:
        """The rates of an open flood."""
        return parse_steps(self.rate, self.duration_s)

    @property
    def flood(self) -> ParameterValues:
        """Option -> value, for the load generator."""
        return {name: getattr(self, name) for name in OF_THE_FLOOD}

    @property
    def sending_s(self) -> float:
        """For how long new requests are sent, if each is answered in no time."""
        if self.load_shape == "open":
            return sum(step.seconds for step in self.steps)
        spread_s = self.start_spread_ms / 1000
        if self.load_shape == "burst":
            return (self.bursts - 1) * self.burst_every_s + spread_s
        return max(spread_s, self.duration_s)

    @property
    def flood_likely_s(self) -> float:
        """How long the flood phase takes if requests wait until nginx gives up on them once."""
        return self.sending_s + self.proxy_read_timeout_s

    @property
    def flood_at_most_s(self) -> int:
        """Upper bound of the flood phase; the run ends a flood that takes longer."""
        return math.ceil(self.sending_s + self.think_time_ms / 1000) + self.answer_timeout_s


@cache
def _properties() -> dict[str, Any]:
    """Return what the schema says of each parameter; to ask for it takes milliseconds."""
    properties: dict[str, Any] = Parameters.model_json_schema()["properties"]
    return properties


def range_of(name: str) -> str:
    """Say in words what a parameter may be: `1 to 10000 users`, `unix or tcp`."""
    schema = _properties()[name]
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "string":
        return f"RATE, RATE:SECONDS or RATE-RATE:SECONDS, with rates above 0 and up to {MOST_PER_S}"
    return f"{schema['minimum']} to {schema['maximum']} {schema['unit']}".rstrip()


def resolve_parameters(*layers: Mapping[str, ParameterValue], origin: str) -> Parameters:
    """Merge layers of parameters, the last one winning, and check the result.

    Args:
        layers: name -> value; strings are converted, as `-e` passes them.
        origin: where the last layer came from, for the message (`-e`, `cases/2-no-accept.yml`).

    Returns:
        The complete parameters.

    Raises:
        ParameterError: a name is unknown, or a value is of the wrong type or out of range.
    """
    merged = {name: value for layer in layers for name, value in layer.items()}
    try:
        parameters = Parameters.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ParameterError(unknown_parameter(name, origin)) from None
        if first["type"] == "missing":
            raise ParameterError(f"{origin}: parameter '{name}' has no value: set it in cases/base.yml.") from None
        raise ParameterError(_not_allowed(name, first["input"], origin)) from None
    _check_together(parameters, origin)
    return parameters


def _check_together(parameters: Parameters, origin: str) -> None:
    """Refuse values that are allowed each, and not one with the other."""
    if parameters.worker_slots < 0:
        raise ParameterError(
            f"{origin}: worker_connections={parameters.worker_connections} is not allowed with "
            f"nginx_listens={parameters.nginx_listens}: a worker needs a slot for each of them and one for the "
            f"channel to the master, so it must be {parameters.nginx_listens + 1} or more."
        )
    spread_ms = parameters.start_spread_ms
    if parameters.load_shape == "burst" and parameters.bursts > 1 and parameters.burst_every_s * 1000 <= spread_ms:
        raise ParameterError(
            f"{origin}: burst_every_s={parameters.burst_every_s} is not allowed with start_spread_ms={spread_ms}: a "
            f"burst must be sent before the next begins, so it must be {spread_ms // 1000 + 1} or more."
        )


def parameter_values(given: Variables, origin: str) -> ParameterValues:
    """Return parameters whose values come from outside, where a value may be anything: a list, or nothing.

    Args:
        given: name -> value.
        origin: where they come from, for the message.

    Raises:
        ParameterError: a value is not one number, one text, true or false.
    """
    values: ParameterValues = {}
    for name, value in given.items():
        if not isinstance(value, ParameterValue):
            known = name in Parameters.model_fields
            raise ParameterError(_not_allowed(name, value, origin) if known else unknown_parameter(name, origin))
        values[name] = value
    return values


def given_parameters(extra: Variables) -> ParameterValues:
    """Return the parameters among the variables that were given with `-e`.

    Raises:
        ParameterError: a value is not one number, one text, true or false.
    """
    return parameter_values({name: extra[name] for name in extra if name in Parameters.model_fields}, "-e")


def _not_allowed(name: str, value: object, origin: str) -> str:
    meaning = Parameters.model_fields[name].description
    return f"{origin}: {name}={shown(value)} is not allowed: it must be {range_of(name)}. {meaning}"


def whole_number(name: str, value: object, minimum: int, maximum: int) -> int:
    """Return the number that was given with `-e` for something that is no parameter of what is measured.

    Raises:
        ParameterError: it is none, or out of range.
    """
    try:
        number = int(str(value))
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= maximum:
        raise ParameterError(f"-e: {name}={shown(value)} is not allowed: it must be {minimum} to {maximum}.")
    return number


def as_yaml(value: object) -> str:
    """Return the value of a parameter as people write it: `true`, and not `True`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def unknown_parameter(name: str, origin: str, also_known: frozenset[str] = frozenset()) -> str:
    """Return the sentence for a parameter that does not exist."""
    known = sorted(Parameters.model_fields)
    hint = did_you_mean(name, [*known, *also_known])
    return f"{origin}: there is no parameter '{shown(name)}': {hint}Allowed are {', '.join(known)}."
