"""All runs in one page, newest first, which can be narrowed down to a case, a kernel, a transport, a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from floodmark.errors import RunError
from floodmark.report.pages import OURS, render, write_page
from floodmark.runs.folders import REPORT, LabFolder, RunFolder, labs_in, runs_in
from floodmark.runs.verdicts import read_verdict
from floodmark.show import lab as lab_show
from floodmark.show import run as show

INDEX = "index.html"
INCOMPLETE = "not complete"
# What a run can be narrowed down to, in the order of the page.
FILTERS = ("case", "transport", "kernel", "verdict")


@dataclass(frozen=True)
class Entry:
    """One host of one run or lab, or a run that has none.

    Attributes:
        run_id: name of the run.
        link: what to open for more, from the results folder.
        case: number and title; name and question of a lab.
        transport: unix or tcp.
        host: name of the host.
        kernel: what it ran.
        verdict: passed, failed, invalid, or not complete.
        good: whether there is nothing to look into.
        word: the verdict in a word, which is coloured.
        said: the rest of the line.
    """

    run_id: str
    link: str
    case: str
    transport: str
    host: str
    kernel: str
    verdict: str
    good: bool
    word: str
    said: str


def write_index(results: Path, output: Path | None = None) -> Path:
    """Write the page of all runs, and return where it is.

    Args:
        results: the folder that they are in.
        output: where; index.html in that folder otherwise.

    Raises:
        RunError: it cannot be written.
    """
    path = output or results / INDEX
    write_page(path, index_of(results))
    return path


def index_of(results: Path) -> str:
    """Return the page of all runs."""
    entries = list(read_entries(results))
    choices = {name: sorted({getattr(one, name) for one in entries if getattr(one, name)}) for name in FILTERS}
    return render(
        "index.html",
        scripts=[OURS / "index.js"],
        title="Runs",
        entries=entries,
        runs=len(runs_in(results)),
        choices=choices,
    )


def read_entries(results: Path) -> Iterator[Entry]:
    """Yield what is known of all runs and of the labs that they belong to, newest first."""
    labs = set(labs_in(results))
    for folder in sorted([*runs_in(results), *labs], reverse=True):
        try:
            yield from list(_of_lab(folder) if folder in labs else _of_run(RunFolder(folder)))
        except RunError as error:
            # One that is damaged must not hide the others, and the run that has just been made must not fail for it.
            yield _incomplete(f": {error}", run_id=folder.name, link=_link(folder))


def _of_lab(folder: Path) -> Iterator[Entry]:
    record = LabFolder(folder).read()
    common = {
        "run_id": folder.name,
        "link": _link(folder),
        "case": f"lab {record.lab}: {record.question}",
        "transport": "",
    }
    if record.overall is None:
        yield _incomplete(": not all of its runs are made", **common)
        return
    for host in record.overall:
        rows = record.rows_of(host.host)
        words = list(lab_show.sentences(rows, host))
        good = all(one for _, one in words)
        valid = all(row.valid for row in rows)
        yield Entry(
            **common,
            host=host.host,
            kernel=host.kernel or "",
            verdict="passed" if good else "failed" if valid else "invalid",
            good=good,
            word="VALID" if valid else "INVALID",
            said=f": {'; '.join(sentence for sentence, _ in words)}",
        )


def _of_run(run: RunFolder) -> Iterator[Entry]:
    complete = run.record.exists()
    if not complete and not run.plan.exists():
        yield _incomplete(": it has no run.json", run_id=run.run_id, link=_link(run.path))
        return
    plan = run.read_run() if complete else run.read_plan()
    common = {
        "run_id": run.run_id,
        "link": _link(run.path),
        "case": f"{plan.case.number}: {plan.case.title}",
        "transport": str(plan.parameters["transport"]),
    }
    for host in plan.hosts.proxies:
        if not complete:
            yield _incomplete(": it has no run.json", **common, host=host)
            continue
        try:
            verdict = read_verdict(run.host(host))
        except RunError as error:
            yield _incomplete(f": {error}", **common, host=host)
            continue
        word, said = show.in_short(verdict)
        yield Entry(
            **common,
            host=host,
            kernel=verdict.kernel or "",
            verdict="passed" if verdict.passed else "failed" if verdict.valid else "invalid",
            good=verdict.passed,
            word=word,
            said=said,
        )


def _incomplete(said: str, **known: str) -> Entry:
    nothing = dict.fromkeys(("case", "transport", "host", "kernel"), "")
    return Entry(**{**nothing, **known}, verdict=INCOMPLETE, good=False, word=INCOMPLETE, said=said)


def _link(folder: Path) -> str:
    return f"{folder.name}/" + (REPORT if (folder / REPORT).exists() else "")
