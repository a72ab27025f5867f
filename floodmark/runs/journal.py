"""The journal of a suite: which of its runs were begun and finished, kept through any end of the process.

    results/suites/<suite>-<digest>/suite.json      the suite as resolved
    results/suites/<suite>-<digest>/journal.jsonl   the first line says whose journal it is, then a line for each event
    results/suites/<suite>-<digest>/logs/<run>.txt  what Ansible said

Lines are only ever added, and are on the disk before anything else happens. A run is finished when the journal
names its folder and that holds a run.json; so nothing is lost between writing the one and the other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from floodmark.disk import make_folder, open_log, sync
from floodmark.errors import RunError, SuiteError
from floodmark.inputs.suites import Suite, SuiteRun
from floodmark.model.stored import write_json
from floodmark.runs.folders import RunFolder, unwritable
from floodmark.runs.lock import only_process


@dataclass(frozen=True)
class Finished:
    """A run of the suite that is complete."""

    run: RunFolder
    valid: bool
    passed: bool
    took_s: float | None


@dataclass
class Journal:
    """What is known of the runs of one suite."""

    folder: Path
    finished: dict[str, Finished] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file with a line for each event."""
        return self.folder / "journal.jsonl"

    def log(self, run: SuiteRun) -> Path:
        """Return where Ansible's output of a run is kept."""
        return self.folder / "logs" / f"{run.name}.txt"

    def begin(self, run: SuiteRun, folder: RunFolder) -> None:
        """Note that a run has a folder now."""
        self._append(
            event="began",
            run=run.name,
            run_id=folder.run_id,
            block=run.block,
            half=run.half,
            host_order=run.host_order,
            case=run.combination.case.number,
            varied=run.combination.varied,
        )

    def finish(self, run: SuiteRun, folder: RunFolder, took_s: float) -> Finished:
        """Note that a run is complete.

        Raises:
            RunError: it is not.
        """
        done = read_finished(folder, took_s)
        # The run is on the disk before the line that says so. It also keeps what is still to be written from
        # being written while the next run is measured.
        os.sync()
        self._append(
            event="finished",
            run=run.name,
            run_id=folder.run_id,
            valid=done.valid,
            passed=done.passed,
            took_s=round(took_s, 1),
        )
        self.finished[run.name] = done
        return done

    def fail(self, run: SuiteRun, why: str) -> None:
        """Note that a run has ended without a verdict."""
        self._append(event="failed", run=run.name, why=why)

    def _append(self, **line: Any) -> None:
        with open_log(self.path) as file:
            file.write(json.dumps({"at": _now(), **line}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_journal(suite: Suite, results: Path) -> Journal:
    """Read what is known of a suite; nothing is written.

    Args:
        suite: whose journal.
        results: where runs are kept.

    Raises:
        SuiteError: the journal is damaged or belongs to another suite.
    """
    journal = Journal(results / "suites" / f"{suite.name}-{suite.digest[:8]}")
    folders: dict[str, RunFolder] = {}
    took_s: dict[str, float] = {}
    for line in _lines(journal.path, suite):
        if "run_id" in line:
            folders[line["run"]] = RunFolder(results / line["run_id"])
        if line.get("event") == "finished":
            took_s[line["run"]] = line["took_s"]
    for name, folder in folders.items():
        try:
            journal.finished[name] = read_finished(folder, took_s.get(name))
        except RunError:
            continue  # it was cut off, or its folder was removed: it will be run again
    return journal


@contextmanager
def open_journal(suite: Suite, results: Path) -> Iterator[Journal]:
    """Hold the journal of a suite for writing, as the only process.

    Raises:
        SuiteError: another process holds it, it cannot be written, or it is damaged or belongs to another suite.
    """
    folder = read_journal(suite, results).folder
    try:
        make_folder(folder, exist_ok=True)
        make_folder(folder / "logs", exist_ok=True)
    except OSError as error:
        raise SuiteError(unwritable(folder, error)) from None
    with only_process(folder, f"suite {suite.name}", SuiteError):
        journal = read_journal(suite, results)
        _prepare(journal, suite)
        yield journal


def _prepare(journal: Journal, suite: Suite) -> None:
    """Write the suite beside its journal, and begin the journal or take away a line that was not finished."""
    write_json(journal.folder / "suite.json", {**suite.content, "repetitions": suite.file.repetitions})
    text = journal.path.read_bytes() if journal.path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(journal.path, len(whole))
    if not whole:
        journal._append(suite=suite.name, digest=suite.digest)  # noqa: SLF001 - no other line is like this
        sync(journal.folder)


def _lines(path: Path, suite: Suite) -> Iterator[dict[str, Any]]:
    """Yield the lines after the first, which says whose journal it is; the last may have been cut off."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    lines = text.split("\n")[:-1]
    for number, line in enumerate(lines, start=1):
        content = _parse(path, number, line)
        if number > 1:
            yield content
        elif content.get("digest") != suite.digest:
            raise SuiteError(
                f"{path} belongs to suite {content.get('suite')} with digest {content.get('digest')}, and this is "
                f"{suite.name} with digest {suite.digest}: put the file back where it came from, or move it away to "
                "begin this suite anew."
            )


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not _is_line(content, number):
        raise SuiteError(
            f"{path}, line {number} is damaged: {line[:60]!r} is not a line of a journal. Restore the file from "
            f"a backup, or move {path.parent.name} away to begin the suite anew; the runs themselves are not touched."
        )
    return content


def _is_line(content: dict[str, Any], number: int) -> bool:
    """Tell whether a line has what it must have, each of its type."""
    if number == 1:
        kinds: dict[str, type | tuple[type, ...]] = {"suite": str, "digest": str}
    else:
        event = content.get("event")
        kinds = {"event": str, "run": str}
        kinds |= {"run_id": str} if event in ("began", "finished") else {}
        kinds |= {"took_s": (int, float)} if event == "finished" else {}
    return all(isinstance(content.get(name), kind) for name, kind in kinds.items())


def read_finished(folder: RunFolder, took_s: float | None) -> Finished:
    """Return what came of a complete run.

    Raises:
        RunError: it is not complete.
    """
    record = folder.read_run()
    return Finished(folder, valid=record.valid, passed=record.passed, took_s=took_s)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
