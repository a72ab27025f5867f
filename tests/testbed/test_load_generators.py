"""Two load generators that flood together, and one of them starts late."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.conftest import evidence, folder_of, play, verdict_of

MS = 1_000_000
# Only the session that starts a flood has a tunnel to the leader.
LATE_SSH = """#!/bin/sh
case " $* " in *" -R "*) sleep 1.5; touch "$0.was-late" ;; esac
exec ssh "$@"
"""


@pytest.mark.usefixtures("testbed")
def test_load_generators_begin_together_although_one_starts_late(tmp_path: Path) -> None:
    """Containers share the clock of the machine, so what they have written can be compared."""
    ssh = tmp_path / "late-ssh"
    ssh.write_text(LATE_SSH, encoding="utf-8")
    ssh.chmod(0o755)
    late = tmp_path / "late.yml"
    late.write_text(f"load_generators: {{hosts: {{load2: {{ansible_ssh_executable: {ssh}}}}}}}\n", encoding="utf-8")
    # The baseline is longer than it takes both to start: if each counted it from its own start, they would not agree.
    done = play("-e", "case=1", "-e", "baseline_s=8", "-i", "inventory/testbed-load-generators.yml", "-i", str(late))
    assert done.returncode == 0, evidence(done)
    assert verdict_of(done)["valid"]
    assert (tmp_path / "late-ssh.was-late").exists()

    first, second = (_process(folder_of(done) / "load/proxy1", number) for number in range(2))
    skew_ns = abs(first["begin_ns"] - second["begin_ns"])
    assert skew_ns <= first["begin_error_ns"] + second["begin_error_ns"]
    assert skew_ns < 5 * MS
    # The users of both are spread over 50 ms by turns.
    assert abs(second["first_intended_ns"] - first["first_intended_ns"] - 50 * MS // 32) < 5 * MS
    # However busy the machine is: far less than one was late.
    assert abs(second["first_start_ns"] - first["first_start_ns"]) < 500 * MS


def _process(folder: Path, number: int) -> dict[str, Any]:
    """Return what a process has written about itself, and when its first request should have started."""
    with (folder / f"requests.{number}.csv").open(encoding="utf-8", newline="") as log:
        intended_ns = [int(row["intended_ns"]) for row in csv.DictReader(log)]
    return {**json.loads((folder / f"load.{number}.json").read_text()), "first_intended_ns": min(intended_ns)}
