"""A flood against a server on loopback, in a process of its own: Locust patches sockets and threads."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT


def flood(folder: Path, port: int, *options: str) -> list[dict[str, str]]:
    """Run Locust without its web page and return what its processes logged of each request."""
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", "locustfiles/flood.py", "--headless", "--exit-code-on-error=0",
         f"--host=http://127.0.0.1:{port}", f"--output={folder}", "--answer-timeout-s=1", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    logs = sorted(folder.glob("requests.*.csv"))
    return [row for log in logs for row in csv.DictReader(log.read_text().splitlines())]


def read_summary(folder: Path, number: int = 0) -> dict[str, Any]:
    """Return what a process has written about itself."""
    return dict(json.loads((folder / f"load.{number}.json").read_text()))
