"""Case files: their schema, and how they are found, read and checked.

A case is described in one place, its file in `cases/`; `base.yml` holds what all cases share.
Values and conditions in a case are SQL over the tables of a run (see `floodmark.verdict.judge`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from floodmark.errors import CaseError, FloodmarkError, did_you_mean, quoted, shown
from floodmark.inputs.parameters import Parameters, Transport, resolve_parameters
from floodmark.paths import ROOT, relative
from floodmark.text import one_line
from floodmark.values import Content, ParameterValue

CASES = ROOT / "cases"
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

# What a matrix of parameters may have at most: each of them is a run of a quarter of a minute.
MOST_COMBINATIONS = 1000

ModelT = TypeVar("ModelT", bound="Model")
Sql = Annotated[str, Field(min_length=1)]
# Methods of roles/virtual/files/workloads.py, which say what each of them does.
Workload = Literal[
    "request_proxied",
    "request_refused",
    "request_timed_out",
    "connection_accepted",
    "connection_refused",
    "status_read",
]
Windows = Annotated[int, Field(ge=1, le=10000)]


def _one_value(value: object) -> object:
    if not isinstance(value, ParameterValue):
        raise PydanticCustomError("parameter_value", "A parameter is one number, one text, true or false")
    return value


# A parameter's value in a file; its range is checked with those of all other parameters.
WrittenValue = Annotated[ParameterValue, BeforeValidator(_one_value)]


class Model(BaseModel):
    """A part of a case file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: ClassVar[str] = "case"
    schema_file: ClassVar[str] = "cases/schema.json"
    error: ClassVar[type[FloodmarkError]] = CaseError


class Upstream(Model):
    """Which calls the upstream makes on each connection, in this order."""

    accept: Literal[True, False, "slowly", "with_a_pause"] = Field(
        default=True,
        description="Call accept(); without it connections stay in the accept queue. slowly: upstream_accepts_per_s. "
        "with_a_pause: not for upstream_pause_s, from upstream_pause_after_s after the first connection on; once.",
    )
    read: bool = Field(default=True, description="Read the whole request.")
    write: Literal[True, False, "half"] = Field(
        default=True, description="Write a response with status 200; half: its head and half of the body, no more."
    )
    close: Literal[True, False, "reset"] = Field(
        default=True,
        description="Close the connection; without it the connection is kept open. reset: when the request has come, "
        "so that nginx gets ECONNRESET; over a unix socket that takes read: false.",
    )


