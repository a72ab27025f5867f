"""A run as a whole: plan.json, what is meant to happen, and run.json, what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, Literal

from pydantic import ConfigDict, field_validator

from floodmark.inputs.cases import Upstream
from floodmark.inputs.inventory import Hosts
from floodmark.inputs.status_page import StatusPage
from floodmark.model.stored import Part, Stored
from floodmark.model.verdict import Phase
from floodmark.values import Content, ParameterValues, Value


class PlannedListener(Part):
    """A listening socket, as the agent is told of it."""

    name: str
    transport: Literal["unix", "tcp"]
    path: str
    port: int


class Server(Part):
    """One server behind nginx: how it behaves, where it listens, and what nginx calls that."""

    behaviour: Upstream
    listener: PlannedListener
    address: str


class ControlNode(Part):
    """What made a run. git_dirty is None where there is no git to ask."""

    model_config = ConfigDict(extra="allow", frozen=True)

    python: str | None = None
    floodmark: str | None = None
    ansible_core: str | None = None
    locust: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None


class RecordedCase(Part):
    """A case as a run recorded it, without its parameters. The judge reads the rest of it as a `Case`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    number: int
    title: str
    name: str = ""
    reading: list[str] = []
    upstream: dict[str, bool | str] = {}
    others: list[dict[str, bool | str]] = []

    def content(self) -> Content:
        """Return all of it, as it was recorded."""
        return self.model_dump(mode="json", exclude_unset=True)


# Version of the plan -> the parameters that came with it, and what was in force before there were any. A parameter that
# is new stands here; then runs of before are read, compared and judged again.
CAME_WITH: dict[int, ParameterValues] = {
    2: {"machine_hz": 0, "warmup_s": 0},
    3: {
        "nginx_listen_backlog": 4096, "nginx_keepalive_timeout_s": 65, "proxy_buffering": True,
        "connection_header": "close", "front_may_overflow": False, "order": "nginx,sysctl,upstream",
        "nginx_listens": 1, "nginx_proxy_passes": 1, "bursts": 1, "burst_every_s": 10,
    },
}  # fmt: skip


def _with_parameters_of(version: int, content: Content) -> Content:
    """Give the parameters that came with a version the values that were in force before."""
    parameters = content.get("parameters")
    return {**content, "parameters": {**CAME_WITH[version], **parameters}} if isinstance(parameters, dict) else content


class Plan(Stored):
    """What a run is meant to do. Runs of before a part existed have its default.

    Attributes:
        point: of the lab that it is of.
        flood: options of locustfiles/flood.py.
        longest_s: upper bound of all phases (s).
        free_mb: room that it needs on a host.
        most_bytes: who may write how much there: agent, trace, and nginx each of its files.
        clock: host, or virtual where instructions are counted.
        hold: the case is kept applied for somebody at a terminal, and not measured.
        web: the case is kept applied for Locust's web page, and not measured.
        owner: the process that makes it.
        fingerprint: of all that provisioning puts on a host.
        status_pages: host -> where nginx's status page is, and who may read it.
        inventory: the files that the hosts are described in.
        inventory_parameters: what these set for their hosts.
    """

    newest: ClassVar[int] = max(CAME_WITH)
    migrations: ClassVar[Mapping[int, Callable[[Content], Content]]] = {
        version - 1: partial(_with_parameters_of, version) for version in CAME_WITH
    }

    schema_version: int = newest
    run_id: str
    created: str | None = None
    lab: str | None = None
    point: str | None = None
    case: RecordedCase
    parameters: ParameterValues
    flood: ParameterValues = {}
    longest_s: float = 0
    flood_at_most_s: float = 0
    answer_timeout_s: float = 0
    guard_timeout_s: float = 0
    free_mb: int = 0
    most_bytes: dict[str, int] = {}
    rates_hz: dict[str, float] = {}
    hosts: Hosts
    inventory: list[str] | None = None
    inventory_parameters: dict[str, Value] = {}
    clock: Literal["host", "virtual"] = "host"
    hold: bool = False
    web: bool = False
    servers: list[Server] = []
    status_pages: dict[str, StatusPage] = {}
    start_state: str = ""
    owner: str = ""
    fingerprint: str | None = None
    control_node: ControlNode = ControlNode()

    @field_validator("parameters")
    @classmethod
    def _names_a_transport(cls, parameters: ParameterValues) -> ParameterValues:
        if parameters.get("transport") not in ("unix", "tcp"):
            raise ValueError("need a transport, which is unix or tcp")
        return parameters


class RunRecord(Plan):
    """What happened: the plan, the phases of each host, and whether all is well."""

    phases: dict[str, list[Phase]] = {}
    valid: bool = False
    passed: bool = False
