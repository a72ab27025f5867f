"""What people see of labs in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from floodmark.inputs.labs import Lab, find_lab
from floodmark.inputs.parameters import as_yaml
from floodmark.model.lab import Overall, PointRow
from floodmark.paths import relative
from floodmark.runs.folders import REPORT, LabFolder
from floodmark.show.run import print_claims, print_expectations
from floodmark.show.tables import BAD, GOOD, table_of
from floodmark.text import number


def print_labs(console: Console, labs: Mapping[str, Lab]) -> None:
    """Print all labs with their questions."""
    table = table_of("lab", "question", "case", "points")
    for lab in labs.values():
        names = "; ".join(point.name for point in lab.points({}))
        table.add_row(lab.name, lab.file.question, ", ".join(map(str, lab.cases)), escape(names))
    console.print(table)
    console.print("Run one with [bold]make lab LAB=single-request[/bold]")


def print_lab(console: Console, folder: LabFolder) -> None:
    """Print the table of points of a lab that was judged, and what is said of them together."""
    record = folder.read()
    lab = find_lab(record.lab)
    console.print(f"\n[bold]Lab {lab.name}[/bold]  {record.question}", highlight=False)
    for overall in record.overall or []:
        console.print(f"[dim]host {overall.host}, Linux {overall.kernel or 'unknown'}[/dim]", highlight=False)
        rows = record.rows_of(overall.host)
        said = (f"[{GOOD if good else BAD}]{sentence}[/]" for sentence, good in sentences(rows, overall))
        console.print(", ".join(said), highlight=False)
        _print_points(console, lab, rows)
        if overall.expectations:
            print_expectations(console, overall.expectations)
        if overall.claims:
            print_claims(console, overall.claims)
    console.print(
        f"[dim]The points are {', '.join(str(one.run_id) for one in record.points)}, each with a verdict and "
        f"claims of its own: floodmark show RUN. All of the lab is in {relative(folder.file)}, drawn in {REPORT}[/dim]",
        highlight=False,
    )


def sentences(rows: Sequence[PointRow], overall: Overall) -> Iterator[tuple[str, bool]]:
    """Yield what became of a lab on one host, and whether that is as it should be.

    Args:
        rows: of the table of points.
        overall: what was said of all of them together.
    """
    good = sum(row.passed for row in rows)
    yield f"{good} of {len(rows)} points are valid and their expectations hold", good == len(rows)
    held, total = sum(one.holds for one in overall.expectations), len(overall.expectations)
    yield f"{held} of {total} expectations of all of them together hold", held == total


def _print_points(console: Console, lab: Lab, rows: Sequence[PointRow]) -> None:
    """Print a column for each point, as its page has them, in as many tables as the terminal is too narrow for."""
    differ = settings(lab, rows)
    figures = [one.name for one in lab.file.figures]
    left = ["point", *(name for name, _ in differ), *figures]
    columns = [
        [
            _head(lab, number_, row),
            *(texts[number_] for _, texts in differ),
            *(figure_text(row, name) for name in figures),
        ]
        for number_, row in enumerate(rows)
    ]
    if lab.file.runs:
        for number_, row in enumerate(rows):
            console.print(f"{number_ + 1:>3} {_mark(row)} {escape(row.point)}", highlight=False)
    for table in _that_fit(console, left, columns):
        console.print(table)


def settings(lab: Lab, rows: Sequence[PointRow]) -> list[tuple[str, list[str]]]:
    """Return what the points of a lab differ in: its name, and what each point has.

    Args:
        lab: whose points.
        rows: of the table of points, of one host.
    """
    varied = [(axis, [setting_text(row, axis) for row in rows]) for axis in lab.axes]
    if len(lab.cases) == 1:
        return varied
    return [("case", [setting_text(row, "case_number") for row in rows]), *varied]


def figure_text(row: PointRow, name: str) -> str:
    """Return a figure of a point with its n, `27.1 (n = 240)`; without it where the figure is itself a count."""
    value, n = row.get(name), row.figure_n.get(name, 0)
    return number(value) if value is None or n <= 1 or value == n else f"{number(value)} (n = {n:,})"


def setting_text(row: PointRow, axis: str) -> str:
    """Return a parameter of a point as people read it."""
    value = row.get(axis)
    return "-" if value is None else as_yaml(value)


def _head(lab: Lab, number_: int, row: PointRow) -> str:
    """Return what stands above a point: its mark, and its number where a list has its name."""
    return f"{number_ + 1} {_mark(row)}" if lab.file.runs else _mark(row)


def _mark(row: PointRow) -> str:
    return f"[{GOOD}]✓[/]" if row.passed else f"[{BAD}]✗[/]" if row.valid else f"[{BAD}]invalid[/]"


def _that_fit(console: Console, left: list[str], columns: Sequence[list[str]]) -> Iterator[Table]:
    """Yield tables with as many columns as fit beside each other, until there are none left."""
    unbounded = console.options.update(max_width=sys.maxsize)
    beside: list[list[str]] = []
    for column in columns:
        wider = _side_by_side(left, [*beside, column])
        if beside and console.measure(wider, options=unbounded).maximum > console.width:
            yield _side_by_side(left, beside)
            beside = []
        beside.append(column)
    if beside:
        yield _side_by_side(left, beside)


def _side_by_side(left: list[str], columns: list[list[str]]) -> Table:
    table = table_of(left[0], *((head, "right") for head, *_ in columns))
    for line in zip(left[1:], *(cells for _, *cells in columns), strict=True):
        table.add_row(*line)
    return table
