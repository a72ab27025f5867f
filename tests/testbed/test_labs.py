"""Labs on the testbed. The short one goes through run-lab.yml; the long ones are the study's numbers, as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.testbed.conftest import ROOT, SHORT, evidence, run

pytestmark = pytest.mark.usefixtures("testbed")


def lab_of(text: str) -> dict[str, Any]:
    (name,) = set(re.findall(r"\d{8}T\d{6}Z-lab-[a-z-]+", text))
    return dict(json.loads((ROOT / "results" / name / "lab.json").read_text()))


def make(name: str, *arguments: str, timeout_s: float = 1800) -> dict[str, Any]:
    """Make a lab as it is in its file."""
    done = run("floodmark", "lab", name, "--json", *arguments, timeout_s=timeout_s)
    assert done.returncode == 0, evidence(done)
    return dict(json.loads(done.stdout))


def test_a_playbook_makes_a_whole_lab_and_leaves_the_host_as_it_was(snapshot: Callable[[], str]) -> None:
    before = snapshot()
    secret = "ansible_become_password=hush-hush-hush"  # of nobody: Ansible is root there already
    done = run("ansible-playbook", "run-lab.yml", "-e", "lab=single-request", *SHORT, "-e", secret)
    assert done.returncode == 0, evidence(done)
    assert "✓ 2/2  transport=tcp" in done.stdout, evidence(done)
    assert "2 of 2 points are valid and their expectations hold" in " ".join(done.stdout.split())
    lab = lab_of(done.stdout.replace("\n", ""))
    assert lab["secrets"] == ["ansible_become_password"]
    assert run("grep", "-rl", "hush-hush-hush", "results").stdout == ""
    for row in lab["table"]:
        assert (row["deepest_queue_conns"], row["active_with_poll_conns"], row["answered_504"]) == (1, 2, 1)
        assert row["calls_of_the_request"] > 8
    assert snapshot() == before


def test_a_lab_that_is_misspelt_ends_before_a_host_is_touched() -> None:
    done = run("ansible-playbook", "run-lab.yml", "-e", "lab=single-requst")
    assert done.returncode != 0
    assert "there is no lab 'single-requst': did you mean 'single-request'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_active_exceeds_somaxconn_over_tcp_and_not_on_a_unix_socket() -> None:
    table = make("active-over-somaxconn")["table"]
    seen = [(row["transport"], row["keepalive"], row["active_while_hanging_conns"]) for row in table]
    assert seen == [("unix", False, 9), ("tcp", False, 32), ("unix", True, 32)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_bodies_lie_in_files_and_in_the_kernel() -> None:
    content = make("memory-stability")
    rows = {row["point"]: row for row in content["table"]}
    assert rows["as it is"]["temp_files"] == 1024
    assert rows["as it is"]["temp_files_mb"] == pytest.approx(1024 * 1.048576)
    assert rows["as it is"]["workers_private_dirty_grew_mb"] < 50
    assert rows["client_body_buffer_size_kb=2048"]["workers_private_dirty_grew_mb"] > 1024
    assert rows["users=100, strace=true"]["brk_calls"] > 0
    (again,) = (row for row in rows.values() if row["bursts"] == 2)
    assert again["workers_private_dirty_grew_mb"] > 5
    assert again["second_flood_grew_mb"] < 0.5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_worker_proxies_half_of_its_slots() -> None:
    table = make("worker-connections", timeout_s=3500)["table"]
    alone = {row["worker_connections"]: row["proxied"] for row in table if row["nginx_workers"] == 1}
    assert alone[2] == 0
    assert {slots: proxied - (slots - 2) // 2 for slots, proxied in alone.items() if proxied < (slots - 3) // 2} == {}
