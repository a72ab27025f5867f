"""The procedures of the study: in which order things are started, and a status page of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from floodmark.runs.folders import RunFolder
from tests.testbed.conftest import evidence, folder_of, play, verdict_of

# Who calls listen() after somaxconn was set has 8; 4096 is what the testbed's hosts have before.
LIMITS = {
    "nginx,sysctl,upstream": (8, 511),
    "sysctl,nginx,upstream": (8, 8),
    "nginx,upstream,sysctl": (4096, 511),
}


@pytest.mark.parametrize("order", LIMITS)
def test_listen_clamps_to_somaxconn_as_it_is_at_that_moment(
    order: str, testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    """What the study's own programs gave in the same order: see the limits and statuses of each."""
    before = snapshot()
    assert testbed("cat /proc/sys/net/core/somaxconn").strip() == "4096"
    given = ("case=2", f"order={order}", "nginx_listen_backlog=511", "front_may_overflow=true")
    done = play(*(part for one in given for part in ("-e", one)))
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    upstream, front = LIMITS[order]
    refused = upstream == 8
    assert verdict["metrics"]["status"] == ({"502": 23, "504": 9} if refused else {"504": 32})
    assert verdict["metrics"]["active_max"] == (9 if refused else 32)
    assert verdict["metrics"]["states"]["02"] == (9 if refused else 32)
    host = RunFolder(folder_of(done)).host("proxy1")
    described = json.loads(host.description.read_text())
    assert {one["name"]: one["limit_conns"] for one in described["listeners"]} == {"upstream": upstream, "front": front}
    assert described["sysctls_before"] == {"net.core.somaxconn": "4096"}
    assert described["sysctls"]["net.core.somaxconn"] == "8"
    assert snapshot() == before, "the host was not left as it was found"


@pytest.mark.usefixtures("testbed")
def test_the_status_page_is_where_the_inventory_says_and_the_agent_finds_it() -> None:
    given = {"nginx_status_path": "/stats", "nginx_status_allow": ["10.0.0.0/8"]}
    done = play("-e", "case=2", "-e", json.dumps(given))
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    assert verdict["valid"]
    assert verdict["metrics"]["active_max"] == 9
    record = RunFolder(folder_of(done)).read_run()
    assert record.status_pages["proxy1"].model_dump() == {"path": "/stats", "allow": ["10.0.0.0/8"]}
