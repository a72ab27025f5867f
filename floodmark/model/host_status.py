"""What hosts say of themselves, with or without a run: who holds them, and what deviates from what was before."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict


class HoldingRun(BaseModel):
    """The run that has a host on record.

    Attributes:
        run_id: the run.
        owner: whose it is, user@host.
        holds: whether its lease goes on; if not, it has left something to undo.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str = "unknown"
    owner: str = "nobody"
    holds: bool


class HostStatus(BaseModel):
    """What a host says of itself.

    Attributes:
        run: that has the host on record.
        floods: units of Locust that flood from there.
        left: a sentence for each thing that is not as it was.
        unfetched: runs of which files lie there.
    """

    model_config = ConfigDict(frozen=True)

    run: HoldingRun | None
    floods: list[str]
    left: list[str]
    unfetched: list[str]

    @property
    def is_held(self) -> bool:
        """Whether somebody works with it at this moment."""
        return bool(self.floods) or (self.run is not None and self.run.holds)

    @property
    def is_as_it_was(self) -> bool:
        """Whether there is nothing to put back."""
        return not self.left and not self.floods and self.run is None


@dataclass
class Answers:
    """What the hosts of an inventory have answered.

    Attributes:
        statuses: host -> what it said last.
        failures: host -> why it said nothing, or could not be put back.
    """

    statuses: dict[str, HostStatus] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
