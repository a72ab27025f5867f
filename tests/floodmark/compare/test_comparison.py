"""Comparisons of runs that were made up: what is refused, what is said, and in which form."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from floodmark.cli import main
from floodmark.compare.comparison import compare_runs
from floodmark.compare.effects import effect_of
from floodmark.compare.family import Corrected
from floodmark.compare.formats import FORMATS, print_comparison, shift_text
from floodmark.compare.model import METRICS, Contrast, Effect, Metric, Question, Sameness, Verdict
from floodmark.errors import CompareError
from tests.floodmark.made_up_runs import METRICS as MADE_UP
from tests.floodmark.made_up_runs import MadeUpRuns

OLD, NEW = "6.1.0", "6.12.0"
SLOW = [1.00, 1.01, 1.02, 1.03, 1.04, 1.05]
FAST = [0.50, 0.51, 0.52, 0.53, 0.54, 0.55]
SIGNIFICANT = Corrected(0.002, 0.05)


@pytest.fixture
def made(tmp_path: Path) -> MadeUpRuns:
    return MadeUpRuns(tmp_path)


def two_kernels(made: MadeUpRuns, old: list[float] = SLOW, new: list[float] = FAST) -> list[str]:
    return made.add_arms("kernel.release", {NEW: new, OLD: old})


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", *arguments])


def sentence(*arguments: str) -> str:
    """Return what a refused comparison says; it has no traceback and status 2."""
    done = command(*arguments)
    assert done.exit_code == 2, done.output
    assert done.output.startswith("floodmark: ")
    assert "Traceback" not in done.output
    return done.output


# --- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "verdict", "more"),
    [
        (SLOW, FAST, Verdict.FASTER, 0),
        (FAST, SLOW, Verdict.SLOWER, 0),
        (SLOW, [one + 0.001 for one in SLOW], Verdict.MEDIANS_EQUIVALENT, 30),
        (SLOW * 6, [one + 0.001 for one in SLOW * 6], Verdict.EQUIVALENT, 0),
        (SLOW[:3], FAST[:3], Verdict.NOT_ENOUGH, 1),
        ([1, 2, 3, 4, 5, 6], [1.5, 2.5, 3.5, 4.5, 5.5, 6.5], Verdict.NOT_ENOUGH, 1000),
        ([1.0] * 5, [1.0] * 5, Verdict.SET_BY_THE_CASE, 0),
        ([0.0] * 5, [0.0] * 5, Verdict.SET_BY_THE_CASE, 0),
        ([0.0] * 3, [0.0] * 3, Verdict.NOT_ENOUGH, 1),
        ([1.0] * 5, [2.0] * 5, Verdict.SLOWER, 0),
    ],
)
def test_a_verdict(made: MadeUpRuns, old: list[float], new: list[float], verdict: Verdict, more: int) -> None:
    (result,) = compare_runs(two_kernels(made, old, new), Question("kernel")).metrics
    effect = result.effects[NEW]
    assert effect.verdict is verdict
    assert effect.more_boots >= more
    assert (effect.more_boots > 0) is (verdict in (Verdict.NOT_ENOUGH, Verdict.MEDIANS_EQUIVALENT))


def test_boots_without_a_value_are_not_left_out_silently(made: MadeUpRuns) -> None:
    """The slowest boots are those that had not drained when the run ended."""
    runs = made.add_arms("kernel.release", {OLD: SLOW, NEW: FAST})
    runs += [made.add({"kernel.release": NEW}, metrics={"request_median_s": None}) for _ in range(3)]
    comparison = compare_runs(runs, Question("kernel"))
    (result,) = comparison.metrics
    assert result.effects == {}
    assert result.summaries[NEW].n == len(FAST)
    (note,) = (note for note in comparison.notes if "not compared" in note)
    assert note.startswith(f"request_median_s is not compared: 3 of {len(FAST) + 3} boots of {NEW} have no value")


def test_an_arm_without_any_value_is_said(made: MadeUpRuns) -> None:
    runs = made.add_arms("kernel.release", {OLD: SLOW})
    runs += [made.add({"kernel.release": NEW}, metrics={"request_median_s": None}) for _ in range(3)]
    (note,) = (note for note in compare_runs(runs, Question("kernel")).notes if "not compared" in note)
    assert f"3 of 3 boots of {NEW} have no value" in note


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([0] * 12 + [1] * 8, [0] * 20, Verdict.FASTER),
        ([0] * 20, [0] * 12 + [1] * 8, Verdict.SLOWER),
        ([1] * 11 + [2] * 9, [1] * 20, Verdict.FASTER),
    ],
)
def test_the_test_has_the_direction_where_the_median_shift_is_0(
    made: MadeUpRuns, old: list[float], new: list[float], verdict: Verdict
) -> None:
    (result,) = compare_runs(two_kernels(made, old, new), Question("kernel")).metrics
    assert result.effects[NEW].verdict is verdict


def test_one_boot_decides_nothing_however_many_the_other_arm_has(made: MadeUpRuns) -> None:
    old = [1 + number / 1000 for number in range(40)]
    (result,) = compare_runs(two_kernels(made, old, [2.0]), Question("kernel")).metrics
    assert result.effects[NEW].verdict is Verdict.NOT_ENOUGH


def test_more_is_faster_where_more_is_better() -> None:
    fewer, more = np.array(FAST), np.array(SLOW)
    metric = Metric("x", "1/s", "", "higher")
    assert effect_of(fewer, more, 0.002, SIGNIFICANT, metric, 0.05).verdict is Verdict.FASTER
    assert effect_of(more, fewer, 0.002, SIGNIFICANT, metric, 0.05).verdict is Verdict.SLOWER


def test_fewer_instructions_are_less_and_not_faster() -> None:
    fewer, more = np.array(FAST), np.array(SLOW)
    metric = Metric("x", "instructions", "")
    assert effect_of(more, fewer, 0.002, SIGNIFICANT, metric, 0.05).verdict is Verdict.LESS
    assert effect_of(fewer, more, 0.002, SIGNIFICANT, metric, 0.05).verdict is Verdict.MORE


@pytest.mark.parametrize(
    ("shift", "low", "high", "said"),
    [
        (-2.48, -2.494, -2.46, "-2.48 % (-2.49…-2.46)"),
        (-0.004, -0.02, 0.3, "+0.0 % (+0.0…+0.3)"),
        (0.01, -0.0002, 0.0101, "+0.01 % (+0.00…+0.01)"),
        (5.0, 5.0, 5.0, "+5.0 % (+5.0…+5.0)"),
        (5.0, None, None, "+5.0 %"),
    ],
)
def test_a_shift_has_so_many_decimals_that_its_interval_has_a_width(
    shift: float, low: float | None, high: float | None, said: str
) -> None:
    effect = Effect(shift, low, high, 1, None, None, 2, 0.5, 0.5, Verdict.NOT_ENOUGH)
    assert shift_text(effect, 100) == said


def test_three_against_three_is_never_enough_however_far_apart(made: MadeUpRuns) -> None:
    (result,) = compare_runs(two_kernels(made, [1, 1.001, 1.002], [9, 9.001, 9.002]), Question("kernel")).metrics
    effect = result.effects[NEW]
    assert effect.p == pytest.approx(0.1)
    assert effect.verdict is Verdict.NOT_ENOUGH
    assert (effect.more_boots, effect.more_baseline_boots) == (1, 1)


def test_p_is_corrected_for_all_metrics_that_were_measured(made: MadeUpRuns) -> None:
    for kernel, numbers in ((OLD, SLOW), (NEW, FAST)):
        for number, longest in zip(numbers, reversed(numbers), strict=True):
            made.add({"kernel.release": kernel}, metrics={"request_median_s": number, "request_max_s": longest})
    runs = [str(path) for path in made.results.iterdir()]
    both = compare_runs(runs, Question("kernel"))
    assert [one.effects[NEW].p_holm for one in both.metrics] == pytest.approx([2 * 0.00216] * 2, abs=1e-4)
    one = compare_runs(runs, Question("kernel", metrics=("request_max_s",)))
    assert one.tests == 1
    assert one.metrics[0].effects[NEW].p_holm == pytest.approx(0.00216, abs=1e-5)


def test_no_metric_is_reported_in_an_a_a_comparison_more_often_than_its_level() -> None:
    """2,000 comparisons of arms that do not differ; a share of 5 % may be called faster or slower, and no more."""
    random = np.random.default_rng(1)
    from floodmark.compare import stats

    alarms = 0
    for _ in range(2000):
        a, b = random.normal(1, 0.1, 6), random.normal(1, 0.1, 6)
        p = stats.mann_whitney_p(a, b)
        alarms += effect_of(a, b, p, Corrected(p, 0.05), METRICS[0], 0.05).verdict in METRICS[0].words
    assert alarms / 2000 <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


# --- units ----------------------------------------------------------------------------------------


def test_runs_of_one_boot_count_once_with_their_mean(made: MadeUpRuns) -> None:
    for kernel in (OLD, NEW):
        for boot, numbers in (("a", [1.0, 3.0]), ("b", [5.0])):
            for number in numbers:
                made.add({"kernel.release": kernel, "boot_id": kernel + boot}, metrics={"request_median_s": number})
    comparison = compare_runs(map(str, made.results.iterdir()), Question("kernel"))
    summary = comparison.metrics[0].summaries[OLD]
    assert (sorted(summary.values), sorted(summary.runs), summary.n) == ([2.0, 5.0], [1, 2], 2)
    assert comparison.notes == []


def test_a_run_without_a_boot_counts_as_one_and_that_is_said(made: MadeUpRuns) -> None:
    runs = [made.add({"kernel.release": kernel, "boot_id": None}) for kernel in (OLD, NEW) for _ in range(2)]
    comparison = compare_runs(runs, Question("kernel"))
    assert comparison.metrics[0].summaries[OLD].n == 2
    assert "4 of 4 results do not say which boot they are of" in comparison.notes[0]


def test_one_boot_in_an_arm_is_said_and_its_behaviour_is_compared(made: MadeUpRuns) -> None:
    comparison = compare_runs(two_kernels(made, [1.0], [2.0]), Question("kernel"))
    assert [note for note in comparison.notes if f"only one boot (n = 1) of {OLD}, {NEW}" in note] == comparison.notes
    effect = comparison.metrics[0].effects[NEW]
    assert (effect.verdict, effect.low, effect.more_boots) == (Verdict.NOT_ENOUGH, None, 3)
    assert all(one.compared[NEW].sameness is Sameness.SAME for one in comparison.behaviours)


def test_a_run_that_is_named_twice_counts_once(made: MadeUpRuns) -> None:
    runs = two_kernels(made)
    assert compare_runs([*runs, *runs], Question("kernel")) == compare_runs(runs, Question("kernel"))


# --- arms and confounds ---------------------------------------------------------------------------


def test_versions_are_in_their_order_and_the_first_is_the_baseline(made: MadeUpRuns) -> None:
    runs = made.add_arms("kernel.release", {"6.12.0": [1], "6.2.0": [1], "6.1.0": [1]})
    comparison = compare_runs(runs, Question("kernel"))
    assert (list(comparison.arms), comparison.baseline) == (["6.1.0", "6.2.0", "6.12.0"], "6.1.0")
    assert list(compare_runs(runs, Question("kernel", baseline="6.2.0")).metrics[0].effects) == ["6.1.0", "6.12.0"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("kernel.config_sha256", "bb", "kernel_config: aa"),
        ("versions.nginx", "1.24.0", "nginx: 1.22.1"),
        ("mitigations.retbleed", "Vulnerable", "mitigations.retbleed: Not affected"),
        ("memory_bytes", 2_000_000_000, "memory_bytes: 1020000000"),
        ("kernel.cmdline", "quiet root=/dev/vda nosmt", "cmdline: -"),
    ],
)
def test_a_host_that_differs_in_more_is_refused_by_name_with_both_values(
    made: MadeUpRuns, field: str, value: Any, said: str
) -> None:
    runs = [made.add({"kernel.release": OLD}), made.add({"kernel.release": NEW, field: value})]
    text = sentence(*runs, "--by", "kernel")
    name = said.partition(":")[0]
    shown = "nosmt" if name == "cmdline" else str(value)
    assert said in text
    assert shown in text
    allowed = name.partition(".")[0]
    assert f"--allow {allowed}" in text
    done = command(*runs, "--by", "kernel", "--allow", allowed)
    assert done.exit_code == 0
    assert f"allowed to differ: {name}" in " ".join(done.output.split())


@pytest.mark.parametrize(("name", "value"), [("users", 64), ("upstream_backlog", 16), ("transport", "tcp")])
def test_a_parameter_that_differs_is_refused(made: MadeUpRuns, name: str, value: Any) -> None:
    runs = [made.add({"kernel.release": OLD}), made.add({"kernel.release": NEW}, {name: value})]
    text = sentence(*runs, "--by", "kernel")
    assert f"  {name}: " in text
    assert str(value) in text


def test_a_queue_limit_that_differs_is_refused(made: MadeUpRuns) -> None:
    listeners = [{"name": "upstream", "limit_conns": 16}]
    runs = [made.add({"kernel.release": OLD}), made.add({"kernel.release": NEW, "listeners": listeners})]
    assert "queue_limit: 8" in sentence(*runs, "--by", "kernel")


def test_what_differs_within_one_arm_is_refused_as_well(made: MadeUpRuns) -> None:
    runs = [made.add({"kernel.release": kernel}, {"users": users}) for kernel in (OLD, NEW) for users in (32, 64)]
    assert "users: 32" in sentence(*runs, "--by", "kernel")


def test_what_follows_from_the_axis_may_differ(made: MadeUpRuns) -> None:
    runs = []
    for limit in (8, 16):
        listeners = [{"name": "upstream", "limit_conns": limit}, {"name": "front", "limit_conns": 4096}]
        host = {"listeners": listeners, "sysctls": {"net.core.somaxconn": str(limit)}}
        runs.append(made.add(host, {"somaxconn": limit}))
    comparison = compare_runs(runs, Question("somaxconn"))
    assert (list(comparison.arms), comparison.allowed) == (["8", "16"], {})


def test_memory_that_a_kernel_keeps_for_itself_is_no_difference(made: MadeUpRuns) -> None:
    runs = [
        made.add({"kernel.release": OLD}),
        made.add({"kernel.release": NEW, "kernel.version": "#2 SMP", "memory_bytes": 1_015_000_000}),
    ]
    assert compare_runs(runs, Question("kernel")).allowed == {}


# /sys/devices/system/cpu/vulnerabilities/spectre_v2 as older and as newer kernels write it.
WITH_COMMAS = (
    "Mitigation: Retpolines, IBPB: conditional, IBRS_FW, STIBP: conditional, RSB filling, PBRSB-eIBRS: Not affected"
)
WITH_SEMICOLONS = (
    "Mitigation: Retpolines; IBPB: conditional; IBRS_FW; STIBP: conditional; RSB filling; PBRSB-eIBRS: Not affected; "
    "BHI: Not affected"
)


def test_mitigations_that_differ_in_punctuation_alone_are_no_confound(made: MadeUpRuns) -> None:
    runs = [
        made.add({"kernel.release": kernel, "mitigations.spectre_v2": text})
        for kernel, text in ((OLD, WITH_COMMAS), (NEW, WITH_SEMICOLONS))
    ]
    assert compare_runs(runs, Question("kernel")).allowed == {}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("STIBP: conditional", "STIBP: always-on", "STIBP: conditional (run) and STIBP: always-on (run)"),
        ("; IBRS_FW", "", "IBRS_FW (run) and - (run)"),
        ("BHI: Not affected", "BHI: Retpoline", "- (run) and BHI: Retpoline (run)"),
        ("Mitigation: Retpolines", "Vulnerable", "Mitigation: Retpolines (run) and Vulnerable (run)"),
    ],
)
def test_mitigations_that_really_differ_are_refused_with_what_differs(
    made: MadeUpRuns, before: str, after: str, said: str
) -> None:
    other = WITH_SEMICOLONS.replace(before, after)
    runs = [
        made.add({"kernel.release": kernel, "mitigations.spectre_v2": text})
        for kernel, text in ((OLD, WITH_COMMAS), (NEW, other))
    ]
    text = re.sub(r"\(2026\S+:proxy1\)", "(run)", sentence(*runs, "--by", "kernel"))
    assert f"mitigations.spectre_v2: {said}" in text


def test_another_host_is_another_machine_unless_it_is_of_the_testbed(made: MadeUpRuns) -> None:
    runs = [made.add({"kernel.release": OLD}), made.add({"kernel.release": NEW}, name="other")]
    assert "machine: proxy1" in sentence(*runs, "--by", "kernel")
    for path in map(Path, runs):
        content = json.loads((path / "run.json").read_text())
        content["hosts"]["testbed"] = content["hosts"]["proxies"]
        (path / "run.json").write_text(json.dumps(content))
    assert command(*runs, "--by", "kernel").exit_code == 0


def test_what_nobody_recorded_is_said(made: MadeUpRuns) -> None:
    runs = [made.add({"kernel.release": kernel, "kernel.config_sha256": None}) for kernel in (OLD, NEW)]
    assert compare_runs(runs, Question("kernel")).unchecked == ["kernel_config"]


# --- behaviour ------------------------------------------------------------------------------------


def behaviour_of(made: MadeUpRuns, name: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Contrast:
    for kernel, arm in ((OLD, old), (NEW, new)):
        for metrics in arm:
            made.add({"kernel.release": kernel}, metrics=metrics)
    comparison = compare_runs(map(str, made.results.iterdir()), Question("kernel"))
    return {one.name: one for one in comparison.behaviours}[name].compared[NEW]


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("queue capacity", {"accept_queue_max": 9}, {"accept_queue_max": 10}),
        ("states on the path", {"states": {"02": 9}}, {"states": {"03": 9}}),
        ("status split", {"status": {"502": 23, "504": 9}}, {"status": {"504": 32}}),
        ("client errors", {"errors": {}}, {"errors": {"timeout": 1}}),
        ("nginx error classes", {"nginx_errors": {"errno 11": 1}}, {"nginx_errors": {"errno 111": 1}}),
    ],
)
def test_a_behaviour_is_the_same_or_different_or_varies(
    tmp_path: Path, name: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    def compare(folder: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Contrast:
        return behaviour_of(MadeUpRuns(tmp_path / folder), name, old, new)

    assert compare("a", [one, one], [one]) == Contrast(Sameness.SAME)
    assert compare("b", [one], [other]).sameness is Sameness.ONE_RUN_EACH
    assert compare("c", [one] * 3, [other] * 3).sameness is Sameness.VARIES
    found = compare("d", [one] * 5, [other] * 5)
    assert found.sameness is Sameness.DIFFERENT
    assert found.p == found.p_holm == pytest.approx(2 / 252)
    assert found.differs
    assert compare("e", [one, other, one, other, one], [other] * 5).sameness is Sameness.VARIES


def test_one_run_each_shows_both_values_and_claims_nothing(made: MadeUpRuns) -> None:
    runs = [
        made.add({"kernel.release": OLD}),
        made.add({"kernel.release": NEW}, metrics={"status": {"502": 22, "504": 10}}),
    ]
    out = command(*runs, "--by", "kernel", "--format", "markdown").output
    assert "23 × 502, 9 × 504 (n = 1)" in out
    assert (
        "22 × 502, 10 × 504 (n = 1) | one run each: 502 from 23 to 22, 504 from 9 to 10; need 3 more of each to tell |"
        in out
    )
    assert "different" not in out
    assert "with so few boots, or so little that varies, no test could be significant" in out


def test_a_difference_says_what_differs(made: MadeUpRuns) -> None:
    for kernel, status in ((OLD, {"502": 23, "504": 9}), (NEW, {"502": 22, "504": 10})):
        for _ in range(5):
            made.add({"kernel.release": kernel}, metrics={"status": status})
    out = command(*map(str, made.results.iterdir()), "--by", "kernel", "--format", "markdown").output
    assert "different: 502 from 23 to 22, 504 from 9 to 10 (p=0.008)" in out


def test_runs_of_one_boot_are_one_witness_of_a_behaviour(made: MadeUpRuns) -> None:
    """Ten runs of one boot each: whatever they show, it may be a matter of that boot."""
    for kernel, deepest in ((OLD, 9), (NEW, 10)):
        for _ in range(10):
            made.add({"kernel.release": kernel, "boot_id": kernel}, metrics={"accept_queue_max": deepest})
    comparison = compare_runs(map(str, made.results.iterdir()), Question("kernel"))
    (capacity,) = (one for one in comparison.behaviours if one.name == "queue capacity")
    assert capacity.compared[NEW].sameness is Sameness.VARIES
    assert capacity.compared[NEW].more_boots == 3


def test_behaviour_and_metrics_are_one_family(made: MadeUpRuns) -> None:
    """Half of the level is behaviour's; capacity and states part the boots in the same way and share it."""
    for kernel, times, metrics in (
        (OLD, SLOW, {"accept_queue_max": 9, "states": {"02": 9}}),
        (NEW, SLOW, {"accept_queue_max": 10, "states": {"02": 10}}),
    ):
        for one in times:
            made.add({"kernel.release": kernel}, metrics={**metrics, "request_median_s": one, "request_max_s": 2 * one})
    comparison = compare_runs(map(str, made.results.iterdir()), Question("kernel"))
    assert comparison.tests == 2, "two metrics with the same ranks are one test, and so are two behaviours"
    compared = {one.name: one.compared[NEW] for one in comparison.behaviours}
    for name in ("queue capacity", "states on the path"):
        assert compared[name].p == pytest.approx(2 / 924)
        assert compared[name].p_holm == pytest.approx(4 / 924)


