"""Lab files: a case with settings and a question of its own, answered by some runs together.

A lab has points: runs that differ in what it varies, or runs with a name and a case of their own. What is expected or
claimed of each run is SQL over the tables of that run, as in a case; what is said of all of them together is SQL over
the table `points`, which has a row for each run and host:

    point, host, kernel, run_id     which one
    case_number                     of its case
    valid, passed                   its verdict
    all parameters                  under their names
    the key figures of KEY_FIGURES  as `floodmark show --json` has them
    the lab's own figures           under their names
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

import duckdb
from pydantic import Field

from floodmark.errors import FloodmarkError, LabError, ParameterError, did_you_mean, shown
from floodmark.inputs.cases import (
    MOST_COMBINATIONS,
    SCHEMA_DIALECT,
    Case,
    Expectation,
    Figure,
    Model,
    Shared,
    WrittenValue,
    allow_parameters,
    find_case,
    load_cases,
    read_model,
)
from floodmark.inputs.parameters import Parameters, as_yaml, given_parameters, resolve_parameters, unknown_parameter
from floodmark.inputs.sql import Locked, lock, try_sql
from floodmark.paths import ROOT, relative
from floodmark.values import Content, ParameterValues, Variables

LABS = ROOT / "labs"
# The lab that does what the study did.
STUDY = "study"
# Of the figures that every run has.
KEY_FIGURES = (
    "sent", "queue_limit", "accept_queue_max", "accept_queue_last", "accepted_max", "active_max", "active_median",
    "identity_front_share", "identity_share", "listen_overflows", "request_median_s", "request_max_s", "flood_s",
)  # fmt: skip
Picture = Literal[
    "accept-queue", "states", "active", "answers", "errors", "memory", "own-memory", "bodies", "requests", "latency"
]
"""What is drawn of a run; the name of each figure is permanent."""
# The point of a lab that varies nothing.
AS_IT_IS = "as it is"
_SQL_TYPES = {"integer": "BIGINT", "boolean": "BOOLEAN", "string": "VARCHAR"}


class Overall(Model):
    """What is said of all points together: SQL over `points`."""

    expect: list[Expectation] = Field(default=[], description="Predictions of our model.")


class LabRun(Model):
    """A point of a lab that has a name."""

    kind: ClassVar[str] = "lab"
    schema_file: ClassVar[str] = "labs/schema.json"
    error: ClassVar[type[FloodmarkError]] = LabError

    name: str = Field(
        pattern=r"^[^'\"]+$", description="What the point is called; permanent, `-e point=` selects by it."
    )
    case: int | None = Field(default=None, description="Number of its case, where it is not the lab's.")
    parameters: dict[str, WrittenValue] = Field(default={}, description="What it differs in.")
    draw: list[Picture] = Field(default=[], description="Figures that the lab's page has of this point besides.")


class LabFile(Shared):
    """One lab: a file `labs/<name>.yml`."""

    kind: ClassVar[str] = "lab"
    schema_file: ClassVar[str] = "labs/schema.json"
    error: ClassVar[type[FloodmarkError]] = LabError

    question: str = Field(min_length=1, description="The question that the lab answers, in one line.")
    case: int | None = Field(
        default=None,
        description="Number of the case whose upstream its points have, with that case's expectations; points under "
        "`runs` may name another.",
    )
    parameters: dict[str, WrittenValue] = Field(default={}, description="Parameters that are the same in all its runs.")
    vary: dict[str, list[WrittenValue]] = Field(
        default={}, description="Parameters of which every value is combined with every other: a point each."
    )
    also: list[dict[str, WrittenValue]] = Field(default=[], description="Further points, with what each differs in.")
    runs: list[LabRun] = Field(default=[], description="Points that have names, and a case of their own if need be.")
    figures: list[Figure] = Field(default=[], description="Numbers of each run that the table of points has besides.")
    draw: list[Picture] = Field(default=[], description="Figures that its page has of all points side by side.")
    overall: Overall = Overall()


@dataclass(frozen=True)
class Point:
    """One run of a lab, with its case and what it differs in from the others."""

    name: str
    case: int
    varied: ParameterValues


@dataclass(frozen=True)
class Lab:
    """A lab, whose name is that of its file."""

    name: str
    file: LabFile

    @property
    def axes(self) -> list[str]:
        """The parameters that its points differ in."""
        others = [*self.file.also, *(one.parameters for one in self.file.runs)]
        return list(dict.fromkeys([*self.file.vary, *(name for point in others for name in point)]))

    @property
    def cases(self) -> list[int]:
        """The numbers of its cases, without repetition."""
        return list(dict.fromkeys(point.case for point in self.points({})))

    @property
    def pictures(self) -> list[Picture]:
        """The figures that its page has of some points or of all."""
        return list(dict.fromkeys([*(name for run in self.file.runs for name in run.draw), *self.file.draw]))

    def drawn_of(self, point: str) -> list[Picture]:
        """Return the figures that its page has of a point, by the point's name."""
        return [*self.file.draw, *(name for run in self.file.runs if run.name == point for name in run.draw)]

    def extend(self, case: Case) -> Case:
        """Return a case with what the lab says of each run besides."""
        return case.model_copy(
            update={
                "fault": [*case.fault, *self.file.fault],
                "expect": [*case.expect, *self.file.expect],
                "figures": self.file.figures,
            }
        )

    def layers(self, point: Point, case: Case, of_inventory: ParameterValues) -> list[ParameterValues]:
        """Return the parameters of a point before what is given with `-e`, the last one winning.

        Args:
            point: one of the lab.
            case: that the point has.
            of_inventory: what an inventory sets for its hosts in this lab.
        """
        return [case.parameters.model_dump(), self.file.parameters, of_inventory, point.varied]

    def points(self, given: Variables) -> list[Point]:
        """Return its points, or the one that is given; a parameter that is given is the same in all of them.

        Args:
            given: with `-e`: parameters, `point`, and other variables.

        Raises:
            LabError: there is no such point.
            ParameterError: the value of a parameter is not one number, one text, true or false.
        """
        fixed = given_parameters(given)
        points: list[Point] = []
        for name, case, parameters in self._written():
            varied = {**parameters, **{one: fixed[one] for one in parameters if one in fixed}}
            points.append(Point(name or _name_of(varied), case, varied))
        points = [one for number, one in enumerate(points) if one not in points[:number]]
        if "point" not in given:
            return points
        wanted, names = str(given["point"]), [one.name for one in points]
        if wanted not in names:
            raise LabError(
                f"-e: lab {self.name} has no point '{wanted}': {did_you_mean(wanted, names)}"
                f"Allowed are {_listed(names)}."
            )
        return [points[names.index(wanted)]]

    def point(self, given: Variables) -> Point:
        """Return the point that is given; without one, what all of them share.

        Args:
            given: with `-e`.

        Raises:
            LabError: there is no such point, or they do not even share a case.
            ParameterError: the value of a parameter is not one number, one text, true or false.
        """
        if "point" in given:
            return self.points(given)[0]
        if self.file.case is None:
            names = _listed([one.name for one in self.points(given)])
            raise LabError(f"-e: the points of lab {self.name} have cases of their own: name one with point=: {names}.")
        return Point(AS_IT_IS, self.file.case, {})

    def _written(self) -> Iterator[tuple[str, int, ParameterValues]]:
        """Yield name, case and parameters of each point as the file has them; the name may be empty."""
        file = self.file
        # What varies nothing is one run, unless its runs are named.
        matrix = product(*file.vary.values()) if file.vary or not file.runs else []
        unnamed = [*(dict(zip(file.vary, values, strict=True)) for values in matrix), *file.also]
        points = [("", file.case, one) for one in unnamed]
        points += [(one.name, file.case if one.case is None else one.case, one.parameters) for one in file.runs]
        for name, case, parameters in points:
            if case is None:
                called = name or _name_of(parameters)
                raise LabError(
                    f"labs/{self.name}.yml: the point '{called}' has no case: name one for it, or one for the lab."
                )
            yield name, case, parameters


