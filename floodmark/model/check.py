"""A check: one rule that a run was held against, as data."""

from __future__ import annotations

from enum import StrEnum

from floodmark.model.stored import Part

# What is held against a limit, and the limit itself; None where there is none or it is not known.
Measured = bool | int | float | str | None


class Severity(StrEnum):
    """What follows when a check is not ok."""

    INVALID = "invalid"
    NOTE = "note"


class Check(Part):
    """One rule, applied to one subject of one run.

    Attributes:
        id: of the rule; permanent.
        subject: what it was applied to where a rule has several: `accept_queue in flood`, `process 1`.
        severity: what follows when it is not ok: the run is invalid, or its reader is told.
        ok: whether the rule is kept; not where nobody can tell.
        value: what was seen; None where it is not known.
        limit: what is allowed.
        unit: of both.
        sentence: all of this in words.
    """

    id: str
    subject: str = ""
    severity: Severity
    ok: bool
    value: Measured = None
    limit: Measured = None
    unit: str = ""
    sentence: str