class Figure(Model):
    """One value taken from the tables of a run."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="A short name, permanent.")
    value: Sql = Field(description="SQL expression over the table in `from`; may use parameters by their name.")
    from_: str = Field(alias="from", description="A table or view of the run, or several joined.")
    transport: list[Transport] = Field(
        default=["unix", "tcp"], description="The transports for which this is stated.", min_length=1
    )


class Observation(Figure):
    """A value, and the condition that it is held against."""

    holds: Sql = Field(description="SQL condition over `value` and the parameters.")
    applies: Sql = Field(default="true", description="SQL condition over the parameters: when this is stated.")


class Expectation(Observation):
    """What our model of the kernel and nginx predicts; if it fails, the run fails."""


Role = Literal["sentence", "limit", "context"]


class Asked(Observation):
    """What a run is asked about a sentence of the original study."""

    role: Role = Field(
        default="sentence",
        description="What follows when the condition does not hold. sentence: the sentence is refuted. limit: it is "
        "confirmed with a limit. context: nothing.",
    )
    measured: str = Field(default="", description="What the value is, where the sentence does not say it.")
    limit: str = Field(default="", description="Of a question with the role limit: the limit in words.")

    @property
    def digest(self) -> str:
        """The hash of what is measured: verdicts with one digest are answers to one question."""
        asked = [self.value, self.from_, self.holds, *([] if self.applies == "true" else [self.applies])]
        return hashlib.sha256("\0".join(asked).encode()).hexdigest()[:12]


class Claim(Asked):
    """A sentence of the original study with one question, as a run is asked; study/sentences.yml has them."""

    name: str = Field(
        pattern=r"^[a-z0-9_]+(/[a-z0-9_]+)?$", description="Of the sentence, and of the question if it has several."
    )
    study: str = Field(description="What the study says, in its words.")
    why: str = Field(description="What is so, and why.")
    source: str = Field(description="The function of the kernel or of nginx that explains it, or how else one sees it.")


class Shared(Model):
    """What `base.yml` and every case file have in common."""

    fault: list[Expectation] = Field(
        default=[], description="What must have been seen for the run to be valid: the misbehaviour itself."
    )
    expect: list[Expectation] = Field(default=[], description="Predictions of our model.")


class Base(Shared):
    """`cases/base.yml`: what all cases share."""

    parameters: Parameters


class CaseFile(Shared):
    """One case: a file `cases/<number>-<name>.yml`."""

    number: int = Field(ge=1, le=99, description="Permanent; `-e case=` selects by it.")
    name: str = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="Permanent; the file is called after number and name."
    )
    title: str = Field(min_length=1, description="One line that says how the upstream misbehaves.")
    upstream: Upstream = Upstream()
    others: list[Upstream] = Field(
        default=[], description="Other servers that nginx chooses among in turn, beginning with `upstream`."
    )
    reading: list[str] = Field(default=[], description="How to read a report of this case: short paragraphs.")
    virtual: dict[Workload, Windows] = Field(
        default={}, description="What is measured in virtual time, in this order, and in how many windows each."
    )
    parameters: dict[str, WrittenValue] = Field(default={}, description="Values that differ from those in base.yml.")


class Case(Model):
    """A case with what it takes from `base.yml` filled in, and what a run of it is asked about the study."""

    number: int
    name: str
    title: str
    upstream: Upstream
    others: list[Upstream] = []
    reading: list[str] = []
    virtual: dict[Workload, Windows] = {}
    parameters: Parameters
    fault: list[Expectation]
    expect: list[Expectation]
    claims: list[Claim] = []
    figures: list[Figure] = []


def case_schema() -> Content:
    """Return the JSON Schema of a case file; `cases/schema.json` is this, written down."""
    schema = CaseFile.model_json_schema(by_alias=True)
    schema["$schema"] = SCHEMA_DIALECT
    allow_parameters(schema["properties"]["parameters"])
    return schema


def allow_parameters(schema: Content, *, several: bool = False) -> None:
    """Let a part of a schema be a mapping of parameters, each optional.

    Args:
        schema: the part; its description is kept.
        several: whether it maps to a list of values each.
    """
    properties = Parameters.model_json_schema()["properties"]
    if several:
        properties = {name: {"type": "array", "minItems": 1, "items": one} for name, one in properties.items()}
    description = schema["description"]
    schema.clear()
    schema.update(description=description, type="object", properties=properties, additionalProperties=False)


def load_cases(folder: Path = CASES) -> dict[int, Case]:
    """Read and check every case file.

    Args:
        folder: holds `base.yml` and the case files.

    Returns:
        Case number -> case, in the order of the numbers.

    Raises:
        CaseError: a file does not fit its schema, or two files have one number.
        ParameterError: a file sets a parameter that is unknown or out of range.
    """
    base = read_model(folder / "base.yml", Base)
    cases: dict[int, Case] = {}
    for path in sorted(folder.glob("[0-9]*.yml")):
        file = read_model(path, CaseFile)
        if path.stem != f"{file.number}-{file.name}":
            raise CaseError(
                f"{relative(path)}: the file must be called {file.number}-{file.name}.yml, after its number and name."
            )
        if file.number in cases:
            raise CaseError(f"{relative(path)}: number {file.number} is taken by case '{cases[file.number].name}'.")
        cases[file.number] = Case(
            number=file.number,
            name=file.name,
            title=file.title,
            upstream=file.upstream,
            others=file.others,
            reading=file.reading,
            virtual=file.virtual,
            parameters=resolve_parameters(base.parameters.model_dump(), file.parameters, origin=relative(path)),
            fault=[*base.fault, *file.fault],
            expect=[*base.expect, *file.expect],
        )
    return dict(sorted(cases.items()))


def find_case(selector: object, cases: dict[int, Case]) -> Case:
    """Return the case that `-e case=` selects.

    Args:
        selector: the number as text or integer; None or an empty text when it was not given.
        cases: all cases by number.

    Raises:
        CaseError: no case was named, or there is no such case.
    """
    numbers = ", ".join(str(number) for number in cases)
    if selector is None or str(selector).strip() == "":
        raise CaseError(
            f"no case was given: allowed are {numbers}. Say `make case CASE=3` or `-e case=3`; "
            "`floodmark cases` lists them."
        )
    text = str(selector).strip()
    if re.fullmatch(r"\d{1,9}", text) and int(text) in cases:
        return cases[int(text)]
    raise CaseError(f"there is no case '{text}': allowed are {numbers}. `floodmark cases` lists them.")


def read_model(path: Path, model: type[ModelT]) -> ModelT:
    """Read one YAML file into its model.

    Raises:
        FloodmarkError: of the model's kind; the file cannot be read or does not fit.
    """
    name = relative(path)
    try:
        # The parser of libyaml: ten times faster, and each verdict reads the sentences of the study.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        raise model.error(f"{name} is missing: it is part of Floodmark, restore it from git.") from None
    except (OSError, UnicodeError) as error:
        raise model.error(f"{name} cannot be read: {error}.") from None
    # A date of a 99th month is a ValueError, and what is nested too deeply a RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise model.error(f"{name}: this is not YAML: {shown(one_line(str(error)))}.") from None
    if not isinstance(content, dict):
        raise model.error(f"{name}: a {model.kind} file is a mapping of keys, and this is {type(content).__name__}.")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A misspelt key comes before the key that is missing because of it.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        where = shown(".".join(map(str, first["loc"])))
        if first["type"] == "extra_forbidden":
            key = str(first["loc"][-1])
            hint = did_you_mean(key, _keys_at(model, first["loc"][:-1]))
            raise model.error(
                f"{name}: unknown key '{where}': {hint}{model.schema_file} lists what is allowed."
            ) from None
        if first["type"] == "missing":
            raise model.error(f"{name}: the key '{where}' is missing: {model.schema_file} says what it is.") from None
        raise model.error(
            f"{name}: {where} = {quoted(first['input'])} is not allowed: {first['msg']}. "
            f"{model.schema_file} lists what is."
        ) from None


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed at a place of a model, for the hint of a message."""
    current: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation
        current = next(iter(getattr(annotation, "__args__", [])), annotation)
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
    return [field.alias or name for name, field in current.model_fields.items()]
