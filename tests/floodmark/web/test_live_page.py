"""The live page draws what its server tells it; the server is played here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from floodmark.web import feed
from floodmark.web.feed import Sample

# Not from `pages`: with it comes Locust, which patches sockets and threads.
STATIC = Path(feed.__file__).with_name("static")
URL = "http://127.0.0.1:9/accept-queue/"


def told(full: int) -> dict[str, object]:
    """Return what the server says of a queue with the limit 8."""
    now_s = time.time()
    samples = [
        Sample(now_s - 3 + i, "flood", t_ns=i, depth_conns=full, most_conns=full, limit_conns=8, unconnected_socks=1,
               connecting_socks=full, connected_socks=0, active_conns=full + 1, accepted_conns=0, status_502=23)
        for i in range(3)
    ]  # fmt: skip
    hold = {"run_id": "r", "case": 2, "title": "The upstream never calls accept()", "host": "proxy1",
            "target": "http://198.18.7.2:8080", "transport": "unix", "somaxconn": 8}  # fmt: skip
    return {
        "state": "held",
        "failure": "",
        "phase": "flood",
        "flood": "running",
        "hold": hold,
        "cases": {2: "no accept"},
        "marks": [[now_s - 3, "flood of 32"]],
        "columns": Sample._fields,
        "samples": samples,
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_and_charts_show_the_newest_sample(browser: Browser, scheme: str) -> None:
    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(URL).partition("?")[0]
        if path == "samples":
            route.fulfill(json=told(9))
        else:
            route.fulfill(path=STATIC / (path.removeprefix("static/") or "accept-queue.html"))

    complaints: list[str] = []
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.route(f"{URL}**", answer)
    page.goto(URL)
    expect(page.locator("#depth")).to_have_text("9 / 8 full")
    expect(page.locator("#active")).to_have_text("10 = 9 + 0 + 1")
    expect(page.locator("#charts canvas")).to_have_count(5)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 20, 23)"}[scheme]
    colours = page.evaluate(
        "[...document.querySelectorAll('.u-series .u-marker')].map(one => one.style.borderColor).filter(Boolean)"
    )
    assert "rgb(31, 119, 208)" in colours  # of the queue, from the style sheet
    assert complaints == []
    page.close()
