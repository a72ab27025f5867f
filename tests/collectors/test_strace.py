"""The capture of system calls without nginx; tests/testbed/test_labs.py has the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.errors import Unreadable
from collectors.strace import attach
from tests.conftest import ROOT


def fake(name: str, folder: Path, text: str) -> None:
    program = folder / name
    program.write_text("#!/bin/sh\n" + text)
    program.chmod(0o755)


def test_without_strace_the_run_goes_on_and_says_why(tmp_path: Path) -> None:
    config = {"output": str(tmp_path), "listeners": [], "status_path": "/", "nginx_unit": "none.service",
              "upstream_unit": "none.service", "rates_hz": {}}  # fmt: skip
    (tmp_path / "agent.json").write_text(json.dumps(config))
    fake("systemctl", tmp_path, "exit 0")
    done = subprocess.run(
        [sys.executable, "-m", "collectors.strace", str(tmp_path / "agent.json")],
        cwd=ROOT, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "strace.json").read_text()) == {
        "processes": {},
        "reason": "strace is not installed on this host",
    }


def test_it_is_ready_when_every_process_is_attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(
        "strace",
        tmp_path,
        f'echo strace: Process 7 attached >&2\necho strace: Process 8 attached >&2\necho "$@" > {tmp_path}/said',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    attach([7, 8], tmp_path).communicate()
    assert (tmp_path / "said").read_text().strip() == f"-ff -ttt -T -s 64 -o {tmp_path}/strace -p 7 -p 8"


def test_what_it_may_not_look_at_is_said_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("strace", tmp_path, "echo 'strace: attach: ptrace(PTRACE_SEIZE, 7): Operation not permitted' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(Unreadable, match="Operation not permitted"):
        attach([7], tmp_path)
