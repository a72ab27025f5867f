"""Each question can be answered with yes and with no: made-up tables make it so, and others do not.

What no possible run could answer otherwise would be no question. counter.yml has the tables.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
import yaml

from collectors.fields import LOGS, QUEUE_WAITS, REQUESTS, SYSCALLS, TABLES
from floodmark.inputs.cases import load_cases
from floodmark.inputs.labs import Lab, create_points, load_labs
from floodmark.inputs.parameters import resolve_parameters
from floodmark.inputs.sql import Locked, lock
from floodmark.model.host import Listener
from floodmark.study.sentences import asked_of_points, check_sentences, claims_of, load_sentences, with_questions
from floodmark.verdict.judge import judge_claim
from floodmark.verdict.tables import create_tables
from floodmark.verdict.views import check_sql, create_views
from tests.conftest import ROOT

COUNTER: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "tests/floodmark/study/counter.yml").read_text())
# One of those that ask the same.
QUESTIONS = {
    question.digest: (sentence.claim(question), question)
    for sentence in reversed(load_sentences().values())
    for question in reversed(sentence.questions)
}
NAMES = {claim.name: digest for digest, (claim, _) in QUESTIONS.items()}
CASES, LABS = load_cases(), load_labs()
EVERY_NS = 50_000_000
WITHOUT_PHASE = {table.name for table in (*LOGS, QUEUE_WAITS, SYSCALLS, REQUESTS)}


def test_each_question_has_tables_that_make_it_so_and_tables_that_do_not() -> None:
    assert set(COUNTER) == set(NAMES)
    assert [name for name, one in COUNTER.items() if not {"so", "not"} <= set(one)] == []


@pytest.mark.parametrize(
    ("name", "side", "verdict"),
    [
        (name, side, verdict)
        for name, one in COUNTER.items()
        for side, verdict in (("so", "confirmed"), ("not", "refuted"), ("unseen", "not observed"))
        if side in one
    ],
)
def test_a_question_is_answered_by_what_the_tables_have(name: str, side: str, verdict: str) -> None:
    claim, question = QUESTIONS[NAMES[name]]
    given = {**COUNTER[name], **COUNTER[name][side]}
    if question.points:
        lab = LABS[question.runs[0].removeprefix("lab ")]
        database, transport = create_points(lab, given["points"]), "unix"
    else:
        transport = claim.transport[0]
        database = _tables(given, transport)
    assert judge_claim(database, claim, transport).verdict == verdict


def test_no_question_can_tell_from_a_run_that_saw_nothing() -> None:
    strace = {"syscalls": [{"reason": "strace is not installed on this host"}]}
    database = _tables({**strace, "requests": [{"status": 200}]}, "unix")
    asked = [claim for claim, question in QUESTIONS.values() if not question.points]
    told = {one.name for one in asked if judge_claim(database, one, "unix").verdict != "not observed"}
    # These are about the requests alone.
    assert told == {
        "case_2_nginx_and_clients_hang/nothing_lowered",
        "case_3_nginx_and_clients_hang",
        "client_times_out_with_504",
        "written_if_the_upstream_reads/to_one_that_reads",
    }


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_no_question_can_tell_from_a_lab_without_points(lab: Lab) -> None:
    database = create_points(lab, [])
    said = {one.name: judge_claim(database, one, "unix").verdict for one in claims_of(asked_of_points(lab.name))}
    assert set(said.values()) <= {"not observed"}, said


def test_what_the_questions_are_asked_of_exists_and_their_sql_works() -> None:
    check_sentences(load_sentences().values())
    cases = [with_questions(CASES[number]) for number in range(1, 6)]
    for lab in LABS.values():
        cases += [with_questions(CASES[point.case], lab.name, point.name) for point in lab.points({})]
    # Many points are asked the same.
    asked = {tuple(claim.name for claim in case.claims): case for case in cases}
    for case in asked.values():
        check_sql(case.model_copy(update={"fault": [], "expect": []}))


# --- tables that are made up ----------------------------------------------------------------------


def _tables(given: dict[str, Any], transport: str) -> Locked:
    database = duckdb.connect()
    create_tables(database)
    for name in TABLES.keys() & given.keys():
        for row in given[name]:
            rows = _repeated(row, name)
            marks = ", ".join("?" * len(rows[0]))
            values = [list(one.values()) for one in rows]
            database.executemany(f"INSERT INTO {name} ({', '.join(rows[0])}) VALUES ({marks})", values)
    base = CASES[1].parameters.model_dump()
    parameters = resolve_parameters(base, {"transport": transport}, given.get("parameters", {}), origin="test")
    listeners = [Listener(name=name, limit_conns=limit) for name, limit in given.get("listeners", {}).items()]
    create_views(database, parameters, listeners)
    return lock(database)


def _repeated(row: dict[str, Any], table: str) -> list[dict[str, Any]]:
    columns = {name: value for name, value in row.items() if name not in ("n", "at", "start", "end")}
    phase = {} if table in WITHOUT_PHASE else {"phase": "flood"}
    found = []
    for number in range(row.get("n", 1)):
        if table == REQUESTS.name:
            start_ns, end_ns = (round(row.get(name, 1) * 1e9) for name in ("start", "end"))
            times = {"start_ns": start_ns, "connected_ns": start_ns, "end_ns": end_ns}
        else:
            times = {"t_ns": round(row.get("at", 1) * 1e9) + number * EVERY_NS}
        found.append({**phase, **times, **columns})
    return found
