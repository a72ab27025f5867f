"""What an inventory says: which hosts a run has, which clock, which parameters, and what a flood may do to them.

A flood is a weapon; its safety catch is here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from floodmark.errors import FloodmarkError, LabError, ParameterError, did_you_mean, quoted
from floodmark.inputs.labs import Lab, refuse_unknown_lab
from floodmark.inputs.parameters import Parameters, parameter_values
from floodmark.values import ParameterValues, Variables

# Variables of an inventory: what its hosts need other than the cases have, and other than a lab has; the most that may
# be asked of them; and that somebody answers for them.
PARAMETERS = "floodmark_parameters"
LAB_PARAMETERS = "floodmark_lab_parameters"
CAPS = "floodmark_caps"
OWNED = "floodmark_i_own_these_hosts"
CLOCKS = ("host", "virtual")

# Host -> its variables.
HostVariables = Mapping[str, Variables]


@dataclass(frozen=True)
class Inventory:
    """What Ansible knows of an inventory when a run is planned.

    Attributes:
        groups: group -> its hosts.
        variables: of the control node, which plans the run.
        host_variables: of all hosts.
        sources: the files that it was read from.
    """

    groups: Mapping[str, Sequence[str]]
    variables: Variables
    host_variables: HostVariables
    sources: Sequence[str]

    @classmethod
    def read(cls, variables: Variables) -> Inventory:
        """Return it from the variables that a task on the control node has.

        Source: special variables of Ansible, `groups`, `hostvars` and `ansible_inventory_sources`; Ansible makes them
        itself, so they are what it says they are.
        """
        return cls(
            groups=cast("Mapping[str, Sequence[str]]", variables["groups"]),
            variables=variables,
            host_variables=cast("HostVariables", variables.get("hostvars", {})),
            sources=cast("Sequence[str]", variables.get("ansible_inventory_sources", [])),
        )


class Hosts(BaseModel):
    """The hosts of a run by group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    proxies: list[str]
    load_generators: list[str] = []
    testbed: list[str] = []


def hosts_of_a_run(groups: Mapping[str, Sequence[str]]) -> Hosts:
    """Return the hosts of each group that a run knows.

    Raises:
        FloodmarkError: nobody would be measured, or nobody would flood.
    """
    hosts = Hosts(**{name: list(groups.get(name, [])) for name in Hosts.model_fields})
    for name, what in (("proxies", "the measured hosts"), ("load_generators", "the hosts that run Locust")):
        if not getattr(hosts, name):
            raise FloodmarkError(
                f"the inventory has no host in the group '{name}', {what}: give it one, or leave out -i to use the "
                "built-in testbed. inventory/example/ shows the groups."
            )
    return hosts


def clock_of_a_run(hosts: Hosts, variables: HostVariables) -> str:
    """Return the clock of all measured hosts: host or virtual.

    Args:
        hosts: of the run.
        variables: host -> its variables.

    Raises:
        FloodmarkError: there is no such clock, a host cannot have it, or the hosts differ in it.
    """
    clocks = {}
    for host in hosts.proxies:
        own = variables.get(host, {})
        clock = clocks[host] = str(own.get("testbed_clock", CLOCKS[0]))
        if clock not in CLOCKS:
            raise FloodmarkError(
                f"host {host}: testbed_clock={clock} is not allowed: it must be {' or '.join(CLOCKS)}."
            )
        if clock == "virtual":
            _check_virtual_host(host, own, of_testbed=host in hosts.testbed)
    if len(set(clocks.values())) > 1:
        raise FloodmarkError(
            "the hosts of one run have one clock, and these differ: "
            f"{', '.join(f'{host} has testbed_clock={clock}' for host, clock in clocks.items())}. "
            "Choose some with --limit."
        )
    return next(iter(clocks.values()))


def _check_virtual_host(host: str, variables: Variables, *, of_testbed: bool) -> None:
    driver, accelerator = variables.get("testbed_driver", "nspawn"), variables.get("testbed_accelerator", "auto")
    if not of_testbed or driver != "qemu":
        what = f"testbed_driver={driver}" if of_testbed else "not in the group testbed"
        raise FloodmarkError(
            f"host {host}: testbed_clock=virtual needs an emulated processor, and it is {what}: set testbed_driver: "
            "qemu for a host of the testbed, as inventory/virtual.yml does, or testbed_clock: host."
        )
    if accelerator == "kvm":
        raise FloodmarkError(
            f"host {host}: testbed_clock=virtual counts the instructions of an emulated processor, and "
            "testbed_accelerator=kvm runs them on the real one: leave it out, or take testbed_clock: host."
        )
    if variables.get("testbed_kernel") == "disk":
        raise FloodmarkError(
            f"host {host}: testbed_clock=virtual boots the same disk with each kernel, and testbed_kernel=disk is the "
            "kernel on the disk: name a version (testbed_kernel: '6.1') or an image (testbed_kernel_image)."
        )


