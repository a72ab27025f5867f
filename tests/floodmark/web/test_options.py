from __future__ import annotations

import socket
from typing import Any

import pytest

from floodmark.errors import FloodmarkError
from floodmark.inputs.inventory import hosts_of_a_run
from floodmark.web.options import WebOptions, check_hosts, check_port

HERE = {"localhost": {"ansible_connection": "local"}}
GROUPS = {"proxies": ["proxy1"], "load_generators": ["localhost"], "testbed": ["proxy1"]}


def test_what_is_not_given_has_a_default() -> None:
    assert WebOptions.read({}) == WebOptions()
    assert WebOptions.read({"web_port": "9000", "hold_s": "120"}) == WebOptions(9000, 120)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"web_port": "80"}, "web_port=80 is not allowed: it must be 1024 to 65535"),
        ({"web_port": "http"}, "web_port=http is not allowed"),
        ({"hold_s": "0"}, "hold_s=0 is not allowed: it must be 60 to 86400"),
    ],
)
def test_a_value_out_of_range_is_refused(extra: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FloodmarkError, match=sentence):
        WebOptions.read(extra)


@pytest.mark.parametrize(
    ("groups", "variables", "clock", "sentence"),
    [
        ({"proxies": ["a", "b"]}, HERE, "host", "the group 'proxies' has a, b: choose one with --limit a,"),
        ({"load_generators": ["load1"]}, {}, "host", "floods from the control node, and load1 of the group"),
        ({}, HERE, "virtual", "proxy1 has testbed_clock=virtual, where nobody can look on"),
    ],
)  # fmt: skip
def test_hosts_that_cannot_be_flooded_from_a_page_are_refused(
    groups: dict[str, list[str]], variables: dict[str, Any], clock: str, sentence: str
) -> None:
    with pytest.raises(FloodmarkError, match=sentence):
        check_hosts(hosts_of_a_run({**GROUPS, **groups}), variables, clock)


def test_the_hosts_of_the_testbed_can() -> None:
    check_hosts(hosts_of_a_run(GROUPS), HERE, "host")


def test_a_port_that_somebody_has_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(FloodmarkError, match=f"cannot have port {port} of 127.0.0.1: Address already in use"):
            check_port(port)
    check_port(port)
