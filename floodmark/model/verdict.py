"""The verdict on one host of one run: verdict.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Discriminator, Tag, computed_field, field_serializer, model_validator

from floodmark.inputs.cases import Role
from floodmark.model.check import Check, Severity
from floodmark.model.metrics import Metrics, VirtualMetrics
from floodmark.model.stored import Part, Stored
from floodmark.values import Content, ParameterValues, Value

# Parts of verdict.json that follow from others; they are written for programs that read the file, and not read.
DERIVED = ("valid", "reasons", "doubts")


class Prediction(Part):
    """An expectation of our model, or the fault of the case, and what came of it.

    Attributes:
        condition: what must be so of the value, as the case file has it.
        predicted: what the condition compares the value with, with numbers in place of names: `= 9`; empty where it
            does something else.
    """

    name: str
    value: Value
    holds: bool
    condition: str = ""
    predicted: str = ""


class Unstated(Part):
    """An expectation that our model does not state for these parameters, and the condition for it."""

    name: str
    applies: str


class ClaimVerdict(Part):
    """What one run answers to a question about a sentence of the study.

    Attributes:
        name: of the sentence, and of the question if it has several; the first versions had no name, condition and
            digest.
        role: what follows for the sentence when its condition does not hold.
        limit: of a question with the role limit: the limit in words.
    """

    name: str = ""
    role: Role = "sentence"
    limit: str = ""
    study: str
    measured: str = ""
    verdict: Literal["confirmed", "refuted", "not observed"]
    value: Value
    condition: str = ""
    digest: str = ""

    @property
    def in_words(self) -> str:
        """What a reader is told: a limit is no refutation, and a context decides nothing."""
        if self.verdict == "not observed" or self.role == "sentence":
            return self.verdict
        if self.role == "limit":
            return f"limit: {self.limit}" if self.verdict == "refuted" else "no limit here"
        return "so" if self.verdict == "confirmed" else "not so"


class Phase(Part):
    """One phase, on the host's monotonic clock."""

    name: str
    duration_s: float
    start_ns: int
    end_ns: int


# Key figures that version 1 measured in another way, so that they are not comparable: the queue until the agent's last
# reading, moments of the flood and the drain together, and refusals as fast answers.
CHANGED_IN_VERSION_2 = (
    "queue_area_conn_s", "waits_area_conn_s", "identity_share", "identity_n", "request_median_s", "request_p99_s",
    "request_max_s",
)  # fmt: skip


class _Version1(BaseModel):
    """Parts of a verdict of version 1 that later ones have in another way."""

    run_id: str
    valid: bool
    reasons: list[str] = []
    doubts: list[str] = []
    clock: str = "host"
    metrics: Content | None = None


def _from_version_1(content: Content) -> Content:
    """Make checks of the sentences that version 1 had, and leave out the key figures that it measured otherwise."""
    said = _Version1.model_validate(content)
    reasons = said.reasons if said.valid or said.reasons else ["version 1 does not say why"]
    checks: list[Value] = [
        {"id": "recorded", "severity": severity, "ok": False, "sentence": sentence}
        for severity, sentences in ((Severity.INVALID, reasons), (Severity.NOTE, said.doubts))
        for sentence in sentences
    ]
    changed: Content = {name: value for name, value in content.items() if name not in DERIVED}
    changed["checks"] = checks
    if said.metrics is None or said.clock != "host":
        return changed
    metrics = said.metrics
    why = f"version 1 measured it in another way, or not at all; 'floodmark judge {said.run_id}' measures it"
    otherwise = [name for name in CHANGED_IN_VERSION_2 if metrics.get(name) is not None]
    missing: Content = {name: why for name in Metrics.model_fields if name in otherwise or name not in metrics}
    kept = {name: value for name, value in metrics.items() if name not in otherwise}
    return {"missing": missing, **changed, "metrics": kept}


def _clock_of(metrics: Any) -> str:
    """Return which kind of key figures these are: only those of virtual time have workloads."""
    is_virtual = "workloads" in metrics if isinstance(metrics, Mapping) else isinstance(metrics, VirtualMetrics)
    return "virtual" if is_virtual else "host"


class Verdict(Stored):
    """What a run says about one host.

    Attributes:
        kernel: its release; None where the host left nothing.
        clock: host, or virtual where instructions were counted.
        fixed: in virtual time, what was the same as in every other boot.
        checks: every rule that the run was held against.
        faults: what must have been seen for the run to be one of the case.
        figures: of a lab; figure_n says how many rows each is taken from.
        metrics: key figures; None where the host left nothing.
        missing: key figure -> why it is None.
    """

    newest: ClassVar[int] = 2
    migrations: ClassVar[Mapping[int, Callable[[Content], Content]]] = {1: _from_version_1}

    schema_version: int = newest
    run_id: str
    host: str
    kernel: str | None = None
    clock: Literal["host", "virtual"] = "host"
    fixed: str = ""
    checks: list[Check]
    params: ParameterValues = {}
    faults: list[Prediction] = []
    expectations: list[Prediction] = []
    unstated: list[Unstated] = []
    claims: list[ClaimVerdict] = []
    figures: dict[str, Value] = {}
    figure_n: dict[str, int] = {}
    phases: list[Phase] = []
    metrics: (
        Annotated[Annotated[Metrics, Tag("host")] | Annotated[VirtualMetrics, Tag("virtual")], Discriminator(_clock_of)]
        | None
    ) = None
    missing: dict[str, str] = {}

    @classmethod
    def parse(cls, content: Mapping[str, Value]) -> Verdict:
        """Return the model of a file's content; what follows from other parts is not read."""
        if content.get("schema_version", 1) != 1:
            content = {name: value for name, value in content.items() if name not in DERIVED}
        # A host that left nothing has empty metrics.
        return super().parse({**content, "metrics": None} if content.get("metrics") == {} else content)

    @model_validator(mode="after")
    def _needs_figures(self) -> Verdict:
        if self.valid and self.metrics is None:
            raise ValueError("it has no metrics, and a valid run has some")
        return self

    @field_serializer("metrics")
    def _metrics_or_nothing(self, metrics: Metrics | VirtualMetrics | None) -> dict[str, Value]:
        return metrics.model_dump(mode="json") if metrics else {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def valid(self) -> bool:
        """Whether anything follows from this run for its case."""
        return not self.failed(Severity.INVALID)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reasons(self) -> list[str]:
        """Why the run is not valid."""
        return [one.sentence for one in self.failed(Severity.INVALID)]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def doubts(self) -> list[str]:
        """What a reader should know although the run is valid."""
        return [one.sentence for one in self.failed(Severity.NOTE)]

    @property
    def passed(self) -> bool:
        """Whether the run is valid and every expectation holds."""
        return self.valid and all(one.holds for one in self.expectations)

    @property
    def seen(self) -> Metrics | None:
        """The key figures of a run in the host's time."""
        return self.metrics if isinstance(self.metrics, Metrics) else None

    def failed(self, severity: Severity) -> list[Check]:
        """Return the checks of one severity that are not ok."""
        return [one for one in self.checks if not one.ok and one.severity is severity]