def test_a_queue_that_was_never_full_does_not_show_its_capacity(made: MadeUpRuns) -> None:
    found = behaviour_of(made, "queue capacity", [{"accept_queue_max": 2}], [{"accept_queue_max": 3}])
    assert found.sameness is Sameness.SAME


def test_the_counts_of_a_sustained_flood_are_no_behaviour(made: MadeUpRuns) -> None:
    runs = [
        made.add({"kernel.release": kernel}, {"load_shape": "sustained"}, {"status": {"200": count}})
        for kernel, count in ((OLD, 100), (NEW, 101))
    ]
    comparison = compare_runs(runs, Question("kernel"))
    assert all(one.compared[NEW].sameness is Sameness.SAME for one in comparison.behaviours)
    assert "requests_per_s" in [one.metric.name for one in comparison.metrics]


def test_an_expectation_that_does_not_hold_is_a_fail(made: MadeUpRuns) -> None:
    failed = {"expectations": [{"name": "queue_fills", "holds": False}]}
    runs = [made.add({"kernel.release": kernel}, verdict=verdict) for kernel, verdict in ((OLD, {}), (NEW, failed)) * 4]
    comparison = compare_runs(runs, Question("kernel"))
    (expectations,) = (one for one in comparison.behaviours if one.passed is not None)
    assert expectations.passed == {OLD: True, NEW: False}
    assert expectations.compared[NEW].sameness is Sameness.DIFFERENT
    assert "fails: queue fills" in command(*runs, "--by", "kernel").output
    assert (
        "queue fills from 0 % to 100 % of the runs (p=0.029)"
        in command(*runs, "--by", "kernel", "--format", "markdown").output
    )


