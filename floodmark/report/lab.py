"""The page of a lab: its question, a row for each of its runs, what they say together, and the same figures of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from floodmark.errors import RunError
from floodmark.inputs.labs import Lab, Picture, find_lab
from floodmark.model.lab import LabRecord, Overall, PointRow
from floodmark.model.verdict import ClaimVerdict, Prediction
from floodmark.report.multiples import Multiples, side_by_side
from floodmark.report.pages import render, write_page
from floodmark.report.run import HostReport, read_content, read_host
from floodmark.runs.folders import REPORT, LabFolder, RunFolder
from floodmark.show.lab import figure_text, sentences, settings


def write_lab_report(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a lab, and return where it is.

    Args:
        folder: of the lab, beside those of its runs.
        output: where; report.html in its folder otherwise.

    Raises:
        FloodmarkError: the lab has not come to its end, is damaged, or its page cannot be written.
    """
    path = output or folder / REPORT
    write_page(path, lab_page(folder))
    return path


def lab_page(folder: Path) -> str:
    """Return the page of a lab.

    Raises:
        FloodmarkError: it has not come to its end, or is damaged.
    """
    record = LabFolder(folder).read()
    if record.overall is None:
        raise RunError(f"lab {folder.name} is not complete: 'floodmark lab {folder.name}' goes on with it.")
    lab = find_lab(record.lab)
    return render(
        "lab.html",
        title=f"Lab {lab.name}: {record.question}",
        folder=folder.name,
        given=", ".join(f"{name}={value}" for name, value in record.given.items()),
        hosts=[_section(lab, folder.parent, record, one) for one in record.overall],
    )


@dataclass(frozen=True)
class _Point:
    """The run of one point: its name, its report, and its verdict."""

    name: str
    link: str
    valid: bool
    passed: bool


@dataclass(frozen=True)
class _Section:
    """What the page has of one host; settings and figures are rows with a text for each point."""

    name: str
    kernel: str | None
    sentences: list[tuple[str, bool]]
    points: list[_Point]
    named: bool
    settings: list[tuple[str, list[str]]]
    figures: list[tuple[str, list[str]]]
    expectations: list[Prediction]
    claims: list[ClaimVerdict]
    multiples: list[Multiples]


def _section(lab: Lab, results: Path, record: LabRecord, overall: Overall) -> _Section:
    rows = record.rows_of(overall.host)
    return _Section(
        name=overall.host,
        kernel=overall.kernel,
        sentences=list(sentences(rows, overall)),
        points=[_Point(row.point, f"../{row.run_id}/{REPORT}", row.valid, row.passed) for row in rows],
        named=bool(lab.file.runs),
        settings=settings(lab, rows),
        figures=[(one.name, [figure_text(row, one.name) for row in rows]) for one in lab.file.figures],
        expectations=overall.expectations,
        claims=overall.claims,
        multiples=list(multiples_of(lab, results, rows)),
    )


def multiples_of(lab: Lab, results: Path, rows: Sequence[PointRow]) -> Iterator[Multiples]:
    """Yield, for each figure that a lab wants drawn, that of every point of which it is wanted.

    Args:
        lab: whose points.
        results: the folder that has their runs.
        rows: of the table of points, of one host.
    """
    wanted = {row.point: lab.drawn_of(row.point) for row in rows}
    points = {
        row.point: _read(results / row.run_id, row.host, wanted[row.point], len(rows))
        for row in rows
        if wanted[row.point]
    }
    phases = {point: one.phases for point, one in points.items()}
    for name in lab.pictures:
        figures = {
            point: figure
            for point, one in points.items()
            for figure in one.figures
            if figure.name == name and name in wanted[point]
        }
        if not figures:
            continue
        first = next(iter(figures.values()))
        row = side_by_side(first.title, first.unit, figures, phases=phases, legend=True, own_heights=True)
        if row:
            yield row


def _read(path: Path, host: str, pictures: Sequence[Picture], share: int) -> HostReport:
    run = RunFolder(path)
    return read_host(run.host(host), read_content(run)[0], share, pictures)
