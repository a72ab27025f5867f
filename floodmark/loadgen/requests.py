"""What the requests of a flood look like, where they go, and what Locust is told of each."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from floodmark.loadgen.client import Exchange, Target

if TYPE_CHECKING:
    # To import Locust patches the standard library of the process.
    from locust.env import Environment

# Locust's statistics have one line for all requests of a flood.
NAME = "flood"


def method_of(payload_bytes: int) -> str:
    """Return the method of a request with a body of so many bytes."""
    return "POST" if payload_bytes else "GET"


def look_up(url: str) -> tuple[Target, str]:
    """Return where requests go, and what their Host header says.

    Looked up once: a look-up for each request would load modules and start threads in the first of them.

    Args:
        url: `http://HOST:PORT`, or `unix:///PATH` of a server on this machine.
    """
    target = urlsplit(url)
    if target.scheme == "unix":
        return Target(socket.AF_UNIX, target.path), "localhost"
    family, _, _, _, address = socket.getaddrinfo(target.hostname, target.port, type=socket.SOCK_STREAM)[0]
    return Target(family, (str(address[0]), int(address[1]))), target.netloc


def composer(
    host: str,
    *,
    payload_bytes: int,
    keepalive: bool,
    connection_header: str,
    id_prefix: str,
    share: int = 0,
    of: int = 1,
) -> Callable[[int], tuple[str, bytes]]:
    """Return a function that makes the number of a request, and all of its bytes, of the turn it is sent in.

    Args:
        host: for the Host header.
        payload_bytes: of the body; 0 is a GET without one.
        keepalive: whether the connection is to be kept.
        connection_header: what a client says in it that closes its connection after the answer.
        id_prefix: what the numbers begin with.
        share: which of several generators this is.
        of: how many there are; they number their requests by turns, so nobody has to be asked for the next number.
    """
    body = b"x" * payload_bytes
    connection = "keep-alive" if keepalive else connection_header
    before_id = f"{method_of(payload_bytes)} / HTTP/1.1\r\nHost: {host}\r\nX-Floodmark-Id: ".encode()
    after_id = f"\r\nConnection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def compose(turn: int) -> tuple[str, bytes]:
        number = f"{id_prefix}{(turn - 1) * of + share + 1}"
        return number, before_id + number.encode() + after_id

    return compose


def teller(environment: Environment, method: str) -> Callable[[Exchange], None]:
    """Return a function that tells Locust of a request that has ended, so that its statistics and events have it."""

    def tell(exchange: Exchange) -> None:
        good = exchange.status == 200 and not exchange.error
        environment.events.request.fire(
            request_type=method,
            name=NAME,
            response_time=(exchange.end_ns - exchange.intended_ns) / 1e6,
            response_length=exchange.body_bytes or 0,
            exception=None if good else _failure(exchange.error or f"status {exchange.status}"),
            context={},
        )

    return tell


class FloodError(Exception):
    """What Locust counts as a failure: an answer other than a complete 200."""


@cache
def _failure(what: str) -> FloodError:
    return FloodError(what)
