"""Whom nginx answers: where its status page is and who may read it, and from where it is flooded.

nginx_status_path, nginx_status_allow    of an inventory or of `-e`
floodmark_flood_from                     of an inventory, where a host sees load generators under other addresses
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import partial

from pydantic import BaseModel, ConfigDict

from floodmark.errors import ParameterError, quoted, shown
from floodmark.inputs.inventory import HostVariables
from floodmark.values import Variables

# Variables of the role nginx.
PATH = "nginx_status_path"
ALLOW = "nginx_status_allow"
# Read by playbooks/vars/case.yml.
FLOOD_FROM = "floodmark_flood_from"
# nginx compares with what it has made of a request's path: without //, /./ and /../, and with %41 decoded.
_PATH = re.compile(r"(/[\w~-][\w.~-]*)+/?", re.ASCII)


class StatusPage(BaseModel):
    """The status page of one host.

    Attributes:
        path: where it is, on the port for clients.
        allow: addresses and networks that may read it; the agent may always, from loopback.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = "/floodmark-status"
    allow: list[str] = ["127.0.0.1"]


def status_pages(hosts: Iterable[str], variables: HostVariables, extra: Variables) -> dict[str, StatusPage]:
    """Return the status page of each host.

    Args:
        hosts: that are measured.
        variables: host -> its variables.
        extra: what was given with `-e`.

    Raises:
        ParameterError: a path is none, or who may read it is no address and no network.
    """
    pages = {}
    for host in hosts:
        page, own = {}, variables.get(host, {})
        for name, check in ((PATH, _path), (ALLOW, partial(_allowed, ALLOW))):
            origin, values = ("-e", extra) if name in extra else (f"host {host}", own)
            if name in values:
                page[name.removeprefix("nginx_status_")] = check(values[name], origin)
        pages[host] = StatusPage.model_validate(page)
    return pages


def check_flood_from(hosts: Iterable[str], variables: HostVariables) -> None:
    """Refuse addresses of load generators that nginx would not take.

    Args:
        hosts: that are measured.
        variables: host -> its variables.

    Raises:
        ParameterError: one is no address and no network.
    """
    for host in hosts:
        if (own := variables.get(host, {})) and FLOOD_FROM in own:
            _allowed(FLOOD_FROM, own[FLOOD_FROM], f"host {host}")


def _path(value: object, origin: str) -> object:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise ParameterError(
            f"{origin}: {PATH}={shown(value)} is not allowed: it must begin with / and go on with letters, digits and "
            ". _ ~ - /, such as /stats or /nginx/status; / itself is what the flood asks for."
        )
    return str(value)


def _allowed(name: str, value: object, origin: str) -> object:
    if not isinstance(value, list):
        given = f'on the command line -e \'{{"{name}": ["192.0.2.0/24"]}}\'' if name == ALLOW else "[192.0.2.0/24]"
        raise ParameterError(
            f"{origin}: {name}={shown(value)} is not allowed: it must be a list of addresses and networks; {given}."
        )
    for one in value:
        if not _is_network(one):
            raise ParameterError(
                f"{origin}: {name} has {quoted(one)}, which is no address and no network: name some like 192.0.2.7 or "
                "192.0.2.0/24; 0.0.0.0/0 is everybody."
            )
    return [str(one) for one in value]


def _is_network(value: object) -> bool:
    """Tell whether nginx takes it for an address or a network."""
    if not isinstance(value, str) or re.search("%|/.*[.:]", value):  # a zone, a network mask
        return False
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True
