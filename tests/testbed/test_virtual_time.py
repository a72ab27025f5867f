"""One boot of one kernel in virtual time, and what becomes of one that cannot end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.testbed.conftest import MACHINES, evidence, folder_of, run, verdict_of

INVENTORY = ["-i", "inventory/virtual.yml", "--limit", "linux61,localhost", "-e", f"testbed_state_dir={MACHINES}"]
# Windows as short as they may be: what is seen is the same, the figures are not.
SHORT = ["-e", "virtual_window_ms=4"]

# The start state is made of a disk that these have provisioned.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.usefixtures("virtual_machines")]


def play(*arguments: str) -> tuple[dict[str, Any], Path, str]:
    """Run a case; return the verdict, the folder of its host, and what was said."""
    done = run("ansible-playbook", "run-case.yml", *INVENTORY, *SHORT, *arguments, timeout_s=900)
    return verdict_of(done), folder_of(done) / "linux61", evidence(done)


def windows(host: Path) -> list[tuple[Any, ...]]:
    table = host / "virtual_windows.parquet"
    return list(duckdb.execute(f"FROM '{table}' ORDER BY ALL").fetchall())


def test_a_boot_measures_case_2_and_its_seed_repeats_it_to_the_instruction() -> None:
    verdict, folder, said = play("-e", "case=2", "-e", "proxy_read_timeout_s=60")
    seen = {one["name"]: one["holds"] for one in verdict["faults"]}
    assert all(seen.values()), said
    assert seen.keys() >= {"every_connection_refused_gave_EAGAIN", "every_request_refused_gave_502"}
    assert verdict["metrics"]["accept_queue_max"] == verdict["metrics"]["queue_limit"] + 1 == 9
    assert verdict["metrics"]["request_timeout_s"] == pytest.approx(60, abs=0.1), "and the test did not wait for it"
    host = json.loads((folder / "host.json").read_text())
    assert host["virtual_time"]["icount"] == "shift=0,sleep=off,align=off"
    assert "floodmark.seed" not in host["kernel"]["cmdline"]
    _, again, _ = play("-e", "case=2", "-e", "proxy_read_timeout_s=60")
    assert windows(again) == windows(folder)


def test_a_guest_that_does_not_power_off_is_ended_and_its_console_shown() -> None:
    verdict, folder, said = play("-e", "case=2", "-e", "proxy_read_timeout_s=60", "-e", "testbed_virtual_timeout_s=3")
    assert not verdict["valid"], said
    assert "host linux61 had not powered off after 3 s, so it was ended" in verdict["reasons"][0]
    assert (folder / "raw/console.log").exists()
