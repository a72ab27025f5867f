"""What a flood may be at most, and whom it may hit."""

from __future__ import annotations

from typing import Any

import pytest

from floodmark.errors import FloodmarkError, ParameterError
from floodmark.inputs.cases import load_cases
from floodmark.inputs.inventory import Caps, Hosts, check_caps, check_ownership
from floodmark.inputs.parameters import Parameters, resolve_parameters

BASE = load_cases()[2].parameters.model_dump()


def parameters(**changes: Any) -> Parameters:
    return resolve_parameters(BASE, changes, origin="-e")


def test_every_case_is_within_the_caps() -> None:
    for case in load_cases().values():
        check_caps(case.parameters, {})


@pytest.mark.parametrize(
    ("caps", "changes", "said"),
    [
        ({"users": 100}, {"users": 101}, "101 clients, or requests in flight"),
        ({"rate": 100}, {"load_shape": "open", "rate": "50:5 50-100.5:5"}, "100.5 requests per second"),
        ({"duration_s": 9}, {"load_shape": "sustained", "duration_s": 10}, "10 seconds of sending"),
        ({"duration_s": 9}, {"load_shape": "open", "rate": "5:5 6:5"}, "10 seconds of sending"),
        ({"payload_bytes": 9}, {"payload_bytes": 10}, "10 bytes of one request's body"),
        ({"memory_mb": 99}, {"payload_bytes": 1_000_000, "users": 100}, "100 MB of bodies"),
        ({}, {"payload_bytes": 10_000_000, "users": 10_000}, "100,000 MB of bodies that all clients"),
        ({"user": 5}, {}, "floodmark_caps.user of the inventory is no cap: did you mean 'users'?"),
        ({"users": "many"}, {}, "floodmark_caps.users of the inventory is 'many'"),
        ({"rate": 0}, {}, "floodmark_caps.rate of the inventory is 0: Input should be greater than 0"),
        ([5], {}, "floodmark_caps of the inventory is [5]"),
    ],
)  # fmt: skip
def test_more_than_the_inventory_allows_is_refused(caps: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError) as refused:
        check_caps(parameters(**changes), {"floodmark_caps": caps})
    assert said in str(refused.value)


def test_a_rate_that_is_not_used_is_not_capped() -> None:
    check_caps(parameters(rate="40000"), {"floodmark_caps": {"rate": 10}})


def test_what_is_allowed_is_within_what_a_parameter_can_be() -> None:
    caps = Caps()
    for changes in ({"users": caps.users, "payload_bytes": 0}, {"payload_bytes": caps.payload_bytes}):
        check_caps(parameters(**changes), {})


@pytest.mark.parametrize("said", [None, False, "true", "yes", 1])
def test_a_host_is_only_flooded_when_somebody_owns_it(said: Any) -> None:
    hosts = Hosts(proxies=["theirs"], load_generators=["localhost"])
    variables = {"theirs": {} if said is None else {"floodmark_i_own_these_hosts": said}}
    with pytest.raises(FloodmarkError, match="host theirs is not of the testbed"):
        check_ownership(hosts, variables)
    check_ownership(hosts, {"theirs": {"floodmark_i_own_these_hosts": True}})
    check_ownership(hosts.model_copy(update={"testbed": ["theirs"]}), variables)
