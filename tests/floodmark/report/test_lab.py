"""The page of a lab, over runs that are made up."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser

from floodmark.cli import main
from floodmark.errors import RunError
from floodmark.inputs.labs import LabRun, load_labs
from floodmark.report import lab as lab_report
from floodmark.report.index import read_entries
from floodmark.report.lab import lab_page, write_lab_report
from floodmark.runs.folders import RunFolder
from tests.floodmark.report.conftest import Page, judged
from tests.floodmark.report.test_run import HOSTILE
from tests.floodmark.verdict.test_judge import NoAccept

NAME = "20260101T000000Z-lab-active-over-somaxconn"
POINTS = ("transport=unix", "transport=unix, keepalive=true")


def of_point(run: RunFolder, point: str, **changes: Any) -> dict[str, Any]:
    return {
        "point": point, "host": "proxy1", "kernel": "6.1.0", "run_id": run.run_id, "valid": True, "passed": True,
        "active_while_hanging_conns": 9.0, "refused_at_once": 3.0, **changes,
    }  # fmt: skip


@pytest.fixture
def content(fake: NoAccept) -> dict[str, Any]:
    """Return a lab of two points that has come to its end; its runs are there."""
    run = judged(fake)
    other = RunFolder(run.path.with_name("20260101T000001Z-case2-unix"))
    shutil.copytree(run.path, other.path)
    holds = {
        "name": "over_tcp_everybody_is_active", "value": 0, "holds": True, "condition": "value = 0", "predicted": "",
    }  # fmt: skip
    claim = {
        "name": "x",
        "study": "It is so.",
        "measured": "how",
        "verdict": "refuted",
        "value": 9,
        "condition": "value > 9",
    }
    return {
        "lab": "active-over-somaxconn", "question": "Can Active exceed it?",
        "inventory": "inventory/testbed.yml", "given": {"users": "12"},
        "points": [
            {"point": one, "varied": {}, "takes_s": 9, "run_id": each.run_id}
            for one, each in zip(POINTS, (run, other), strict=True)
        ],
        "table": [of_point(run, POINTS[0]), of_point(other, POINTS[1], passed=False)],
        "overall": [{"host": "proxy1", "kernel": "6.1.0", "expectations": [holds], "claims": [claim]}],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.mkdir()
    return path


def page_of(folder: Path, content: dict[str, Any]) -> Page:
    (folder / "lab.json").write_text(json.dumps(content))
    return Page(lab_page(folder))


def test_it_has_its_verdict_its_points_and_what_is_said_of_them(folder: Path, content: dict[str, Any]) -> None:
    page = page_of(folder, content)
    for text in (
        "Lab active-over-somaxconn: Can Active exceed it?",
        f"{NAME}, with users=12",
        "1 of 2 points are valid and their expectations hold",
        "1 of 1 expectations of all of them together hold",
        "verdict ✓ holds ✗ fails",
        "active while hanging conns 9 9",
        "over tcp everybody is active",
        "refuted It is so. how 9",
    ):
        assert text in page.text, page.text
    links = [found["href"] for tag, found in page.elements if tag == "a"]
    assert links == [f"../{one['run_id']}/report.html" for one in content["points"]]


def test_points_with_names_are_listed_by_them(
    folder: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = load_labs()["active-over-somaxconn"]
    runs = [LabRun(name=f"as in case {case}", case=case) for case in (1, 2)]
    named = replace(lab, file=lab.file.model_copy(update={"vary": {}, "also": [], "runs": runs}))
    monkeypatch.setattr(lab_report, "find_lab", lambda _: named)
    for case, (point, row) in enumerate(zip(content["points"], content["table"], strict=True), start=1):
        point["point"] = row["point"] = f"as in case {case}"
        row["case_number"] = case
    page = page_of(folder, content)
    assert "as in case 1 as in case 2 run 1 2 case 1 2 verdict" in page.text


def test_what_the_lab_wants_drawn_is_drawn_of_each_point(folder: Path, content: dict[str, Any]) -> None:
    page = page_of(folder, content)
    drawn = load_labs()["active-over-somaxconn"].file.draw
    assert page.count("svg", **{"class": "plot"}) == len(POINTS) * len(drawn)
    legend = "Active Q + A + 1 in front of nginx Q + A + 1 at the upstream"
    assert f"connections, the same time for all; mind the heights {legend} transport=unix" in page.text


def test_a_run_that_is_gone_leaves_the_others(folder: Path, content: dict[str, Any]) -> None:
    shutil.rmtree(folder.with_name(content["points"][1]["run_id"]))
    page = page_of(folder, content)
    assert page.count("svg", **{"class": "plot"}) == len(load_labs()["active-over-somaxconn"].file.draw)
    assert "1 of 2 points" in page.text


def test_text_stays_text(folder: Path, content: dict[str, Any]) -> None:
    page = page_of(
        folder, {**content, "question": HOSTILE, "inventory": "inventory/testbed.yml", "given": {"x": HOSTILE}}
    )
    assert page.text.count(HOSTILE) == 3
    assert page.count("script") == 0


@pytest.mark.parametrize("missing", ["question", "given", "table"])
def test_a_damaged_lab_is_a_sentence(folder: Path, content: dict[str, Any], missing: str) -> None:
    del content[missing]
    with pytest.raises(RunError, match=f"{NAME}.* is damaged: .*{missing}"):
        page_of(folder, content)
    assert NAME in {one.run_id for one in read_entries(folder.parent)}


def test_a_lab_that_is_not_complete_says_how_to_go_on(folder: Path, content: dict[str, Any]) -> None:
    del content["overall"]
    with pytest.raises(RunError, match=f"'floodmark lab {NAME}' goes on with it"):
        page_of(folder, content)
    (entry,) = (one for one in read_entries(folder.parent) if one.run_id == NAME)
    assert (entry.verdict, entry.said) == ("not complete", ": not all of its runs are made")


def test_the_page_of_all_runs_has_it_among_them(folder: Path, content: dict[str, Any]) -> None:
    (folder / "lab.json").write_text(json.dumps(content))
    write_lab_report(folder)
    (entry,) = (one for one in read_entries(folder.parent) if one.run_id == NAME)
    assert (entry.link, entry.verdict, entry.host, entry.kernel) == (f"{NAME}/report.html", "failed", "proxy1", "6.1.0")
    assert entry.case == "lab active-over-somaxconn: Can Active exceed it?"


def test_the_command_writes_it_and_says_where(folder: Path, content: dict[str, Any]) -> None:
    (folder / "lab.json").write_text(json.dumps(content))
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert (done.exit_code, done.output.strip()) == (0, str(folder / "report.html"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_desktop_and_a_phone(
    browser: Browser, folder: Path, content: dict[str, Any], width: int, scheme: Any
) -> None:
    (folder / "lab.json").write_text(json.dumps(content))
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(f"file://{write_lab_report(folder)}")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.close()