def _name_of(varied: ParameterValues) -> str:
    """Return what a point without a name is called: `transport=tcp`."""
    return ", ".join(f"{name}={as_yaml(value)}" for name, value in varied.items()) or AS_IT_IS


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def lab_schema() -> Content:
    """Return the JSON Schema of a lab file; `labs/schema.json` is this, written down."""
    schema = LabFile.model_json_schema(by_alias=True)
    schema["$schema"] = SCHEMA_DIALECT
    properties = schema["properties"]
    allow_parameters(properties["parameters"])
    allow_parameters(properties["vary"], several=True)
    properties["also"]["items"]["description"] = "What this point differs in."
    allow_parameters(properties["also"]["items"])
    allow_parameters(schema["$defs"]["LabRun"]["properties"]["parameters"])
    return schema


def load_labs(folder: Path = LABS) -> dict[str, Lab]:
    """Read and check every lab file.

    Returns:
        Name -> lab, in the order of the names.

    Raises:
        FloodmarkError: a file does not fit its schema, contradicts itself or has SQL that does not work.
    """
    return {name: _read_lab(folder / f"{name}.yml") for name in _names(folder)}


def find_lab(name: object, folder: Path = LABS) -> Lab:
    """Return the lab that `-e lab=` selects.

    Raises:
        FloodmarkError: there is none of that name, or its file is not as it must be.
    """
    text = "" if name is None else str(name).strip()
    if not text:
        known = _names(folder)
        raise LabError(
            f"no lab was given: allowed are {', '.join(known)}. Say `make lab LAB={known[0]}` or `-e lab={known[0]}`; "
            "`floodmark lab` lists them."
        )
    refuse_unknown_lab(text, folder)
    return _read_lab(folder / f"{text}.yml")


