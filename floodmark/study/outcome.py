"""What becomes of each sentence of the study: one verdict, from all that runs have answered.

    confirmed                 each of its questions was answered with yes, wherever it was asked
    confirmed with a limit    so it is, and a question about its limit was answered with no
    refuted                   a question that it hangs on was answered with no
    not observable            no run can be asked, for a reason
    not observed              runs can be asked, and none could tell

Runs of one kind (one case or point, transport, kernel and inventory) answer with one voice, that of most of them. Of a
sentence that says that something is possible, one yes is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from floodmark.study.evidence import Evidence, command_for
from floodmark.study.sentences import ALL_CASES, AT, Question, Sentence, load_sentences
from floodmark.text import number, one_line

# Values are given place by place for no more of them than this.
MOST_PLACES = 3
Outcome = Literal["confirmed", "confirmed with a limit", "refuted", "not observable", "not observed"]


@dataclass(frozen=True)
class SentenceOutcome:
    """What becomes of one sentence.

    Attributes:
        id: its permanent name.
        section: where in the study it stands.
        quote: in the study's words.
        his: the number or the picture that the study has; may be empty.
        ours: what was measured, with its values; the reason where nothing can be.
        verdict: in a word.
        limit: of what is confirmed with a limit, in words.
        how: the command that shows it, or would; empty where nothing can.
        why: what is so, and why.
        source: where one can read it.
        n: how many runs could tell.
        model_held: in how many of them each expectation of our model held.
        kernels: that they ran on.
        transports: that they had.
        evidence: what the verdict rests on, and what is only shown.
    """

    id: str
    section: str
    quote: str
    his: str
    ours: str
    verdict: Outcome
    limit: str
    how: str
    why: str
    source: str
    n: int = 0
    model_held: int = 0
    kernels: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)


def sentences_of(evidence: Sequence[Evidence]) -> list[SentenceOutcome]:
    """Return what becomes of each sentence of the study, in its order.

    Args:
        evidence: of all runs, or of those of one execution.
    """
    by_digest: dict[str, list[Evidence]] = {}
    for one in evidence:
        by_digest.setdefault(one.digest, []).append(one)
    return [outcome_of(sentence, by_digest) for sentence in load_sentences().values()]


def outcome_of(sentence: Sentence, by_digest: Mapping[str, Sequence[Evidence]]) -> SentenceOutcome:
    """Return what becomes of one sentence.

    Args:
        sentence: which.
        by_digest: what is measured -> what runs have answered.
    """
    answers = {one.name: answers_to(one, by_digest.get(one.digest, [])) for one in sentence.questions}
    verdict, limits, telling = _verdict(sentence, answers)
    shown = [(one, answers[one.name]) for one in sentence.questions if one in telling]
    rests = [each for _, lines in shown for each in lines if each.n]
    first = next((each for one, lines in shown if one.role != "context" for each in lines if each.n), None)
    return SentenceOutcome(
        id=sentence.id,
        section=sentence.section,
        quote=one_line(sentence.quote),
        his=one_line(sentence.his),
        ours=one_line(sentence.reason) or "; ".join(filter(None, (_in_words(one, lines) for one, lines in shown))),
        verdict=verdict,
        limit="; ".join(limits),
        how=first.command if first else _command_to_see(sentence),
        why=one_line(sentence.why),
        source=one_line(sentence.source),
        # The runs of a question are those of the others as well.
        n=max((sum(each.n for each in lines) for _, lines in shown), default=0),
        model_held=max((sum(each.model_held for each in lines if each.n) for _, lines in shown), default=0),
        kernels=tuple(sorted({one.kernel for one in rests})),
        transports=tuple(sorted({name for one in rests for name in one.transport.split(" and ")}, reverse=True)),
        evidence=tuple(each for lines in answers.values() for each in lines),
    )


def answers_to(question: Question, evidence: Iterable[Evidence]) -> list[Evidence]:
    """Return what runs that are asked a question have answered to it."""
    return [one for one in evidence if one.digest == question.digest and question.is_asked(one.where, one.transport)]


def _command_to_see(sentence: Sentence) -> str:
    """Return what makes a run that is asked, for a sentence that no run has told of."""
    places = [place for one in sentence.deciding for place in one.runs]
    return command_for("case 1" if places[0] == ALL_CASES else places[0]) if places else ""


def _verdict(sentence: Sentence, answers: dict[str, list[Evidence]]) -> tuple[Outcome, list[str], list[Question]]:
    """Return the verdict on a sentence, its limits in words, and the questions that tell of both."""
    if sentence.reason:
        return "not observable", [], []
    deciding = [one for one in sentence.deciding if any(each.n for each in answers[one.name])]
    if not deciding:
        return "not observed", [], []
    refuting = [one for one in deciding if any(map(_refutes, answers[one.name]))]
    if sentence.exists:
        refuting = [] if any(each.confirmed for one in deciding for each in answers[one.name]) else deciding
    if refuting:
        return "refuted", [], refuting
    limiting = [one for one in sentence.questions if one.role == "limit" and any(map(_refutes, answers[one.name]))]
    limits = [one_line(one.limit) for one in limiting]
    if not sentence.exists:
        limits += filter(None, (_not_always(answers[one.name]) for one in deciding))
    return "confirmed with a limit" if limits else "confirmed", limits, [*deciding, *limiting]


def _refutes(one: Evidence) -> bool:
    return one.refuted > one.confirmed


def _not_always(lines: Iterable[Evidence]) -> str:
    """Say of how many runs of a kind a few were otherwise."""
    varying = [one for one in lines if one.refuted]
    return "; ".join(f"in {one.confirmed} of {one.n} runs of {one.where} over {one.transport}" for one in varying)


def _in_words(question: Question, lines: Iterable[Evidence]) -> str:
    """Say what was measured: `most rows of the path at a time: 101`, by place or transport where that matters."""
    telling = [one for one in lines if one.n and one.value is not None]
    if not telling:
        return ""
    text = _range(telling)
    for part, shape in ((lambda one: _place(one.where), "{} ({})"), (lambda one: one.transport, "{} over {}")):
        parts: dict[str, list[Evidence]] = {}
        for one in telling:
            parts.setdefault(part(one), []).append(one)
        ranges = {name: _range(each) for name, each in parts.items()}
        if len(ranges) <= MOST_PLACES and len(set(ranges.values())) > 1:
            text = ", ".join(shape.format(found, name) for name, found in ranges.items())
            break
    measured = one_line(question.measured)
    return f"{measured}: {text}" if measured else text


def _place(where: str) -> str:
    """Return a place as people say it."""
    return where.replace(f"lab study{AT}", "study: ")


def _range(lines: Iterable[Evidence]) -> str:
    found = [one.value for one in lines]
    numbers = [one for one in found if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if len(numbers) < len(found):
        return " or ".join(dict.fromkeys(number(one) for one in found))
    least, most = number(min(numbers)), number(max(numbers))
    return least if least == most else f"{least} to {most}"
