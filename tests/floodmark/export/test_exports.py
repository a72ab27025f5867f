"""Runs as SQL, CSV, JUnit XML and data frames, made of the fake run that is judged in test_judge.py."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import floodmark
from collectors.fields import TABLES
from floodmark.cli import main
from floodmark.errors import FloodmarkError, RunError
from floodmark.export.database import STATED, ask
from floodmark.export.junit import junit
from floodmark.model.check import Check
from floodmark.model.stored import save
from floodmark.model.verdict import Prediction
from floodmark.runs import folders as runs
from floodmark.runs.folders import RunFolder, runs_in
from floodmark.runs.verdicts import read_verdict
from floodmark.verdict.judge import judge_run
from floodmark.verdict.rules import AGENT_CHEAP, FLOOD_FINISHED, RESULTS_READABLE
from tests.floodmark.verdict.test_judge import NoAccept


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NoAccept:
    """A complete run, the only one of its results folder."""
    folder = tmp_path / "results/20231114T221320Z-case2-unix"
    folder.mkdir(parents=True)
    fake = NoAccept(folder)
    fake.write()
    fake.write_plan("proxy1")
    judge_run(fake.run)
    monkeypatch.setattr(runs, "RESULTS", fake.run.path.parent)
    return fake


def answer(fake: NoAccept, query: str) -> list[tuple[Any, ...]]:
    return list(ask(query, runs_in(fake.run.path.parent)).fetchall())


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


# --- SQL ------------------------------------------------------------------------------------------


def test_what_was_said_can_be_asked_for(fake: NoAccept) -> None:
    place = (fake.run.run_id, "proxy1")
    assert answer(fake, "FROM runs") == [(*place, 2, "unix", "x", True, True, None)]
    assert answer(fake, "FROM parameters WHERE name = 'users'") == [(*place, "users", "12")]
    assert answer(fake, "FROM metrics WHERE name = 'accept_queue_max'") == [(*place, "accept_queue_max", 9.0)]
    assert answer(fake, "SELECT bool_and(holds), count(*) > 5 FROM expectations") == [(True, True)]
    assert ("refuted",) in answer(fake, "SELECT verdict FROM claims")
    assert answer(fake, "FROM checks WHERE id = 'flood_finished'") == [
        (*place, "flood_finished", "", "invalid", True, "0", "0", "requests",
         "Every request that was sent has ended: 0 requests, at most 0 requests"),
    ]  # fmt: skip


def test_what_was_sampled_has_its_run_and_its_host(fake: NoAccept) -> None:
    rows = answer(fake, "SELECT run, host, count(*), max(depth_conns) FROM accept_queue GROUP BY ALL")
    assert rows == [(fake.run.run_id, "proxy1", 181, 9)]


def test_tables_of_different_runs_can_be_joined(fake: NoAccept) -> None:
    joined = "SELECT case_number, count(*) FROM requests JOIN runs USING (run, host) GROUP BY ALL"
    assert answer(fake, joined) == [(2, 12)]


@pytest.mark.parametrize("table", ["runs", "requests", "virtual_windows"])
def test_a_table_that_no_run_has_is_empty(tmp_path: Path, table: str) -> None:
    assert ask(f"FROM {table}", runs_in(tmp_path)).fetchall() == []


def test_a_run_that_is_not_complete_does_not_hide_the_others(fake: NoAccept) -> None:
    (fake.run.path.parent / "20231114T221321Z-case3-unix").mkdir()
    damaged = fake.run.path.parent / "20231114T221322Z-case3-unix"
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    assert len(answer(fake, "FROM runs")) == 1


def another_run(fake: NoAccept, number: int) -> RunFolder:
    run = RunFolder(fake.run.path.with_name(f"20231114T22132{number}Z-case2-unix"))
    shutil.copytree(fake.run.path, run.path)
    return run


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"host": "proxy1", "valid": true, "params": 3, "claims": 3}'])
@pytest.mark.parametrize("table", STATED)
def test_a_damaged_verdict_is_named_and_does_not_hide_the_others(
    fake: NoAccept, capsys: pytest.CaptureFixture[str], table: str, content: str
) -> None:
    expected = answer(fake, f"SELECT count(*) FROM {table} WHERE run = '{fake.run.run_id}'")
    damaged = another_run(fake, 1)
    damaged.host("proxy1").verdict.write_text(content)
    assert answer(fake, f"SELECT count(*) FROM {table} WHERE run = '{fake.run.run_id}'") == expected
    assert f"left out: {damaged.host('proxy1').verdict} is damaged: " in capsys.readouterr().err


def test_a_verdict_that_says_less_has_no_rows_of_what_it_lacks(fake: NoAccept) -> None:
    older = another_run(fake, 1)
    said = {"run_id": older.run_id, "host": "proxy1", "valid": True, "metrics": {"sent": 12}}
    older.host("proxy1").verdict.write_text(json.dumps(said))
    assert answer(fake, "SELECT run, count(*) > 0 FROM claims GROUP BY ALL") == [(fake.run.run_id, True)]
    assert answer(fake, f"SELECT valid, kernel FROM runs WHERE run = '{older.run_id}'") == [(True, None)]


def test_a_damaged_table_is_named_and_does_not_hide_the_others(
    fake: NoAccept, capsys: pytest.CaptureFixture[str]
) -> None:
    file = another_run(fake, 1).host("proxy1").table("accept_queue")
    file.write_bytes(file.read_bytes()[:-20])
    assert answer(fake, "SELECT DISTINCT run FROM accept_queue") == [(fake.run.run_id,)]
    assert f"left out: {file} is damaged: " in capsys.readouterr().err


def test_a_run_is_known_by_its_folder_in_all_tables(fake: NoAccept) -> None:
    copied = another_run(fake, 1).run_id
    for table in ("runs", "metrics", "accept_queue"):
        assert answer(fake, f"SELECT DISTINCT run FROM {table} ORDER BY run") == [(fake.run.run_id,), (copied,)]


@pytest.mark.usefixtures("fake")
def test_an_answer_that_breaks_off_is_a_sentence() -> None:
    query = "SELECT CASE WHEN i = 250000 THEN error('too far') ELSE i END FROM range(1000000) t(i)"
    done = CliRunner().invoke(main, ["sql", query, "--format", "csv"])
    assert done.exit_code == 2
    assert "this SQL does not work: Invalid Input Error: too far." in done.output


@pytest.mark.usefixtures("fake")
def test_columns_of_one_name_are_no_json() -> None:
    done = CliRunner().invoke(main, ["sql", "SELECT 1 AS a, 2 AS a", "--format", "json"])
    assert (done.exit_code, done.output.strip()) == (
        2,
        "floodmark: the answer has several columns of the name a: name them with AS.",
    )


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("  ", "the question is empty: give SQL"),
        ("FROM request", r"there is no table 'request': did you mean 'requests'\? There are runs, parameters"),
        ("SELEC 1", "this SQL does not work: Parser Error: syntax error at or near"),
        ("SELECT depth FROM accept_queue", "this SQL does not work: Binder Error"),
    ],
)
def test_a_wrong_question_is_a_sentence(fake: NoAccept, query: str, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        answer(fake, query)


def test_an_answer_comes_in_three_shapes(fake: NoAccept) -> None:
    query = "SELECT run, value, NULL AS nothing FROM metrics WHERE name = 'accept_queue_max'"
    assert printed("sql", query, "--format", "csv") == f"run,value,nothing\n{fake.run.run_id},9.0,\n"
    assert json.loads(printed("sql", query, "--format", "json")) == [
        {"run": fake.run.run_id, "value": 9.0, "nothing": None}
    ]
    shown = printed("sql", query)
    assert fake.run.run_id in shown
    assert "None" not in shown


def test_brackets_in_an_answer_are_no_markup(fake: NoAccept) -> None:
    assert fake
    assert "[/error] [bold]" in printed("sql", "SELECT '[/error] [bold]' AS said")


def test_without_a_question_the_tables_are_listed(fake: NoAccept) -> None:
    assert fake
    for name in ("expectations", "accept_queue", "virtual_windows"):
        assert name in printed("sql")


# --- CSV ------------------------------------------------------------------------------------------


def test_every_table_can_be_had_as_csv(fake: NoAccept) -> None:
    for table in TABLES.values():
        header = next(csv.reader(printed("csv", str(fake.run.path), table.name).splitlines()))
        assert header[: len(table.columns) + 2] == ["run", "host", *table.columns]
    rows = list(csv.DictReader(printed("csv", str(fake.run.path), "requests").splitlines()))
    assert [row["status"] for row in rows].count("504") == 9


def test_a_table_that_a_run_does_not_have_is_a_sentence(fake: NoAccept) -> None:
    done = CliRunner().invoke(main, ["csv", str(fake.run.path), "request"])
    assert done.exit_code == 2
    assert "has no table 'request': did you mean 'requests'?" in done.output


# --- JUnit ----------------------------------------------------------------------------------------


def change_checks(fake: NoAccept, *checks: Check) -> None:
    """Let the verdict on a run have these checks alone."""
    verdict = read_verdict(fake.run.host("proxy1"))
    save(fake.run.host("proxy1").verdict, verdict.model_copy(update={"checks": list(checks)}))


def test_expectations_are_tests(fake: NoAccept) -> None:
    (suite,) = ElementTree.fromstring(junit([fake.run]))
    assert suite.get("name") == f"{fake.run.run_id}.proxy1"
    tests = {one.get("name"): one for one in suite.findall("testcase")}
    assert {"fault_observed", "queue_fills_to_limit_plus_one", "those_refused_get_502"} <= tests.keys()
    assert (suite.get("failures"), suite.get("errors"), suite.get("tests")) == ("0", "0", str(len(tests)))


def test_what_does_not_hold_is_a_failure_and_what_is_not_valid_an_error(fake: NoAccept) -> None:
    verdict = read_verdict(fake.run.host("proxy1"))
    failed = Prediction(name="sent", value="<7>", holds=False, condition="value = users", predicted="12")
    verdict = verdict.model_copy(update={"expectations": [failed]})
    save(fake.run.host("proxy1").verdict, verdict)
    (suite,) = ElementTree.fromstring(junit([fake.run]))
    (failure,) = suite.findall("*/failure")
    assert failure.get("message") == "value is <7>, predicted was 12 (users)"
    change_checks(fake, FLOOD_FINISHED.check(2), RESULTS_READABLE.check(False, ok=False, why="nobody sent & <x>"))
    (suite,) = ElementTree.fromstring(junit([fake.run]))
    errors = {one.get("name"): one.findtext("error") for one in suite.findall("testcase") if one.findall("error")}
    assert errors == {
        "flood_finished": "2 requests were sent and never ended: the flood was cut off",
        "results_readable": "nobody sent & <x>",
    }
    assert not suite.findall("*/failure"), "a run that is not valid says nothing about the case"


def test_a_note_is_output_of_its_test_and_no_error(fake: NoAccept) -> None:
    change_checks(fake, AGENT_CHEAP.check(0.2))
    (suite,) = ElementTree.fromstring(junit([fake.run]))
    (note,) = suite.findall("*/system-out")
    assert (note.text or "").startswith("the agent used 20.0% of a core")
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "0", "0")


def test_what_xml_cannot_hold_is_replaced(fake: NoAccept) -> None:
    change_checks(fake, RESULTS_READABLE.check(False, ok=False, why="said \x01\x08 & <x>"))
    (suite,) = ElementTree.fromstring(junit([fake.run]))
    error = suite.find("testcase/error")
    assert error is not None
    assert error.text == "said �� & <x>"


def test_a_run_without_run_json_is_no_empty_list_of_tests(fake: NoAccept) -> None:
    fake.run.record.unlink()
    with pytest.raises(RunError, match=r"is not complete: it has no run\.json"):
        junit([fake.run])


def test_runs_are_printed_by_name(fake: NoAccept) -> None:
    assert fake.run.run_id in printed("junit", str(fake.run.path))


# --- data frames ----------------------------------------------------------------------------------


def test_a_run_can_be_loaded_as_data_frames(fake: NoAccept) -> None:
    run = floodmark.load(fake.run.path)
    assert run.record.case.number == 2
    assert run.verdicts["proxy1"].valid
    requests = run.frame("requests")
    assert (requests["status"] == 504).sum() == 9
    assert list(requests.columns[:2]) == ["run", "host"]
    assert run.frame("unix_states")["connecting_socks"].max() == 9


def test_a_frame_of_what_is_not_there_is_a_sentence(fake: NoAccept) -> None:
    with pytest.raises(RunError, match="has no table 'virtual_windows'"):
        floodmark.load(fake.run.path).frame("virtual_windows")


def test_without_pandas_that_is_said(fake: NoAccept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floodmark.export.frames.find_spec", lambda _name: None)
    with pytest.raises(FloodmarkError, match="need pandas, which is not installed here: pip install pandas"):
        floodmark.load(fake.run.path).frame("requests")
