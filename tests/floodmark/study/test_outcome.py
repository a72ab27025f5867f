"""One verdict for each sentence, from all that runs have answered."""

from __future__ import annotations

from typing import Any

import pytest

from floodmark.study.evidence import Evidence
from floodmark.study.outcome import Outcome, SentenceOutcome, outcome_of, sentences_of
from floodmark.study.sentences import Question, Sentence, load_sentences

SENTENCES = load_sentences()
DIGESTS = {one.claim(each).name: each.digest for one in SENTENCES.values() for each in one.questions}


def question(name: str, **parts: Any) -> Question:
    given = {
        "name": name,
        "runs": ["cases", "lab study"],
        "value": f"'{name}'",
        "from": "requests",
        "holds": "true",
        "measured": "how many",
    }
    return Question.model_validate({**given, **parts})


def sentence(*questions: Question, **parts: Any) -> Sentence:
    given = {"id": "it", "section": "S", "quote": "It is so.", "why": "W", "source": "S", "questions": questions}
    return Sentence.model_validate({**given, **parts})


def told(name: str, confirmed: int = 0, refuted: int = 0, **parts: Any) -> Evidence:
    digest = DIGESTS.get(name) or question(name.removeprefix("it/")).digest
    given: dict[str, Any] = {
        "question": name, "where": "case 2", "transport": "unix", "kernel": "6.1.0", "confirmed": confirmed,
        "refuted": refuted, "unseen": 0, "model_held": 1, "value": 9, "run_id": "R", "commit": "c", "digest": digest,
        "inventory": "inventory/testbed.yml", "settings": "s",
    }  # fmt: skip
    return Evidence(**{**given, **parts})


def outcome(one: Sentence, *evidence: Evidence) -> SentenceOutcome:
    by_digest: dict[str, list[Evidence]] = {}
    for each in evidence:
        by_digest.setdefault(each.digest, []).append(each)
    return outcome_of(one, by_digest)


MAIN, LIMIT, BESIDE = (
    question("main"), question("edge", role="limit", limit="not in winter"), question("beside", role="context"),
)  # fmt: skip
WITH_LIMIT = sentence(MAIN, LIMIT, BESIDE)


@pytest.mark.parametrize(
    ("evidence", "verdict", "limit"),
    [
        ([], "not observed", ""),
        ([told("it/beside", 1)], "not observed", ""),
        ([told("it/main", 1)], "confirmed", ""),
        ([told("it/main", 0, 1)], "refuted", ""),
        ([told("it/main", 1), told("it/main", 0, 1, transport="tcp")], "refuted", ""),
        ([told("it/main", 9, 1)], "confirmed with a limit", "in 9 of 10 runs of case 2 over unix"),
        ([told("it/main", 1, 9)], "refuted", ""),
        ([told("it/main", 1), told("it/edge", 1)], "confirmed", ""),
        ([told("it/main", 1), told("it/edge", 0, 1)], "confirmed with a limit", "not in winter"),
        ([told("it/main", 0, 1), told("it/edge", 0, 1)], "refuted", ""),
        ([told("it/main", 1), told("it/beside", 0, 1)], "confirmed", ""),
    ],
)
def test_a_sentence_has_one_verdict(evidence: list[Evidence], verdict: Outcome, limit: str) -> None:
    found = outcome(WITH_LIMIT, *evidence)
    assert (found.verdict, found.limit) == (verdict, limit)


def test_of_what_is_possible_one_yes_is_enough() -> None:
    possible = sentence(MAIN, exists=True)
    assert outcome(possible, told("it/main", 0, 9)).verdict == "refuted"
    assert outcome(possible, told("it/main", 0, 9), told("it/main", 1, 0, transport="tcp")).verdict == "confirmed"


def test_what_no_run_can_be_asked_is_not_observable() -> None:
    found = outcome(sentence(reason="It is a name.", why="", source=""))
    assert (found.verdict, found.ours, found.how) == ("not observable", "It is a name.", "")


