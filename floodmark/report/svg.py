"""Figures as SVG, inside of a page: without a script, on paper, and until the script has drawn.

The picture is as wide as its place: what is on the horizontal axis is given in per cent, so that text keeps its size
on a phone, and lines are drawn in a box of 1000 × 1000 that is stretched while their strokes are not. Labels stand
outside of the box, where the style sheet leaves room for them. Colours are those of the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from floodmark.compare.model import Summary
from floodmark.report.figures import Bars, Figure
from floodmark.report.series import Line, Numbers, thin

BOX = 1000
# Columns that a line is reduced to: no paper and few screens show more.
COLUMNS = 700
HEIGHT_PX, TALL_PX = 150, 230
# Labels on the horizontal axis: as many as have room on a phone.
MOST_TICKS = 7


@dataclass(frozen=True)
class Scale:
    """One axis: from which value to which, and whether steps are factors."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, values: Numbers) -> Numbers:
        """Return where values are, 0 at the low end and 1 at the high one."""
        if self.logarithmic:
            return np.asarray((np.log10(values) - math.log10(self.low)) / math.log10(self.high / self.low))
        return np.asarray((values - self.low) / (self.high - self.low))

    def ticks(self, most: int) -> list[float]:
        """Return round values on the axis, so many at most."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                found = [10.0**power * factor for power in powers for factor in factors]
                inside = [one for one in found if self.low <= one <= self.high]
                if len(inside) <= most:
                    break
            return inside[:: math.ceil(len(inside) / most)]
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        for step in (power, power * 2, power * 5, power * 10):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < most:
                break
        return [number * step for number in range(first, last + 1)]


def text_of(value: float) -> str:
    """Return the label of a tick."""
    if value and abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    if value and abs(value) >= 1e5:
        return f"{value / 1e3:g} k"
    return f"{round(value, 9):g}"


def seconds_text(value: float) -> str:
    """Return a length of time with its unit."""
    if not value:
        return "0 s"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size * 0.9999:
            return f"{value / size:.4g} {unit}"
    return f"{value * 1e6:.4g} µs"


def scale_of_values(highest: float) -> Scale:
    """Return a vertical axis from 0 on, with room above the highest value."""
    return Scale(0, max(highest, 1e-9) * 1.08 if highest else 1)


def scale_of_latency(figure: Figure) -> Scale:
    """Return an axis on which all curves of a figure have room: logarithmic where they span a factor of ten."""
    least = min(float(one.x.min()) for one in figure.lines)
    most = max(float(one.x.max()) for one in figure.lines)
    if most / least >= 10:
        return Scale(least / 1.3, most * 1.3, logarithmic=True)
    room = max((most - least) * 0.1, most * 1e-3)
    return Scale(max(least - room, 0), most + room)


def draw(
    figure: Figure,
    across: Scale,
    highest: float,
    phases: Sequence[tuple[str, float, float]] = (),
    *,
    height_px: int = 0,
    most_ticks: int = MOST_TICKS,
) -> Markup:
    """Return a figure as SVG.

    Args:
        figure: what to draw.
        across: the horizontal axis.
        highest: value that the vertical axis has to reach.
        phases: name, start and end of each, on the horizontal axis.
        height_px: of the box; what fits the figure otherwise.
        most_ticks: on the horizontal axis.
    """
    up = scale_of_values(highest)
    height = height_px or (TALL_PX if figure.tall or figure.bars else HEIGHT_PX)
    parts = [
        *_phases(phases, across),
        *_axes(across, up, figure, height, most_ticks),
        f'<svg viewBox="0 0 {BOX} {BOX}" preserveAspectRatio="none" width="100%" height="100%">',
        *(_bars(one, across, up) for one in figure.bars),
        *(path for one in figure.lines if (path := _path(one, across, up))),
        "</svg>",
    ]
    label = escape(f"{figure.title} ({figure.unit})")
    return Markup(f'<svg class="plot" height="{height}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def _phases(phases: Sequence[tuple[str, float, float]], across: Scale) -> Iterator[str]:
    for name, start, end in phases:
        left, right = np.clip(across.place(np.array([start, end])), 0, 1) * 100
        yield f'<rect class="phase {escape(name)}" x="{left:.2f}%" width="{right - left:.2f}%" height="100%"/>'


def _axes(across: Scale, up: Scale, figure: Figure, height: int, most_ticks: int) -> Iterator[str]:
    for value in up.ticks(5):
        y = height * (1 - float(up.place(np.array(value))))
        yield f'<line class="grid" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="up" x="-6" y="{y + 4:.1f}">{text_of(value)}</text>'
    for value in across.ticks(most_ticks):
        x = float(across.place(np.array(value))) * 100
        text = f"{text_of(value)} s" if figure.kind == "time" else seconds_text(value)
        yield f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y2="{height}"/>'
        yield f'<text class="across" x="{x:.2f}%" y="{height + 16}">{text}</text>'


def _path(line: Line, across: Scale, up: Scale) -> str:
    """Return a line of steps, each value held until the next."""
    x, y = thin(line.x, line.y, COLUMNS)
    if not x.size:
        return ""
    xs = across.place(x) * BOX
    ys = (1 - up.place(y)) * BOX
    steps = []
    pen, at = False, ""
    for left, top, gap in zip(xs.round(1).tolist(), ys.round(1).tolist(), np.isnan(y).tolist(), strict=True):
        if gap:
            if pen:
                steps.append(f"H{left:g}")
            pen, at = False, ""
            continue
        height = f"{top:g}"
        if not pen:
            steps.append(f"M{left:g} {height}h.1")
        else:
            steps.append(f"H{left:g}" + (f"V{height}" if height != at else ""))
        pen, at = True, height
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    return f'<path class="line" style="stroke:var(--{escape(line.colour)})"{dash} d="{"".join(steps)}"/>'


def _bars(bars: Bars, across: Scale, up: Scale) -> str:
    """Return requests as lines from start to end, as thick as their number allows."""
    left, right = across.place(bars.start) * BOX, across.place(bars.end) * BOX
    top = (1 - up.place(bars.number + 0.5)) * BOX
    steps = (
        f"M{x:g} {y:g}h{max(width, 1):g}"
        for x, y, width in zip(left.round(1).tolist(), top.round(1).tolist(), (right - left).round(1).tolist(),
                               strict=True)
    )  # fmt: skip
    width = min(max(TALL_PX / up.high * 0.75, 0.6), 8)
    return f'<path class="line" style="stroke:var(--{bars.colour});stroke-width:{width:.2g}" d="{"".join(steps)}"/>'


# --- comparisons ----------------------------------------------------------------------------------------

ROW_PX = 22


def draw_effect(
    scale: Scale, margin: float, shift: float | None = None, low: float | None = None, high: float | None = None
) -> Markup:
    """Return a row of a forest plot; without a shift its axis, in per cent.

    Args:
        scale: of all rows.
        margin: of equivalence: a band.
        shift: the estimate: a dot.
        low: lower end of its interval; None where there is none.
        high: upper end.
    """
    middle = ROW_PX / 2
    left, right = _percents(scale, -margin, margin)
    parts = [f'<rect class="margin" x="{left:.2f}%" width="{right - left:.2f}%" height="100%"/>']
    if shift is None:
        parts += _labels(scale, "%", most=5)  # three at least, because 0 is in the middle
    else:
        (zero,) = _percents(scale, 0)
        parts.append(f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y2="{ROW_PX}"/>')
        if low is not None and high is not None:
            begin, end = _percents(scale, low, high)
            parts.append(f'<line class="interval" x1="{begin:.2f}%" x2="{end:.2f}%" y1="{middle}" y2="{middle}"/>')
        ends = [one for one in (shift, low, high) if one is not None]
        for outside, arrow, x, anchor in (
            (min(ends) < scale.low, "◀", "0", "start"),
            (max(ends) > scale.high, "▶", "100%", "end"),
        ):
            if outside:
                parts.append(f'<text class="arrow {anchor}" x="{x}" y="{middle + 4}">{arrow}</text>')
        if scale.low <= shift <= scale.high:
            (at,) = _percents(scale, shift)
            parts.append(f'<circle class="dot" cx="{at:.2f}%" cy="{middle}" r="4"/>')
    return Markup(f'<svg class="row" height="{ROW_PX}" aria-hidden="true">{"".join(parts)}</svg>')


def draw_values(scale: Scale, summary: Summary | None = None) -> Markup:
    """Return all values of one arm as dots, with quartiles and median; without a summary the axis."""
    if summary is None:
        parts = _labels(scale, "", most=4)
    else:
        begin, middle, end = _percents(scale, summary.low_quartile, summary.median, summary.high_quartile)
        parts = [f'<rect class="box" x="{begin:.2f}%" width="{end - begin:.2f}%" y="4" height="{ROW_PX - 8}"/>']
        parts += [
            f'<circle class="dot" cx="{at:.2f}%" cy="{ROW_PX / 2}" r="3"/>' for at in _percents(scale, *summary.values)
        ]
        parts.append(f'<line class="median" x1="{middle:.2f}%" x2="{middle:.2f}%" y1="2" y2="{ROW_PX - 2}"/>')
    return Markup(f'<svg class="row" height="{ROW_PX}" aria-hidden="true">{"".join(parts)}</svg>')


def _percents(scale: Scale, *values: float) -> list[float]:
    places: list[float] = (np.clip(scale.place(np.array(values)), 0, 1) * 100).tolist()
    return places


def _labels(scale: Scale, unit: str, most: int) -> list[str]:
    labels = []
    for value in scale.ticks(most):
        (x,) = _percents(scale, value)
        sign = "+" if unit and value > 0 else ""
        labels.append(f'<text class="across" x="{x:.2f}%" y="14">{sign}{text_of(value)}{unit and f" {unit}"}</text>')
    return labels
