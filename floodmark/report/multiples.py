"""The same figure of several runs side by side, so that they can be compared by eye."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from floodmark.report.figures import Figure
from floodmark.report.svg import Scale, draw, scale_of_latency

HEIGHT_PX = 130
MOST_TICKS = 5
# PSS of worker 1442
PID = re.compile(r"(?<=worker|master) \d+$")

# Name, start and end of each phase, in seconds on the axis.
Phases = Sequence[tuple[str, float, float]]


@dataclass(frozen=True)
class Cell:
    """One of several small figures.

    Attributes:
        name: what it is of.
        remark: a word more.
        notes: what it rests on, and why there are gaps.
        picture: None where there is nothing to see.
    """

    name: str
    remark: str
    notes: Sequence[str]
    picture: Markup | None


@dataclass(frozen=True)
class Multiples:
    """Small figures side by side, as the template's `multiples` shows them.

    Attributes:
        title: of all of them.
        unit: of their vertical axis, and whether they share it.
        legend: label, colour, and whether it is dashed, of every line.
        cells: the figures.
    """

    title: str
    unit: str
    legend: list[tuple[str, str, bool]]
    cells: list[Cell]


def side_by_side(
    title: str,
    unit: str,
    figures: Mapping[str, Figure],
    *,
    remarks: Mapping[str, str] | None = None,
    phases: Mapping[str, Phases] | None = None,
    legend: bool = False,
    own_heights: bool = False,
) -> Multiples | None:
    """Return the same figure of several runs; None where there is nothing to see.

    Args:
        title: of all of them.
        unit: of their vertical axis.
        figures: what each is of -> figure; all of one kind.
        remarks: what each is of -> a word more.
        phases: what each is of -> phases to be shaded.
        legend: whether the lines are told apart; processes are not, which differ from run to run.
        own_heights: whether each has a vertical axis of its own.
    """
    lines = [line for one in figures.values() for line in one.lines if line.x.size]
    bars = [each for one in figures.values() for each in one.bars]
    if not lines and not bars:
        return None
    every = Figure(title, title, unit, lines, bars=bars, kind=next(iter(figures.values())).kind)
    if every.kind == "latency":
        across = scale_of_latency(every)
    else:
        starts = [float(one.x[0]) for one in lines] + [float(one.start.min()) for one in bars]
        ends = [float(one.x[-1]) for one in lines] + [float(one.end.max()) for one in bars]
        across = Scale(min(starts), max(*ends, min(starts) + 1e-3))
    cells = [
        Cell(
            name,
            (remarks or {}).get(name, ""),
            one.notes,
            draw(
                one,
                across,
                one.highest if own_heights else every.highest,
                (phases or {}).get(name, ()),
                height_px=HEIGHT_PX,
                most_ticks=MOST_TICKS,
            )
            if one.drawn
            else None,
        )
        for name, one in figures.items()
    ]
    entries = [entry for one in figures.values() for entry in one.legend] if legend else []
    return Multiples(
        title,
        f"{unit}, {'the same time for all; mind the heights' if own_heights else 'the same axes for all'}",
        list(dict.fromkeys((PID.sub("", label), colour, dashed) for label, colour, dashed in entries)),
        cells,
    )