# --- bad input ------------------------------------------------------------------------------------


def test_runs_of_different_cases_are_refused(made: MadeUpRuns) -> None:
    runs = [made.add({"kernel.release": OLD}), made.add({"kernel.release": NEW}, case=3)]
    text = sentence(*runs, "--by", "kernel")
    assert "  case: 2 (" in text
    assert "upstream.accept" not in text  # it follows from the case
    assert command(*runs, "--by", "kernel", "--allow", "case").exit_code == 0


def test_an_unknown_axis_is_answered_with_the_axes(made: MadeUpRuns) -> None:
    text = sentence(*two_kernels(made), "--by", "kernle")
    assert "there is no axis 'kernle': did you mean 'kernel'?" in text
    for name in ("nginx", "somaxconn", "users", "host", "cpu.model"):
        assert name in text


def test_an_axis_with_one_value_says_what_else_there_is(made: MadeUpRuns) -> None:
    text = sentence(*two_kernels(made, [1], [1]), "--by", "nginx")
    assert "all 2 results have the same value, 1.22.1, and a comparison needs two" in text
    assert "differ in kernel;" in text


def test_a_baseline_that_no_run_has_is_answered_with_the_values(made: MadeUpRuns) -> None:
    assert f"no result has kernel=5.0: The values are {OLD}, {NEW}" in sentence(
        *two_kernels(made, [1], [1]), "--by", "kernel", "--baseline", "5.0"
    )


