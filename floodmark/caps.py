"""What a flood may be at most, and whom it may hit: it is a weapon, and this is its safety catch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from floodmark.errors import FloodmarkError, ParameterError, did_you_mean
from floodmark.parameters import Parameters

OWNED = "floodmark_i_own_these_hosts"
CAPS = "floodmark_caps"


class Caps(BaseModel):
    """The most that an inventory allows for its hosts: its variable `floodmark_caps`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: int = Field(10_000, ge=1, description="clients, or requests in flight of an open flood")
    rate: float = Field(50_000, gt=0, description="requests per second of an open flood")
    duration_s: int = Field(3600, ge=1, description="seconds of sending")
    payload_bytes: int = Field(10_485_760, ge=0, description="bytes of one request's body")
    memory_mb: int = Field(4096, ge=1, description="MB of bodies that all clients together send at once")


def check_caps(parameters: Parameters, inventory: Mapping[str, Any]) -> None:
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
        raise ParameterError(f"{name} of the inventory is {first['input']!r}: {first['msg']}.") from None


def check_ownership(hosts: Mapping[str, Sequence[str]], variables: Mapping[str, Any]) -> None:
    """Refuse to flood a host that is not of the testbed, unless somebody says that it is theirs.

    Args:
        hosts: group -> hosts of the run.
        variables: host -> its variables.

    Raises:
        FloodmarkError: nobody has said so.
    """
    for host in hosts["proxies"]:
        said = variables.get(host, {}).get(OWNED, False)
        if host not in hosts["testbed"] and said is not True:
            given = f"it is {said!r}" if OWNED in variables.get(host, {}) else "it is not set"
            raise FloodmarkError(
                f"host {host} is not of the testbed: a run changes its kernel parameters, takes ports of it and floods "
                f"it until it refuses. Set {OWNED}: true for it in the inventory if it is yours and nobody needs it "
                f"meanwhile; {given}."
            )
