"""A suite on the built-in testbed, ended in the worst way at the worst time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.testbed.conftest import ROOT, evidence, folder_of, run

# A sustained flood: if it went on, its requests would be in the log of the next run, which would be invalid.
SUITE = """
title: Does it go on?
boot: run
cases: [1]
parameters: {load_shape: sustained, duration_s: 8, users: 4, baseline_s: 1, drain_s: 1}
repetitions: 1
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / f"kill-{time.time_ns()}.yml"  # a suite of which no run was ever made
    path.write_text(SUITE)
    return path


def test_a_suite_that_is_killed_in_a_flood_goes_on_and_gets_a_valid_run(
    testbed: Callable[[str], str], suite: Path
) -> None:
    boot = testbed("cat /proc/sys/kernel/random/boot_id; systemctl show --property=UserspaceTimestamp")
    known = set(ROOT.glob("results/*/plan.json"))
    command = [str(Path(sys.executable).parent / "floodmark"), "suite", str(suite)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as killed:
        log = wait_for_requests(known, killed)
        killed.kill()
    cut_off = log.parents[2]
    until = time.monotonic() + 10
    while left := commands_with(cut_off.name):
        assert time.monotonic() < until, left
        time.sleep(0.1)

    done = run("floodmark", "suite", str(suite))
    assert done.returncode == 0, evidence(done)
    assert "1 valid with all expectations held" in done.stdout, evidence(done)
    assert folder_of(done) != cut_off
    assert (cut_off / "plan.json").exists()
    assert testbed("cat /proc/sys/kernel/random/boot_id; systemctl show --property=UserspaceTimestamp") != boot
    journal = next(ROOT.glob(f"results/suites/{suite.stem}-*/journal.jsonl")).read_text().splitlines()
    assert [json.loads(line).get("event") for line in journal] == [None, "began", "began", "finished"]
    testbed("rm -rf /var/lib/floodmark/runs/*")


def wait_for_requests(known: set[Path], process: subprocess.Popen[str]) -> Path:
    """Wait until a run that is new has an answered request; return its log."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        for plan in set(ROOT.glob("results/*/plan.json")) - known:
            for log in plan.parent.glob("load/proxy1/requests.0.csv"):
                if log.read_bytes().count(b"\n") > 1:
                    return log
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"no flood began; the suite said: {process.communicate()[0]}")


def commands_with(text: str) -> list[str]:
    """Return the command lines of this machine's processes that have a text in them."""
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if text in command]
