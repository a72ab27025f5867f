"""scripts/need installs packages, and leaves dpkg nowhere in the middle of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import evidence, run

# It notes which step it was asked for, and takes longer than that may take.
SLOW_APT_GET = """#!/bin/sh
case "$*" in update) step=update ;; *--download-only) step=download ;; *) step=install ;; esac
echo $step >>{folder}/steps
[ $step != {slow} ] || exec sleep 1.5
"""
PROGRAMS = ("bash", "id", "mktemp", "timeout", "sleep", "tail", "rm", "sh")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
@pytest.mark.parametrize(
    ("slow", "steps", "status"),
    [
        ("update", ["update"], 1),
        ("download", ["update", "download"], 1),
        ("install", ["update", "download", "install"], 0),
    ],
)
def test_only_a_download_is_cut_off(tmp_path: Path, slow: str, steps: list[str], status: int) -> None:
    for name in PROGRAMS:
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "apt-get").write_text(SLOW_APT_GET.format(folder=tmp_path, slow=slow))
    (tmp_path / "apt-get").chmod(0o755)
    done = run("/usr/bin/env", f"PATH={tmp_path}", "DOWNLOAD_TIMEOUT_S=1", "bash", "scripts/need", "goaccess")
    assert (tmp_path / "steps").read_text().split() == steps, evidence(done)
    assert done.returncode == status, evidence(done)
