"""Evidence from runs that are made up: which of them count, and what is kept of those of other machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from floodmark.errors import StudyError
from floodmark.inputs.cases import load_cases
from floodmark.inputs.labs import load_labs
from floodmark.inputs.parameters import resolve_parameters
from floodmark.model.lab import LabPoint, LabRecord, Overall, PointRow
from floodmark.model.metrics import Metrics
from floodmark.model.run import ControlNode
from floodmark.model.stored import save
from floodmark.model.verdict import ClaimVerdict, Prediction, Verdict
from floodmark.runs.folders import LabFolder, RunFolder
from floodmark.study import evidence as module
from floodmark.study.evidence import BEFORE, collect, evidence_csv, evidence_of, is_current, merge, read_evidence
from floodmark.study.outcome import sentences_of
from floodmark.study.sentences import load_sentences
from floodmark.verdict.rules import FLOOD_FINISHED
from tests.floodmark.made_up_runs import record_of

LINES = load_sentences()["case_2_several_lines"]
ASKED = LINES.claim(LINES.questions[0])


def answer(verdict: Literal["confirmed", "refuted", "not observed"] = "confirmed", **parts: Any) -> ClaimVerdict:
    given = {"name": "several_lines", "study": "", "value": 10, "digest": ASKED.digest, "verdict": verdict}
    return ClaimVerdict.model_validate({**given, **parts})


def add_run(results: Path, number: int, *claims: ClaimVerdict, **changes: Any) -> RunFolder:
    run = RunFolder(results / f"20260101T00000{number}Z-case2-unix")
    run.host("proxy1").path.mkdir(parents=True)
    of_record = {
        name: changes[name] for name in ("parameters", "inventory_parameters", "lab", "point") if name in changes
    }
    record = record_of(
        run, case=2, inventory=[changes.get("inventory", "/home/me/floodmark/inventory/testbed.yml")],
        control_node=ControlNode(git_commit=f"{number}" * 40, git_dirty=changes.get("dirty", False)), **of_record,
    )  # fmt: skip
    judged = Verdict(
        run_id=run.run_id,
        host="proxy1",
        kernel="6.1.0",
        checks=[] if changes.get("valid", True) else [FLOOD_FINISHED.check(1)],
        expectations=[Prediction(name="x", value=1, holds=changes.get("holds", True))],
        claims=list(claims or [answer()]),
        metrics=Metrics(),
    )
    save(run.host("proxy1").verdict, judged)
    save(run.record, record)
    return run


def test_runs_of_one_kind_are_counted_and_the_newest_that_could_tell_gives_the_value(tmp_path: Path) -> None:
    add_run(tmp_path, 1, answer(value=9))
    add_run(tmp_path, 2, answer("refuted", value=1))
    add_run(tmp_path, 3, answer(value=10), parameters={"accept_queue_hz": 100})
    add_run(tmp_path, 4, answer("not observed", value=None))
    (found,) = collect(tmp_path)
    assert (found.question, found.where, found.transport, found.kernel) == (
        "case_2_several_lines", "case 2", "unix", "6.1.0",
    )  # fmt: skip
    assert (found.confirmed, found.refuted, found.unseen, found.n) == (2, 1, 1, 3)
    assert (found.value, found.run_id, found.commit) == (10, "20260101T000003Z-case2-unix", "3" * 12)
    assert found.command == "make case CASE=2"


def test_what_two_sentences_ask_alike_is_kept_once_and_tells_of_both(tmp_path: Path) -> None:
    asked = load_sentences()["active_is_q_plus_a_plus_1"].questions[0]
    add_run(tmp_path, 1, answer(digest=asked.digest), answer(digest=asked.digest))
    found = collect(tmp_path)
    assert [(one.question, one.n) for one in found] == [("active_indicates_queue_and_accepted/as_defined", 1)]
    told = {one.id for one in sentences_of(found) if one.verdict == "confirmed"}
    assert told == {"active_indicates_queue_and_accepted", "active_is_q_plus_a_plus_1"}


def test_a_run_counts_whether_our_model_holds_or_not(tmp_path: Path) -> None:
    add_run(tmp_path, 1, holds=False)
    add_run(tmp_path, 2)
    (found,) = collect(tmp_path)
    assert (found.n, found.model_held) == (2, 1)


def test_what_an_inventory_sets_for_slow_hosts_is_allowed(tmp_path: Path) -> None:
    slow = {"start_spread_ms": 500}
    add_run(
        tmp_path, 1, parameters=slow, inventory_parameters=slow, inventory="/home/me/floodmark/inventory/kernels.yml"
    )
    add_run(tmp_path, 2, parameters={"proxy_read_timeout_s": 60}, inventory="mine.yml")
    assert [one.command for one in collect(tmp_path)] == [
        "make case CASE=2 ARGS='-i inventory/kernels.yml'",
        "make case CASE=2 ARGS='-i mine.yml'",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"users": 64}},
        {"parameters": {"start_spread_ms": 500}},
        {"parameters": {"proxy_read_timeout_s": 1}},
        {"parameters": {"users": 64}, "inventory_parameters": {"users": 64}},
        {"valid": False},
    ],
    ids=["other settings", "another spread", "less patience", "an inventory with other settings", "invalid"],
)
def test_a_run_that_no_command_repeats_or_that_tells_nothing_does_not_count(tmp_path: Path, changes: Any) -> None:
    add_run(tmp_path, 1, **changes)
    assert collect(tmp_path) == []


def test_another_question_does_not_count(tmp_path: Path) -> None:
    add_run(tmp_path, 1, answer(digest="of another question"))
    assert collect(tmp_path) == []


def test_a_run_of_before_a_parameter_counts_and_one_that_recorded_less_does_not(tmp_path: Path) -> None:
    add_run(tmp_path, 1)
    path = tmp_path / "20260101T000001Z-case2-unix/run.json"
    content = json.loads(path.read_text())
    content["parameters"] = {name: value for name, value in content["parameters"].items() if name not in BEFORE}
    path.write_text(json.dumps({**content, "schema_version": 2}))
    assert len(collect(tmp_path)) == 1
    del content["parameters"]["upstream_pause_s"]
    path.write_text(json.dumps({**content, "schema_version": 2}))
    assert collect(tmp_path) == []


def test_what_was_so_before_a_parameter_is_its_default() -> None:
    now = load_cases()[2].parameters.model_dump()
    assert {name: now[name] for name in BEFORE} == BEFORE


def test_one_execution_is_asked_whatever_its_settings_are(tmp_path: Path) -> None:
    run = add_run(tmp_path, 1, parameters={"users": 64})
    assert [one.question for one in evidence_of([run.path])] == ["case_2_several_lines"]


def test_a_damaged_run_does_not_count(tmp_path: Path) -> None:
    run = add_run(tmp_path, 1)
    run.host("proxy1").verdict.write_text("{")
    assert collect(tmp_path) == []


def test_a_defect_is_not_taken_for_a_damaged_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_run(tmp_path, 1)

    def defect(*_: object) -> str:
        raise KeyError("a defect")

    monkeypatch.setattr(module, "_commit", defect)
    with pytest.raises(KeyError, match="a defect"):
        collect(tmp_path)


def test_a_changed_checkout_counts_only_where_there_is_no_commit(tmp_path: Path) -> None:
    add_run(tmp_path, 1, answer(value=5), dirty=True)
    assert collect(tmp_path)[0].commit == "1" * 12 + "+"
    add_run(tmp_path, 2, answer(value=10))
    add_run(tmp_path, 3, answer(value=6), dirty=True)
    (found,) = collect(tmp_path)
    assert (found.value, found.commit, found.n) == (10, "2" * 12, 1)


# --- labs -----------------------------------------------------------------------------------------


def add_lab(results: Path, *, valid: bool = True, passed: bool = True, **changes: Any) -> LabFolder:
    """Write an execution of lab memory-stability, with a run for one of its points."""
    lab = load_labs()["memory-stability"]
    point = lab.points({})[1]
    layers = lab.layers(point, load_cases()[point.case], {})
    parameters = {**resolve_parameters(*layers, origin="test").model_dump(), **changes}
    said = load_sentences()["memory_stays_constant"]
    of_run = answer(digest=said.questions[0].digest, value=26.1)
    run = add_run(results, 1, of_run, parameters=parameters, lab=lab.name, point=point.name, holds=passed)
    question = next(one for one in load_sentences()["moderate_brk_whatever_the_length"].questions if one.points)
    row = PointRow.model_validate(
        {"point": point.name, "host": "proxy1", "kernel": "6.1.0", "run_id": run.run_id, "valid": valid,
         "passed": passed, **parameters}
    )  # fmt: skip
    overall = Overall(
        host="proxy1", kernel="6.1.0", expectations=[], claims=[answer(digest=question.digest, value=0.2)]
    )
    folder = LabFolder(results / "20260101T000002Z-lab-memory-stability")
    folder.path.mkdir()
    points = [LabPoint(point=point.name, case=2, varied=point.varied, takes_s=1, run_id=run.run_id)]
    inventory = "/home/me/inventory/testbed.yml"
    save(
        folder.file,
        LabRecord(
            lab=lab.name, question="?", case=2, inventory=inventory, given={}, points=points, table=[row],
            overall=[overall], control_node=ControlNode(git_commit="2" * 40, git_dirty=False),
        ),
    )  # fmt: skip
    return folder


def test_a_lab_answers_by_its_runs_and_by_its_points_together(tmp_path: Path) -> None:
    add_lab(tmp_path, passed=False)
    found = {one.question: one for one in collect(tmp_path)}
    each = found["memory_stays_constant/each"]
    assert (each.where, each.value, each.model_held) == ("lab memory-stability / payload_bytes=16", 26.1, 0)
    brk = found["moderate_brk_whatever_the_length/a_moderate_amount_of_brk"]
    assert (brk.where, brk.value, brk.run_id, brk.model_held) == (
        "lab memory-stability", 0.2, "20260101T000002Z-lab-memory-stability", 0,
    )  # fmt: skip
    assert brk.command == "make lab LAB=memory-stability"


def test_a_lab_with_a_point_that_is_not_valid_answers_by_its_valid_runs_alone(tmp_path: Path) -> None:
    """The point that is missing may be the one that shows what is asked for."""
    add_lab(tmp_path, valid=False)
    assert [one.question for one in collect(tmp_path)] == ["memory_stays_constant/each"]


def test_a_lab_with_other_settings_is_not_kept_and_can_be_asked(tmp_path: Path) -> None:
    folder = add_lab(tmp_path, nginx_workers=7)
    assert collect(tmp_path) == []
    assert len(evidence_of([folder.path])) == 2


# --- what is kept ---------------------------------------------------------------------------------


def test_what_other_machines_have_shown_is_kept_and_what_answers_an_old_question_is_not(tmp_path: Path) -> None:
    add_run(tmp_path, 1)
    (here,) = collect(tmp_path)
    elsewhere = replace(here, kernel="6.12.0", run_id="theirs")
    old = replace(here, kernel="6.2.0", digest="of another question")
    before = replace(here, run_id="of last year")
    other = replace(here, kernel="6.3.0", settings="that no command makes now")
    assert merge([here], [elsewhere, old, before, other]) == [here, elsewhere]


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    add_run(tmp_path, 1, answer(value=0.25))
    found = collect(tmp_path)
    path = tmp_path / "evidence.csv"
    path.write_text(evidence_csv(found))
    assert read_evidence(path) == found
    assert path.read_text().count("\n") == 2
    assert read_evidence(tmp_path / "none.csv") == []


@pytest.mark.parametrize("damage", ["confirmed", "ten"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    add_run(tmp_path, 1)
    path = tmp_path / "evidence.csv"
    text = evidence_csv(collect(tmp_path))
    path.write_text(text.replace("confirmed", "x") if damage == "confirmed" else text.replace(",1,0,0,", ",ten,0,0,"))
    with pytest.raises(
        StudyError, match=r"evidence.csv: line 2 is damaged \(.*\): restore it from git, or remove it\."
    ):
        read_evidence(path)


def test_all_that_is_kept_answers_the_questions_of_now() -> None:
    assert [one for one in read_evidence() if not is_current(one)] == []
