"""Results as arms, one for each value of the axis, and their boots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from floodmark.compare.confounds import varying
from floodmark.compare.diff import text_of
from floodmark.compare.model import Arm, Question
from floodmark.compare.run_facts import all_expectations_hold
from floodmark.errors import CompareError, did_you_mean
from floodmark.runs.records import Record, is_part
from floodmark.verdict.virtual import CAVEAT


def check_axis(axis: str, records: Sequence[Record]) -> None:
    """Refuse an axis that no result has.

    Raises:
        CompareError: it is none of their fields.
    """
    known = dict.fromkeys(name for one in records for name in one.fields if name != "boot_id")
    if axis not in known:
        hint = did_you_mean(axis, known)
        raise CompareError(f"--by: there is no axis '{axis}': {hint}Allowed are {', '.join(known)}.")


def arms_of(records: Sequence[Record], axis: str, left_out: Mapping[str, str]) -> dict[str, Arm]:
    """Return the arms in the order of their values.

    Raises:
        CompareError: there is only one.
    """
    by_value: dict[str, list[Record]] = {}
    for one in records:
        by_value.setdefault(text_of(one.fields[axis]), []).append(one)
    if len(by_value) < 2:
        others = [name for name in varying(records) if not is_part(name, ("boot_id", "git"))]
        hint = f"These results differ in {', '.join(others)}" if others else "These results differ in nothing"
        out = f" ({len(left_out)} others were left out, {in_short(left_out)})" if left_out else ""
        value = next(iter(by_value), "not recorded")
        raise CompareError(
            f"--by {axis}: all {len(records)} results have the same value, {value}{out}, and a comparison needs two. "
            f"{hint}; name runs of another {axis} as well."
        )
    return {
        value: Arm(value, tuple(by_value[value]), tuple(_boots(by_value[value])))
        for value in sorted(by_value, key=natural_key)
    }


def natural_key(text: str) -> list[tuple[int, float, str]]:
    """Return a key that sorts 6.12 after 6.1 and 16 after 8."""
    parts = re.split(r"(\d+)", text)
    return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in parts if part]


def _boots(records: Sequence[Record]) -> Iterable[tuple[Record, ...]]:
    boots: dict[str, list[Record]] = {}
    for one in records:
        boot_id = one.fields.get("boot_id")
        boots.setdefault(f"{one.host} {boot_id}" if boot_id else one.name, []).append(one)
    return (tuple(boot) for boot in boots.values())


def baseline_of(arms: Mapping[str, Arm], question: Question) -> str:
    """Return the value of the arm that all others are compared with.

    Raises:
        CompareError: no result has it.
    """
    baseline = next(iter(arms)) if question.baseline is None else question.baseline
    if baseline not in arms:
        hint = did_you_mean(baseline, arms)
        raise CompareError(
            f"--baseline: no result has {question.axis}={baseline}: {hint}The values are {', '.join(arms)}."
        )
    return baseline


def notes_on(arms: Mapping[str, Arm]) -> Iterable[str]:
    """Yield what a reader should know about the units."""
    everything = [one for arm in arms.values() for one in arm.records]
    unknown = sum(one.fields.get("boot_id") is None for one in everything)
    if unknown:
        yield (
            f"{unknown} of {len(everything)} results do not say which boot they are of; each of them counts as one "
            "boot, which makes n too large if they share one"
        )
    single = [arm.value for arm in arms.values() if len(arm.boots) == 1]
    if single:
        yield (
            f"only one boot (n = 1) of {', '.join(single)}: it has no spread, so a difference cannot be told from "
            "chance"
        )
    if any(one.fields.get("clock") == "virtual" for one in everything):
        yield f"instructions are {CAVEAT}"
    for arm in arms.values():
        failed = sum(not all_expectations_hold(one) for one in arm.records)
        if failed:
            yield f"in {failed} of {len(arm.records)} runs of {arm.value} an expectation of our model does not hold"


def in_short(left_out: Mapping[str, str]) -> str:
    """Return the first result that was left out, and why."""
    name, reason = next(iter(left_out.items()))
    return f"{name}: {reason}"
