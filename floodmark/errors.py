"""The errors that a user can cause, all of one kind.

    FloodmarkError        one sentence each: what was wrong, the value seen, what is allowed, what to do
    ├── CaseError         a case file, or the number that selects one
    ├── ParameterError    a parameter of a run
    ├── RunError          a folder below results/
    ├── CompareError      runs that cannot be compared in the way that was asked for
    ├── LabError          a lab file, or the name that selects one
    ├── StudyError        a sentence of the study, or what was collected for it
    └── SuiteError        a suite file, or the journal of a suite

The command line and the Ansible plugins print the sentence and nothing else; anything that is not
a FloodmarkError is a defect of Floodmark and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FloodmarkError(Exception):
    """What was wrong, the value seen, what is allowed and what to do, as one sentence."""


class CaseError(FloodmarkError):
    """A case that does not exist, or a case file that does not fit its schema."""


class ParameterError(FloodmarkError):
    """A parameter of a run that is unknown or out of range."""


class RunError(FloodmarkError):
    """A run that does not exist or is not complete."""


class CompareError(FloodmarkError):
    """Runs that cannot be compared in the way that was asked for."""


class LabError(FloodmarkError):
    """A lab that does not exist, or a lab file that does not fit its schema or contradicts itself."""


class StudyError(FloodmarkError):
    """A sentence of the study that does not fit its schema or contradicts itself, or evidence that is damaged."""


class SuiteError(FloodmarkError):
    """A suite that contradicts itself, is under way already, or has a journal that does not fit it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest known name.

    Args:
        name: what the user wrote.
        known: all that would have been allowed.

    Returns:
        `did you mean 'users'? `, or an empty string when nothing is near.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'? " if near else ""
