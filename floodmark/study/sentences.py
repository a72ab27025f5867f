"""study/sentences.yml: every sentence of the study in its own words, and what runs are asked about it.

A question says for which runs it is asked:

    case 2                                    runs of that case by itself
    cases                                     runs of the study's five cases by themselves
    lab single-request                        each run of that lab, or its table of points (`points: true`)
    lab study / listens 1, proxy_passes 2     the run of one point of a lab
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import duckdb
from pydantic import Field, model_validator

from floodmark.errors import FloodmarkError, StudyError, did_you_mean
from floodmark.inputs.cases import SCHEMA_DIALECT, Asked, Case, Claim, Model, load_cases, read_model
from floodmark.inputs.labs import Lab, create_points, load_labs
from floodmark.inputs.sql import Locked, try_sql
from floodmark.paths import ROOT, relative
from floodmark.text import one_line
from floodmark.values import Content

FOLDER = ROOT / "study"
SENTENCES = FOLDER / "sentences.yml"
# Those that the study has.
STUDYS_CASES = tuple(f"case {number}" for number in range(1, 6))
ALL_CASES = "cases"
AT = " / "


class Question(Asked):
    """What some runs are asked about a sentence."""

    name: str = Field(
        default="", pattern=r"^[a-z0-9_]*$", description="Permanent; needed where a sentence has several questions."
    )
    runs: list[str] = Field(
        min_length=1, description="Which runs are asked: `case 2`, `cases`, `lab NAME`, `lab NAME / POINT`."
    )
    points: bool = Field(default=False, description="The SQL is over the table of points of a lab, and not of a run.")

    def is_asked(self, where: str, transport: str) -> bool:
        """Tell whether a run is asked.

        Args:
            where: `case 2`, `lab NAME / POINT`; of a table of points `lab NAME`.
            transport: of the run.
        """
        place, _, point = where.partition(AT)
        if self.points:
            return not point and place in self.runs
        places = {where, place if point else ALL_CASES if place in STUDYS_CASES else ""}
        return bool(places & set(self.runs)) and transport in self.transport

    @model_validator(mode="after")
    def _limit_in_words(self) -> Question:
        if (self.role == "limit") != bool(self.limit):
            raise ValueError("limit is for a question with the role limit, which needs it")
        return self


class Sentence(Model):
    """One sentence of the study, or some that say one thing."""

    id: str = Field(pattern=r"^[a-z0-9_]+$", description="Permanent.")
    section: str = Field(min_length=1, description="Where in the study it stands.")
    quote: str = Field(min_length=1, description="What the study says, literally but for marks of Markdown.")
    his: str = Field(default="", description="The number or the picture that the study has for it.")
    exists: bool = Field(default=False, description="It says that something is possible: one run settles it.")
    questions: list[Question] = Field(default=[], description="What runs are asked.")
    reason: str = Field(default="", description="Why no run can be asked.")
    why: str = Field(default="", description="What is so, and why.")
    source: str = Field(default="", description="Where in the kernel or in nginx one can read it.")

    @model_validator(mode="after")
    def _asked_or_not(self) -> Sentence:
        if bool(self.questions) == bool(self.reason):
            raise ValueError("a sentence has questions, or a reason why no run can be asked, and not both")
        if self.questions and not (self.why and self.source):
            raise ValueError("a sentence with questions needs why and source")
        names = [one.name for one in self.questions]
        if len(set(names)) < len(names) or (len(names) > 1 and "" in names):
            raise ValueError("several questions need a name each, of their own")
        return self

    def claim(self, question: Question) -> Claim:
        """Return one of its questions as a run records it."""
        asked = question.model_dump(by_alias=True, exclude={"runs", "points", "name"})
        name = f"{self.id}/{question.name}" if question.name else self.id
        return Claim(name=name, study=one_line(self.quote), why=self.why, source=self.source, **asked)

    @property
    def deciding(self) -> list[Question]:
        """The questions that its verdict hangs on."""
        return [one for one in self.questions if one.role == "sentence"]


class SentenceFile(Model):
    """`study/sentences.yml`."""

    kind: ClassVar[str] = "study"
    schema_file: ClassVar[str] = "study/schema.json"
    error: ClassVar[type[FloodmarkError]] = StudyError

    sentences: list[Sentence] = Field(min_length=1)


def sentence_schema() -> Content:
    """Return the JSON Schema of study/sentences.yml; `study/schema.json` is this, written down."""
    schema = SentenceFile.model_json_schema(by_alias=True)
    schema["$schema"] = SCHEMA_DIALECT
    return schema


@cache
def load_sentences(path: Path = SENTENCES) -> dict[str, Sentence]:
    """Read every sentence.

    Returns:
        Id -> sentence, in the order of the study.

    Raises:
        StudyError: the file does not fit its schema.
    """
    file = read_model(path, SentenceFile)
    found = {one.id: one for one in file.sentences}
    if len(found) < len(file.sentences):
        raise StudyError(f"{relative(path)}: two sentences have one id: each needs its own.")
    return found


def check_sentences(sentences: Iterable[Sentence]) -> None:
    """Check what the questions are asked of; a run checks the SQL that it is asked itself.

    Raises:
        StudyError: a case, a lab or a point does not exist, or SQL over a table of points does not work.
    """
    labs = load_labs()
    known = _places(labs)
    asked = list(_all_questions(sentences))
    for sentence, question in asked:
        for place in question.runs:
            where = f"{relative(SENTENCES)}: {sentence.id}: runs has '{place}'"
            if place not in known:
                raise StudyError(
                    f"{where}, which does not exist: {did_you_mean(place, known)}Name a case, lab or point."
                )
            if question.points and place not in {f"lab {name}" for name in labs}:
                raise StudyError(f"{where}, which has no table of points: name a lab.")
    for lab in labs.values():
        parameters = load_cases()[lab.points({})[0].case].parameters.model_dump()
        database = create_points(lab, [parameters, parameters])
        for sentence, question in asked:
            if question.points and f"lab {lab.name}" in question.runs:
                _try_points(database, sentence.claim(question))


def _try_points(database: Locked, claim: Claim) -> None:
    try:
        try_sql(database, claim)
    except duckdb.Error as error:
        message = str(error).strip().splitlines()[0]
        raise StudyError(f"{relative(SENTENCES)}, '{claim.name}': this SQL does not work: {message}.") from None


def _places(labs: Mapping[str, Lab]) -> list[str]:
    """Return all that a question can be asked of."""
    cases = [f"case {number}" for number in load_cases()]
    points = [f"lab {name}{AT}{point.name}" for name, lab in labs.items() for point in lab.points({})]
    return [*cases, ALL_CASES, *(f"lab {name}" for name in labs), *points]


def _all_questions(sentences: Iterable[Sentence]) -> Iterator[tuple[Sentence, Question]]:
    for sentence in sentences:
        for question in sentence.questions:
            yield sentence, question


def asked_of_run(case_number: int, lab: str | None = None, point: str | None = None) -> list[tuple[Sentence, Question]]:
    """Return what a run is asked about the study.

    Args:
        case_number: of the run.
        lab: that it is a run of.
        point: of the lab.
    """
    where = f"lab {lab}{AT}{point}" if lab else f"case {case_number}"
    return [
        (sentence, question)
        for sentence, question in _all_questions(load_sentences().values())
        if any(question.is_asked(where, transport) for transport in question.transport) and not question.points
    ]


def asked_of_points(lab: str) -> list[tuple[Sentence, Question]]:
    """Return what the table of points of a lab is asked about the study."""
    return [
        (sentence, question)
        for sentence, question in _all_questions(load_sentences().values())
        if question.points and f"lab {lab}" in question.runs
    ]


def claims_of(asked: Iterable[tuple[Sentence, Question]]) -> list[Claim]:
    """Return questions as a verdict has them: one that several sentences ask is asked once, by the first of them."""
    claims: dict[str, Claim] = {}
    for sentence, question in asked:
        claims.setdefault(question.digest, sentence.claim(question))
    return list(claims.values())


def with_questions(case: Case, lab: str | None = None, point: str | None = None) -> Case:
    """Return a case with what a run of it is asked about the study."""
    return case.model_copy(update={"claims": claims_of(asked_of_run(case.number, lab, point))})
