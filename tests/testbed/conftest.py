"""Real runs on the built-in testbed, short ones."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, evidence, run

# The same as the study's but for the waiting.
SHORT = ["-e", "proxy_read_timeout_s=1", "-e", "proxy_connect_timeout_s=1", "-e", "baseline_s=1", "-e", "drain_s=1"]

KERNELS_INVENTORY = ["-i", "inventory/kernels.yml"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.testbed)


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a case with short timeouts."""
    return run("ansible-playbook", "run-case.yml", *SHORT, *arguments)


def newest_verdict() -> dict[str, Any]:
    """Return the verdict of the newest complete run, as users get it."""
    done = run("floodmark", "show", "--json")
    assert done.returncode == 0, evidence(done)
    return dict(json.loads(done.stdout)[0])


@pytest.fixture
def snapshot(testbed: Callable[[str], str]) -> Callable[[], str]:
    """Return a function that lists what a run may change on a host."""
    lines = [
        "sysctl -n net.core.somaxconn 2>/dev/null || cat /proc/sys/net/core/somaxconn",
        "ls -d /run/sysctl.d/* /run/floodmark-* /run/systemd/transient/floodmark-* 2>/dev/null | sort",
        "ss -Hltn | awk '{print $4}' | sort",
        "ss -Hlx | awk '{print $5}' | sort",
        "systemctl list-units --no-legend --plain 'floodmark-*' | sort",
        "ls /var/lib/floodmark/runs",
        "ps -eo comm= | grep -cE 'nginx|locust' || true",
    ]

    return lambda: testbed("; ".join(lines))


@pytest.fixture(scope="session")
def virtual_machines() -> Iterator[None]:
    """Start hosts with kernels of their own; in the end stop the whole testbed, because they would disturb others."""
    up = run("ansible-playbook", "playbooks/testbed-up.yml", *KERNELS_INVENTORY, timeout_s=600)
    assert up.returncode == 0, evidence(up)
    yield
    down = run("ansible-playbook", "playbooks/testbed-down.yml", *KERNELS_INVENTORY)
    assert down.returncode == 0, evidence(down)


__all__ = ["ROOT", "SHORT", "evidence", "newest_verdict", "play", "run", "snapshot"]
