"""GoAccess on the access log that a host's nginx wrote: how it is called, and the report that is kept with a run.

The page of a case that is held up shows the same while it is written (`floodmark/web/access_log.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from floodmark.disk import whole_file
from floodmark.errors import FloodmarkError, RunError
from floodmark.runs.archive import open_archive
from floodmark.runs.folders import HostFolder, RunFolder

PROGRAM = "goaccess"
LOG = "nginx-access.log"
# It reads some hundred thousand lines a second; a log that takes longer than this is not looked at (s).
PATIENCE_S = 300

# The lines are those that floodmark/verdict/ingest.py reads. The run that a request's id begins with stands where
# GoAccess has the name of a virtual host, so that the cases of a session can be told apart.
LOG_FORMAT = (
    '{"id":"%v/%^","msec":"%x.%^","client":"%h","request":"%r","status":"%s","bytes_sent":"%b","request_time":"%T"}'
)
# What our log does not tell, and panels that a flood leaves empty: it has no browser and asks for nothing but /. All
# that nginx has logged is in the others.
NO_PANELS = (
    "REQUESTS_STATIC", "NOT_FOUND", "OS", "BROWSERS", "REFERRERS", "REFERRING_SITES", "KEYPHRASES", "GEO_LOCATION",
    "CACHE_STATUS", "MIME_TYPE", "TLS_TYPE", "REMOTE_USER",
)  # fmt: skip
# Each panel in its whole width, and bars for times, because a line through one minute is a point.
LOOKS = {"layout": "vertical", "perPage": 10} | {
    panel: {"plot": {"chartType": "bar"}} for panel in ("visitors", "visit_time")
}


class Counts(NamedTuple):
    """Lines of a log: how many there are, and how many of them GoAccess could not read."""

    lines: int
    failed: int


def missing() -> str:
    """Return why there is no GoAccess here, or nothing."""
    if shutil.which(PROGRAM):
        return ""
    return "GoAccess is not installed on this machine; on Debian 'scripts/need goaccess' installs it, as root"


def command(log: str, title: str, *options: str) -> list[str]:
    """Return GoAccess's command line.

    Args:
        log: file that it reads; `-` is its standard input.
        title: of the page.
        options: what else it is told.
    """
    return [
        PROGRAM, log, f"--log-format={LOG_FORMAT}", "--datetime-format=%s", f"--html-report-title={title}",
        # What this machine or its user has set for GoAccess is meant for other logs.
        "--no-global-config", f"--config-file={os.devnull}",
        # Each line is counted: nginx logs status 000 too, and the first ten lines may be broken ones.
        "--no-strict-status", "--num-tests=0", "--no-progress",
        # A flood takes seconds: count by the minute, and by ten of them, instead of by the day and the hour.
        "--date-spec=min", "--hour-spec=min",
        f"--html-prefs={json.dumps(LOOKS)}", *(f"--ignore-panel={panel}" for panel in NO_PANELS), *options,
    ]  # fmt: skip


def make_reports(run: RunFolder, hosts: Sequence[str]) -> list[str]:
    """Let GoAccess make a report of the access log of each host that has left one.

    Args:
        run: the run.
        hosts: the measured hosts.

    Returns:
        What there is no report of, and what is not in a report, a sentence each.
    """
    fetched = [run.host(name) for name in hosts if run.host(name).archive.exists()]
    if fetched and (why := missing()):
        return [f"This run has no goaccess.html: {why}."]
    said = []
    for host in fetched:
        try:
            counts = make_report(host, f"{run.run_id}, {host.name}")
        except (FloodmarkError, OSError, ValueError) as error:  # a verdict is worth more than its pictures
            said.append(f"host {host.name} has no goaccess.html: {str(error).removesuffix('.')}.")
            continue
        if counts.failed:
            said.append(
                f"host {host.name}: GoAccess could not read {counts.failed} of the {counts.lines} lines of {LOG}."
            )
    return said


def make_report(folder: HostFolder, title: str) -> Counts:
    """Let GoAccess make a report of a host's access log.

    Args:
        folder: the host's results, with its archive.
        title: of the report.

    Returns:
        What GoAccess has counted. A last line that was cut off is none.

    Raises:
        FloodmarkError: there is no GoAccess here, it failed, or the host has left no log.
    """
    if why := missing():
        raise FloodmarkError(why)
    with tempfile.TemporaryDirectory(prefix="floodmark-") as name:
        room = Path(name)
        lines = _unpack_log(folder.archive, room / LOG)
        _run(command(LOG, title, "--output=report.html", "--output=report.json"), room)
        counted = json.loads((room / "report.json").read_text(encoding="utf-8", errors="replace"))["general"]
        with whole_file(folder.access_report) as unfinished:
            shutil.copyfile(room / "report.html", unfinished)
    return Counts(lines, lines - counted["valid_requests"])


def _unpack_log(archive: Path, log: Path) -> int:
    """Write the whole lines of the access log in a host's archive to a file; return how many there are."""
    lines = 0
    try:
        with open_archive(archive) as opened, log.open("wb") as file:
            member = next((one for one in opened if Path(one.name).name == LOG), None)
            source = opened.extractfile(member) if member else None
            if source is None:
                raise RunError(f"{archive} has no {LOG}: nginx was not started")
            for line in source:
                if line.endswith(b"\n"):
                    file.write(line)
                    lines += 1
    except FileNotFoundError:
        raise RunError(f"{archive} is missing: nothing was fetched from this host") from None
    return lines


def _run(arguments: list[str], room: Path) -> None:
    try:
        done = subprocess.run(
            # Runs are named by UTC, and reports do not depend on whose machine makes them.
            arguments, cwd=room, env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FloodmarkError(f"GoAccess has not ended in {PATIENCE_S} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        raise FloodmarkError(f"GoAccess ended with status {done.returncode}: {said[-1].strip()}")
