"""Files of a run: each model reads what it writes, and says in one sentence what is wrong with anything else.

What is written here is made of the models' own JSON Schemas, at random, with seeds.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from floodmark.errors import RunError
from floodmark.inputs.cases import load_cases
from floodmark.inputs.parameters import Parameters
from floodmark.model.host import HostDescription
from floodmark.model.lab import LabRecord
from floodmark.model.load import GeneratorSummary
from floodmark.model.metrics import Metrics
from floodmark.model.run import CAME_WITH, Plan, RunRecord
from floodmark.model.stored import Stored, load, save
from floodmark.model.verdict import CHANGED_IN_VERSION_2, Verdict
from floodmark.runs.folders import RunFolder
from floodmark.values import Content, Value
from floodmark.verdict.virtual import Fixed, Found
from tests.floodmark.made_up_runs import plan_of

MODELS = [Plan, RunRecord, Verdict, LabRecord, HostDescription, GeneratorSummary, Found, Fixed]
SEEDS = range(8)
WORDS = ("", "x", "6.1.0", "queue_limit + 1", 'a "quoted" one', "Ünïcode 漢\n", "</script>")
# What is put in the place of a part to damage a file.
WRONG: tuple[Value, ...] = ({}, [], None, "x", 5, -1.5, True, {"a": 1}, [1], 10**30)


class Maker:
    """Makes contents that a JSON Schema allows."""

    def __init__(self, model: type[Stored], seed: int) -> None:
        self.schema: dict[str, Any] = model.model_json_schema()
        self.random = random.Random(f"{model.__name__} {seed}")

    def content(self) -> Content:
        content: Content = self._of(self.schema)
        return content

    def _of(self, schema: dict[str, Any]) -> Any:
        if "$ref" in schema:
            return self._of(self.schema["$defs"][schema["$ref"].rpartition("/")[2]])
        if kinds := schema.get("anyOf") or schema.get("oneOf"):
            return self._of(self.random.choice(kinds))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                count = max(schema.get("minItems", 0), self.random.choice((0, 1, 3)))
                return [self._of(schema["items"]) for _ in range(count)]
            case "string":
                return self.random.choice(WORDS)
            case "integer":
                return self.random.choice((0, 1, 9, 2**53 + 1))
            case "number":
                return self.random.choice((0, 7, 0.1, 1e-9, 123456.789))
            case "boolean":
                return self.random.random() < 0.5
            case "null":
                return None
        return self.random.choice((None, True, 3, 0.5, "text", [1, "a"], {"a": {"b": None}}))

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        needed = set(schema.get("required", ()))
        parts = {
            name: self._of(part)
            for name, part in schema.get("properties", {}).items()
            if name in needed or self.random.random() < 0.7
        }
        further = schema.get("additionalProperties", False)
        if isinstance(further, dict):
            names = schema.get("propertyNames", {}).get("enum", ("one", "other", "a third"))
            parts |= {name: self._of(further) for name in names if self.random.random() < 0.5}
        return parts


def content_of(model: type[Stored], seed: int) -> Content:
    """Return a content that a model reads; what a schema cannot say is put right."""
    content = Maker(model, seed).content()
    content["schema_version"] = model.newest
    if issubclass(model, Plan):
        content["parameters"] = {"users": 3, "transport": "unix", "rate": "100:5", "keepalive": True}
    if model is LabRecord and content.get("table") is None:
        content.pop("overall", None)
    if model is Verdict and not content.get("metrics"):
        content["metrics"] = {"sent": 3}
    return content


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", MODELS)
def test_it_reads_what_it_writes(tmp_path: Path, model: type[Stored], seed: int) -> None:
    content = content_of(model, seed)
    one = model.parse(content)
    save(tmp_path / "file.json", one)
    assert load(model, tmp_path / "file.json") == one
    written = json.loads((tmp_path / "file.json").read_text())
    assert written["schema_version"] == model.newest
    for name in content.keys() - {"metrics"}:
        assert covers(written[name], content[name]), name


def covers(written: Value, content: Value) -> bool:
    """Tell whether all of a content is in what was written, which has the defaults besides."""
    if isinstance(content, dict) and isinstance(written, dict):
        return all(name in written and covers(written[name], part) for name, part in content.items())
    if isinstance(content, list) and isinstance(written, list):
        return len(content) == len(written) and all(map(covers, written, content))
    return written == content


@pytest.mark.parametrize("model", MODELS)
def test_what_a_newer_version_wrote_is_refused(tmp_path: Path, model: type[Stored]) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({**content_of(model, 0), "schema_version": model.newest + 1, "new": 1}))
    with pytest.raises(RunError) as refused:
        load(model, path, "Make it again.")
    assert str(refused.value) == (
        f"{path} is of version {model.newest + 1}, and this Floodmark reads 1 to {model.newest}: read it with the "
        "Floodmark that wrote it, or update this one."
    )


def places(value: Value, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where each part of a content is."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in parts:
        yield (*at, step)
        yield from places(part, (*at, step))


def damaged(content: Content, place: tuple[str | int, ...], chance: random.Random) -> Content:
    """Return a content in which one part is gone, or is something else."""
    changed: Any = copy.deepcopy(content)
    *before, last = place
    part = changed
    for step in before:
        part = part[step]
    if chance.random() < 0.2:
        del part[last]
    else:
        part[last] = chance.choice(WRONG)
    made: Content = changed
    return made


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", MODELS)
def test_whatever_is_damaged_is_one_sentence(tmp_path: Path, model: type[Stored], seed: int) -> None:
    path = tmp_path / "file.json"
    content = content_of(model, seed)
    chance = random.Random(seed)
    said = []
    for place in places(content):
        path.write_text(json.dumps(damaged(content, place, chance)))
        try:
            load(model, path)
        except RunError as error:
            said.append(str(error))
    assert said
    assert [one for one in said if "\n" in one or not one.startswith(f"{path} is ")] == []


# --- by name ---------------------------------------------------------------------------------------


# A summary that lacks nothing.
WHOLE = '"generator": 0, "generators": 1, "wall_minus_monotonic_ns": 5'


def test_every_model_is_among_them() -> None:
    def below(model: type[Stored]) -> set[type[Stored]]:
        return {model}.union(*(below(one) for one in model.__subclasses__()))

    assert below(Stored) - {Stored} == set(MODELS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "damaged: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "damaged: it is no object of JSON"),
        ("\x00", "damaged: Expecting value"),
        ("{}", "damaged: it has no generator"),
        ('{"generator": 0}', "damaged: it has no generators"),
        ('{"generator": "one"}', "damaged: generator is 'one', and it should be a valid integer"),
        (f'{{{WHOLE}, "more": 1}}', "damaged: it has more, which this version does not know"),
        (f'{{{WHOLE}, "cpu_s": NaN}}', "damaged: cpu_s is nan, and it should be a finite number"),
        ('{"schema_version": 0}', "damaged: schema_version is 0, and it should be a whole number from 1 on"),
    ],
)
def test_the_first_fault_is_named_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "load.0.json"
    path.write_text(text)
    with pytest.raises(RunError) as refused:
        load(GeneratorSummary, path, "Run the case again.")
    assert str(refused.value).startswith(f"{path} is {said}")
    assert str(refused.value).endswith(". Run the case again.")


def test_what_is_no_text_is_damaged_and_what_is_not_there_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "load.0.json"
    with pytest.raises(RunError, match=r"load\.0\.json is missing\. Run the case again\."):
        load(GeneratorSummary, path, "Run the case again.")
    path.write_bytes(b"{\xff}")
    with pytest.raises(RunError, match=r"load\.0\.json is damaged: 'utf-8' codec"):
        load(GeneratorSummary, path)
    with pytest.raises(RunError, match=rf"{tmp_path} is not readable: Is a directory"):
        load(GeneratorSummary, tmp_path)


# --- older versions --------------------------------------------------------------------------------


def test_parameters_of_a_later_version_have_the_values_that_were_in_force(tmp_path: Path) -> None:
    plan = plan_of(RunFolder(tmp_path / "run"), case=2)
    for version, later in CAME_WITH.items():
        came = {name for number, added in CAME_WITH.items() if number >= version for name in added}
        old = {name: value for name, value in plan.parameters.items() if name not in came}
        content = {**plan.model_dump(mode="json", by_alias=True), "schema_version": version - 1, "parameters": old}
        read = Plan.parse(content)
        assert {name: read.parameters[name] for name in later} == later
        assert {name: read.parameters[name] for name in old} == old
        assert read.parameters.keys() == Parameters.model_fields.keys()


def test_what_a_parameter_was_before_there_was_one_is_what_it_is_by_default_or_nothing_was_measured() -> None:
    base = load_cases()[1].parameters.model_dump()
    differing = {name: value for added in CAME_WITH.values() for name, value in added.items() if value != base[name]}
    assert differing == {"machine_hz": 0}


def of_version_1(**parts: Value) -> Verdict:
    said: Content = {"run_id": "r", "host": "proxy1", "valid": True, "metrics": {"sent": 3}, **parts}
    return Verdict.parse(said)


def test_sentences_of_version_1_are_checks_without_a_rule() -> None:
    verdict = of_version_1(valid=False, reasons=["it was late", "it was lost"], doubts=["it cost much"])
    assert (verdict.valid, verdict.reasons, verdict.doubts) == (False, ["it was late", "it was lost"], ["it cost much"])
    assert {one.id for one in verdict.checks} == {"recorded"}
    assert of_version_1(valid=False, reasons=[]).reasons == ["version 1 does not say why"]
    assert of_version_1(valid=False, metrics={}).metrics is None


def test_figures_that_version_1_measured_otherwise_are_missing_and_the_others_stay() -> None:
    kept: Content = {"accept_queue_max": 9, "states": {"02": 9}, "time_to_full_s": 0.1, "waits_area_conn_s": None}
    changed: Content = {name: 1 for name in CHANGED_IN_VERSION_2 if name not in kept}
    verdict = of_version_1(metrics={**kept, **changed})
    assert verdict.metrics == Metrics.model_validate(kept)
    assert verdict.missing.keys() == Metrics.model_fields.keys() - kept.keys()
    assert set(verdict.missing.values()) == {
        "version 1 measured it in another way, or not at all; 'floodmark judge r' measures it"
    }


def test_figures_of_virtual_time_are_those_of_version_1() -> None:
    figure: Content = {"median": 257400.0, "half_spread": 0.0008, "steady": 30, "warm_up": 10, "operations": 4000}
    verdict = of_version_1(clock="virtual", metrics={"workloads": {"status_read": figure}})
    assert verdict.missing == {}
    assert verdict.model_dump(mode="json")["metrics"]["workloads"]["status_read"]["median"] == 257400
