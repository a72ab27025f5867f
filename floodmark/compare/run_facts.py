"""What a comparison reads from the verdict on one result: the only place here that knows how a verdict is stored."""

from __future__ import annotations

from collections.abc import Mapping

from floodmark.runs.records import Record
from floodmark.values import ParameterValues


def is_valid(record: Record) -> bool:
    """Tell whether the run is valid, so that it says something about its case."""
    return record.verdict.valid


def invalid_because(record: Record) -> str:
    """Return why a run is not valid."""
    return "; ".join(record.verdict.reasons)


def all_expectations_hold(record: Record) -> bool:
    """Tell whether the run is valid and every expectation of the model holds in it."""
    return record.verdict.passed


def failed_expectations(record: Record) -> list[str]:
    """Return the names of the expectations that do not hold."""
    return [one.name for one in record.verdict.expectations if not one.holds]


def parameters_of(record: Record) -> ParameterValues:
    """Return the parameters of the run."""
    return record.verdict.params


def number_of(record: Record, name: str) -> float | None:
    """Return a key figure of the run, None where it was not measured."""
    value = getattr(record.verdict.metrics, name, None)
    return None if value is None else float(value)


def missing_because(record: Record, name: str) -> str | None:
    """Return why a key figure was not measured, None where it was, or where that it is missing says something."""
    return record.verdict.missing.get(name)


def counts_of(record: Record, name: str) -> Mapping[str, int | None]:
    """Return a key figure that is a count for each class, such as `status`; None where a count is not known."""
    counts: Mapping[str, int | None] = getattr(record.verdict.metrics, name)
    return counts


def phases_of(record: Record) -> list[tuple[str, int, int]]:
    """Return name, start and end of each phase, in nanoseconds on the host's clock."""
    return [(one.name, one.start_ns, one.end_ns) for one in record.verdict.phases]
