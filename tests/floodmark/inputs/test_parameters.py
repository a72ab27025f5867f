from __future__ import annotations

from typing import Any

import pytest

from floodmark.errors import ParameterError
from floodmark.inputs.cases import load_cases
from floodmark.inputs.parameters import Parameters, given_parameters, parameter_values, range_of, resolve_parameters

BASE = load_cases()[1].parameters.model_dump()


def test_the_last_layer_wins_and_text_becomes_what_it_means() -> None:
    parameters = resolve_parameters(BASE, {"users": "64", "keepalive": "true"}, origin="-e")
    assert (parameters.users, parameters.keepalive, parameters.somaxconn) == (64, True, BASE["somaxconn"])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"somaxconn": "-1"}, "somaxconn=-1 is not allowed: it must be 0 to 65535 conns"),
        ({"users": "0"}, "users=0 is not allowed: it must be 1 to 10000 users"),
        ({"users": "many"}, "users=many is not allowed: it must be 1 to 10000 users"),
        ({"users": "3.5"}, "users=3.5 is not allowed"),
        ({"transport": "udp"}, "transport=udp is not allowed: it must be unix or tcp"),
        ({"keepalive": "perhaps"}, "keepalive=perhaps is not allowed: it must be true or false"),
        ({"nginx_listen_backlog": "0"}, "nginx_listen_backlog=0 is not allowed: it must be 1 to 65535 conns"),
        ({"nginx_listen_backlog": "-1"}, "nginx_listen_backlog=-1 is not allowed: it must be 1 to 65535 conns"),
        (
            {"nginx_listen_backlog": "1000000000"},
            "nginx_listen_backlog=1000000000 is not allowed: it must be 1 to 65535",
        ),
        ({"nginx_keepalive_timeout_s": "-1"}, "nginx_keepalive_timeout_s=-1 is not allowed: it must be 0 to 3600 s"),
        ({"proxy_buffering": "some"}, "proxy_buffering=some is not allowed: it must be true or false"),
        (
            {"order": "upstream,nginx"},
            "it must be nginx,sysctl,upstream or sysctl,nginx,upstream or nginx,upstream,sysctl",
        ),
        ({"connection_header": "upgrade"}, "connection_header=upgrade is not allowed: it must be close or keep-alive"),
        ({"nginx_listens": "9"}, "nginx_listens=9 is not allowed: it must be 1 to 8"),
        ({"bursts": "0"}, "bursts=0 is not allowed: it must be 1 to 10"),
        (
            {"nginx_listens": "4", "worker_connections": "4"},
            (
                "-e: worker_connections=4 is not allowed with nginx_listens=4: a worker needs a slot for each of them "
                "and one for the channel to the master, so it must be 5 or more."
            ),
        ),
        (
            {"bursts": "2", "burst_every_s": "2", "start_spread_ms": "2000"},
            (
                "burst_every_s=2 is not allowed with start_spread_ms=2000: a burst must be sent before the next "
                "begins, so it must be 3 or more."
            ),
        ),
        ({"somaxcon": "8"}, "there is no parameter 'somaxcon': did you mean 'somaxconn'?"),
        ({"nothing_like_it": "8"}, "there is no parameter 'nothing_like_it': Allowed are accept_queue_hz,"),
    ],
)
def test_a_wrong_parameter_says_what_is_allowed(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError) as error:
        resolve_parameters(BASE, given, origin="-e")
    assert sentence in str(error.value)


@pytest.mark.parametrize("value", [None, [4, 8], {"most": 8}])
def test_a_parameter_is_one_value(value: object) -> None:
    with pytest.raises(ParameterError) as error:
        given_parameters({"case": value, "users": value})
    assert f"-e: users={value} is not allowed: it must be 1 to 10000 users" in str(error.value)
    with pytest.raises(ParameterError, match="there is no parameter 'usrs': did you mean 'users'"):
        parameter_values({"usrs": value}, "the inventory")


def test_parameters_are_told_from_the_other_variables_that_are_given() -> None:
    assert given_parameters({"case": [3], "users": "8", "ansible_host": None}) == {"users": "8"}


@pytest.mark.parametrize("name", sorted(Parameters.model_fields))
def test_every_parameter_has_a_range_and_a_meaning(name: str) -> None:
    assert range_of(name)
    assert str(Parameters.model_fields[name].description).endswith(".")


def test_every_listener_takes_a_slot_of_each_worker() -> None:
    one = resolve_parameters(BASE, {"worker_connections": 10, "users": 3}, origin="test")
    assert (one.worker_slots, one.uncrowded) == (8, True)
    two = resolve_parameters(BASE, {"worker_connections": 10, "users": 3, "nginx_listens": 3}, origin="test")
    assert (two.worker_slots, two.uncrowded) == (6, False)


def test_bursts_take_as_long_as_they_are_apart() -> None:
    one = resolve_parameters(BASE, origin="test")
    three = resolve_parameters(BASE, {"bursts": 3, "burst_every_s": 20}, origin="test")
    assert (one.sending_s, three.sending_s) == (0.05, 40.05)
    assert three.flood_at_most_s == one.flood_at_most_s + 40
    apart = resolve_parameters(BASE, {"bursts": 3, "load_shape": "sustained", "start_spread_ms": 60000}, origin="test")
    assert apart.sending_s == 60, "bursts mean nothing to another flood"


def test_the_agent_is_not_told_of_a_source_that_is_left_out() -> None:
    assert resolve_parameters(BASE, origin="test").rates_hz["machine"] == 10
    assert "machine" not in resolve_parameters(BASE, {"machine_hz": "0"}, origin="-e").rates_hz
    with pytest.raises(ParameterError, match="accept_queue_hz=0 is not allowed"):
        resolve_parameters(BASE, {"accept_queue_hz": "0"}, origin="-e")


def test_a_client_waits_longer_than_nginx_can_take() -> None:
    parameters = resolve_parameters(BASE, origin="test")
    assert parameters.answer_timeout_s > parameters.proxy_connect_timeout_s + parameters.proxy_read_timeout_s