def test_a_field_or_metric_that_does_not_exist_is_answered_with_the_nearest(made: MadeUpRuns) -> None:
    runs = two_kernels(made, [1], [1])
    assert "did you mean 'nginx'?" in sentence(*runs, "--by", "kernel", "--allow", "ngin")
    assert "did you mean 'drain_s'?" in sentence(*runs, "--by", "kernel", "--metric", "drain")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"hosts": 3}', '{"hosts": {"proxies": ["proxy1"]}}'])
def test_a_damaged_run_json_is_a_sentence(made: MadeUpRuns, text: str) -> None:
    runs = two_kernels(made, [1], [1])
    (Path(runs[0]) / "run.json").write_text(text)
    assert "is damaged" in sentence(*runs, "--by", "kernel")


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {}}, {"metrics": 3}, {"params": None}, {"expectations": None}, {"checks": None},
        {"metrics": {**MADE_UP, "request_median_s": "x"}}, {"metrics": {**MADE_UP, "request_median_s": math.nan}},
        {"metrics": {**MADE_UP, "states": None}},
    ],
    ids=str,
)  # fmt: skip
def test_a_verdict_that_cannot_be_counted_with_is_a_sentence(made: MadeUpRuns, changes: dict[str, Any]) -> None:
    runs = two_kernels(made, [1], [1])
    path = Path(runs[0]) / "proxy1/verdict.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert "is damaged" in sentence(*runs, "--by", "kernel")


