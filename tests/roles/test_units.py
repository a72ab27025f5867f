"""Units have no more rights than what they do takes: systemd's own measure of each, from 0 to 10, has a limit."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.roles.test_templates import render

AT_MOST = {
    "floodmark-sysctl.service": 2.0,
    "floodmark-nginx.service": 2.8,
    "floodmark-agent.service": 2.5,
    "floodmark-trace.service": 4.0,
    "floodmark-upstream@.service": 2.0,
}
# It runs alone in a machine that is thrown away after one boot.
ALONE = {"floodmark-virtual.service"}
UNITS = {path.name.removesuffix(".j2"): path for path in (ROOT / "roles").glob("*/templates/*.service.j2")}


def test_every_unit_has_a_limit() -> None:
    assert UNITS.keys() - ALONE >= AT_MOST.keys()
    assert {name for name in UNITS.keys() - ALONE - AT_MOST.keys() if not name.startswith("floodmark-run")} == set()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("name", AT_MOST)
def test_a_unit_has_no_more_rights_than_it_needs(tmp_path: Path, name: str) -> None:
    unit = tmp_path / name
    unit.write_text(render(UNITS[name]))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    # Overall exposure level for floodmark-nginx.service: 2.8 OK
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= AT_MOST[name], done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_knows_every_directive(tmp_path: Path, name: str) -> None:
    unit = tmp_path / name
    unit.write_text(render(UNITS[name]))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert not re.findall(r".*(?:Unknown|Failed to parse|Invalid).*", done.stderr)
