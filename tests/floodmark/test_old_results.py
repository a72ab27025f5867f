"""Real results of commit 3c3c525, of before verdicts had checks: they are read, shown, compared and judged again."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console

from floodmark.cli import main
from floodmark.compare.comparison import compare_runs
from floodmark.compare.diff import differences
from floodmark.compare.model import Question
from floodmark.errors import CompareError, RunError
from floodmark.export.database import ask
from floodmark.export.junit import junit
from floodmark.model.metrics import Metrics
from floodmark.model.run import RunRecord
from floodmark.model.stored import save
from floodmark.model.verdict import Verdict
from floodmark.report.index import index_of
from floodmark.report.run import report_of, write_report
from floodmark.runs.folders import RunFolder
from floodmark.runs.records import read_records
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.run import print_run
from floodmark.study.evidence import evidence_of
from floodmark.verdict.judge import judge_run
from tests.conftest import ROOT
from tests.floodmark.made_up_runs import MadeUpRuns
from tests.floodmark.model.test_stored import damaged, places
from tests.floodmark.report.conftest import Page

RESULTS = ROOT / "tests/data/results-3c3c525"
NO_ACCEPT, SLOWLY = "20261130T154004Z-case2-unix", "20261130T154107Z-case6-tcp"
# What each said, as it stands in its verdict.json.
EXPECTATIONS = {NO_ACCEPT: 13, SLOWLY: 7}
STATUS = {NO_ACCEPT: {"502": 23, "504": 9}, SLOWLY: {"200": 23, "504": 9}}


@pytest.fixture(params=[NO_ACCEPT, SLOWLY])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """Return a copy of one of the runs, in a results folder of its own."""
    return copy_of(request.param, tmp_path)


def copy_of(name: str, results: Path) -> RunFolder:
    shutil.copytree(RESULTS / name, results / name)
    return RunFolder(results / name)


def as_written(run: RunFolder) -> dict[str, Any]:
    """Return its verdict.json as it was written."""
    return dict(json.loads(run.host("proxy1").verdict.read_text()))


def verdict_of(run: RunFolder) -> Verdict:
    (verdict,) = read_verdicts(run)
    return verdict


def keys_of(value: object, place: str = "") -> set[str]:
    """Return all keys of nested objects, with their places; the parts of a list have one place."""
    if isinstance(value, dict):
        places = {f"{place}.{name}": one for name, one in value.items()}
        return set(places).union(*(keys_of(one, name) for name, one in places.items()))
    return set().union(*(keys_of(one, place) for one in value)) if isinstance(value, list) else set()


def test_it_is_read_and_shown(run: RunFolder) -> None:
    out = io.StringIO()
    print_run(Console(file=out, width=200), run)
    text = " ".join(out.getvalue().split())
    said = as_written(run)
    assert f"VALID, and all {EXPECTATIONS[run.run_id]} expectations of our model hold" in text
    for one in said["expectations"]:
        assert f"✓ {one['name'].replace('_', ' ')} {one['value']} " in text
    assert f"max 9, median in the flood {said['metrics']['accept_queue_median']}" in text
    assert f"host proxy1, Linux {said['kernel']}, run {run.run_id}" in text


def test_a_program_that_reads_its_verdict_finds_every_key(run: RunFolder) -> None:
    (shown,) = json.loads(CliRunner().invoke(main, ["show", str(run.path), "--json"]).output)
    said = as_written(run)
    assert keys_of(said) - keys_of(shown) == set()
    for name in ("valid", "reasons", "doubts", "params", "phases", "figures", "unstated", "kernel", "host"):
        assert shown[name] == said[name], name
    assert [one | {"predicted": ""} for one in said["expectations"]] == shown["expectations"]
    assert [one | {"role": "sentence", "limit": ""} for one in said["claims"]] == shown["claims"]


def test_each_figure_is_as_it_was_measured_or_missing_with_a_reason(run: RunFolder) -> None:
    verdict, said = verdict_of(run), as_written(run)["metrics"]
    shown = verdict.model_dump(mode="json")["metrics"]
    assert set(said) <= set(Metrics.model_fields)
    kept = {name for name in said if name not in verdict.missing}
    assert {name: shown[name] for name in kept} == {name: said[name] for name in kept}
    assert {"accept_queue_max", "states", "status", "time_to_full_s", "active_max", "listen_overflows"} <= kept
    assert {name for name in verdict.missing if name in said} == {
        "queue_area_conn_s",
        "identity_share",
        "identity_n",
    } | {name for name in ("request_median_s", "request_p99_s", "request_max_s") if said[name] is not None}
    assert all(f"'floodmark judge {run.run_id}' measures it" in why for why in verdict.missing.values())


def test_it_is_drawn(run: RunFolder) -> None:
    page = Page(write_report(run).read_text())
    assert f"VALID , and all {EXPECTATIONS[run.run_id]} expectations of our model hold." in page.text
    drawn = json.loads(page.scripts[0])["hosts"][0]["figures"]
    assert [one["name"] for one in drawn if one["lines"] or one["bars"]] == [
        "accept-queue", *(["states"] if run.run_id == NO_ACCEPT else []), "active", "answers", "errors", "memory",
        "own-memory", "bodies", "requests", "latency",
    ]  # fmt: skip
    assert "damaged" not in page.text


def test_it_is_exported(run: RunFolder) -> None:
    (suite,) = ElementTree.fromstring(junit([run]))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (str(EXPECTATIONS[run.run_id]), "0", "0")
    (row,) = ask("SELECT run, host, valid, passed FROM runs", [run.path]).fetchall()
    assert row == (run.run_id, "proxy1", True, True)
    rows = ask("SELECT status, count(*) FROM requests GROUP BY 1 ORDER BY 1", [run.path]).fetchall()
    assert {str(status): count for status, count in rows} == STATUS[run.run_id]
    assert ask("FROM checks", [run.path]).fetchall() == [], "version 1 had nothing but sentences"


def test_it_is_judged_again_with_the_same_outcome(run: RunFolder) -> None:
    said = as_written(run)
    assert judge_run(run).passed
    verdict = verdict_of(run)
    assert verdict.valid
    assert verdict.missing == {}
    metrics = verdict.model_dump(mode="json")["metrics"]
    for name in ("accept_queue_max", "accept_queue_median", "queue_limit", "status", "errors", "states", "active_max",
                 "time_to_full_s", "drain_s", "sent", "listen_overflows", "flood_s"):  # fmt: skip
        assert metrics[name] == said["metrics"][name], name
    assert {one.name: (one.value, one.holds) for one in verdict.expectations} == {
        one["name"]: (one["value"], one["holds"]) for one in said["expectations"]
    }
    assert json.loads(run.record.read_text())["schema_version"] == RunRecord.newest
    assert as_written(run)["schema_version"] == 2


def test_it_is_asked_the_questions_of_now_when_it_is_judged_again(tmp_path: Path) -> None:
    run = copy_of(NO_ACCEPT, tmp_path)
    judge_run(run)
    claims = {one.name: (one.verdict, one.value) for one in verdict_of(run).claims}
    assert claims["case_2_several_lines"] == ("confirmed", 10)
    # It says nothing of how wrong the clocks of its clients may be.
    assert claims["active_indicates_queue_and_accepted/as_defined"] == ("not observed", None)
    assert claims["active_above_somaxconn_is_possible/as_printed"] == ("confirmed", 10)
    assert claims["refuses_at_somaxconn/one_more"] == ("refuted", 9)
    found = {one.question for one in evidence_of([run.path])}
    assert {name for name, (verdict, _) in claims.items() if verdict != "not observed"} == found


def test_what_it_did_not_record_is_a_note_when_it_is_judged_again(run: RunFolder) -> None:
    judge_run(run)
    open_questions = {one.id: one.sentence for one in verdict_of(run).checks if not one.ok}
    for check in ("rows_counted", "unit_active"):
        assert open_questions[check].endswith("a run of format 6 does not record it"), check


def test_what_it_did_not_measure_is_measured_when_it_is_judged_again(tmp_path: Path) -> None:
    run = copy_of(SLOWLY, tmp_path)
    judge_run(run)
    seen = verdict_of(run).seen
    assert seen is not None
    assert (seen.request_n, seen.good_n) == (32, 23)
    assert seen.latency["504"].n == 9
    # By hand, of requests.0.csv: the 17th of 32 in the order of their times; what was answered 504 comes last.
    assert seen.request_median_s == pytest.approx(1.509, abs=0.001)


def test_what_asks_for_a_column_that_is_gone_keeps_its_verdict(run: RunFolder) -> None:
    said = run.host("proxy1").verdict.read_text()
    content = json.loads(run.record.read_text())
    content["case"]["expect"][0]["value"] = "count(of_before)"
    run.record.write_text(json.dumps(content))
    asked = r"case \d, expect, 'every_user_sent': this SQL does not work: Binder Error: .*of_before"
    with pytest.raises(RunError, match=rf"commit 3c3c525.*\), and this one cannot ask what it asks: {asked}"):
        judge_run(run)
    assert run.host("proxy1").verdict.read_text() == said


# --- damaged ---------------------------------------------------------------------------------------

READERS: dict[str, Callable[[RunFolder], object]] = {
    "show": lambda run: print_run(Console(file=io.StringIO()), run),
    "report": report_of,
    "index": lambda run: index_of(run.path.parent),
    "junit": lambda run: junit([run]),
    "records": lambda run: read_records(str(run.path)),
}


def refusal(read: Callable[[RunFolder], object], run: RunFolder) -> str:
    """Return what a reader says of a run that it refuses; anything but a RunError is a defect."""
    try:
        read(run)
    except RunError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("file", ["run.json", "proxy1/verdict.json", "proxy1/host.json"])
def test_whatever_is_damaged_is_one_sentence_or_does_no_harm(tmp_path: Path, file: str, reader: str) -> None:
    run = copy_of(NO_ACCEPT, tmp_path)
    path = run.path / file
    content = json.loads(path.read_text())
    chance = random.Random(f"{file} {reader}")
    for place in chance.sample(list(places(content)), 3 if reader == "report" else 25):
        path.write_text(json.dumps(damaged(content, place, chance)))
        said = refusal(READERS[reader], run)
        assert "\n" not in said, place
        assert not said or (str(path) in said and "damaged" in said), place


# --- beside others --------------------------------------------------------------------------------


def another_kernel(run: RunFolder, results: Path, release: str = "6.12.0") -> RunFolder:
    """Return a run of today that differs from an old one in the kernel and in what it measured."""
    record = run.read_run()
    made = RunFolder(Path(MadeUpRuns(results).add({}, record.parameters, {"request_median_s": 2.0}, testbed=True)))
    host = json.loads(run.host("proxy1").description.read_text())
    host |= {"kernel": {**host["kernel"], "release": release}, "boot_id": "another"}
    made.host("proxy1").description.write_text(json.dumps(host))
    same = {"fingerprint": record.fingerprint, "control_node": record.control_node}
    save(made.record, made.read_run().model_copy(update=same))
    return made


def test_two_that_differ_in_more_than_the_axis_are_not_compared() -> None:
    names = [str(RESULTS / NO_ACCEPT), str(RESULTS / SLOWLY)]
    with pytest.raises(CompareError, match=r"also differ in something else.*\n  transport: unix \(.*\) and tcp"):
        compare_runs(names, Question("case"))
    one, other = (read_records(name)[0] for name in names)
    assert set(differences(one, other)) >= {"case", "transport", "proxy_read_timeout_s"}


def test_two_of_different_kernels_are_compared(tmp_path: Path) -> None:
    one = copy_of(NO_ACCEPT, tmp_path / "a")
    other = copy_of(NO_ACCEPT, tmp_path / "b")
    path = other.host("proxy1").description
    host = json.loads(path.read_text())
    host["kernel"]["release"] = "6.12.0"
    path.write_text(json.dumps(host))
    comparison = compare_runs([str(one.path), str(other.path)], Question("kernel"))
    assert list(comparison.arms) == ["6.12.0", "6.18.44-fc-v669"]
    seen = {one.name: one.seen for one in comparison.behaviours}
    assert seen["queue capacity"]["6.12.0"] == seen["queue capacity"]["6.18.44-fc-v669"] != {}
    assert seen["status split"]["6.12.0"] == seen["status split"]["6.18.44-fc-v669"] != {}


def test_one_of_today_is_compared_in_what_both_measure_alike(tmp_path: Path) -> None:
    old = copy_of(NO_ACCEPT, tmp_path / "old")
    new = another_kernel(old, tmp_path / "new")
    comparison = compare_runs([str(old.path), str(new.path)], Question("kernel"))
    assert list(comparison.arms) == ["6.12.0", "6.18.44-fc-v669"]
    (note,) = (one for one in comparison.notes if one.startswith("request_median_s is not compared"))
    assert "1 of 1 boots of 6.18.44-fc-v669 have no value: version 1 measured it in another way" in note
