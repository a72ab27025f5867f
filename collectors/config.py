"""What the agent is told: one JSON file, written by the role `collector`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AGENT_UNIT = "floodmark-agent.service"
MOST_PORT = 65535
# Once in a thousand seconds, and each hundred microseconds.
LEAST_HZ, MOST_HZ = 0.001, 10_000


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
    """Read the configuration file.

    Raises:
        SystemExit: it is not as the role collector writes it; the program ends with the sentence that says so.
    """
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    except RecursionError:
        why = "it is nested too deeply"
    except (ValueError, OverflowError) as error:
        why = str(error)
    raise SystemExit(f"floodmark: {path}: {why}. The role collector writes this file; run the case again.")


def _parse(data: object) -> Config:
    whole = _get({"the file": data}, "the file", dict, "an object")
    listeners = [_listener(one) for one in _get(whole, "listeners", list, "a list")]
    for name in ("upstream", "front"):
        if name not in [one.name for one in listeners]:
            raise ValueError(f"listeners has no '{name}'")
    rates = _get(whole, "rates_hz", dict, "an object")
    limits = _get(whole, "most_bytes", dict, "an object") if "most_bytes" in whole else {}
    return Config(
        output=Path(_text(whole, "output")),
        listeners=listeners,
        status_path=_text(whole, "status_path"),
        nginx_unit=_text(whole, "nginx_unit"),
        upstream_unit=_text(whole, "upstream_unit"),
        rates_hz={name: _rate(rates, name) for name in rates},
        metrics=_text(whole, "metrics") if "metrics" in whole else "",
        most_bytes={name: _bytes(limits, name) for name in limits},
    )


def _listener(data: object) -> Listener:
    one = _get({"a listener": data}, "a listener", dict, "an object")
    transport, port = _text(one, "transport"), _get(one, "port", int, "a port")
    if transport not in ("unix", "tcp"):
        raise ValueError(f"transport is {repr(transport)[:60]}, and unix or tcp was expected")
    if not 0 <= port <= MOST_PORT:
        raise ValueError(f"port is {repr(port)[:60]}, and 0 to {MOST_PORT} was expected")
    return Listener(_text(one, "name"), transport, _text(one, "path"), port)


def _rate(rates: dict[str, object], name: str) -> float:
    rate = _get(rates, name, (int, float), "a rate")
    if not LEAST_HZ <= rate <= MOST_HZ:
        raise ValueError(f"{name[:60]!r} is read {rate:.3g} times a second, and {LEAST_HZ} to {MOST_HZ} was expected")
    return float(rate)


def _bytes(limits: dict[str, object], name: str) -> int:
    size: int = _get(limits, name, int, "a number of bytes")
    if size < 0:
        raise ValueError(f"the limit of {name[:60]!r} is {repr(size)[:60]}, and 0 bytes or more were expected")
    return size


def _text(data: dict[str, object], name: str) -> str:
    text: str = _get(data, name, str, "a text")
    if not text.isprintable():
        raise ValueError(f"{name} is {text[:60]!r}, which has characters that nobody can read")
    return text


def _get(data: dict[str, object], name: str, kind: type | tuple[type, ...], called: str) -> Any:
    if name not in data:
        raise ValueError(f"it has no {name}")
    value = data[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{repr(name)[1:-1][:60]} is {repr(value)[:60]}, and {called} was expected")  # noqa: TRY004 - as JSON is
    return value
