"""Reports in a real browser: what is drawn, on a desktop and a phone, by day and by night, with scripts and without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from floodmark.report.run import write_report
from tests.floodmark.report.conftest import judged
from tests.floodmark.report.test_run import FIGURES, HOSTILE
from tests.floodmark.verdict.test_ingest import FakeRun
from tests.floodmark.verdict.test_judge import NoAccept

DESKTOP, PHONE = 1280, 390
# The figures on one axis of time; the queue stands beside the verdict too.
BELOW = "figure:not(.queue)"
# Pixels of a chart that are not its ground.
INK = """
    canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const colours = new Set();
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colours.add(data.slice(i, i + 3).join());
        return colours.size;
    }
"""


class View:
    """A page of its own, and all that it complained of or asked for."""

    def __init__(self, browser: Browser, path: Path, width: int = DESKTOP, **how: Any) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **how)
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.fixture
def path(fake: NoAccept) -> Path:
    return write_report(judged(fake))


def scales(page: Page) -> list[tuple[float, float]]:
    return [tuple(one) for one in page.evaluate(
        "charts.filter(one => !one.latency).map(({ chart }) => [chart.scales.x.min, chart.scales.x.max])"
    )]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_page(
    browser: Browser, path: Path, width: int, scheme: Any
) -> None:
    with View(browser, path, width, color_scheme=scheme) as view:
        assert view.page.locator(f"{BELOW} canvas").count() == len(FIGURES)
        assert view.page.locator("figure.queue canvas").count() == 1
        assert all(one.evaluate(INK) > 2 for one in view.page.locator("canvas").all())
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        ground = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 20, 23)"}[scheme]
        assert view.page.locator("svg.plot >> visible=true").count() == 0
        assert view.complaints == []
        assert view.asked == [path.as_uri()]


def test_a_sentence_of_the_study_has_more_room_than_its_verdict(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        verdicts = view.page.locator(".conditions td:first-child:has-text('limit: ')")
        assert verdicts.count() > 0
        for verdict in verdicts.all():
            box, sentence = verdict.bounding_box(), verdict.locator("+ td").bounding_box()
            assert box
            assert sentence
            assert sentence["width"] > 1.5 * box["width"]


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_without_scripts_the_drawings_are_seen_with_labels_of_a_readable_size(
    browser: Browser, path: Path, width: int
) -> None:
    with View(browser, path, width, java_script_enabled=False) as view:
        drawings = view.page.locator(f"{BELOW} svg.plot >> visible=true")
        assert drawings.count() == len(FIGURES)
        for box in (drawings.nth(i).bounding_box() for i in range(len(FIGURES))):
            assert box
            assert box["width"] > width * 0.6
            assert box["x"] + box["width"] <= width
        heights = [
            box["height"] for box in (one.bounding_box() for one in view.page.locator("svg.plot text").all()) if box
        ]
        assert heights
        assert min(heights) >= 10


def test_a_zoom_in_one_chart_is_a_zoom_in_all_of_time(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        whole = scales(view.page)
        assert len(set(whole)) == 1
        over = view.page.locator(".u-over").nth(2)
        over.scroll_into_view_if_needed()
        box = over.bounding_box()
        assert box
        middle = box["y"] + box["height"] / 2
        view.page.mouse.move(box["x"] + box["width"] * 0.25, middle)
        view.page.mouse.down()
        view.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
        view.page.mouse.up()
        zoomed = scales(view.page)
        assert len(set(zoomed)) == 1
        (low, high), (first, last) = zoomed[0], whole[0]
        assert (low - first) / (last - first) == pytest.approx(0.25, abs=0.01)
        assert (high - first) / (last - first) == pytest.approx(0.5, abs=0.01)
        view.page.mouse.dblclick(box["x"] + box["width"] * 0.5, middle)
        assert scales(view.page) == whole


def test_buttons_zoom_where_nobody_can_drag(browser: Browser, path: Path) -> None:
    with View(browser, path, PHONE, has_touch=True) as view:
        whole = scales(view.page)[0]
        view.page.get_by_role("button", name="flood").tap()
        (flood,) = set(scales(view.page))
        assert flood == pytest.approx((-0.25, 5.25), abs=0.01)
        view.page.get_by_role("button", name="zoom in").tap()
        (closer,) = set(scales(view.page))
        assert closer[1] - closer[0] == pytest.approx((flood[1] - flood[0]) / 2)
        view.page.get_by_role("button", name="whole run").tap()
        assert set(scales(view.page)) == {whole}


def test_a_hostile_log_line_does_nothing(browser: Browser, fake: NoAccept) -> None:
    fake.files["nginx-error.log"] += f"2023/11/14 22:13:23 [error] 7#7: *5 {HOSTILE}, client: x\n"
    with View(browser, write_report(judged(fake))) as view:
        assert view.page.evaluate("window.hacked") is None
        assert view.page.locator(f"{BELOW} canvas").count() == len(FIGURES)


def test_on_paper_it_has_the_drawings_and_no_chart(browser: Browser, path: Path) -> None:
    with View(browser, path, color_scheme="dark") as view:
        view.page.emulate_media(media="print")
        assert view.page.locator(f"{BELOW} svg.plot >> visible=true").count() == len(FIGURES)
        assert view.page.locator("canvas >> visible=true").count() == 0
        assert view.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_noisy_run_stays_small(browser: Browser, fake: FakeRun) -> None:
    """A queue that is never twice the same, a thousand times a second, and ten thousand requests of all kinds."""
    lines = [f"{2_000_000_000 + i * 1_000_000},upstream,{i * 7919 % 4096},8,unix_diag,\n" for i in range(60_000)]
    fake.files["accept_queue.csv"] += "".join(lines)
    for number in range(100, 10_100):
        fake.request(number, 2 + number / 200, 2.001 + number * 7919 % 5000 / 1000 + number / 200, 200 + number % 4)
    path = write_report(judged(fake))  # type: ignore[arg-type]
    assert path.stat().st_size < 3_000_000
    with View(browser, path) as view:
        assert view.complaints == []
        said = view.page.locator(BELOW).first.inner_text()
        assert re.search(r"n = 60,090 readings", said)
