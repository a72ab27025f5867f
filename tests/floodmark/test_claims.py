"""The page of claims is what YAML and evidence say, and the evidence is of what the YAML asks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from floodmark import claims
from floodmark.claims import Evidence, Stated, claims_page, collect, merge, read_evidence, stated_claims
from floodmark.model.metrics import Metrics
from floodmark.model.run import ControlNode
from floodmark.model.stored import save
from floodmark.model.verdict import ClaimVerdict, Prediction, Verdict
from floodmark.runs.folders import RunFolder
from floodmark.verdict.rules import FLOOD_FINISHED
from tests.floodmark.made_up_runs import record_of

STATED = stated_claims()
CLAIM = STATED["case 2/several_lines"].claim


@pytest.mark.parametrize("one", STATED.values(), ids=STATED)
def test_every_claim_has_evidence_for_the_question_as_it_is_asked_now(one: Stated) -> None:
    digests = {each.digest for each in read_evidence() if each.claim == one.id}
    assert digests == {one.claim.digest}, "make the runs that it needs, then: floodmark claims --write"


@pytest.mark.parametrize("one", STATED.values(), ids=STATED)
def test_every_claim_was_observed_somewhere(one: Stated) -> None:
    verdicts = {verdict for each in read_evidence() if each.claim == one.id for verdict in each.verdicts}
    assert verdicts & {"confirmed", "refuted"}, "a claim that no run can tell belongs to claims-not-covered.yml"


def test_the_page_has_every_sentence_with_its_reason_and_its_runs() -> None:
    evidence = read_evidence()
    page = claims_page(evidence)
    for one in STATED.values():
        assert f"> {one.claim.study}\n" in page
        assert one.claim.why in page
        assert one.claim.source in page
    assert [one.run_id for one in evidence if set(one.verdicts) != {"not observed"} and one.run_id not in page] == []


# --- evidence from runs that are made up ----------------------------------------------------------


def add_run(
    results: Path, number: int, verdict: Literal["confirmed", "refuted"] = "confirmed", value: Any = 10, **changes: Any
) -> None:
    run = RunFolder(results / f"20260101T00000{number}Z-case2-unix")
    run.host("proxy1").path.mkdir(parents=True)
    of_record = {name: changes[name] for name in ("parameters", "inventory_parameters") if name in changes}
    record = record_of(
        run, case=2, inventory=[changes.get("inventory", "/home/me/floodmark/inventory/testbed.yml")],
        control_node=ControlNode(git_commit=f"{number}" * 40, git_dirty=changes.get("dirty", False)), **of_record,
    )  # fmt: skip
    claim = ClaimVerdict(
        name=CLAIM.name, study=CLAIM.study, verdict=verdict, value=value, digest=changes.get("digest", CLAIM.digest)
    )
    judged = Verdict(
        run_id=run.run_id,
        host="proxy1",
        kernel="6.1.0",
        checks=[] if changes.get("valid", True) else [FLOOD_FINISHED.check(1)],
        expectations=[Prediction(name="x", value=1, holds=changes.get("holds", True))],
        claims=[claim],
        metrics=Metrics(),
    )
    save(run.host("proxy1").verdict, judged)
    save(run.record, record)


def test_runs_of_one_kind_are_counted_and_the_newest_gives_the_value(tmp_path: Path) -> None:
    add_run(tmp_path, 1, value=9)
    add_run(tmp_path, 2, value=1, verdict="refuted")
    add_run(tmp_path, 3, value=10, parameters={"accept_queue_hz": 100})
    (found,) = collect(tmp_path)
    assert (found.claim, found.where, found.transport, found.kernel) == (
        "case 2/several_lines", "case 2", "unix", "6.1.0",
    )  # fmt: skip
    assert found.verdicts == {"confirmed": 2, "refuted": 1}
    assert (found.value, found.run_id, found.git_commit) == (10, "20260101T000003Z-case2-unix", "3" * 12)
    assert found.command == "make case CASE=2"


def test_what_an_inventory_sets_for_its_hosts_is_part_of_the_command(tmp_path: Path) -> None:
    slow = {"start_spread_ms": 500}
    add_run(
        tmp_path, 1, parameters={**slow, "transport": "tcp"}, inventory_parameters=slow,
        inventory="/home/me/floodmark/inventory/kernels.yml",
    )  # fmt: skip
    add_run(tmp_path, 2, inventory="mine.yml")
    assert [one.command for one in collect(tmp_path)] == [
        "make case CASE=2 ARGS='-i mine.yml'",
        "make case CASE=2 ARGS='-i inventory/kernels.yml -e transport=tcp'",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"users": 64}},
        {"valid": False},
        {"holds": False},
        {"digest": "of another question"},
        {"inventory": "inventory/kernels.yml", "inventory_parameters": {}},
    ],
    ids=["other settings", "invalid", "our model is wrong", "another question", "the inventory is another now"],
)
def test_a_run_that_cannot_be_repeated_or_tells_nothing_does_not_count(tmp_path: Path, changes: Any) -> None:
    add_run(tmp_path, 1, **changes)
    assert collect(tmp_path) == []


def test_a_run_that_recorded_fewer_parameters_does_not_count(tmp_path: Path) -> None:
    add_run(tmp_path, 1)
    path = tmp_path / "20260101T000001Z-case2-unix/run.json"
    content = json.loads(path.read_text())
    del content["parameters"]["upstream_pause_s"]
    path.write_text(json.dumps(content))
    assert collect(tmp_path) == []


def test_a_defect_is_not_taken_for_a_damaged_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_run(tmp_path, 1)

    def defect(*_: object) -> str:
        raise KeyError("a defect")

    monkeypatch.setattr(claims, "_command", defect)
    with pytest.raises(KeyError, match="a defect"):
        collect(tmp_path)


def test_a_changed_checkout_counts_only_where_there_is_no_commit(tmp_path: Path) -> None:
    add_run(tmp_path, 1, value=5, dirty=True)
    assert collect(tmp_path)[0].git_commit == "1" * 12 + "+"
    add_run(tmp_path, 2, value=10)
    add_run(tmp_path, 3, value=6, dirty=True)
    (found,) = collect(tmp_path)
    assert (found.value, found.git_commit, found.verdicts) == (10, "2" * 12, {"confirmed": 1})


def test_what_other_machines_have_shown_is_kept_and_what_answers_an_old_question_is_not(tmp_path: Path) -> None:
    add_run(tmp_path, 1)
    (here,) = collect(tmp_path)
    elsewhere = replace(here, kernel="6.12.0", run_id="theirs")
    old = replace(here, kernel="6.2.0", digest="of another question")
    before = replace(here, run_id="of last year")
    other = replace(here, kernel="6.3.0", settings="that no command makes now")
    assert merge([here], [elsewhere, old, before, other]) == [here, elsewhere]


def test_a_sentence_whose_runs_disagree_says_so() -> None:
    def seen(transport: str, verdict: str) -> Evidence:
        return Evidence(
            "case 2/several_lines",
            CLAIM.digest,
            "case 2",
            transport,
            "6.1.0",
            {verdict: 1},
            2,
            "run",
            "i",
            "s",
            "c",
            "make",
        )

    assert "| it depends |" in claims_page([seen("unix", "confirmed"), seen("tcp", "refuted")])