def test_an_archive_that_is_not_what_the_host_wrote_is_a_sentence(made: MadeUpRuns) -> None:
    runs = [made.add(config=configured("y")), made.add({"kernel.release": NEW}, config=configured("m"))]
    other = made.add({"kernel.release": NEW}, config=configured("n"))
    archive = "proxy1/raw/host.tar.gz"
    (Path(runs[0]) / archive).write_bytes((Path(other) / archive).read_bytes())
    assert "its kernel-config is not the one that host.json has the SHA-256 of" in sentence(*runs, "--by", "kernel")


def test_a_folder_that_holds_no_run_is_a_sentence(made: MadeUpRuns, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds nothing of one" in sentence(*two_kernels(made), str(tmp_path / "empty"), "--by", "kernel")


@pytest.mark.parametrize("name", ["host.json", "verdict.json"])
def test_a_damaged_file_of_a_host_is_a_sentence(made: MadeUpRuns, name: str) -> None:
    runs = two_kernels(made, [1], [1])
    (Path(runs[0]) / "proxy1" / name).write_text("{")
    assert f"{name} is damaged" in sentence(*runs, "--by", "kernel")


OPTIONS = [f"CONFIG_{name}" for name in "ABCDEFG"]


def configured(value: str, *more: str) -> str:
    return "".join(f"{option}\n" for option in (*(f"{name}={value}" for name in OPTIONS), *more))


def test_options_of_the_kernels_that_differ_are_confounds_by_name(made: MadeUpRuns) -> None:
    runs = [made.add(config=configured("y")), made.add({"kernel.release": NEW}, config=configured("m"))]
    text = sentence(*runs, "--by", "kernel")
    assert "kernel_config.CONFIG_A: y (" in text
    assert "and 2 more of kernel_config, which 'floodmark diff' shows" in text
    assert "allow it: --allow kernel_config\n" in text
    allowed = compare_runs(runs, Question("kernel", allow=("kernel_config",))).allowed
    assert allowed == {f"kernel_config.{name}": ["y", "m"] for name in OPTIONS}


def test_options_that_only_one_kernel_knows_are_part_of_the_kernel(made: MadeUpRuns) -> None:
    runs = [made.add(config=configured("y")), made.add({"kernel.release": NEW}, config=configured("y", "CONFIG_NEW=y"))]
    assert compare_runs(runs, Question("kernel")).allowed == {}


def test_a_run_that_does_not_exist_is_a_sentence(made: MadeUpRuns) -> None:
    assert "there is no run" in sentence(*two_kernels(made, [1], [1]), str(made.results / "none"), "--by", "kernel")


def test_a_host_that_a_run_does_not_have_is_a_sentence(made: MadeUpRuns) -> None:
    assert "has no host 'linux61': it has proxy1" in sentence(f"{made.add()}:linux61", "--by", "kernel")


def test_an_invalid_run_is_left_out_and_said(made: MadeUpRuns) -> None:
    runs = two_kernels(made)
    invalid = {"valid": False, "reasons": ["the fault was not observed"], "metrics": {}, "expectations": []}
    runs.append(made.add({"kernel.release": NEW}, verdict=invalid))
    comparison = compare_runs(runs, Question("kernel"))
    assert len(comparison.arms[NEW].records) == len(FAST)
    assert list(comparison.left_out.values()) == ["the fault was not observed"]
    assert "left out" in command(*runs, "--by", "kernel").output


def test_a_run_that_is_not_complete_is_left_out_and_said(made: MadeUpRuns) -> None:
    runs = two_kernels(made)
    (Path(runs[0]) / "run.json").unlink()
    (Path(runs[0]) / "plan.json").write_text("{}")
    comparison = compare_runs(runs, Question("kernel"))
    assert comparison.left_out == {Path(runs[0]).name: "the run is not complete, it has no run.json"}
    assert len(comparison.arms[NEW].records) == len(FAST) - 1


def test_nothing_but_invalid_runs_is_a_sentence(made: MadeUpRuns) -> None:
    run = made.add(verdict={"valid": False, "reasons": ["the fault was not observed"], "metrics": {}})
    (Path(run) / "proxy1" / "host.json").unlink()
    assert "none of the 1 results is valid" in sentence(run, "--by", "kernel")


@pytest.mark.parametrize("margin", ["0", "-1", "much", "nan"])
def test_a_margin_is_more_than_nothing(made: MadeUpRuns, margin: str) -> None:
    assert command(*two_kernels(made, [1], [1]), "--by", "kernel", "--margin", margin).exit_code == 2


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_their_terminal(made: MadeUpRuns, width: int) -> None:
    out = io.StringIO()
    runs = made.add_arms("kernel.release", {OLD: SLOW, NEW: FAST, "6.18.44-with-a-long-name": [*SLOW, 9]})
    print_comparison(Console(file=out, width=width), compare_runs(runs, Question("kernel")))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for said in ("faster", "not enough", "(p=", "request_median_s", "all hold", "same", "baseline"):
        assert said in words


def test_json_has_every_number_that_it_rests_on(made: MadeUpRuns) -> None:
    done = command(*two_kernels(made), "--by", "kernel", "--json")
    content = json.loads(done.output)
    (metric,) = content["metrics"]
    assert metric["summaries"][OLD]["values"] == SLOW
    assert metric["effects"][NEW]["shift"] == pytest.approx(-0.5)
    assert metric["effects"][NEW]["verdict"] == "faster"
    assert [len(arm["boots"]) for arm in content["arms"]] == [6, 6]


def test_csv_has_a_row_for_each_metric_and_arm(made: MadeUpRuns) -> None:
    done = command(*two_kernels(made), "--by", "kernel", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.output)))
    assert [(row["kernel"], row["n"], row["verdict"]) for row in rows] == [(OLD, "6", ""), (NEW, "6", "faster")]


