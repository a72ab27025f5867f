"""A run of several hosts, of which one is never reached and one is lost in its flood."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT, evidence, run
from tests.testbed.test_promises import pid_of_the_container

# In the order of their turns; nobody listens on that port.
INVENTORY = """
proxies:
  hosts:
    away: {ansible_host: 127.0.0.1, ansible_port: 9, ansible_user: root, floodmark_i_own_these_hosts: true}
    proxy1:
    proxy2:
testbed:
  hosts:
    proxy1:
    proxy2:
"""


@pytest.mark.usefixtures("testbed")
def test_a_host_that_is_lost_costs_its_own_results_alone(tmp_path: Path) -> None:
    inventory = tmp_path / "several.yml"
    inventory.write_text(INVENTORY, encoding="utf-8")
    before = set(ROOT.glob("results/*/"))
    with subprocess.Popen(
        ["ansible-playbook", "run-case.yml", *SHORT, "-e", "case=2", "-i", "inventory/testbed.yml", "-i", inventory],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not _new_run(before, "load/proxy1/requests.0.csv"):
            time.sleep(0.1)
        (init,) = psutil.Process(pid_of_the_container()).children()
        init.kill()
        said, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, None), said

    (folder,) = _new_run(before, "run.json")
    verdicts = {one["host"]: one for one in json.loads(run("floodmark", "show", "--json", folder.parent.name).stdout)}
    assert set(verdicts) == {"away", "proxy1", "proxy2"}, said
    assert (verdicts["proxy2"]["valid"], verdicts["proxy2"]["metrics"]["status"]) == (True, {"502": 23, "504": 9}), said
    for host, why in {"away": "Look at the host", "proxy1": "End the lease"}.items():
        assert not verdicts[host]["valid"]
        (reason,) = verdicts[host]["reasons"]
        assert why in reason
        assert "the host could not be reached" in reason
        assert verdicts[host]["metrics"] == {}
    table = said.rpartition("verdict")[2]
    assert table.count("INVALID") == 2, said
    up = run("ansible-playbook", "playbooks/testbed-up.yml", "-i", "inventory/testbed.yml", "-i", str(inventory))
    assert up.returncode == 0, f"both are there for the next test: {evidence(up)}"


def _new_run(before: set[Path], file: str) -> list[Path]:
    return [found for folder in set(ROOT.glob("results/*/")) - before for found in folder.glob(file)]
