"""A lease never ends a run that lives, however little the control node gets and whatever the network loses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import evidence, run
from tests.testbed.conftest import shown_verdicts
from tests.testbed.test_promises import pid_of_the_container, start_case_3, wait_until, without_raw_files

pytestmark = [pytest.mark.usefixtures("testbed"), pytest.mark.slow]

TAKEN_S = 12
LOST_PERCENT = 30
# Packets of ssh alone, both ways; what is measured is left alone.
LOSS = f"""
table inet floodmark_loss {{
  chain received {{ type filter hook input priority 0; tcp dport 22 numgen random mod 100 < {LOST_PERCENT} drop; }}
  chain sent {{ type filter hook output priority 0; tcp sport 22 numgen random mod 100 < {LOST_PERCENT} drop; }}
}}
"""


def lease_of(folder: Path) -> dict[str, Any]:
    """Return the check of the lease in the verdict of a run."""
    (verdict,) = shown_verdicts(folder)
    (check,) = [one for one in verdict["checks"] if one["id"] == "lease_held"]
    return dict(check)


def test_both_processors_of_the_control_node_are_taken(snapshot: Callable[[], str]) -> None:
    before = snapshot()
    process, folder = start_case_3()
    # Of what is not in real time, the kernel lets one part in twenty through.
    hogs = [
        subprocess.Popen(
            ["timeout", str(TAKEN_S), "taskset", "--cpu-list", str(cpu), "chrt", "--fifo", "10", sys.executable, "-c",
             "while True: pass"]
        )
        for cpu in sorted(os.sched_getaffinity(0))
    ]  # fmt: skip
    assert [hog.wait(timeout=60) for hog in hogs] == [124] * len(hogs), "they ran until their time was over"
    assert process.wait(timeout=120) in (0, 2), "it may be invalid, because nobody had time to flood"
    assert lease_of(folder)["ok"]
    assert snapshot() == before


@pytest.fixture
def in_its_network() -> Callable[[str], None]:
    """Return a function that tells nftables in the network namespace of the testbed's host what to do."""
    assert run("scripts/need", "network").returncode == 0
    (leader,) = psutil.Process(pid_of_the_container()).children()

    def tell(rules: str) -> None:
        done = subprocess.run(
            ["nsenter", f"--target={leader.pid}", "--net", "nft", "--file", "-"],
            input=rules, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    return tell


@contextmanager
def lossy(tell: Callable[[str], None]) -> Iterator[None]:
    """Let the network lose packets of ssh."""
    tell(LOSS)
    try:
        yield
    finally:
        tell("delete table inet floodmark_loss")


@pytest.mark.timeout(600)
def test_the_network_loses_three_packets_of_ten(
    in_its_network: Callable[[str], None], snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    process, folder = start_case_3()
    with lossy(in_its_network):
        status = process.wait(timeout=400)
    assert status == 0, evidence(run("floodmark", "show", folder.name))
    assert lease_of(folder)["ok"]
    assert snapshot() == before


@pytest.mark.timeout(300)
def test_the_network_is_cut(in_its_network: Callable[[str], None], snapshot: Callable[[], str]) -> None:
    """The host restores itself when the lease has ended, although nobody can tell it to."""
    before = snapshot()
    process, folder = start_case_3()
    nginx = Path(f"/proc/{master_of_nginx()}")
    in_its_network(LOSS.replace(f"numgen random mod 100 < {LOST_PERCENT} drop", "drop"))
    try:
        wait_until(lambda: not nginx.exists(), 20, "nginx ends by itself")
    finally:
        in_its_network("delete table inet floodmark_loss")
    assert process.wait(timeout=120) == 2
    assert not lease_of(folder)["ok"]
    assert without_raw_files(snapshot()) == without_raw_files(before)


def master_of_nginx() -> int:
    """Return the process on the testbed's host that Floodmark has started as nginx."""
    host = psutil.Process(pid_of_the_container())
    (master,) = [one.pid for one in host.children(recursive=True) if "nginx: master" in " ".join(one.cmdline())]
    return int(master)
