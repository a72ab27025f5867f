"""What the agent is told: one JSON file, written by the role `collector`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

AGENT_UNIT = "floodmark-agent.service"


@dataclass(frozen=True)
class Listener:
    """A listening socket to look at.

    Attributes:
        name: "upstream" or "front".
        transport: "unix" or "tcp".
        path: of a unix socket; empty for TCP.
        port: of a TCP socket; 0 for unix.
    """

    name: str
    transport: str
    path: str
    port: int


@dataclass(frozen=True)
class Config:
    """The agent's configuration.

    Attributes:
        output: folder for the CSV files and host.json.
        listeners: the upstream's first, then nginx's own.
        status_path: location of nginx's status page on the front listener's port.
        nginx_unit: systemd unit of nginx.
        upstream_unit: systemd unit of the upstream.
        rates_hz: table name -> readings a second; the source machine may be left out.
        metrics: address on loopback for Prometheus, or empty.
        most_bytes: how much the agent and the trace may write, each by its name; without one there is no limit.
    """

    output: Path
    listeners: list[Listener]
    status_path: str
    nginx_unit: str
    upstream_unit: str
    rates_hz: dict[str, float]
    metrics: str = ""
    most_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def upstream(self) -> Listener:
        """The upstream's listener."""
        return next(one for one in self.listeners if one.name == "upstream")

    @property
    def front(self) -> Listener:
        """The listener of nginx for clients."""
        return next(one for one in self.listeners if one.name == "front")


def read_config(path: Path) -> Config:
    """Read the configuration file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Config(
        output=Path(data["output"]),
        listeners=[Listener(**one) for one in data["listeners"]],
        status_path=data["status_path"],
        nginx_unit=data["nginx_unit"],
        upstream_unit=data["upstream_unit"],
        rates_hz={name: float(rate) for name, rate in data["rates_hz"].items()},
        metrics=data.get("metrics", ""),
        most_bytes=data.get("most_bytes", {}),
    )
