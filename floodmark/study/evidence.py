"""What runs have answered to the questions about the study: collected from results, kept in study/evidence.csv.

Every valid run counts, whether our model holds in it or not; how often it does is a column. So that a command repeats
it, a run that is kept has the parameters that its case or its point of a lab has now. Its inventory may have others for
slow hosts: how often is read, over what time clients come. nginx's timeouts may be longer. An answer counts while the
question is the one that study/sentences.yml asks now. Where there is a run that was made by a commit, those that were
made by a changed checkout do not count; where there is none, their commit is marked with a +.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from floodmark.errors import RunError, StudyError
from floodmark.inputs.cases import find_case, load_cases
from floodmark.inputs.labs import load_labs
from floodmark.inputs.parameters import Parameters, resolve_parameters
from floodmark.model.lab import LabRecord
from floodmark.model.run import CAME_WITH, ControlNode, RunRecord
from floodmark.model.verdict import ClaimVerdict
from floodmark.paths import relative
from floodmark.runs.folders import RESULTS, LabFolder, RunFolder, labs_in, runs_in
from floodmark.runs.verdicts import read_verdicts
from floodmark.study.sentences import (
    AT,
    FOLDER,
    Question,
    Sentence,
    asked_of_points,
    asked_of_run,
    load_sentences,
)
from floodmark.values import Value

EVIDENCE = FOLDER / "evidence.csv"
# What `make case` takes when it is not told; ansible.cfg says so.
DEFAULT_INVENTORY = "inventory/testbed.yml"
# Behind the commit of a checkout that was changed since.
CHANGED = "+"
# How often the agent looks is for the host to say, and what key figures leave out no question is asked of.
DECIDING = tuple(name for name in Parameters.model_fields if not name.endswith("_hz") and name != "warmup_s")
# What an inventory may set otherwise for slow hosts, and what may be longer.
OF_SLOW_HOSTS = ("start_spread_ms", "burst_every_s", "proxy_connect_timeout_s", "proxy_read_timeout_s")
TIMEOUTS = ("proxy_connect_timeout_s", "proxy_read_timeout_s")
# A parameter that came later and has the value of before makes no other settings.
BEFORE = {name: value for came in CAME_WITH.values() for name, value in came.items() if name in DECIDING}


@dataclass(frozen=True)
class Evidence:
    """What the runs of one kind say to one question.

    Attributes:
        question: its name, `SENTENCE` or `SENTENCE/QUESTION`; others may ask the same, which have its digest.
        where: the case, the point of a lab, or the lab whose points were judged together.
        transport: unix, tcp, or both of a lab.
        kernel: release.
        confirmed: in how many runs its condition held.
        refuted: in how many it did not.
        unseen: how many could not tell.
        model_held: in how many of those that could tell each expectation of our model held.
        value: of the newest run.
        run_id: of the newest run, or the execution of the lab.
        inventory: that it was made with, as seen from its checkout.
        commit: that it was made by, with a + when the checkout differed from it.
        digest: of what was measured.
        settings: hash of the parameters that decide.
    """

    question: str
    where: str
    transport: str
    kernel: str
    confirmed: int
    refuted: int
    unseen: int
    model_held: int
    value: Value
    run_id: str
    inventory: str
    commit: str
    digest: str
    settings: str

    @property
    def n(self) -> int:
        """How many runs could tell."""
        return self.confirmed + self.refuted

    @property
    def kind(self) -> tuple[str, ...]:
        """What runs of one kind have in common."""
        return self.question, self.where, self.transport, self.kernel, self.inventory

    @property
    def command(self) -> str:
        """Return what makes such a run again."""
        return command_for(self.where, self.transport, self.inventory)


def command_for(where: str, transport: str = "unix", inventory: str = DEFAULT_INVENTORY) -> str:
    """Return what makes a run of a case, or all of a lab.

    Args:
        where: the case, the lab, or a point of it.
        transport: of a case.
        inventory: with the hosts.
    """
    what, _, name = where.partition(AT)[0].partition(" ")
    options = [] if inventory == DEFAULT_INVENTORY else [f"-i {inventory}"]
    if what == "case":
        options += [] if transport == "unix" else [f"-e transport={transport}"]
        target = f"case CASE={name}"
    else:
        target = "study" if name == "study" else f"lab LAB={name}"
    return f"make {target}" + (f" ARGS='{' '.join(options)}'" if options else "")


# --- from results to evidence ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    """What one run says to one question."""

    question: str
    where: str
    transport: str
    kernel: str
    said: ClaimVerdict
    model_held: bool
    run_id: str
    inventory: str
    commit: str
    settings: str


def collect(results: Path = RESULTS) -> list[Evidence]:
    """Return what the runs and labs in a folder say to the questions of now, of those that a command repeats."""
    return evidence_of([*runs_in(results), *labs_in(results)], repeatable=True)


def evidence_of(paths: Iterable[Path], *, repeatable: bool = False) -> list[Evidence]:
    """Return what some runs and executions of labs say to the questions of now, where they could tell.

    Of runs of one kind the newest that could tell gives the value, and all of them are counted.

    Args:
        paths: their folders; runs of a lab are read through its own.
        repeatable: only those with the parameters that their case or lab has now.
    """
    groups: dict[tuple[str, ...], list[_Answer]] = {}
    for path in paths:
        for one in _answers_in(path, repeatable=repeatable):
            groups.setdefault((one.question, one.where, one.transport, one.kernel, one.inventory), []).append(one)
    return in_order(one for one in map(_evidence, groups.values()) if one.n)


def _evidence(answers: list[_Answer]) -> Evidence:
    answers = [one for one in answers if not one.commit.endswith(CHANGED)] or answers
    newest = next((one for one in reversed(answers) if one.said.verdict != "not observed"), answers[-1])
    verdicts = [one.said.verdict for one in answers]
    return Evidence(
        question=newest.question,
        where=newest.where,
        transport=newest.transport,
        kernel=newest.kernel,
        confirmed=verdicts.count("confirmed"),
        refuted=verdicts.count("refuted"),
        unseen=verdicts.count("not observed"),
        model_held=sum(one.model_held for one in answers if one.said.verdict != "not observed"),
        value=newest.said.value,
        run_id=newest.run_id,
        inventory=newest.inventory,
        commit=newest.commit,
        digest=newest.said.digest,
        settings=newest.settings,
    )


def _answers_in(path: Path, *, repeatable: bool) -> Iterator[_Answer]:
    try:
        if (path / "lab.json").exists():
            yield from _answers_of_lab(LabFolder(path), repeatable=repeatable)
        elif (path / "run.json").exists():
            run = RunFolder(path)
            record = run.read_run()
            if record.lab is None:
                yield from _answers_of_run(run, record, f"case {record.case.number}", None, repeatable=repeatable)
    except RunError:
        return  # damaged


def _answers_of_run(
    run: RunFolder, record: RunRecord, where: str, point: str | None, *, repeatable: bool
) -> Iterator[_Answer]:
    if record.clock != "host" or (repeatable and not _is_repeatable(where, record)):
        return
    transport = str(record.parameters["transport"])
    asked = asked_of_run(record.case.number, record.lab, point)
    for verdict in read_verdicts(run):
        for name, said in _known(asked, verdict.claims if verdict.valid else [], where, transport):
            yield _Answer(
                name, where, transport, verdict.kernel or "", said, verdict.passed, run.run_id,
                _inventory(record.inventory or []), _commit(record.control_node), settings_of(where, transport),
            )  # fmt: skip


def _answers_of_lab(folder: LabFolder, *, repeatable: bool) -> Iterator[_Answer]:
    record = folder.read()
    if record.lab not in load_labs():
        return
    place = f"lab {record.lab}"
    runs: list[tuple[str, RunRecord]] = []
    for one in record.points:
        run = folder.run(one.run_id) if one.run_id else None
        if run is not None and run.record.exists():
            runs.append((one.point, run.read_run()))
            yield from _answers_of_run(run, runs[-1][1], f"{place}{AT}{one.point}", one.point, repeatable=repeatable)
    if record.overall is None or (
        repeatable and not all(_is_repeatable(f"{place}{AT}{point}", run) for point, run in runs)
    ):
        return
    yield from _answers_of_points(folder, record, place)


def _answers_of_points(folder: LabFolder, record: LabRecord, place: str) -> Iterator[_Answer]:
    transports = sorted({str(row.get("transport")) for row in record.table or []}, reverse=True)
    for host in record.overall or []:
        rows = record.rows_of(host.host)
        # A point that is not valid is not among those that were asked, and may be the one that shows it.
        if not all(row.valid for row in rows):
            continue
        held = all(row.passed for row in rows)
        for name, said in _known(asked_of_points(record.lab), host.claims, place, ""):
            yield _Answer(
                name, place, " and ".join(transports), host.kernel or "", said, held, folder.path.name,
                _inventory([record.inventory]), _commit(record.control_node), settings_of(place, ""),
            )  # fmt: skip


def _known(
    asked: Sequence[tuple[Sentence, Question]], claims: Iterable[ClaimVerdict], where: str, transport: str
) -> Iterator[tuple[str, ClaimVerdict]]:
    """Yield the answers to the questions of now, each once, with the name of the first sentence that asks.

    Sentences that say the same ask the same. In an older run a question may have had another name.
    """
    said = {one.digest: one for one in claims}
    names: dict[str, str] = {}
    for sentence, question in asked:
        if question.digest in said and question.is_asked(where, transport):
            names.setdefault(question.digest, sentence.claim(question).name)
    yield from ((name, said[digest]) for digest, name in names.items())


def _commit(state: ControlNode) -> str:
    return f"{state.git_commit or 'unknown'}"[:12] + (CHANGED if state.git_dirty is not False else "")


def _inventory(paths: Sequence[str]) -> str:
    """Return what an inventory is called as seen from its checkout, wherever that lies."""
    each = [Path(path).parts for path in paths]
    return " -i ".join("/".join(one[one.index("inventory") :]) if "inventory" in one else one[-1] for one in each)


# --- what a command makes now ---------------------------------------------------------------------


@cache
def _places() -> Mapping[str, Parameters]:
    """Return the parameters that each case and each point of a lab has now."""
    cases = load_cases()
    found = {f"case {number}": case.parameters for number, case in cases.items()}
    for lab in load_labs().values():
        for point in lab.points({}):
            layers = lab.layers(point, find_case(point.case, cases), {})
            found[f"lab {lab.name}{AT}{point.name}"] = resolve_parameters(*layers, origin=lab.name)
    return found


def _is_repeatable(where: str, record: RunRecord) -> bool:
    """Tell whether a run has the parameters that its case or its point has now."""
    place = _places().get(where)
    has = record.parameters
    if place is None or not all(name in has for name in DECIDING):
        return False
    asked = {**place.model_dump(), **{n: v for n, v in record.inventory_parameters.items() if n in OF_SLOW_HOSTS}}
    if where.startswith("case "):
        asked["transport"] = has["transport"]
    differing = [name for name in DECIDING if has[name] != asked[name]]
    return all(name in TIMEOUTS and float(str(has[name])) > float(str(asked[name])) for name in differing)


@cache
def settings_of(where: str, transport: str) -> str:
    """Return a hash of the parameters that a case, a point or all points of a lab have now; empty if there is none."""
    if where in _places():
        parameters = _places()[where].model_dump() | ({"transport": transport} if where.startswith("case ") else {})
        deciding = {name: parameters[name] for name in DECIDING if parameters[name] != BEFORE.get(name)}
        return _hash(json.dumps(deciding, sort_keys=True))
    points = sorted(settings_of(one, "") for one in _places() if one.startswith(f"{where}{AT}"))
    return _hash("".join(points)) if points else ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# --- what is kept ---------------------------------------------------------------------------------


def merge(found: Sequence[Evidence], known: Iterable[Evidence]) -> list[Evidence]:
    """Return what was found, and what was known before of runs that are not here: of other kernels, on other machines.

    Args:
        found: of the results that are there.
        known: as it was written down; what answers an older question, or has older settings, is dropped.
    """
    there = {one.kind for one in found}
    return in_order([*found, *(one for one in known if one.kind not in there and is_current(one))])


def is_current(one: Evidence) -> bool:
    """Tell whether it answers a question as it is now, with settings that its command still makes."""
    asked = (question for _, question in _questions() if question.digest == one.digest)
    is_asked = any(each.is_asked(one.where, one.transport) for each in asked)
    return is_asked and one.settings == settings_of(one.where, one.transport)


@cache
def _questions() -> Sequence[tuple[str, Question]]:
    """Return all questions with their names, in the order of the study."""
    each = load_sentences().values()
    return [(one.claim(question).name, question) for one in each for question in one.questions]


def in_order(found: Iterable[Evidence]) -> list[Evidence]:
    """Return evidence in the order of the study."""
    order = {question.digest: place for place, (_, question) in reversed(list(enumerate(_questions())))}
    return sorted(
        (one for one in found if one.digest in order),
        key=lambda one: (order[one.digest], one.where, one.transport != "unix", one.kernel, one.inventory),
    )


_COLUMNS = [one.name for one in fields(Evidence)]
_COUNTS = ("confirmed", "refuted", "unseen", "model_held")


def evidence_csv(found: Iterable[Evidence]) -> str:
    """Return study/evidence.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in found:
        row = {name: getattr(one, name) for name in _COLUMNS}
        writer.writerow((row | {"value": "" if one.value is None else json.dumps(one.value)}).values())
    return out.getvalue()


def read_evidence(path: Path = EVIDENCE) -> list[Evidence]:
    """Read what was collected.

    Raises:
        StudyError: the file is damaged.
    """
    if not path.exists():
        return []
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                counts = {name: int(row[name]) for name in _COUNTS}
                value = json.loads(row["value"]) if row["value"] else None
                content: dict[str, Any] = {**{name: row[name] for name in _COLUMNS}, **counts, "value": value}
                found.append(Evidence(**content))
            except (KeyError, TypeError, ValueError) as error:
                raise StudyError(
                    f"{relative(path)}: line {number} is damaged ({error}): restore it from git, or remove it."
                ) from None
    return found