def test_what_no_run_has_told_of_has_the_command_that_would() -> None:
    assert outcome(sentence(question("main", runs=["case 2"]))).how == "make case CASE=2"
    assert outcome(sentence(question("main", runs=["lab study / case 2"]))).how == "make study"
    assert outcome(sentence(question("main", runs=["cases"]))).how == "make case CASE=1"


@pytest.mark.parametrize(
    ("evidence", "ours"),
    [
        ([told("it/main", 1)], "how many: 9"),
        ([told("it/main", 1), told("it/main", 1, value=10.5, kernel="6.12")], "how many: 9 to 10.5"),
        ([told("it/main", 1), told("it/main", 1, value=33, transport="tcp")], "how many: 9 over unix, 33 over tcp"),
        ([told("it/main", 1, value="done")], "how many: done"),
        (
            [told("it/main", 1), told("it/main", 1, value=101, where="lab study / case 2")],
            "how many: 9 (case 2), 101 (study: case 2)",
        ),
        ([told("it/main", 1, value=n, where=f"case {n}") for n in range(1, 6)], "how many: 1 to 5"),
        ([told("it/main", 1), told("it/edge", 0, 1, value=2)], "how many: 9; how many: 2"),
        ([told("it/main", 1), told("it/edge", 1, 0, value=2)], "how many: 9"),
    ],
)
def test_it_says_what_was_measured(evidence: list[Evidence], ours: str) -> None:
    assert outcome(WITH_LIMIT, *evidence).ours == ours


def test_it_says_how_to_see_it_and_how_much_there_is() -> None:
    found = outcome(
        WITH_LIMIT,
        told("it/main", 2, transport="tcp", inventory="inventory/kernels.yml", model_held=1),
        told("it/main", 3, where="lab study / case 2", kernel="6.12"),
    )
    assert found.how == "make case CASE=2 ARGS='-i inventory/kernels.yml -e transport=tcp'"
    assert (found.n, found.model_held, found.kernels, found.transports) == (5, 2, ("6.1.0", "6.12"), ("unix", "tcp"))


@pytest.mark.parametrize(
    ("where", "command"),
    [
        ("case 2", "make case CASE=2"),
        ("lab single-request / transport=tcp", "make lab LAB=single-request"),
        ("lab memory-stability", "make lab LAB=memory-stability"),
        ("lab study / case 2", "make study"),
    ],
)
def test_a_command_makes_it_again(where: str, command: str) -> None:
    assert told("it/main", where=where).command == command


# --- the study ------------------------------------------------------------------------------------


def asked(one: Sentence, each: Question, *, so: bool) -> Evidence:
    """Return what a run says that is asked a question."""
    place = each.runs[0].replace("cases", "case 1")
    where = f"{place} / a point" if place.startswith("lab") and " / " not in place and not each.points else place
    return told(one.claim(each).name, int(so), int(not so), where=where, transport=each.transport[0])


def of(one: Sentence, *, so: bool) -> list[Evidence]:
    """Return evidence in which all that decides a sentence is as it says, or nothing is."""
    return [asked(one, each, so=so) for each in one.deciding]


@pytest.mark.parametrize("one", [one for one in SENTENCES.values() if one.questions], ids=lambda one: str(one.id))
def test_each_sentence_of_the_study_can_be_confirmed_and_refuted(one: Sentence) -> None:
    assert outcome(one, *of(one, so=True)).verdict == "confirmed"
    assert outcome(one, *of(one, so=False)).verdict == "refuted"
    limits = [asked(one, each, so=False) for each in one.questions if each.role == "limit"]
    if limits:
        assert outcome(one, *of(one, so=True), *limits).verdict == "confirmed with a limit"


def test_all_sentences_are_there_in_their_order() -> None:
    assert [one.id for one in sentences_of([])] == list(SENTENCES)
    assert {one.verdict for one in sentences_of([])} == {"not observed", "not observable"}
