"""Folders of runs and labs below results/: their names, and how one is found again.

A run begins with `plan.json`, what is meant to happen. It is complete when `run.json` is there,
which is written last and takes the plan into itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from floodmark.disk import make_folder, write
from floodmark.errors import FailedHostError, RunError, did_you_mean
from floodmark.model.lab import LabRecord
from floodmark.model.run import Plan, RunRecord
from floodmark.model.stored import load
from floodmark.paths import ROOT

RESULTS = ROOT / "results"
LATEST = "latest"
# What people look at, in the folder of each run.
REPORT = "report.html"
# Of the study, in the folder of its execution: each of its sentences.
STUDY_PAGE = "study.html"
# Beside runs a results folder has those of labs, which say what their runs are, suites, `latest` and benchmarks.
RUN_ID = re.compile(r"\d{8}T\d{6}Z-case")
LAB_ID = re.compile(r"\d{8}T\d{6}Z-lab-")
RUN_AGAIN = "Run the case again."
# Beside those of its hosts a run has a folder of what floods them.
LOAD = "load"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run and the files in it."""

    path: Path

    @property
    def run_id(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def plan(self) -> Path:
        """What is meant to happen; gone once the run is complete."""
        return self.path / "plan.json"

    @property
    def record(self) -> Path:
        """What happened; written last."""
        return self.path / "run.json"

    @property
    def end(self) -> Path:
        """What ended the run before it was over; only then it is there."""
        return self.path / "ended-by.txt"

    def note_end(self, by: str) -> None:
        """Note what ends the run before it is over; what was first counts."""
        if not self.end.exists():
            write(self.end, by + "\n")

    @property
    def ended_by(self) -> str | None:
        """What ended the run before it was over: a key or a signal; None where nothing did."""
        return self.end.read_text(encoding="utf-8").strip() if self.end.exists() else None

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end, and was not ended before."""
        return self.record.exists() and self.ended_by is None

    def load(self, host: str) -> Path:
        """Return the folder of what the load generator wrote when it flooded a host."""
        return self.path / LOAD / host

    def host(self, name: str) -> HostFolder:
        """Return the folder of one proxy host.

        Raises:
            RunError: its name leads somewhere else, or there is a link: a run may come from anybody.
        """
        if not is_host_name(name):
            raise RunError(f"run {self.run_id} has a host {name!r}, which is no name for a folder of results.")
        path = self.path / name
        if path.is_symlink():
            raise RunError(
                f"{path} is a link to {path.readlink()}: what is judged is written there, so put the folder itself "
                "into its place."
            )
        return HostFolder(path)

    def read_plan(self) -> Plan:
        """Return the plan of an unfinished run.

        Raises:
            RunError: it is gone, or damaged.
        """
        return load(Plan, self.plan, RUN_AGAIN)

    def read_run(self) -> RunRecord:
        """Return what happened.

        Raises:
            RunError: the run is not complete, or its file is damaged.
        """
        if not self.record.exists():
            if self.plan.exists() and self.read_plan().web:
                raise RunError(
                    f"{self.run_id} was kept applied for the web page, which has no verdict; what its floods logged is "
                    f"in {self.path}/load."
                )
            raise RunError(
                f"run {self.run_id} is not complete: it has no run.json. What it left is in {self.path}; "
                "run the case again."
            )
        return load(RunRecord, self.record, RUN_AGAIN)


@dataclass(frozen=True)
class HostFolder:
    """The results of one proxy host in one run."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the host in the inventory."""
        return self.path.name

    @property
    def archive(self) -> Path:
        """What the host wrote, untouched."""
        return self.path / "raw" / "host.tar.gz"

    @property
    def failure(self) -> Path:
        """Why the run failed on this host, when it did."""
        return self.path / "failure.txt"

    @property
    def description(self) -> Path:
        """What the host is."""
        return self.path / "host.json"

    @property
    def verdict(self) -> Path:
        """What the run says about this host."""
        return self.path / "verdict.json"

    @property
    def access_report(self) -> Path:
        """GoAccess's report of nginx's access log."""
        return self.path / "goaccess.html"

    def refuse_failed(self) -> None:
        """Refuse a host on which the run failed.

        Raises:
            FailedHostError: it did; the error is why.
        """
        if self.failure.exists():
            raise FailedHostError(self.failure.read_text(encoding="utf-8", errors="replace").strip())

    def table(self, name: str) -> Path:
        """Return the file of a table."""
        return self.path / f"{name}.parquet"


@dataclass(frozen=True)
class LabFolder:
    """What is kept of one execution of a lab."""

    path: Path

    @property
    def file(self) -> Path:
        """Points and verdict."""
        return self.path / "lab.json"

    def read(self) -> LabRecord:
        """Return what is known.

        Raises:
            RunError: the file is missing or damaged.
        """
        return load(LabRecord, self.file, "Begin the lab again.")

    def run(self, run_id: str) -> RunFolder:
        """Return the run of a point, which lies beside the lab.

        Raises:
            RunError: its name leads somewhere else.
        """
        if not _is_one_step(run_id):
            raise RunError(
                f"{self.file} is damaged: it has a run {run_id!r}, which is no name for a folder of results."
            )
        return RunFolder(self.path.parent / run_id)


def is_host_name(name: str) -> bool:
    """Tell whether the results of a host of this name have a folder of their own in that of the run."""
    return _is_one_step(name) and name != LOAD


def _is_one_step(name: str) -> bool:
    """Tell whether a name, joined to a path, leads into that folder and no further."""
    return name not in ("", ".", "..") and not re.search(r"[/\x00]", name)


def new_run(case_number: int, transport: str, results: Path = RESULTS) -> RunFolder:
    """Create the folder of a new run; its name sorts by time.

    Args:
        case_number: which case.
        transport: unix or tcp.
        results: where runs are kept.
    """
    return RunFolder(new_folder(f"case{case_number}-{transport}", results))


def new_folder(name: str, results: Path = RESULTS) -> Path:
    """Create a folder below the results, named by the time and what it is of.

    Raises:
        RunError: it cannot be written there.
    """
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
    for attempt in range(1, 1000):
        path = results / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            make_folder(path)
        except FileExistsError:
            continue  # another run began in the same second
        except OSError as error:
            raise RunError(unwritable(results, error)) from None
        return path
    raise RunError(f"a thousand runs began in the same second: clear {results}.")


def unwritable(path: Path, error: OSError) -> str:
    """Return the sentence for results that cannot be written."""
    return (
        f"{path} cannot be written: {error.strerror}. Make it writable, with room for a run, or take another checkout."
    )


def runs_in(results: Path) -> list[Path]:
    """Return the folders of all runs in a results folder, oldest first."""
    return _named(RUN_ID, results)


def labs_in(results: Path) -> list[Path]:
    """Return the folders of all executions of labs in a results folder, oldest first."""
    return _named(LAB_ID, results)


def _named(pattern: re.Pattern[str], results: Path) -> list[Path]:
    return sorted(path for path in results.iterdir() if pattern.match(path.name))


def find_run(name: str, results: Path = RESULTS) -> RunFolder:
    """Return the run with a name, a path, or `latest`.

    Raises:
        RunError: there is no such run.
    """
    folder = Path(name) if "/" in name else results / name
    if not folder.is_dir():
        if "/" in name:
            raise RunError(f"there is no run '{name}': no such folder.")
        known = [path.name for path in runs_in(results)]
        if not known:
            raise RunError("there are no runs yet: 'make case CASE=3' makes one.")
        raise RunError(f"there is no run '{name}': {did_you_mean(name, known)}The newest is {known[-1]}.")
    return RunFolder(folder.resolve())


def is_lab_folder(name: str) -> bool:
    """Tell whether a name is that of an execution of a lab, and not of a lab or a run."""
    return bool(LAB_ID.match(Path(name).name))


def find_lab_folder(name: str, results: Path = RESULTS) -> LabFolder:
    """Return the execution of a lab with a name or a path.

    Raises:
        RunError: there is none.
    """
    path = Path(name) if "/" in name else results / name
    if not path.is_dir():
        raise RunError(f"there is no lab run '{name}': results/ has none of that name.")
    return LabFolder(path.resolve())


def point_latest_at(run: RunFolder) -> None:
    """Let `results/latest` name this run."""
    link = run.path.parent / LATEST
    temporary = link.with_name(f".{LATEST}-{run.run_id}")
    temporary.unlink(missing_ok=True)  # of a process that was killed
    temporary.symlink_to(run.run_id)
    temporary.replace(link)
