"""The errors that a user can cause, all of one kind.

    FloodmarkError        one sentence each: what was wrong, the value seen, what is allowed, what to do
    ├── CaseError         a case file, or the number that selects one
    ├── ParameterError    a parameter of a run
    ├── RunError          a folder below results/; FailedHostError is what was noted there of a host
    ├── CompareError      runs that cannot be compared in the way that was asked for
    ├── LabError          a lab file, or the name that selects one
    ├── StudyError        a sentence of the study, or what was collected for it
    └── SuiteError        a suite file, or the journal of a suite

The command line and the Ansible plugins print the sentence and nothing else; anything that is not
a FloodmarkError is a defect of Floodmark and keeps its traceback.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import ClassVar

# A word that is longer is cut in its middle.
LONGEST_WORD = 300
# What a value is shown as that is no text: something of it.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxlong, _SHORT.maxstring, _SHORT.maxother = 3, 4, 6, 60, 60, 60


class FloodmarkError(Exception):
    """What was wrong, the value seen, what is allowed and what to do, as one sentence.

    Args:
        sentence: it may quote anything; what a terminal would not show as it is becomes an escape, but for `as_it_is`.
    """

    as_it_is: ClassVar[str] = ""

    def __init__(self, sentence: str) -> None:
        cut = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:60]}…{word[0][-60:]}", sentence)
        super().__init__("".join(one if one.isprintable() or one in self.as_it_is else _escaped(one) for one in cut))


class Interrupted(Exception):  # noqa: N818 - it is not an error, somebody wanted it
    """What was to be done was ended by a signal; its sentence says how to go on.

    Args:
        sentence: as people read it.
        number: of the signal.
    """

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.status = 128 + number


class CaseError(FloodmarkError):
    """A case that does not exist, or a case file that does not fit its schema."""


class ParameterError(FloodmarkError):
    """A parameter of a run that is unknown or out of range."""


class RunError(FloodmarkError):
    """A run that does not exist or is not complete."""


class FailedHostError(RunError):
    """What was noted when a run failed on a host: several lines, with what its units say."""

    as_it_is = "\n\t"


class CompareError(FloodmarkError):
    """Runs that cannot be compared in the way that was asked for; what they differ in stands on lines of its own."""

    as_it_is = "\n"


class LabError(FloodmarkError):
    """A lab that does not exist, or a lab file that does not fit its schema or contradicts itself."""


class StudyError(FloodmarkError):
    """A sentence of the study that does not fit its schema or contradicts itself, or evidence that is damaged."""


class SuiteError(FloodmarkError):
    """A suite that contradicts itself, is under way already, or has a journal that does not fit it."""


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def shown(value: object) -> str:
    """Return a value from outside as a sentence has it: on one line, and no more than one reads."""
    if not isinstance(value, str):
        return _SHORT.repr(value)
    text = value if len(value) <= LONGEST_WORD else f"{value[:60]}…{value[-60:]}"
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def quoted(value: object) -> str:
    """Return a value from outside as a sentence has it, a text in quotes."""
    return f"'{shown(value)}'" if isinstance(value, str) else shown(value)


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
