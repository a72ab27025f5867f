"""The page of all runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from floodmark.model.stored import save
from floodmark.report.index import read_entries, write_index
from floodmark.runs.folders import RunFolder
from floodmark.show import run as show
from tests.floodmark.made_up_runs import MadeUpRuns, plan_of
from tests.floodmark.report.conftest import Page
from tests.floodmark.report.test_run import HOSTILE


@pytest.fixture
def runs(tmp_path: Path) -> MadeUpRuns:
    """Return five runs: two good ones, one that fails, one that is invalid, one that did not end."""
    runs = MadeUpRuns(tmp_path)
    runs.add({"kernel.release": "6.1.0"}, case=1)
    runs.add({"kernel.release": "6.12.0"}, {"transport": "tcp"})
    runs.add({"kernel.release": "6.12.0"}, verdict={"expectations": [{"name": "queue_fills", "holds": False}]})
    runs.add({"kernel.release": "6.1.0"}, verdict={"valid": False, "reasons": ["the load generator was late"]})
    under_way = RunFolder(Path(runs.add()))
    under_way.record.unlink()
    save(under_way.plan, plan_of(under_way, case=2))
    return runs


def test_it_has_all_runs_newest_first_each_with_its_verdict(runs: MadeUpRuns) -> None:
    entries = list(read_entries(runs.results))
    assert [(one.run_id.split("-")[0], one.verdict) for one in entries] == [
        ("20260101T000005Z", "not complete"),
        ("20260101T000004Z", "invalid"),
        ("20260101T000003Z", "failed"),
        ("20260101T000002Z", "passed"),
        ("20260101T000001Z", "passed"),
    ]
    text = Page(write_index(runs.results).read_text()).text
    assert "INVALID : the load generator was late" in text
    assert "VALID , but not: queue fills" in text
    assert "5 runs, newest first." in text


def test_a_run_leads_to_its_report_or_its_folder(runs: MadeUpRuns) -> None:
    newest, *_, oldest = sorted(path.name for path in runs.results.iterdir())[::-1]
    (runs.results / oldest / "report.html").touch()
    page = Page(write_index(runs.results).read_text())
    links = [found["href"] for tag, found in page.elements if tag == "a"]
    assert (links[0], links[-1]) == (f"{newest}/", f"{oldest}/report.html")


def test_several_hosts_of_a_run_have_a_row_each(tmp_path: Path) -> None:
    runs = MadeUpRuns(tmp_path)
    runs.join(runs.add(name="linux61"), runs.add(name="linux612"))
    complete = [one for one in read_entries(tmp_path) if one.verdict != "not complete"]
    assert [one.host for one in complete] == ["linux61", "linux612"]


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"hosts": {"proxies": ["proxy1"]}}', '{"parameters": 3}'])
def test_a_damaged_run_does_not_hide_the_others(runs: MadeUpRuns, content: str) -> None:
    damaged = min(runs.results.iterdir())
    (damaged / "run.json").write_text(content)
    (damaged / "proxy1" / "verdict.json").write_text("?")
    text = Page(write_index(runs.results).read_text()).text
    assert text.count("not complete :") == 2
    assert text.count("is damaged") == 1
    assert "VALID , all expectations hold" in text


def test_a_defect_is_no_damage(runs: MadeUpRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(_: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(show, "in_short", defect)
    with pytest.raises(KeyError, match="a defect"):
        write_index(runs.results)


def test_text_of_runs_stays_text(runs: MadeUpRuns) -> None:
    runs.add(verdict={"valid": False, "reasons": [HOSTILE]})
    page = Page(write_index(runs.results).read_text())
    assert HOSTILE in page.text
    assert page.count("script") == 1


def test_without_runs_it_says_how_to_make_one(tmp_path: Path) -> None:
    assert "'make case CASE=3' makes one" in Page(write_index(tmp_path).read_text()).text


@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_narrowed_down_and_keeps_that_in_its_address(browser: Browser, runs: MadeUpRuns, width: int) -> None:
    path = write_index(runs.results)
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(path.as_uri())
    rows = page.locator(".runs tbody tr >> visible=true")
    assert rows.count() == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("kernel").select_option("6.12.0")
    assert rows.count() == 2
    page.get_by_label("verdict").select_option("failed")
    assert rows.count() == 1
    assert "1 of 5 rows are shown." in page.inner_text("header")
    again = browser.new_page()
    again.goto(page.url)
    assert again.locator(".runs tbody tr >> visible=true").count() == 1
    page.get_by_role("button", name="all runs").click()
    page.wait_for_function("document.querySelectorAll('.runs tbody tr:not([hidden])').length === 5")
    page.close()
    again.close()


def test_without_scripts_all_runs_are_seen(browser: Browser, runs: MadeUpRuns) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write_index(runs.results).as_uri())
    assert page.locator(".runs tbody tr >> visible=true").count() == 5
    assert page.locator(".filters >> visible=true").count() == 0
    context.close()