def test_markdown_has_two_tables_of_equal_columns(made: MadeUpRuns) -> None:
    text = FORMATS["markdown"](compare_runs(two_kernels(made), Question("kernel")))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        assert {line.count("|") for line in table} == {table[0].count("|")}


def test_go_benchmark_lines_are_boots_with_the_baseline_first(made: MadeUpRuns) -> None:
    """The format: `Unit` lines, `key: value` lines, and `BenchmarkName iterations value unit`."""
    text = FORMATS["go"](compare_runs(two_kernels(made), Question("kernel", baseline=NEW)))
    lines = [line for line in text.splitlines() if line]
    assert lines[:3] == [
        "Unit request_median_s better=lower", f"kernel: {NEW}", "BenchmarkFloodmark 1 0.5 request_median_s",
    ]  # fmt: skip
    assert lines[8] == f"kernel: {OLD}"
    assert [float(line.split()[2]) for line in lines[9:]] == SLOW


def test_a_report_is_the_same_when_it_is_made_again(made: MadeUpRuns) -> None:
    runs = two_kernels(made)
    assert len({FORMATS["json"](compare_runs(runs, Question("kernel"))) for _ in range(2)}) == 1


def test_it_is_a_sentence_in_code_as_well(made: MadeUpRuns) -> None:
    with pytest.raises(CompareError, match="there is no axis"):
        compare_runs([made.add()], Question("nothing"))


