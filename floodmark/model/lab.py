"""One execution of a lab: lab.json, with its points from the beginning and what they say together in the end."""

from __future__ import annotations

from pydantic import ConfigDict, Field, field_validator, model_validator

from floodmark.inputs.given import is_secret
from floodmark.model.run import ControlNode
from floodmark.model.stored import Part, Stored
from floodmark.model.verdict import ClaimVerdict, Prediction
from floodmark.values import ParameterValues, Value


class LabPoint(Part):
    """One point of a lab: what it differs in, how long it is thought to take, and its run once it has begun.

    Attributes:
        case: number of its case; None in labs of before points had one, where it is the lab's.
    """

    point: str
    case: int | None = None
    varied: ParameterValues
    takes_s: float
    run_id: str | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.point


class PointRow(Part):
    """One host of the run of one point, as the table of points has it: with its parameters and figures by name.

    Attributes:
        case_number: of its case; None in labs of before it was a column.
        figure_n: figure of the lab -> rows that it is taken from; empty in labs of before these were counted.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    point: str
    host: str
    kernel: str | None
    run_id: str
    case_number: int | None = None
    valid: bool
    passed: bool
    figure_n: dict[str, int] = {}

    def get(self, column: str) -> Value:
        """Return what the table has in a column; None where this row has nothing."""
        value: Value = getattr(self, column, None)
        return value


class Overall(Part):
    """What all points together say on one host."""

    host: str
    kernel: str | None
    expectations: list[Prediction]
    claims: list[ClaimVerdict]


class LabRecord(Stored):
    """lab.json.

    Attributes:
        case: number of the case that all points share; None where they have cases of their own.
        parameters: what the lab's file sets for all points; empty in labs of before it was recorded.
        given: what was given with `-e`, without secrets.
        secrets: names of the secrets that were given with it, whose values are not kept.
        table: a row for each point and host; None until all points have runs.
        overall: what they say together, host by host; None until then.
    """

    schema_version: int = 1
    lab: str
    question: str
    case: int | None = None
    inventory: str
    inventory_parameters: dict[str, Value] = {}
    parameters: ParameterValues = {}
    given: dict[str, Value]
    secrets: list[str] = []
    control_node: ControlNode = ControlNode()
    points: list[LabPoint] = Field(min_length=1)
    table: list[PointRow] | None = None
    overall: list[Overall] | None = None
    valid: bool | None = None
    passed: bool | None = None

    @field_validator("given")
    @classmethod
    def _has_no_secrets(cls, given: dict[str, Value]) -> dict[str, Value]:
        """Leave out what labs of before have of Ansible's own variables."""
        return {name: value for name, value in given.items() if not is_secret(name, ())}

    @model_validator(mode="after")
    def _needs_its_table(self) -> LabRecord:
        if self.overall is not None and self.table is None:
            raise ValueError("it has no table of the points that were judged together")
        return self

    def rows_of(self, host: str) -> list[PointRow]:
        """Return the rows of the table of points that are of one host."""
        return [row for row in self.table or [] if row.host == host]
