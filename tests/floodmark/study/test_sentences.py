"""study/sentences.yml: what is refused in it, and which run is asked what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from floodmark.errors import StudyError
from floodmark.inputs.cases import load_cases
from floodmark.study.sentences import (
    asked_of_points,
    asked_of_run,
    check_sentences,
    load_sentences,
    with_questions,
)

QUESTION = {"runs": ["case 2"], "measured": "rows", "value": "count(*)", "from": "unix_states", "holds": "value > 1"}
SENTENCE = {
    "id": "several", "section": "Case 2", "quote": "Multiple lines.", "questions": [QUESTION], "why": "So it is.",
    "source": "net/unix/af_unix.c",
}  # fmt: skip


def write(folder: Path, *sentences: dict[str, Any]) -> Path:
    path = folder / "sentences.yml"
    path.write_text(yaml.safe_dump({"sentences": list(sentences)}))
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"verdict": "confirmed"}, "unknown key 'sentences.0.verdict'"),
        ({"quote": ""}, "sentences.0.quote = '' is not allowed"),
        ({"questions": []}, "a sentence has questions, or a reason why no run can be asked, and not both"),
        ({"reason": "It is a name."}, "a sentence has questions, or a reason why no run can be asked, and not both"),
        ({"why": ""}, "a sentence with questions needs why and source"),
        ({"questions": [QUESTION, QUESTION]}, "several questions need a name each, of their own"),
        ({"questions": [{**QUESTION, "role": "limit"}]}, "limit is for a question with the role limit, which needs it"),
        ({"questions": [{**QUESTION, "limit": "x"}]}, "limit is for a question with the role limit, which needs it"),
        ({"questions": [{**QUESTION, "role": "decides"}]}, "sentences.0.questions.0.role = 'decides' is not allowed"),
        ({"questions": [{**QUESTION, "runs": []}]}, "sentences.0.questions.0.runs = [] is not allowed"),
    ],
)
def test_a_sentence_that_contradicts_itself_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(StudyError, match=re.escape(sentence)) as error:
        load_sentences(write(tmp_path, {**SENTENCE, **changes}))
    assert "\n" not in str(error.value)


def test_two_sentences_do_not_share_an_id(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="two sentences have one id"):
        load_sentences(write(tmp_path, SENTENCE, SENTENCE))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"runs": ["case 77"]}, "several: runs has 'case 77', which does not exist"),
        ({"runs": ["lab memory"]}, "several: runs has 'lab memory', which does not exist"),
        ({"runs": ["lab single-request / transport=tpc"]}, "did you mean 'lab single-request / transport=tcp'?"),
        ({"points": True}, "several: runs has 'case 2', which has no table of points: name a lab"),
        (
            {"points": True, "runs": ["lab single-request"], "from": "points", "value": "max(deepest)"},
            "'several': this SQL does not work: Binder Error",
        ),
    ],
)
def test_what_a_question_is_asked_of_exists(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    found = load_sentences(write(tmp_path, {**SENTENCE, "questions": [{**QUESTION, **changes}]}))
    with pytest.raises(StudyError, match=re.escape(sentence)):
        check_sentences(found.values())


def names(asked: list[Any]) -> set[str]:
    return {sentence.claim(question).name for sentence, question in asked}


def test_a_run_is_asked_what_its_case_or_its_point_of_a_lab_can_tell() -> None:
    assert "case_3_several_lines" in names(asked_of_run(3))
    assert "state_03_is_the_backlog" in names(asked_of_run(3))
    assert "case_2_several_lines" not in names(asked_of_run(3))
    assert "waits_in_epoll" in names(asked_of_run(2, "single-request", "transport=tcp"))
    assert "waits_in_epoll" not in names(asked_of_run(2))
    assert "backlog_in_addition_to_somaxconn" in names(asked_of_run(1, "study", "front limit, somaxconn 511"))
    assert "backlog_in_addition_to_somaxconn" not in names(asked_of_run(1, "study", "case 1"))
    assert asked_of_run(9) == [], "the study has five cases"


def test_the_table_of_points_is_asked_what_a_run_is_not() -> None:
    of_points = names(asked_of_points("memory-stability"))
    assert "may_consume_memory_under_other_conditions" in of_points
    assert not of_points & names(asked_of_run(2, "memory-stability", "users=100"))


def test_a_claim_of_a_run_has_the_sentence_and_the_question() -> None:
    claims = {one.name: one for one in with_questions(load_cases()[2]).claims}
    hang = claims["case_2_nginx_and_clients_hang/full_queue"]
    assert hang.study.startswith('Nginx will "hang" and curl clients wait')
    assert (hang.role, hang.limit.split(";")[0]) == (
        "limit", "on a unix socket only those for whom the queue has room",
    )  # fmt: skip
    assert claims["case_2_several_lines"].role == "sentence"


def test_what_two_sentences_ask_a_run_is_asked_once() -> None:
    digests = [one.digest for one in with_questions(load_cases()[2]).claims]
    assert len(digests) == len(set(digests))
    asked = asked_of_run(2)
    assert len(digests) < len(asked)
    assert set(digests) == {question.digest for _, question in asked}
