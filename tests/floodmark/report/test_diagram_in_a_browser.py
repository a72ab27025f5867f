"""The study's diagram in a real browser: it shows the moment that one points at, or has chosen."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import Browser, Locator, Page

from floodmark.report.run import write_report
from floodmark.runs.folders import RunFolder
from tests.conftest import ROOT
from tests.floodmark.report.conftest import judged
from tests.floodmark.report.test_in_a_browser import DESKTOP, PHONE, View
from tests.floodmark.verdict.test_judge import NoAccept

RUN = ROOT / "tests/data/results-3c3c525/20261130T154107Z-case6-tcp"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the report of a real run over TCP whose upstream accepts ten a second."""
    return write_report(RunFolder(RUN), tmp_path / "report.html")


def numbers(place: Locator) -> dict[str, str]:
    """Return all numbers of a diagram as one reads them."""
    found: dict[str, str] = place.evaluate(
        "place => Object.fromEntries([...place.querySelectorAll('.place [data-number]')]"
        ".map(one => [one.dataset.number, one.textContent]))"
    )
    return found


def moment(page: Page) -> float:
    """Return the moment that the diagram shows, when it has been drawn; its text knows the millisecond."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    at_s: float = page.evaluate("pointed ?? chosen ?? data.hosts[0].diagram.at * data.tick_s")
    assert page.locator("[data-moment]").inner_text() == f"{at_s:.3f} s"
    return at_s


def in_tables(at_s: float) -> dict[str, str]:
    """Return what the tables say of a moment: what was read last before it."""
    folder = RUN / "proxy1"
    row = duckdb.execute(
        f"""
        WITH moment AS (SELECT min(start_ns) + CAST($at * 1e9 AS BIGINT) AS ns FROM '{folder}/requests.parquet'),
        queues AS (SELECT * FROM '{folder}/accept_queue.parquet', moment WHERE t_ns <= ns)
        SELECT (SELECT count(*) FROM '{folder}/requests.parquet', moment WHERE connected_ns <= ns AND ns < end_ns),
               (SELECT arg_max(depth_conns, t_ns) FROM queues WHERE listener = 'front'),
               (SELECT arg_max(limit_conns, t_ns) FROM queues WHERE listener = 'front'),
               (SELECT arg_max(active_conns, t_ns) FROM '{folder}/stub_status.parquet', moment WHERE t_ns <= ns),
               (SELECT arg_max(depth_conns, t_ns) FROM queues WHERE listener = 'upstream'),
               (SELECT arg_max(limit_conns, t_ns) FROM queues WHERE listener = 'upstream'),
               (SELECT arg_max(accepted_conns, t_ns) FROM '{folder}/upstream_conns.parquet', moment WHERE t_ns <= ns)
        """,
        {"at": at_s},
    ).fetchone()
    assert row
    names = ("clients", "front", "front_limit", "active", "queue", "limit", "accepted")
    read: dict[str, int] = dict(zip(names, row, strict=True))
    return {name: f"{value:,}" for name, value in {**read, "held": read["clients"] - read["front"]}.items()}


def point_at(page: Page, share: float, figure: int = 0) -> float:
    """Move the pointer into a figure, so far to the right, and return the moment that the diagram shows."""
    over = page.locator(".u-over").nth(figure)
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
    return moment(page)


def test_it_has_the_numbers_of_the_moment_that_one_points_at(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        place = view.page.locator(".diagram")
        seen = set()
        for figure, share in ((0, 0.2), (0, 0.4), (2, 0.42), (2, 0.5), (4, 0.6), (0, 0.9)):
            at_s = point_at(view.page, share, figure)
            assert numbers(place) == in_tables(at_s)
            seen.add((numbers(place)["clients"], numbers(place)["queue"]))
        assert len(seen) >= 4
        assert view.complaints == []


def test_the_legends_say_the_same_of_that_moment(browser: Browser, path: Path) -> None:
    """A value is held until the next one, so it is that of the last reading and not of the nearest."""
    with View(browser, path) as view:
        for share in (0.37, 0.42, 0.55):
            at_s = point_at(view.page, share)
            legend = view.page.locator("figure.queue .u-legend .u-value").all_inner_texts()
            told = in_tables(at_s)
            assert legend == [f"{at_s:.3f} s", told["queue"], told["limit"]]


def test_a_tap_keeps_a_moment_where_nothing_hovers(browser: Browser, path: Path) -> None:
    with View(browser, path, PHONE, has_touch=True) as view:
        first = moment(view.page)
        view.page.locator(".u-over").first.tap()
        view.page.locator("h1").tap()
        assert moment(view.page) != first
        assert numbers(view.page.locator(".diagram")) == in_tables(moment(view.page))


def test_without_a_pointer_it_shows_the_deepest_queue(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        place = view.page.locator(".diagram")
        first = (moment(view.page), numbers(place))
        assert first[1] == in_tables(first[0])
        assert first[1]["queue"] == "9"
        assert "when the upstream's queue is deepest" in place.inner_text()
        assert point_at(view.page, 0.9) != first[0]
        assert "deepest" not in place.locator(".caption").inner_text()
        view.page.mouse.move(5, 5)
        assert (moment(view.page), numbers(place)) == first
        assert "when the upstream's queue is deepest" in place.inner_text()


def test_a_click_keeps_a_moment_and_a_button_gives_the_first_one_back(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        first = moment(view.page)
        at_s = point_at(view.page, 0.5)
        view.page.mouse.click(
            *view.page.evaluate(
                "[charts[0].chart.over.getBoundingClientRect()].map(b => [b.x + b.width / 2, b.y + 20])[0]"
            )
        )
        view.page.mouse.move(5, 5)
        assert moment(view.page) == pytest.approx(at_s, abs=0.01)
        assert view.page.locator(".u-cursor-x >> visible=true").count() > 0
        view.page.get_by_role("button", name="deepest queue").click()
        assert moment(view.page) == first


def test_a_moment_that_was_chosen_stays_when_one_zooms(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        slider = view.page.get_by_role("slider", name="moment")
        slider.focus()
        view.page.keyboard.press("ArrowRight")
        at_s = moment(view.page)
        view.page.get_by_role("button", name="zoom in").click()
        assert moment(view.page) == at_s
        assert float(slider.input_value()) == pytest.approx(at_s)
        assert view.page.evaluate(
            "[charts[1].chart].map(one => one.posToVal(one.cursor.left, 'x'))[0]"
        ) == pytest.approx(at_s, abs=0.02)


def test_a_drag_zooms_and_keeps_no_moment(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        first = moment(view.page)
        point_at(view.page, 0.3)
        view.page.mouse.down()
        point_at(view.page, 0.6)
        view.page.mouse.up()
        view.page.mouse.move(5, 5)
        assert moment(view.page) == first


def test_a_moment_can_be_chosen_with_keys_and_is_seen_in_all_figures(browser: Browser, path: Path) -> None:
    with View(browser, path) as view:
        slider = view.page.get_by_role("slider", name="moment")
        slider.focus()
        first = moment(view.page)
        view.page.keyboard.press("ArrowRight")
        later = moment(view.page)
        assert later > first
        assert numbers(view.page.locator(".diagram")) == in_tables(later)
        assert slider.get_attribute("aria-valuetext") == f"{later:.3f} s"
        places = view.page.evaluate(
            "charts.filter(one => !one.latency).map(({ chart }) => chart.posToVal(chart.cursor.left, 'x'))"
        )
        assert places == pytest.approx([later] * len(places), abs=0.02)
        view.page.keyboard.press("End")
        assert "not read" in view.page.locator(".diagram").inner_text()


def test_what_was_not_read_at_a_moment_says_so(browser: Browser, fake: NoAccept) -> None:
    """Nginx did not answer from 4 s to 5 s, which is from 2 s to 3 s of the axis."""
    fake.files["stub_status.csv"] = re.sub(r"(?m)^(4\d{9}),.*$", r"\1,,,,,,,,,no answer", fake.files["stub_status.csv"])
    with View(browser, write_report(judged(fake))) as view:
        low, high = view.page.evaluate("data.across")
        assert point_at(view.page, (2.55 - low) / (high - low)) == pytest.approx(2.55, abs=0.05)
        read = numbers(view.page.locator(".diagram"))
        assert (read["active"], read["queue"], read["clients"]) == ("not read", "9", "9")
        assert view.page.locator("[data-sign=study]").inner_text() == "…"


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_it_has_room_in_its_place(browser: Browser, path: Path, width: int) -> None:
    """No text is cut off, and nothing is wider than the page, with the widest numbers too."""
    with View(browser, path, width) as view:
        view.page.evaluate("document.querySelectorAll('[data-number]').forEach(one => one.textContent = '100,000')")
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        wide = view.page.evaluate(
            "[...document.querySelectorAll('.diagram *')].filter(one => one.scrollWidth > one.clientWidth + 1 && "
            "one.clientWidth && getComputedStyle(one).overflow !== 'hidden').map(one => one.className)"
        )
        assert wide == []


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_without_a_script_it_shows_the_same_and_nothing_to_choose_with(
    browser: Browser, path: Path, width: int
) -> None:
    with View(browser, path, width) as scripted, View(browser, path, width, java_script_enabled=False) as plain:
        read = scripted.page.locator(".diagram .way").inner_text()
        assert plain.page.locator(".diagram .way").inner_text() == read
        assert plain.page.locator(".seek >> visible=true").count() == 0
        assert scripted.page.locator(".seek >> visible=true").count() == 1
