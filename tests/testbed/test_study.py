"""The study as its author ran it, on the testbed: what his own programs gave, and what happens when it is ended."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, environment, evidence, run
from tests.testbed.test_promises import generators, wait_until

pytestmark = pytest.mark.usefixtures("testbed")

ORDERS = "active over somaxconn: "


def executions() -> set[Path]:
    return set((ROOT / "results").glob("*-lab-study*"))


@pytest.fixture
def begun() -> Iterator[Callable[[], list[Path]]]:
    """Return a function that names the executions that were begun; one that was not finished is removed afterwards."""
    before = executions()
    yield lambda: sorted(executions() - before)
    for path in executions() - before:
        if json.loads((path / "lab.json").read_text())["overall"] is None:
            shutil.rmtree(path)


def test_ctrl_c_ends_it_with_130_and_it_goes_on_only_with_the_same_settings(
    snapshot: Callable[[], str], begun: Callable[[], list[Path]]
) -> None:
    before = snapshot()
    # What is ignored stays so, and in the background of a shell SIGINT is.
    with subprocess.Popen(
        ["env", "--default-signal=INT", "floodmark", "study", "--new", "-e", "users=8"],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        wait_until(lambda: any((path / "logs/2.txt").exists() for path in begun()), 90, "its second point")
        wait_until(lambda: bool(generators()), 60, "a flood")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert re.search(r"interrupted after 1 of 17 points: go on with: floodmark study -e users=8", errors), errors
    (folder,) = begun()
    content = (folder / "lab.json").read_text()

    other = run("floodmark", "study", "-e", "users=9")
    assert other.returncode == 2, evidence(other)
    assert f"{folder.name} was ended after" in other.stderr
    assert "or begin another one by `floodmark study --new -e users=9`" in other.stderr
    assert "Traceback" not in other.stderr
    assert (begun(), (folder / "lab.json").read_text()) == ([folder], content), "nothing is lost"
    assert snapshot() == before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_his_own_programs_gave_comes_out(snapshot: Callable[[], str], begun: Callable[[], list[Path]]) -> None:
    before = snapshot()
    done = run("ansible-playbook", "study.yml", "-e", "new=true", timeout_s=1700)
    assert done.returncode == 0, evidence(done)
    assert snapshot() == before
    (folder,) = begun()
    page = (folder / "study.html").read_text(encoding="utf-8")
    assert "Active Connections" in page
    content: dict[str, Any] = json.loads((folder / "lab.json").read_text())
    rows = {row["point"]: row for row in content["table"]}
    assert all(row["valid"] and row["passed"] for row in rows.values())

    assert [rows[f"case {n}"]["got_200"] for n in (1, 2, 3, 4, 5)] == [100, 0, 0, 0, 100]
    assert [rows[f"case {n}"]["got_504"] for n in (1, 2, 3, 4, 5)] == [0, 100, 100, 100, 0]
    assert (rows["case 2"]["most_rows_01"], rows["case 2"]["most_rows_02"]) == (1, 100)
    assert rows["case 3"]["most_rows_03"] == 100

    clamped = [rows[f"{ORDERS}{order}"] for order in ("sysctl, nginx, upstream", "nginx, sysctl, upstream")]
    assert [(row["front_limit_conns"], row["queue_limit"]) for row in clamped] == [(8, 8), (511, 8)]
    assert {row["active_median_conns"] for row in clamped} == {10}
    assert {(row["got_502"], row["got_504"]) for row in clamped} == {(23, 9)}
    late = rows[f"{ORDERS}nginx, upstream, sysctl"]
    assert (late["active_median_conns"], late["got_504"]) == (33, 32)
    assert late["readings_with_27"] > 0

    assert rows["listens 1, proxy_passes 2"]["sockets_that_listen"] == 1
    assert rows["listens 2, proxy_passes 1"]["sockets_that_listen"] == 2
    assert rows["front limit, somaxconn 511"]["front_limit_conns"] == 511
    assert rows["case 2"]["front_limit_conns"] == 511, "with 4,096"
    assert 1 < rows["memory: 100 requests of 1 MB"]["worker_vmsize_grew_mb"] < 4
