"""Comparisons as pages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser

from floodmark.cli import main
from floodmark.compare.comparison import compare_runs
from floodmark.compare.model import METRICS, Question
from floodmark.compare.suite import compare_suite
from floodmark.report import figures
from floodmark.report.comparison import suite_to_html, to_html
from floodmark.report.svg import Scale, draw_effect
from floodmark.runs.folders import RunFolder
from tests.floodmark.compare.test_suite import MadeUpSuite
from tests.floodmark.made_up_runs import MadeUpRuns
from tests.floodmark.report.conftest import Page, judged
from tests.floodmark.report.test_run import HOSTILE
from tests.floodmark.verdict.test_judge import NoAccept

# Slower by a half, with six boots of each, which is what one metric takes.
VALUES = {"6.1.0": [1.00, 1.01, 0.99, 1.02, 0.98, 1.03], "6.12.0": [1.50, 1.51, 1.49, 1.52, 1.48, 1.53]}


@pytest.fixture
def runs(tmp_path: Path, fake: NoAccept) -> list[str]:
    """Return twelve runs of two kernels, all of them with the tables of one that was judged."""
    source = judged(fake).host("proxy1")
    paths = MadeUpRuns(tmp_path / "results").add_arms("kernel.release", VALUES)
    for path in paths:
        for name in ("accept_queue", "requests"):
            shutil.copy(source.table(name), RunFolder(Path(path)).host("proxy1").path)
    return paths


def page_of(runs: list[str], **question: object) -> Page:
    return Page(to_html(compare_runs(runs, Question("kernel", **question))))  # type: ignore[arg-type]


def test_it_says_in_words_what_differs_and_by_how_much(runs: list[str]) -> None:
    text = page_of(runs).text
    assert "kernel 6.1.0: 6 runs in 6 boots, the baseline" in text
    assert re.search(r"slower : request_median_s \+49\.\d % \(\+4\d\.\d…\+5\d\.\d\)", text)
    assert "same : behaviour: expectations, queue capacity, states on the path, status split" in text


def test_it_has_behaviour_differences_every_boot_and_the_course_of_each_arm(runs: list[str]) -> None:
    page = page_of(runs)
    for text in ("9 with limit 8 (n = 6)", "23 × 502, 9 × 504 (n = 6)", "5 of 6 runs are drawn.", "n = 6"):
        assert text in page.text
    assert page.count("svg", **{"class": "plot"}) == 4
    dots = [found for tag, found in page.elements if tag == "circle" and found["r"] == "3"]
    assert len(dots) == 12


def test_a_difference_in_behaviour_says_what_differs_and_one_run_does_not_make_one(tmp_path: Path) -> None:
    for name, boots in (("many", 5), ("one", 1)):
        made = MadeUpRuns(tmp_path / name)
        for kernel, status in (("6.1.0", {"502": 23, "504": 9}), ("6.12.0", {"502": 22, "504": 10})):
            for _ in range(boots):
                made.add({"kernel.release": kernel}, metrics={"status": status})
    many, one = (page_of([str(path) for path in (tmp_path / name).iterdir()]) for name in ("many", "one"))
    assert "different : behaviour: status split (502 from 23 to 22, 504 from 9 to 10 (p=0.008))" in many.text
    assert "one run each : behaviour: status split (502 from 23 to 22, 504 from 9 to 10;" in one.text
    assert one.count("span", **{"class": "one-run-each"}) == 1
    assert one.count("span", **{"class": "different"}) == 0


def test_the_arms_have_the_same_axes(runs: list[str]) -> None:
    drawings = re.findall(
        r'<svg class="plot".*?</svg>\s*</svg>|<svg class="plot".*?</svg></svg>', page_of(runs).source, re.DOTALL
    )
    ticks = [re.findall(r"<text[^>]*>([^<]*)", one) for one in drawings]
    assert ticks[0] == ticks[1]
    assert ticks[2] == ticks[3]
    assert ticks[0] != ticks[2]


def test_what_was_allowed_to_differ_and_what_was_left_out_is_said(runs: list[str]) -> None:
    made = MadeUpRuns(Path(runs[0]).parent.parent / "more")
    invalid = made.add({"kernel.release": "6.12.0"}, verdict={"valid": False, "reasons": ["the agent was silent"]})
    other = made.add({"kernel.release": "6.12.0", "cpu.count": 4})
    text = page_of([*runs, invalid, other], allow=("cpu",)).text
    assert "allowed to differ: cpu.count (2 / 4)" in text
    assert "the agent was silent" in text


def test_runs_without_tables_are_compared_and_the_reason_is_where_their_course_would_be(tmp_path: Path) -> None:
    page = page_of(MadeUpRuns(tmp_path).add_arms("kernel.release", VALUES))
    assert "slower" in page.text
    assert page.count("svg", **{"class": "plot"}) == 0


def test_wrong_sql_of_ours_is_no_damage(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_: object) -> None:
        duckdb.connect().execute("SELECT nothing FROM moments")

    monkeypatch.setattr(figures, "latency", wrong)
    with pytest.raises(duckdb.CatalogException):
        page_of(runs)


def test_it_needs_nothing_from_elsewhere_and_no_script(runs: list[str]) -> None:
    page = page_of(runs)
    assert page.count("script") == 0
    assert not any({"src", "href"} & found.keys() for _, found in page.elements)
    assert len(page.source) < 3_000_000


def test_text_of_hosts_stays_text(runs: list[str]) -> None:
    made = MadeUpRuns(Path(runs[0]).parent.parent / "more")
    page = page_of([*runs, made.add({"kernel.release": HOSTILE})])
    assert HOSTILE in page.text
    assert page.count("script") == page.count("img") == 0


def test_a_shift_beyond_the_axis_is_an_arrow_and_one_of_nothing_has_no_picture(tmp_path: Path) -> None:
    assert "▶" in draw_effect(Scale(-100, 100), 5, 250, 200, 300)
    assert "◀" in draw_effect(Scale(-100, 100), 5, 50, -200, 80)
    runs = MadeUpRuns(tmp_path).add_arms("kernel.release", {"6.1.0": [0, 0, 0], "6.12.0": [1, 2, 3]})
    assert "the baseline is 0" in page_of(runs).text


@pytest.mark.parametrize("wide", [10, 11, 19.9, 24, 49.3, 50, 74, 99.9, 100])
def test_an_axis_of_shifts_has_labels_on_both_sides(wide: float) -> None:
    axis = draw_effect(Scale(-wide, wide), 5)
    assert 3 <= axis.count(" %</text>") <= 5
    assert ">0 %<" in axis


def test_the_command_prints_it(runs: list[str]) -> None:
    done = CliRunner().invoke(main, ["compare", *runs, "--by", "kernel", "--format", "html"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("<!doctype html>")


def test_a_suite_has_a_section_for_each_of_its_combinations(tmp_path: Path) -> None:
    made = MadeUpSuite(tmp_path)
    for run in made.suite.runs():
        made.finish(run)
    page = Page(suite_to_html(compare_suite(made.suite, made.journal, Question("kernel", allow=("machine",)))))
    assert page.count("section", **{"class": "group"}) == 2
    assert "case 2 somaxconn=8" in page.text
    assert "Is it so?" in page.text
    assert "slower : request_median_s +" in page.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_desktop_and_a_phone(
    browser: Browser, tmp_path: Path, runs: list[str], width: int, scheme: str
) -> None:
    path = tmp_path / "comparison.html"
    path.write_text(to_html(compare_runs(runs, Question("kernel", metrics=(METRICS[6].name,)))))
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [one.bounding_box() for one in page.locator("svg.plot, svg.row").all()]
    assert len(boxes) == 4 + 2 + 3
    assert all(box and box["width"] > 100 and box["x"] + box["width"] <= width for box in boxes)
    page.close()
