"""The page of the study and its summary in the terminal, over runs that are made up."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser
from rich.console import Console

from floodmark.cli import main
from floodmark.errors import RunError
from floodmark.inputs.labs import STUDY, find_lab
from floodmark.model.lab import LabPoint, LabRecord
from floodmark.model.stored import save
from floodmark.report.run import report_of
from floodmark.report.study import study_page, write_study_page
from floodmark.runner.lab import judge_lab
from floodmark.runs.folders import LabFolder, RunFolder
from floodmark.show.study import command_for, print_study
from floodmark.study.sentences import asked_of_run, load_sentences
from floodmark.verdict.judge import judge_run
from tests.floodmark.report.conftest import Page
from tests.floodmark.verdict.test_judge import NoAccept, case_2

POINTS = ("case 2", "active over somaxconn: sysctl, nginx, upstream")


def make_run(path: Path, point: str) -> RunFolder:
    """Make a run of case 2 that is of a point of the study, and judge it."""
    path.mkdir()
    fake = NoAccept(path)
    fake.write()
    claims = [sentence.claim(question) for sentence, question in asked_of_run(2, STUDY, point)]
    case = case_2(users=12).model_copy(update={"claims": claims})
    plan = {
        "run_id": path.name, "lab": STUDY, "point": point, "schema_version": 2, "hosts": {"proxies": ["proxy1"]},
        "case": case.model_dump(mode="json", by_alias=True, exclude={"parameters"}),
        "parameters": case.parameters.model_dump(),
    }  # fmt: skip
    fake.run.plan.write_text(json.dumps(plan))
    judge_run(fake.run)
    return fake.run


@pytest.fixture
def folder(tmp_path: Path) -> LabFolder:
    """Return an execution of the study that has two of its points."""
    folder = LabFolder(tmp_path / "20260101T000000Z-lab-study")
    folder.path.mkdir()
    runs = [make_run(tmp_path / f"20260101T00000{n}Z-case2-unix-study", point) for n, point in enumerate(POINTS)]
    points = {one.name: one for one in find_lab(STUDY).points({})}
    record = LabRecord(
        lab=STUDY, question="?", inventory="inventory/testbed.yml", given={"users": "12"}, parameters={"somaxconn": 8},
        points=[
            LabPoint(point=name, case=2, varied=points[name].varied, takes_s=9, run_id=run.run_id)
            for name, run in zip(POINTS, runs, strict=True)
        ],
    )  # fmt: skip
    save(folder.file, record)
    judge_lab(folder)
    return folder


def test_each_sentence_has_its_number_ours_a_verdict_and_how_to_see_it(folder: LabFolder) -> None:
    page = Page(study_page(folder))
    for sentence in load_sentences().values():
        assert " ".join(sentence.quote.split()) in page.text, sentence.id
        assert page.count("tr", id=sentence.id) == 1
    ids = {found["id"] for tag, found in page.elements if tag == "tr" and "id" in found}
    assert ids == load_sentences().keys()
    row = page.text.partition("Multiple lines in the /proc/net/unix file")[2]
    assert "most rows of the path at a time: 10" in row
    assert "case 2" in row
    assert command_for("case 2") == "floodmark lab study -e 'point=case 2'"
    assert command_for("case 2") in page.text


def test_the_report_of_a_run_says_which_point_it_is(folder: LabFolder) -> None:
    first = str(folder.read().points[0].run_id)
    assert f"{first}, lab study, case 2" in Page(report_of(folder.run(first))).text


def test_what_these_runs_cannot_tell_is_not_called_refuted(folder: LabFolder) -> None:
    page = Page(study_page(folder))
    row = page.source.partition('<tr id="case_3_several_lines"')[2].partition("</tr>")[0]
    assert ">not observed</b>" in row


def test_pictures_come_first_then_sentences_then_the_runs(folder: LabFolder) -> None:
    page = Page(study_page(folder))
    places = [page.source.index(f'id="{name}"') for name in ("pictures", "sentences", "runs")]
    assert places == sorted(places)
    wanted = {name for point in POINTS for name in find_lab(STUDY).drawn_of(point)}
    assert page.count("svg", **{"class": "plot"}) >= len(wanted)
    assert page.source.index('class="plot"') < page.source.index('id="sentences"')
    links = {found["href"] for tag, found in page.elements if tag == "a"}
    assert {f"../{one.run_id}/report.html" for one in folder.read().points} <= links
    assert "order=sysctl,nginx,upstream" in page.text
    assert "All of them have somaxconn=8" in page.text


def test_a_hostile_text_is_text(folder: LabFolder) -> None:
    record = folder.read().model_copy(update={"given": {"x": "<script>alert(1)</script>"}})
    save(folder.file, record)
    page = Page(study_page(folder))
    assert (page.count("script"), "<script>alert(1)</script>" in page.text) == (0, True)


def test_one_that_is_not_complete_says_how_to_go_on(folder: LabFolder) -> None:
    save(folder.file, folder.read().model_copy(update={"overall": None}))
    with pytest.raises(RunError, match="`floodmark study` goes on with it"):
        study_page(folder)


def test_the_summary_says_how_many_and_names_those_that_are_not_simply_so(folder: LabFolder) -> None:
    screen = io.StringIO()
    print_study(Console(file=screen, width=120), folder)
    said = " ".join(screen.getvalue().split())
    assert f"{len(load_sentences())} sentences: " in said
    assert " not observable" in said
    assert "2 of 2 points are valid" in said
    assert f"{folder.path.name}/study.html" in said


def test_the_command_writes_the_page_of_an_execution_anew(folder: LabFolder) -> None:
    done = CliRunner().invoke(main, ["study", str(folder.path)])
    assert done.exit_code in (0, 1), done.output
    assert "Every sentence, with pictures: " in done.output
    assert (folder.path / "study.html").is_file()
    assert (folder.path / "report.html").is_file()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_desktop_and_a_phone(browser: Browser, folder: LabFolder, width: int, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(f"file://{write_study_page(folder)}")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.close()
