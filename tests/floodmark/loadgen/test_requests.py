"""What goes over the wire for one request."""

from __future__ import annotations

import pytest

from floodmark.loadgen.requests import composer


@pytest.mark.parametrize(
    ("keepalive", "connection_header", "said"),
    [
        (False, "close", "close"),
        (False, "keep-alive", "keep-alive"),
        (True, "close", "keep-alive"),
        (True, "keep-alive", "keep-alive"),
    ],
)
def test_a_request_says_what_is_to_become_of_its_connection(keepalive: bool, connection_header: str, said: str) -> None:
    compose = composer(
        "proxy1:8080", payload_bytes=0, keepalive=keepalive, connection_header=connection_header, id_prefix="run/"
    )
    number, request = compose(1)
    assert number == "run/1"
    assert (
        request
        == (
            f"GET / HTTP/1.1\r\nHost: proxy1:8080\r\nX-Floodmark-Id: run/1\r\nConnection: {said}\r\n"
            "Content-Length: 0\r\n\r\n"
        ).encode()
    )
