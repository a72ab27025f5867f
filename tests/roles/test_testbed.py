"""What the hosts of a testbed share belongs to nobody else."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils import testbed


def test_nobody_else_can_look_into_a_testbed(tmp_path: Path) -> None:
    folder = tmp_path / ".testbed"
    before = os.umask(0)
    try:
        folder.mkdir()  # of a Floodmark that left it open
        with testbed.Testbed(str(folder)).locked():
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)
