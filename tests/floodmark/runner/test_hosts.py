"""What the hosts of an inventory say of themselves: the answers, and how they are shown."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from floodmark.model.host_status import Answers, HostStatus
from floodmark.runner.hosts import ASK, take
from floodmark.show.hosts import print_hosts

CLEAN: dict[str, Any] = {"run": None, "floods": [], "left": [], "unfetched": []}
RUN = {"run_id": "20261130T154004Z-case2-unix", "owner": "me@desk pid 812", "holds": True}
LEFT = "floodmark-nginx.service is still active"


def answered(host: str, status: object, task: str = ASK) -> dict[str, Any]:
    """Return an event of ansible-runner, as it comes when a task has printed something."""
    said = status if isinstance(status, str) else json.dumps(status)
    return {"event": "runner_on_ok", "event_data": {"host": host, "task": task, "res": {"stdout": said}}}


def test_the_last_answer_counts() -> None:
    answers = Answers()
    take(answers, answered("proxy1", {**CLEAN, "left": [LEFT]}))
    take(answers, answered("proxy1", CLEAN))
    take(answers, answered("proxy1", "nothing", task="Put it back"))
    assert answers == Answers({"proxy1": HostStatus(**CLEAN)}, {})


@pytest.mark.parametrize("text", ["", "[]", "{}", "command not found"])
def test_an_answer_that_is_none_is_a_failure(text: str) -> None:
    answers = Answers()
    take(answers, answered("proxy1", text))
    assert answers.failures == {"proxy1": f"its answer cannot be read: {text!r}"}


def test_a_host_that_cannot_be_put_back_says_why_in_the_programs_words() -> None:
    answers = Answers()
    result = {"msg": "non-zero return code", "rc": 1, "stderr": "lease: floodmark-nginx.service is still\n  active\n"}
    take(answers, {"event": "runner_on_failed", "event_data": {"host": "proxy1", "res": result}})
    result = {"msg": "Failed to connect to the host via ssh"}
    take(answers, {"event": "runner_on_unreachable", "event_data": {"host": "proxy2", "res": result}})
    assert answers.failures == {"proxy1": LEFT, "proxy2": "Failed to connect to the host via ssh"}


@pytest.mark.parametrize(
    ("changes", "held", "as_it_was"),
    [
        ({}, False, True),
        ({"unfetched": ["run1"]}, False, True),
        ({"run": RUN}, True, False),
        ({"run": {**RUN, "holds": False}}, False, False),
        ({"floods": ["floodmark-locust-1.service"], "left": [LEFT]}, True, False),
        ({"left": [LEFT]}, False, False),
    ],
)
def test_a_host_is_held_or_as_it_was(changes: dict[str, Any], held: bool, as_it_was: bool) -> None:
    status = HostStatus.model_validate({**CLEAN, **changes})
    assert (status.is_held, status.is_as_it_was) == (held, as_it_was)


def test_each_host_is_shown_with_its_reason() -> None:
    statuses = {
        "proxy1": CLEAN,
        "proxy2": {**CLEAN, "run": RUN},
        "proxy3": {**CLEAN, "run": {**RUN, "holds": False}, "left": [LEFT], "unfetched": ["run1"]},
        "loadgen1": {**CLEAN, "floods": ["floodmark-locust-1.service"], "left": [LEFT]},
    }
    answers = Answers(
        {name: HostStatus.model_validate(one) for name, one in statuses.items()}, {"proxy4": "[x] no route"}
    )
    console = Console(width=200, record=True, file=StringIO())
    print_hosts(console, answers)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in console.export_text().splitlines() if line.strip()}
    assert rows["proxy1"] == "as it was"
    assert rows["proxy2"] == "in use run 20261130T154004Z-case2-unix of me@desk pid 812"
    assert rows["proxy3"] == (
        "not as it was left by run 20261130T154004Z-case2-unix of me@desk pid 812; "
        "floodmark-nginx.service is still active; 1 run not fetched: run1"
    )
    assert rows["loadgen1"] == "in use it floods: floodmark-locust-1.service"
    assert rows["proxy4"] == "failed [x] no route"
