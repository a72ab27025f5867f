"""Comparison of runs by one thing that differs between them, the axis.

The results of runs become arms, one for each value of the axis. Nothing else may differ, or it has to be allowed by
name. Behaviour, what a queue holds and what clients get, is the same, different, or varies from run to run. Metrics are
numbers. Both are tested over boots: runs of one boot share its memory layout, so their mean counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from floodmark.compare.arms import arms_of, baseline_of, check_axis, in_short, notes_on
from floodmark.compare.confounds import confounds
from floodmark.compare.effects import measure
from floodmark.compare.model import Comparison, Question
from floodmark.compare.run_facts import invalid_because, is_valid
from floodmark.errors import CompareError, RunError
from floodmark.runs.folders import RESULTS, find_run
from floodmark.runs.records import Record, read_records


def compare_runs(names: Iterable[str], question: Question, results: Path = RESULTS) -> Comparison:
    """Compare runs.

    Args:
        names: runs, or single hosts of runs as `RUN:HOST`.
        question: how.
        results: where runs are kept.

    Returns:
        The comparison; runs that are not complete are left out of it, as invalid ones are.

    Raises:
        RunError: one of them does not exist or is damaged.
        CompareError: they cannot be compared in this way.
    """
    # A run that was named twice is still one witness.
    records: dict[tuple[Path, str], Record] = {}
    incomplete = {}
    for name in names:
        run = find_run(name.partition(":")[0], results)
        if run.record.exists():
            records |= {(one.run.path, one.host): one for one in read_records(name, results)}
        elif run.plan.exists():
            incomplete[run.run_id] = "the run is not complete, it has no run.json"
        else:
            raise RunError(f"there is no run '{name}': {run.path} holds nothing of one.")
    return compare_records(list(records.values()), question, incomplete)


def compare_records(
    records: Sequence[Record], question: Question, incomplete: Mapping[str, str] | None = None
) -> Comparison:
    """Compare results that have been read.

    Args:
        records: the results.
        question: how.
        incomplete: run -> why there is no result of it.

    Raises:
        CompareError: they cannot be compared in this way.
    """
    return measure({"": line_up(records, question, incomplete)}, question)[""]


def line_up(records: Sequence[Record], question: Question, incomplete: Mapping[str, str] | None = None) -> Comparison:
    """Return a comparison before anything is tested: its arms, and what else differs. The rest is as above."""
    left_out = {one.name: invalid_because(one) for one in records if not is_valid(one)}
    left_out = {**(incomplete or {}), **left_out}
    valid = [one for one in records if is_valid(one)]
    if not valid:
        raise CompareError(
            f"none of the {len(left_out)} results is valid, so there is nothing to compare: {in_short(left_out)}. "
            "'floodmark show RUN' says more; run the case again."
        )
    check_axis(question.axis, valid)
    left_out |= {
        one.name: f"{question.axis} was not recorded" for one in valid if one.fields.get(question.axis) is None
    }
    valid = [one for one in valid if one.name not in left_out]
    arms = arms_of(valid, question.axis, left_out)
    baseline = baseline_of(arms, question)
    allowed, unchecked = confounds(valid, question)
    return Comparison(
        axis=question.axis,
        baseline=baseline,
        arms=arms,
        margin=question.margin,
        allowed=allowed,
        unchecked=unchecked,
        left_out=left_out,
        notes=list(notes_on(arms)),
    )
