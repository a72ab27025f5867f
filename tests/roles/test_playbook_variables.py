"""What a plan becomes for the roles, by Ansible's own templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from floodmark.inputs.cases import load_cases
from tests.conftest import ROOT, run


def variable(name: str, **parameters: Any) -> Any:
    """Return a variable of playbooks/vars/case.yml in a run of case 2."""
    loader = DataLoader()
    given = loader.load_from_file(str(ROOT / "playbooks/vars/case.yml"), trusted_as_template=True)
    pages = {"proxy1": {"path": "/stats", "allow": ["10.0.0.0/8"]}}
    plan = {
        "status_pages": pages,
        "most_bytes": {"nginx_file": 1000},
        "run_id": "run", "clock": "host", "folder": "/results/run", "case": {"number": 2}, "servers": [],
        "parameters": {**load_cases()[2].parameters.model_dump(), **parameters},
    }  # fmt: skip
    variables = {**given, "hostvars": {"localhost": {"floodmark": {"plan": plan}}}, "inventory_hostname": "proxy1"}
    return Templar(loader, variables).template(variables[name])


@pytest.mark.parametrize(
    "order", [["nginx", "sysctl", "upstream@2"], ["sysctl", "nginx", "upstream@2"], ["nginx", "upstream@2", "sysctl"]]
)
def test_units_are_started_in_the_order_of_the_run_and_what_looks_on_comes_last(order: list[str]) -> None:
    units = [f"floodmark-{name}.service" for name in order]
    asked = ",".join(order).replace("@2", "")
    assert variable("guard_units", order=asked) == [*units, "floodmark-agent.service"]
    traced = [*units, "floodmark-agent.service", "floodmark-trace.service"]
    assert variable("guard_units", order=asked, trace=True, strace=True) == traced


def test_every_port_that_nginx_listens_on_has_to_be_free() -> None:
    assert variable("guard_ports") == [8080]
    assert variable("guard_ports", nginx_listens=3) == [8080, 8081, 8082]


def test_nginx_is_started_with_a_limit_and_in_between_what_captures_its_calls() -> None:
    limit = ["--ignore-signal=XFSZ", "prlimit", "--fsize=1000"]
    assert variable("nginx_started_by") == limit
    words = variable("nginx_started_by", strace=True)
    assert (words[:3], words[-3:]) == (limit, ["-m", "collectors.strace", "/etc/floodmark/agent.json"])


def test_what_starts_nginx_limits_its_files_and_lets_it_live(tmp_path: Path) -> None:
    """As its unit does it: the words are those of env."""
    script = f"head -c 3000 /dev/zero >>{tmp_path}/log; echo still here"
    done = run("env", *variable("nginx_started_by"), "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "still here\n")
    assert "File too large" in done.stderr
    assert (tmp_path / "log").stat().st_size == 1000


def test_the_agent_asks_for_the_status_page_where_it_is() -> None:
    assert variable("nginx_status_path") == variable("collector_status_path") == "/stats"
    assert variable("nginx_status_allow") == ["10.0.0.0/8"]