# --- --fail-on ------------------------------------------------------------------------------------

SHAPES = ["terminal", "json", "csv", "markdown", "html", "go"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_word_of_fail_on_that_is_said_sets_the_status_in_every_format(made: MadeUpRuns, shape: str) -> None:
    runs = two_kernels(made, FAST, SLOW)
    arguments = [*runs, "--by", "kernel", "--format", shape]
    failed = command(*arguments, "--fail-on", "different,slower")
    assert failed.exit_code == 1
    assert failed.stderr == f"floodmark: slower: request_median_s of {NEW}\n"
    usual = command(*arguments)
    assert (usual.exit_code, usual.stderr) == (0, "")
    assert failed.stdout == usual.stdout


def test_a_word_of_fail_on_that_is_not_said_does_not(made: MadeUpRuns) -> None:
    assert command(*two_kernels(made), "--by", "kernel", "--fail-on", "different, slower").exit_code == 0


def test_a_difference_in_behaviour_fails(made: MadeUpRuns) -> None:
    for kernel, deepest in ((OLD, 9), (NEW, 10)):
        for _ in range(4):
            made.add({"kernel.release": kernel}, metrics={"accept_queue_max": deepest})
    done = command(*map(str, made.results.iterdir()), "--by", "kernel", "--fail-on", "different")
    assert (done.exit_code, done.stderr) == (1, f"floodmark: different: queue capacity of {NEW}\n")


@pytest.mark.parametrize("words", ["", "different,", "slowr", "equivalent", "not enough runs"])
def test_a_word_that_fail_on_does_not_know_is_answered_with_those_it_does(made: MadeUpRuns, words: str) -> None:
    said = sentence(*two_kernels(made), "--by", "kernel", "--fail-on", words)
    assert "Allowed are different, slower, faster, more, less." in said
