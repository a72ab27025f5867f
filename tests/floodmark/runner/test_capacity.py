from __future__ import annotations

from typing import Any

import pytest

from floodmark.errors import FloodmarkError
from floodmark.inputs.cases import load_cases
from floodmark.inputs.parameters import Parameters, resolve_parameters
from floodmark.runner.capacity import ASK, Capacity, check_capacity
from tests.conftest import run

BASE = load_cases()[1].parameters.model_dump()
CAPACITY = Capacity(cpus=2, memory_mb=1000, descriptors=1024)


def parameters(**given: Any) -> Parameters:
    return resolve_parameters(BASE, given, origin="-e")


@pytest.mark.parametrize(
    "given",
    [{}, {"users": 900}, {"users": 1800, "locust_processes": 2}, {"users": 64, "payload_bytes": 10_000_000}],
    ids=str,
)
def test_a_flood_that_there_is_room_for(given: dict[str, Any]) -> None:
    check_capacity("load1", CAPACITY, parameters(**given))


@pytest.mark.parametrize(
    ("given", "room", "sentence"),
    [
        ({"users": 2000}, {}, r"load1: users=2000 needs 2100 open files in each process.* allows 1024.*LimitNOFILE"),
        ({"locust_processes": 4}, {}, r"load1: locust_processes=4 asks for 4 processors, and it has 2"),
        ({"users": 8000}, {"descriptors": 10**6, "memory_mb": 200}, r"load1: .* 8000 users.* needs 260 MB.* 200 MB"),
    ],
    ids=["files", "processors", "memory"],
)  # fmt: skip
def test_a_flood_that_there_is_no_room_for(given: dict[str, Any], room: dict[str, int], sentence: str) -> None:
    with pytest.raises(FloodmarkError, match=sentence):
        check_capacity("load1", Capacity(**{**vars(CAPACITY), **room}), parameters(**given))


def test_a_machine_is_asked_by_its_shell_and_by_python_alike() -> None:
    told = Capacity.parse(run("sh", "-c", ASK).stdout)
    here = Capacity.here()
    assert told.cpus == here.cpus
    assert told.descriptors == here.descriptors
    assert abs(told.memory_mb - here.memory_mb) < here.memory_mb / 2


@pytest.mark.parametrize("text", ["", "2\n", "2\nx\nunlimited\n", "two\n1000000\nunlimited\n"])
def test_what_a_machine_does_not_tell_is_no_limit(text: str) -> None:
    check_capacity("load1", Capacity.parse(text), parameters(users=10_000, locust_processes=1))


def test_files_without_a_limit_are_many() -> None:
    assert Capacity.parse("2\n1000000\nunlimited\n").descriptors > 10**9
