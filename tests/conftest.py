"""What several tests share."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ansible.module_utils
import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent

# Files that are programs of a host are not packages here; tests load them by their path.
sys.path[:0] = [str(ROOT / "roles/upstream/files"), str(ROOT / "roles/virtual/files")]

Run = Callable[..., subprocess.CompletedProcess[str]]


# What modules share, which Ansible finds by its configuration and by their role.
ansible.module_utils.__path__.extend(
    str(ROOT / folder) for folder in ("plugins/module_utils", "roles/testbed/module_utils")
)


def load_file(path: str) -> ModuleType:
    """Load a Python file of the repository that is not part of a package: a host's program, a module of a role."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which the programs of these tests come first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


def run(*command: str, timeout_s: float = 280, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the root of the repository with the environment of these tests."""
    return subprocess.run(
        command, cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=timeout_s, check=False
    )


def read_access_report(path: Path) -> dict[str, Any]:
    """Return what a report of GoAccess shows: `general`, and each panel."""
    _, _, data = path.read_text(encoding="utf-8").partition("var json_data=")
    return dict(json.JSONDecoder().raw_decode(data)[0])


def evidence(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a command said, for the message of a failing test."""
    return f"\n$ {' '.join(map(str, done.args))}\nstatus {done.returncode}\n{done.stdout}\n{done.stderr}"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def testbed() -> Callable[[str], str]:
    """Start the testbed; return a function that runs a shell line on its proxy host and gives its output."""
    up = run("ansible-playbook", "playbooks/testbed-up.yml")
    assert up.returncode == 0, evidence(up)

    def on_host(line: str) -> str:
        address = (ROOT / ".testbed/hosts/proxy1/address").read_text()
        done = run(
            "ssh", "-i", ".testbed/ssh/id_ed25519", "-o", "UserKnownHostsFile=.testbed/ssh/known_hosts",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", f"root@{address}", line,
        )  # fmt: skip
        assert done.returncode == 0, evidence(done)
        return done.stdout

    return on_host


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that nobody sees."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is missing: scripts/need browser installs it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