def inventory_parameters(inventory: Variables, lab: Lab | None = None) -> ParameterValues:
    """Return the parameters that an inventory's variables set for its hosts.

    Args:
        inventory: its variables.
        lab: of the runs, if they are of one. What it sets itself stays, unless the inventory sets it for just this lab.

    Raises:
        ParameterError: what is there maps nothing, sets a parameter to something that is not one value, or names a lab
            that does not exist.
    """
    for_all, for_labs = _parameters(inventory, PARAMETERS), _mapping(inventory, LAB_PARAMETERS)
    for name in for_labs:
        try:
            refuse_unknown_lab(str(name))
        except LabError as error:
            raise ParameterError(f"{LAB_PARAMETERS} of the inventory: {error}") from None
    if not lab:
        return for_all
    left_open = {name: value for name, value in for_all.items() if name not in lab.file.parameters}
    return {**left_open, **_parameters(for_labs, lab.name)}


def _parameters(variables: Variables, name: str) -> ParameterValues:
    return parameter_values(_mapping(variables, name), "parameters of the inventory")


def _mapping(variables: Variables, name: str) -> Variables:
    given = variables.get(name, {})
    if not isinstance(given, Mapping):
        raise ParameterError(f"{name} of the inventory is {quoted(given)}: it must map names to values.")
    return dict(given)


# --- what a flood may do --------------------------------------------------------------------------


class Caps(BaseModel):
    """The most that an inventory allows for its hosts: its variable `floodmark_caps`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: int = Field(10_000, ge=1, description="clients, or requests in flight of an open flood")
    rate: float = Field(50_000, gt=0, description="requests per second of an open flood")
    duration_s: int = Field(3600, ge=1, description="seconds of sending")
    payload_bytes: int = Field(10_485_760, ge=0, description="bytes of one request's body")
    memory_mb: int = Field(4096, ge=1, description="MB of bodies that all clients together send at once")


def check_caps(parameters: Parameters, inventory: Variables) -> None:
    """Refuse a flood that is more than the inventory allows.

    Args:
        parameters: of the run.
        inventory: variables of the inventory; `floodmark_caps` maps names of caps to values.

    Raises:
        ParameterError: it is more, or the caps themselves are wrong.
    """
    caps = _read_caps(inventory.get(CAPS, {}))
    wanted = {
        "users": parameters.users,
        "duration_s": parameters.sending_s,
        "payload_bytes": parameters.payload_bytes,
        "memory_mb": parameters.users * parameters.payload_bytes / 1e6,
    }
    if parameters.load_shape == "open":
        wanted["rate"] = max(max(step.first_rate, step.last_rate) for step in parameters.steps)
    for name, value in wanted.items():
        most = getattr(caps, name)
        if value > most:
            raise ParameterError(
                f"this flood would have {value:,.10g} {Caps.model_fields[name].description}, and the inventory allows "
                f"{most:,.10g}: ask for less, or raise {CAPS}.{name} there if the hosts can bear it."
            )


def _read_caps(given: object) -> Caps:
    try:
        return Caps.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, (CAPS, *first["loc"])))
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(first["loc"][0]), Caps.model_fields)
            raise ParameterError(
                f"{name} of the inventory is no cap: {hint}Allowed are {', '.join(Caps.model_fields)}."
            ) from None
        raise ParameterError(f"{name} of the inventory is {quoted(first['input'])}: {first['msg']}.") from None


def check_ownership(hosts: Hosts, variables: HostVariables) -> None:
    """Refuse to flood a host that is not of the testbed, unless somebody says that it is theirs.

    Args:
        hosts: of the run.
        variables: host -> its variables.

    Raises:
        FloodmarkError: nobody has said so.
    """
    for host in hosts.proxies:
        said = variables.get(host, {}).get(OWNED, False)
        if host not in hosts.testbed and said is not True:
            given = f"it is {quoted(said)}" if OWNED in variables.get(host, {}) else "it is not set"
            raise FloodmarkError(
                f"host {host} is not of the testbed: a run changes its kernel parameters, takes ports of it and floods "
                f"it until it refuses. Set {OWNED}: true for it in the inventory if it is yours and nobody needs it "
                f"meanwhile; {given}."
            )