def refuse_unknown_lab(name: str, folder: Path = LABS) -> None:
    """Refuse the name of a lab that does not exist.

    Raises:
        LabError: there is none of that name.
    """
    if name not in (known := _names(folder)):
        raise LabError(f"there is no lab '{shown(name)}': {did_you_mean(name, known)}Allowed are {', '.join(known)}.")


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yml"))


def refuse_other_case(given: Variables, lab: Lab) -> None:
    """Refuse a case that is not the lab's.

    Raises:
        LabError: it is given, and is another one.
    """
    if "case" in given and [str(given["case"]).strip()] != [str(number) for number in lab.cases]:
        is_ = f"which is {lab.cases[0]}" if len(lab.cases) == 1 else "whose points have cases of their own"
        raise LabError(f"-e: case={given['case']} is not that of lab {lab.name}, {is_}: leave it out.")


def _read_lab(path: Path) -> Lab:
    file, name = read_model(path, LabFile), relative(path)
    lab = Lab(path.stem, file)
    for axis in lab.axes:
        if axis not in Parameters.model_fields:
            raise ParameterError(unknown_parameter(axis, name))
    for axis, values in file.vary.items():
        if axis in file.parameters:
            raise LabError(f"{name}: {axis} is fixed by parameters and varied: it can be one of the two.")
        if not values:
            raise LabError(f"{name}: vary.{axis} has no value: name those that are to be measured, or leave it out.")
    combined = math.prod(map(len, file.vary.values()))
    if combined > MOST_COMBINATIONS:
        raise LabError(
            f"{name}: vary makes {combined:,} points, and a lab has at most {MOST_COMBINATIONS:,}: vary less, or name "
            "points under also."
        )
    points, cases = lab.points({}), load_cases()
    names = [point.name for point in points]
    for point in points:
        if names.count(point.name) > 1:
            raise LabError(f"{name}: two points are called '{point.name}': each needs a name of its own.")
        case = _case_of(point, cases, name)
        resolve_parameters(*lab.layers(point, case, {}), origin=name)
    _check_overall(lab, _case_of(points[0], cases, name))
    return lab


def _case_of(point: Point, cases: dict[int, Case], name: str) -> Case:
    try:
        return find_case(point.case, cases)
    except FloodmarkError as error:
        raise LabError(f"{name}: case: {error}") from None


# --- the table of points --------------------------------------------------------------------------


def create_points(lab: Lab, rows: Sequence[Mapping[str, object]]) -> Locked:
    """Make the table `points`, in a database that is locked.

    Args:
        lab: whose figures are columns.
        rows: column -> value; what is missing is null.
    """
    database = duckdb.connect()
    columns = dict(_columns(lab))
    described = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())  # order is a word of SQL
    database.execute(f"CREATE TABLE points ({described})")
    for row in rows:
        marks = ", ".join("?" * len(columns))
        database.execute(f"INSERT INTO points VALUES ({marks})", [row.get(name) for name in columns])
    # The judge joins it to everything; here parameters are columns of each row.
    database.execute("CREATE TABLE params AS SELECT count(*) AS n_points FROM points")
    return lock(database)


def _columns(lab: Lab) -> Iterator[tuple[str, str]]:
    """Yield name and SQL type of each column of `points`."""
    yield from (("point", "VARCHAR"), ("host", "VARCHAR"), ("kernel", "VARCHAR"), ("run_id", "VARCHAR"))
    yield from (("case_number", "INTEGER"), ("valid", "BOOLEAN"), ("passed", "BOOLEAN"))
    for name, schema in Parameters.model_json_schema()["properties"].items():
        yield name, _SQL_TYPES[schema["type"]]
    yield from ((name, "DOUBLE") for name in (*KEY_FIGURES, *(one.name for one in lab.file.figures)))


def _check_overall(lab: Lab, case: Case) -> None:
    """Try what is said of all points together on a table of two.

    Raises:
        LabError: it does not parse, or names a column that does not exist.
    """
    names = [one.name for one in lab.file.figures]
    taken = set(Parameters.model_fields) | set(KEY_FIGURES)
    for name in names:
        if name in taken or names.count(name) > 1:
            raise LabError(f"labs/{lab.name}.yml: figures has {name}, and the table of points has that already.")
    parameters = case.parameters.model_dump()
    database = create_points(lab, [parameters, parameters])
    for one in lab.file.overall.expect:
        try:
            try_sql(database, one)
        except duckdb.Error as error:
            message = str(error).strip().splitlines()[0]
            raise LabError(
                f"labs/{lab.name}.yml, overall.expect, '{one.name}': this SQL does not work: {message}."
            ) from None
