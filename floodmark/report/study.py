"""The page of the study: pictures of its runs, each of its sentences with its number and ours, and the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from floodmark.errors import RunError
from floodmark.inputs.labs import Lab, find_lab
from floodmark.inputs.parameters import as_yaml
from floodmark.model.lab import LabRecord, Overall, PointRow
from floodmark.paths import relative
from floodmark.report.lab import multiples_of
from floodmark.report.multiples import Multiples
from floodmark.report.pages import render, write_page
from floodmark.runs.folders import REPORT, STUDY_PAGE, LabFolder
from floodmark.show.lab import sentences
from floodmark.show.study import asked_elsewhere, command_for, in_short, outcomes_of
from floodmark.study.outcome import SentenceOutcome
from floodmark.study.sentences import AT

# Of a sentence that all runs are asked about, some are named.
MOST_LINKS = 3


@dataclass(frozen=True)
class _Run:
    """The run of one point on one host."""

    name: str
    case: int | None
    settings: str
    link: str
    command: str
    word: str
    good: bool


@dataclass(frozen=True)
class _Host:
    """What the page has of one host."""

    name: str
    kernel: str | None
    sentences: list[tuple[str, bool]]
    multiples: list[Multiples]
    runs: list[_Run]


@dataclass(frozen=True)
class _Sentence:
    """A sentence with the runs that tell of it, each a name and a link."""

    outcome: SentenceOutcome
    runs: list[tuple[str, str]]
    more_runs: int
    command: str
    elsewhere: str


def write_study_page(folder: LabFolder) -> Path:
    """Write the page of an execution of the study into its folder, and return where it is.

    Raises:
        FloodmarkError: it has not come to its end, is damaged, or the page cannot be written.
    """
    path = folder.path / STUDY_PAGE
    write_page(path, study_page(folder))
    return path


def study_page(folder: LabFolder) -> str:
    """Return the page of an execution of the study.

    Raises:
        FloodmarkError: it has not come to its end, or is damaged.
    """
    record = folder.read()
    if record.overall is None:
        raise RunError(f"{folder.path.name} is not complete: `floodmark study` goes on with it.")
    lab = find_lab(record.lab)
    outcomes = outcomes_of(folder)
    rows: dict[str, PointRow] = {}
    for row in record.table or []:
        rows.setdefault(row.point, row)
    sections: dict[str, list[_Sentence]] = {}
    for one in outcomes:
        sections.setdefault(one.section, []).append(_sentence(one, rows))
    shared = {
        **record.parameters,
        **{name: value for name, value in record.given.items() if name in lab.file.parameters},
    }
    return render(
        "study.html",
        title="The study, as its author ran it",
        folder=folder.path.name,
        inventory=relative(Path(record.inventory)),
        given=", ".join(f"{name}={value}" for name, value in record.given.items()),
        in_short=in_short(outcomes),
        hosts=[_host(lab, folder, record, one) for one in record.overall],
        sections=sections,
        shared=[(name, as_yaml(value)) for name, value in shared.items()],
        question=record.question,
    )


def _host(lab: Lab, folder: LabFolder, record: LabRecord, overall: Overall) -> _Host:
    rows = record.rows_of(overall.host)
    return _Host(
        name=overall.host,
        kernel=overall.kernel,
        sentences=list(sentences(rows, overall)),
        multiples=list(multiples_of(lab, folder.path.parent, rows)),
        runs=list(_runs(record, rows)),
    )


def _runs(record: LabRecord, rows: Sequence[PointRow]) -> Iterator[_Run]:
    varied = {one.point: one.varied for one in record.points}
    for row in rows:
        yield _Run(
            name=row.point,
            case=row.case_number,
            settings=", ".join(f"{name}={as_yaml(value)}" for name, value in varied.get(row.point, {}).items()),
            link=f"../{row.run_id}/{REPORT}",
            command=command_for(row.point),
            word="✓ holds" if row.passed else "✗ fails" if row.valid else "INVALID",
            good=row.passed,
        )


def _sentence(outcome: SentenceOutcome, rows: dict[str, PointRow]) -> _Sentence:
    """Return a sentence with links to the runs that it rests on.

    Args:
        outcome: of the sentence.
        rows: name of a point -> its row, of the first host, in the order of the points.
    """
    telling = {one.where.partition(AT)[2] for one in outcome.evidence if one.n}
    known = [name for name in rows if name in telling]
    return _Sentence(
        outcome,
        [(name, f"../{rows[name].run_id}/{REPORT}") for name in known[:MOST_LINKS]],
        len(known[MOST_LINKS:]),
        command_for(known[0]) if known else "",
        asked_elsewhere(outcome),
    )
