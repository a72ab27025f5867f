"""Variables of an inventory, and what is given with `-e`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from floodmark.inputs import labs
from floodmark.inputs.cases import Case, load_cases
from floodmark.inputs.inventory import CAPS, LAB_PARAMETERS, OWNED, PARAMETERS
from floodmark.inputs.parameters import Parameters
from floodmark.model.run import ControlNode
from floodmark.runner import plan
from floodmark.runs.folders import new_run
from floodmark.study import sentences
from floodmark.verdict.views import check_sql
from floodmark.web.options import RANGES
from tests.floodmark.made_up_runs import CONTROL_NODE
from tests.fuzz.made_up import TEXTS, VALUES, damaged, fuzz, nothing_outside, refuses_or_returns

ALL_CASES, CONTROL = load_cases(), ControlNode(**CONTROL_NODE)


@pytest.fixture(autouse=True)
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what plans a run into a folder of the test; what it reads of the checkout it reads once."""
    results = tmp_path / "results"
    monkeypatch.setattr(plan, "new_run", lambda number, transport: new_run(number, transport, results))
    monkeypatch.setattr(plan, "control_node", lambda: CONTROL)
    for module in (plan, labs, sentences):
        monkeypatch.setattr(module, "load_cases", lambda: ALL_CASES)
    checked = check_sql
    known: set[str] = set()

    def check_once(case: Case) -> None:
        if (digest := case.model_dump_json()) not in known:
            checked(case)
            known.add(digest)

    monkeypatch.setattr(plan, "check_sql", check_once)

    def make(extra: dict[str, Any], inventory: dict[str, Any], **more: Any) -> None:
        with nothing_outside(results):
            made = refuses_or_returns(lambda: plan.make_plan(extra, inventory, os.getpid(), **more))
        if made:
            assert made.folder.read_plan() == made.plan, "what is written is what was meant"

    return make


HOST = {OWNED: True, "ansible_host": "192.0.2.7", "nginx_status_path": "/stats", "nginx_status_allow": ["10.0.0.0/8"]}
INVENTORY: dict[str, Any] = {
    "groups": {"proxies": ["mine", "proxy1"], "load_generators": ["localhost"], "testbed": ["proxy1"]},
    "hostvars": {
        "mine": HOST,
        "proxy1": {"testbed_clock": "host", "testbed_driver": "qemu", "testbed_kernel": "6.1"},
        "localhost": {"ansible_connection": "local"},
    },
    "ansible_inventory_sources": ["/inventory.yml"],
    PARAMETERS: {"users": 32, "order": "sysctl,nginx,upstream", "trace": False},
    LAB_PARAMETERS: {"study": {"baseline_s": 1}, "memory-stability": {"start_spread_ms": 45000}},
    CAPS: {"users": 2000, "rate": 2000, "memory_mb": 512},
    "guard_margin_s": 240,
    "testbed_virtual_timeout_s": 600,
}
# Ansible makes these itself.
MADE_BY_ANSIBLE = ("groups", "hostvars", "ansible_inventory_sources")
OPTIONS = st.sampled_from(
    sorted({*Parameters.model_fields, *plan.RUN_OPTIONS, *RANGES, "hold", "web_port", "ansible_user"})
)


def with_ansibles_own(variables: Any) -> dict[str, Any]:
    """Return variables with those that Ansible sets, whatever an inventory says."""
    hosts = variables.get("hostvars")
    own = {
        name: one if isinstance(one, dict) else {} for name, one in (hosts if isinstance(hosts, dict) else {}).items()
    }
    return {
        **variables,
        **{name: INVENTORY[name] for name in MADE_BY_ANSIBLE},
        "hostvars": {**INVENTORY["hostvars"], **own},
    }


@fuzz(200, st.dictionaries(OPTIONS, VALUES, min_size=1, max_size=3) | st.dictionaries(TEXTS, VALUES, max_size=2))
def test_what_is_given_with_e(planned: Callable[..., None], extra: dict[str, Any]) -> None:
    planned({"case": 3, **extra}, {**INVENTORY, **extra})


@fuzz(
    100,
    damaged(INVENTORY),
    st.sampled_from([{"case": "1"}, {"lab": "single-request"}, {"lab": "study", "point": "case 2"}]),
)
def test_variables_of_an_inventory(planned: Callable[..., None], variables: Any, extra: dict[str, Any]) -> None:
    planned(extra, with_ansibles_own(variables))


ONE_HOST = {**INVENTORY, "groups": {"proxies": ["mine"], "load_generators": ["localhost"]}}


@fuzz(50, st.dictionaries(OPTIONS, VALUES, max_size=2), damaged(ONE_HOST))
def test_those_of_the_web_page(planned: Callable[..., None], extra: dict[str, Any], variables: Any) -> None:
    planned({"case": 2, **extra}, {**with_ansibles_own(variables), "groups": ONE_HOST["groups"]}, web=True)
