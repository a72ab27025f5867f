"""A real search for the highest rate that holds, a short one on the default inventory."""

from __future__ import annotations

import json
import re

import pytest

from floodmark.paths import ROOT
from tests.conftest import evidence, run

pytestmark = pytest.mark.usefixtures("testbed")
SHORT = [part for one in ("baseline_s=1", "drain_s=1", "duration_s=1") for part in ("-e", one)]


@pytest.mark.timeout(600)
def test_the_command_of_the_readme_finds_an_edge() -> None:
    """One worker with ten slots closes the connections that it has none for."""
    slots = ["-e", "nginx_workers=1", "-e", "worker_connections=10"]
    limits = ["--start", "200", "--most", "6400", "--precision", "100", "--confirm", "2"]
    done = run("floodmark", "edge", "--case", "1", *SHORT, *slots, *limits, timeout_s=500)
    assert done.returncode == 0, evidence(done)
    found = json.loads((ROOT / re.findall(r"results/edge/\S+\.json", done.stdout)[-1]).read_text(encoding="utf-8"))
    assert found["certain"], evidence(done)
    assert found["holds"] < found["breaks"] <= 6400
    broke = [one["broke"] for one in found["probes"] if one["rate"] == found["breaks"] and one["broke"]]
    assert len(broke) == found["broke"]
    # It broke twice, or once after it had seemed to hold.
    assert len(broke) >= 2 or (len(broke) == 1 and found["n_breaks"] > 1)
    # Whatever it is that a client got instead of an answer.
    assert all(re.search(r"× (\d+|reset|closed|timeout)|p99|queue of|dropped", one) for one in broke), broke
    assert "requests a second (n = " in done.stdout
