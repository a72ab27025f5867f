"""The Makefile and scripts/need: each target installs what it needs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# Programs that modules of bench/ look for or start -> what installs them.
INSTALLED_BY = {
    "nginx": "load", "wrk": "load", "hey": "load", "chromium": "browser", "systemd-nspawn": "testbed",
    "qemu-system-x86_64": "qemu",
}  # fmt: skip


def recipe(target: str) -> str:
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, target
    return found[1]


@pytest.mark.parametrize("name", re.findall(r"^(bench-[a-z]+):", MAKEFILE, re.MULTILINE))
def test_a_benchmark_installs_the_programs_that_it_starts(name: str) -> None:
    module = re.search(r"python -m bench\.(\w+)", recipe(name))
    assert module
    text = (ROOT / f"bench/{module[1]}.py").read_text(encoding="utf-8")
    for program, needed in INSTALLED_BY.items():
        if re.search(rf'(which\(|Popen\(\[|run\(\[)"{program}"', text):
            assert f"scripts/need {needed}\n" in recipe(name), program


def need(folder: Path, what: str, **programs: str) -> tuple[str, str]:
    """Run scripts/need with these programs and a few of this machine; return what it called, and what it said."""
    defaults = {"id": "echo 0", "apt-get": "", "systemctl": "", "uname": "echo Linux"}
    for name, text in {**defaults, **programs}.items():
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $*" >>{folder}/calls\n{text}\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    for name in ("bash", "sort", "mktemp", "rm", "tail", "mkdir", "env", "timeout"):
        path = next(one for one in os.environ["PATH"].split(":") if Path(one, name).exists())
        (folder / name).symlink_to(f"{path}/{name}")
    done = subprocess.run(
        ["bash", ROOT / "scripts/need", what], env={"PATH": str(folder), "RUNNING": str(folder)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    calls = folder / "calls"
    return calls.read_text() if calls.exists() else "", done.stderr


def test_an_nginx_for_a_benchmark_is_installed_and_never_started(tmp_path: Path) -> None:
    calls, _ = need(tmp_path, "load")
    order = [line for line in calls.splitlines() if "nginx" in line]
    assert [line.split()[:2] for line in order] == [
        ["systemctl", "mask"], ["apt-get", "install"], ["apt-get", "install"], ["systemctl", "unmask"],
        ["systemctl", "disable"],
    ]  # fmt: skip
    assert "--download-only" in order[1]
    assert "wrk" in calls
    assert "hey" in calls


def test_an_nginx_that_could_not_be_installed_leaves_no_mask(tmp_path: Path) -> None:
    calls, said = need(tmp_path, "load", **{"apt-get": "exit 1"})
    assert "systemctl unmask" in calls
    assert "could not install nginx" in said


def test_an_nginx_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    calls, _ = need(tmp_path, "load", nginx="", wrk="", hey="")
    assert "systemctl" not in calls
    assert "apt-get" not in calls
