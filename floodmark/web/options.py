"""What is asked of a session of the web page, and whether these hosts can have one."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from floodmark.errors import FloodmarkError
from floodmark.inputs.inventory import Hosts, HostVariables
from floodmark.inputs.parameters import whole_number
from floodmark.values import Variables

LOOPBACK = "127.0.0.1"
# Locust's own.
DEFAULT_PORT = 8089
DEFAULT_HOLD_S = 3600
# What `-e` may set besides what it may for a run, with its range.
RANGES = {"web_port": (1024, 65535), "hold_s": (60, 86400)}


@dataclass(frozen=True)
class WebOptions:
    """How the page is served.

    Attributes:
        port: on loopback.
        hold_s: time after which a case is no longer held up.
    """

    port: int = DEFAULT_PORT
    hold_s: int = DEFAULT_HOLD_S

    @classmethod
    def read(cls, extra: Variables) -> WebOptions:
        """Read them from what was given with `-e`.

        Raises:
            ParameterError: a value is out of range.
        """
        default = cls()
        return cls(
            whole_number("web_port", extra.get("web_port", default.port), *RANGES["web_port"]),
            whole_number("hold_s", extra.get("hold_s", default.hold_s), *RANGES["hold_s"]),
        )


def check_hosts(hosts: Hosts, variables: HostVariables, clock: str) -> None:
    """Refuse hosts that the page cannot flood.

    Args:
        hosts: of the run.
        variables: host -> its variables.
        clock: host or virtual.

    Raises:
        FloodmarkError: there are several, or the flood would not come from the control node.
    """
    proxies = hosts.proxies
    if len(proxies) > 1:
        raise FloodmarkError(
            f"the web page floods one host, and the group 'proxies' has {', '.join(proxies)}: choose one with "
            f"--limit {proxies[0]},{','.join(hosts.load_generators)},localhost."
        )
    refuse_virtual(hosts, clock)
    elsewhere = [name for name in hosts.load_generators if variables.get(name, {}).get("ansible_connection") != "local"]
    if elsewhere:
        raise FloodmarkError(
            f"the web page floods from the control node, and {', '.join(elsewhere)} of the group 'load_generators' is "
            "not: put localhost with ansible_connection: local there instead. Runs without the page may flood from "
            "several machines."
        )


def refuse_virtual(hosts: Hosts, clock: str) -> None:
    """Refuse hosts on which nobody can look at a case that is applied.

    Raises:
        FloodmarkError: they are in virtual time.
    """
    if clock == "virtual":
        raise FloodmarkError(
            f"host {hosts.proxies[0]} has testbed_clock=virtual, where nobody can look on: choose an inventory without "
            "it."
        )


def check_port(port: int) -> None:
    """Make sure that the page can be served.

    Raises:
        FloodmarkError: somebody else has the port.
    """
    try:
        with socket.create_server((LOOPBACK, port)):
            pass
    except OSError as error:
        raise FloodmarkError(
            f"the web page cannot have port {port} of {LOOPBACK}: {error.strerror}. Choose another with -e web_port=N; "
            f"'ss -ltnp sport = :{port}' says who has it."
        ) from None
