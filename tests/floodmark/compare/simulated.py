"""Comparisons of records that are drawn from the runs of real cases, so that it is known whether their arms differ.

spreads.json has eight runs each of cases 1, 2, 6 and 10 on a unix socket, of one container on a shared machine, with
timeouts of one second: `-e proxy_read_timeout_s=1 -e proxy_connect_timeout_s=1 -e baseline_s=1 -e drain_s=1`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from floodmark.compare import stats
from floodmark.compare.comparison import compare_records
from floodmark.compare.effects import effect_of
from floodmark.compare.family import ALPHA, Corrected
from floodmark.compare.model import DEFAULT_MARGIN, METRICS, Comparison, Question, Sameness, Verdict
from floodmark.model.metrics import Metrics
from floodmark.model.verdict import Prediction
from floodmark.model.verdict import Verdict as RunVerdict
from floodmark.runs.folders import RunFolder
from floodmark.runs.records import Fields, Record
from floodmark.values import ParameterValues

SPREADS: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("spreads.json").read_text())
CASES = tuple(SPREADS)
BASELINE, OTHER = "a", "b"
SPEED = (Verdict.FASTER, Verdict.SLOWER, Verdict.LESS, Verdict.MORE)
PARAMETERS: ParameterValues = {
    "transport": "unix", "load_shape": "burst", "proxy_read_timeout_s": 1, "proxy_connect_timeout_s": 1,
}  # fmt: skip
# Run to run noise that eight runs do not have: else a resampled run would be the same as another to the microsecond.
TIME_NOISE = 0.02
COUNT_NOISE = 3
Change = Callable[[dict[str, Any]], None]


def draw_run(random: np.random.Generator, case: str) -> dict[str, Any]:
    """Return the figures of one run of a case: those of a real one, all together, with a little noise.

    What is 0 stays 0, figures that are the same number stay so, and a split that varies gains a few of one status.
    """
    run = copy.deepcopy(SPREADS[case][random.integers(len(SPREADS[case]))])
    of_requests, of_queue = 1 + TIME_NOISE * random.standard_normal(2)
    for name, value in run.items():
        if isinstance(value, float):
            run[name] = round(value * (of_requests if name.startswith("request_") else of_queue), 6)
    if len({str(one["status"]) for one in SPREADS[case]}) > 1:
        more = max(1 - run["status"]["502"], round(COUNT_NOISE * random.standard_normal()))
        run["status"] = {"200": run["status"]["200"] - more, "502": run["status"]["502"] + more}
        run["nginx_errors"]["errno 11"] = run["status"]["502"]
    return run


def record_of(run: dict[str, Any], case: str, arm: str, number: int) -> Record:
    """Return a record as `read_records` makes it of a run of a boot of its own."""
    verdict = RunVerdict(
        run_id=f"run-{arm}{number}",
        host="proxy1",
        checks=[],
        params=PARAMETERS,
        metrics=Metrics.model_validate(run),
        expectations=[
            Prediction(name=name, value=None, holds=False, condition="") for name in run["failed_expectations"]
        ],
    )
    fields: Fields = {"case": int(case), "kernel": arm, "boot_id": f"{arm}{number}", "clock": "host", **PARAMETERS}
    return Record(RunFolder(Path(f"run-{arm}{number}")), "proxy1", verdict, fields)


def simulate(
    random: np.random.Generator, case: str, boots: int, change: Change | None = None, *, both: bool = False
) -> Comparison:
    """Return the comparison of two arms that do not differ, unless every run of the second one is changed.

    Args:
        random: where chance comes from.
        case: number of the case.
        boots: of each arm, with a run each.
        change: what to do to each run of the second arm.
        both: whether to do it to the runs of the first one as well.
    """
    records = []
    for arm in (BASELINE, OTHER):
        for number in range(boots):
            run = draw_run(random, case)
            if change and (both or arm == OTHER):
                change(run)
            records.append(record_of(run, case, arm, number))
    return compare_records(records, Question("kernel", BASELINE))


def alarms(comparison: Comparison) -> list[str]:
    """Return what is said to differ."""
    return [
        *(one.name for one in comparison.behaviours if one.compared[OTHER].sameness is Sameness.DIFFERENT),
        *(one.metric.name for one in comparison.metrics for effect in one.effects.values() if effect.verdict in SPEED),
    ]


# --- what differs in truth --------------------------------------------------------------------------


def _one_more_fits(run: dict[str, Any]) -> None:
    run["accept_queue_max"] = 10


def _one_less_is_refused(run: dict[str, Any]) -> None:
    run["status"] = {"502": 22, "504": 10}


def _all_that_follows(run: dict[str, Any]) -> None:
    _one_more_fits(run)
    _one_less_is_refused(run)
    run["states"] = {**run["states"], "02": 10}
    run["failed_expectations"] = ["queue_fills_to_limit_plus_one"]


def _another_error(run: dict[str, Any]) -> None:
    run["nginx_errors"] = {"errno 111": 23, "errno 110": 9}


# name -> case, the behaviours that it changes in every run, how
CHANGES: dict[str, tuple[str, tuple[str, ...], Change]] = {
    "queue capacity 9 and 10": ("2", ("queue capacity",), _one_more_fits),
    "status split 23/9 and 22/10": ("2", ("status split",), _one_less_is_refused),
    "both, with states and a failed expectation": (
        "2",
        ("expectations", "queue capacity", "states on the path", "status split"),
        _all_that_follows,
    ),
    "another class of nginx errors": ("2", ("nginx error classes",), _another_error),
}


def _slower_by_half(run: dict[str, Any]) -> None:
    for name in ("request_median_s", "request_p99_s", "request_max_s"):
        run[name] *= 1.5


def _more_are_refused(run: dict[str, Any]) -> None:
    more = min(30, run["status"]["200"])
    run["status"] = {"200": run["status"]["200"] - more, "502": run["status"]["502"] + more}


# name -> case, what is found if all goes well, how: changes of what varies from run to run by itself
NOISY_CHANGES: dict[str, tuple[str, str, Change]] = {
    "requests half as long again, case 6": ("6", "request_max_s", _slower_by_half),
    "30 of 128 more refused, standard deviation 15, case 10": ("10", "status split", _more_are_refused),
}


def slow_boots(random: np.random.Generator, boots: int, share: float = 0.1, slower: float = 1.5) -> stats.Numbers:
    """Return values of which a share is slower, each boot by chance."""
    return np.asarray(random.normal(1, 0.01, boots) * np.where(random.random(boots) < share, slower, 1))


def compare_values(a: stats.Numbers, b: stats.Numbers) -> Verdict:
    """Return what is said of one metric alone."""
    p = stats.mann_whitney_p(a, b)
    metric = next(one for one in METRICS if one.name == "request_median_s")
    return effect_of(a, b, p, Corrected(p, ALPHA), metric, DEFAULT_MARGIN).verdict
