"""Real runs on the built-in testbed, short ones."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, evidence, run

# The same as the study's but for the waiting.
SHORT = ["-e", "proxy_read_timeout_s=1", "-e", "proxy_connect_timeout_s=1", "-e", "baseline_s=1", "-e", "drain_s=1"]

# Virtual machines have a testbed of their own, so that these tests and those with containers can go on side by side.
MACHINES = ROOT / ".testbed-machines"
KERNELS_INVENTORY = ["-i", "inventory/kernels.yml", "-e", f"testbed_state_dir={MACHINES}"]

# results/20261126T212544Z-case2-unix-virtual
RUN_ID = re.compile(r"\d{8}T\d{6}Z-case\d+(?:-[a-z0-9]+)+")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, and those of them that boot virtual machines."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.testbed)
            if virtual_machines.__name__ in item.fixturenames:  # type: ignore[attr-defined]
                item.add_marker(pytest.mark.machines)


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a case with short timeouts."""
    return run("ansible-playbook", "run-case.yml", *SHORT, *arguments)


def folder_of(done: subprocess.CompletedProcess[str]) -> Path:
    """Return the folder of the run that a command has made; `latest` may be of another test by now."""
    found = RUN_ID.findall(done.stdout)
    assert found, evidence(done)
    return ROOT / "results" / str(found[-1])


def verdicts_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the verdicts of that run, a host each."""
    return shown_verdicts(folder_of(done))


def shown_verdicts(folder: Path) -> list[dict[str, Any]]:
    """Return the verdicts of a run, as users get them."""
    shown = run("floodmark", "show", "--json", folder.name)
    assert shown.returncode == 0, evidence(shown)
    return list(json.loads(shown.stdout))


def verdict_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the verdict of a run on one host."""
    (verdict,) = verdicts_of(done)
    return verdict


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
    """Start hosts with kernels of their own; in the end stop them, because they would disturb others."""
    up = run("ansible-playbook", "playbooks/testbed-up.yml", *KERNELS_INVENTORY, timeout_s=600)
    assert up.returncode == 0, evidence(up)
    yield
    down = run("ansible-playbook", "playbooks/testbed-down.yml", *KERNELS_INVENTORY)
    assert down.returncode == 0, evidence(down)


__all__ = ["ROOT", "SHORT", "evidence", "play", "run", "snapshot"]
