"""Figures without a script."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from floodmark.report.figures import Figure
from floodmark.report.series import Line
from floodmark.report.svg import Scale, draw, scale_of_latency, seconds_text, text_of


def figure(y: list[float], label: str = "one") -> Figure:
    return Figure("f", "A <figure>", "conns", [Line(label, "queue", np.arange(len(y), dtype=float), np.array(y))])


def test_a_figure_is_well_formed_and_its_axes_have_ticks_with_units() -> None:
    root = ElementTree.fromstring(draw(figure([0, 5, 9]), Scale(0, 2), 9, [("flood", 0.5, 1.5)]))
    texts = [one.text for one in root.iter("text")]
    assert {"0", "2", "8", "0 s", "1 s", "2 s"} <= set(texts)
    (phase,) = (one for one in root.iter("rect") if one.get("class") == "phase flood")
    assert (phase.get("x"), phase.get("width")) == ("25.00%", "50.00%")
    assert root.get("aria-label") == "A <figure> (conns)"


def test_a_line_of_steps_holds_each_value_until_the_next_and_breaks_at_a_gap() -> None:
    picture = draw(figure([0, 10, float("nan"), 10]), Scale(0, 3), 10)
    (path,) = re.findall(r' d="([^"]+)"', picture)
    assert path.count("M") == 2
    assert re.match(r"M0 1000h.1H333\.3V74\.1H666\.7M1000 74\.1", path)


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 9.7), [0, 2, 4, 6, 8]),
        (Scale(-2, 8), [-2, 0, 2, 4, 6, 8]),
        (Scale(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Scale(0.0007, 6, logarithmic=True), [0.001, 0.01, 0.1, 1]),
        (Scale(0.9, 11, logarithmic=True), [1, 2, 5, 10]),
    ],
)
def test_ticks_are_round_and_few(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks(6) == pytest.approx(ticks)


def test_latencies_that_are_close_together_have_an_axis_that_is_not_logarithmic() -> None:
    near = Figure("l", "", "%", [Line("all", "text", np.array([4.99, 5.03]), np.array([0, 100.0]))], kind="latency")
    assert not scale_of_latency(near).logarithmic
    far = Figure("l", "", "%", [Line("all", "text", np.array([0.001, 5.0]), np.array([0, 100.0]))], kind="latency")
    assert scale_of_latency(far).logarithmic


def test_numbers_of_ticks_are_short() -> None:
    assert [text_of(one) for one in (0, 0.30000000000000004, 5000, 250_000, 3_000_000)] == [
        "0", "0.3", "5000", "250 k", "3 M",
    ]  # fmt: skip
    assert [seconds_text(one) for one in (5, 0.02, 3e-5, 0)] == ["5 s", "20 ms", "30 µs", "0 s"]
