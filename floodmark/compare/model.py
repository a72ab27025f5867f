"""What a comparison is made of: a question, arms, and what is said of their metrics and their behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from floodmark.runs.records import Record
from floodmark.verdict.virtual import WORKLOADS

DEFAULT_MARGIN = 0.05


class Verdict(StrEnum):
    """What a comparison of one metric says."""

    FASTER = "faster"
    SLOWER = "slower"
    LESS = "less"
    MORE = "more"
    EQUIVALENT = "equivalent"
    MEDIANS_EQUIVALENT = "medians equivalent"
    SET_BY_THE_CASE = "set by the case"
    NOT_ENOUGH = "not enough runs"


# One boot has no spread, so what it differs in may be a matter of that boot.
LEAST_BOOTS = 2


# Of these a shift is a matter of speed; of another unit, instructions say, it is only less or more.
UNITS_OF_SPEED = ("s", "ms", "1/s")


@dataclass(frozen=True)
class Metric:
    """One number of a run that is compared.

    Attributes:
        name: its name in verdict.json.
        unit: of the number.
        meaning: what it is, for the reader of a table.
        better: which direction is better.
    """

    name: str
    unit: str
    meaning: str
    better: Literal["lower", "higher"] = "lower"

    @property
    def words(self) -> tuple[Verdict, Verdict]:
        """What the better and the worse of two values are called."""
        return (Verdict.FASTER, Verdict.SLOWER) if self.unit in UNITS_OF_SPEED else (Verdict.LESS, Verdict.MORE)


# Declared before anything is measured: every one of them that was measured is tested, and p is corrected for all.
METRICS = (
    Metric("time_to_full_s", "s", "first request until the queue is full"),
    Metric("drain_s", "s", "end of the flood until the queue is empty"),
    Metric("recovery_s", "s", "end of the flood until upstream and nginx are idle"),
    Metric("queue_area_conn_s", "conn·s", "waiting in the queue, all connections together"),
    Metric("wait_median_ms", "ms", "wait of a connection for accept(), median"),
    Metric("wait_p99_ms", "ms", "wait of a connection for accept(), p99"),
    Metric("request_median_s", "s", "a request, median"),
    Metric("request_p99_s", "s", "a request, p99"),
    Metric("request_max_s", "s", "a request, longest"),
    *(Metric(one.metric, one.unit, one.meaning) for one in WORKLOADS.values()),
    Metric("requests_per_s", "1/s", "requests of a sustained flood", "higher"),
)


class Sameness(StrEnum):
    """What a comparison of one behaviour says."""

    SAME = "same"
    DIFFERENT = "different"
    VARIES = "varies"
    ONE_RUN_EACH = "one run each"


@dataclass(frozen=True)
class Arm:
    """All results with one value of the axis."""

    value: str
    records: tuple[Record, ...]
    boots: tuple[tuple[Record, ...], ...]


@dataclass(frozen=True)
class Summary:
    """One metric over the boots of one arm, in the unit of the metric.

    Attributes:
        values: of each boot that has one, the mean of its runs.
        runs: how many runs each of them rests on.
        median: of the values.
        low_quartile: of the values.
        high_quartile: of the values.
        missing: boots of which a run has no value.
    """

    values: tuple[float, ...]
    runs: tuple[int, ...]
    median: float
    low_quartile: float
    high_quartile: float
    missing: int = 0

    @property
    def n(self) -> int:
        """Boots."""
        return len(self.values)


@dataclass(frozen=True)
class Effect:
    """One metric of one arm in comparison with the baseline.

    Attributes:
        shift: Hodges-Lehmann shift, in the unit of the metric; positive when this arm has more.
        low: lower end of its interval, None when there are too few boots for one.
        high: upper end.
        margin: shifts up to this do not matter, in the unit of the metric.
        tail_low: lower end of how much the worst tenth of boots begins above that of the baseline, None when there
            are too few boots to say.
        tail_high: upper end.
        tail_margin: tails up to this apart do not matter, in the unit of the metric.
        p: of the Mann-Whitney test.
        p_holm: the same, corrected for all tests of this comparison.
        verdict: what follows.
        more_boots: with `not enough runs` and `medians equivalent`, how many more this arm needs.
        more_baseline_boots: and the baseline.
        set_by: with `set by the case`, what the value is.
    """

    shift: float
    low: float | None
    high: float | None
    margin: float
    tail_low: float | None
    tail_high: float | None
    tail_margin: float
    p: float
    p_holm: float
    verdict: Verdict
    more_boots: int = 0
    more_baseline_boots: int = 0
    set_by: str = ""


@dataclass(frozen=True)
class MetricResult:
    """One metric in all arms that have it: arm -> numbers."""

    metric: Metric
    summaries: dict[str, Summary]
    effects: dict[str, Effect]


@dataclass(frozen=True)
class ClassShift:
    """One class of a behaviour, such as the status 502, in two arms.

    Attributes:
        name: of the class.
        baseline: mean over the boots of the baseline that say it; a share of runs where the class is only there or not.
        arm: the same of the other arm.
    """

    name: str
    baseline: float
    arm: float


@dataclass(frozen=True)
class Contrast:
    """One behaviour of one arm in comparison with the baseline.

    Attributes:
        sameness: what follows.
        p: of the permutation test over boots, None where there is nothing to test.
        p_holm: the same, corrected for all tests of this comparison.
        differs: the classes whose means differ, the clearest first.
        more_boots: how many more boots of each arm it takes until a difference in every run is significant.
    """

    sameness: Sameness
    p: float | None = None
    p_holm: float | None = None
    differs: tuple[ClassShift, ...] = ()
    more_boots: int = 0


@dataclass(frozen=True)
class Behaviour:
    """One behaviour in all arms.

    Attributes:
        name: what is looked at.
        counted: whether its classes are counts; otherwise a class is there or not.
        seen: arm -> what was seen -> number of runs.
        compared: arm -> how it compares with the baseline.
        passed: arm -> whether every run met its expectations; None where there is none to meet.
    """

    name: str
    counted: bool
    seen: dict[str, dict[str, int]]
    compared: dict[str, Contrast]
    passed: dict[str, bool] | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        axis: what the arms differ in.
        baseline: value of the axis that the others are compared with.
        arms: value -> results, in order.
        margin: equivalence margin, as a share of the baseline's median.
        allowed: field -> the values that it has, where the user allowed it to differ.
        unchecked: settings that no run has recorded, so that nobody knows whether they differ.
        left_out: result -> why it says nothing.
        notes: what else a reader should know.
        behaviours: pass or fail, same or different.
        metrics: numbers.
        tests: how many tests p was corrected for; those that could not be significant do not count.
    """

    axis: str
    baseline: str
    arms: dict[str, Arm]
    margin: float
    allowed: dict[str, list[str]]
    unchecked: list[str]
    left_out: dict[str, str]
    notes: list[str]
    behaviours: list[Behaviour] = field(default_factory=list)
    metrics: list[MetricResult] = field(default_factory=list)
    tests: int = 0


@dataclass(frozen=True)
class Question:
    """What the user asks.

    Attributes:
        axis: name of a field.
        baseline: value of the axis to compare with, None for the first one.
        allow: fields, or groups of fields, that may differ.
        metrics: names of the metrics to compare, none for all.
        margin: equivalence margin, as a share.
    """

    axis: str
    baseline: str | None = None
    allow: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    margin: float = DEFAULT_MARGIN
