"""The tests of a comparison as one family: p is corrected for all of them, metrics and behaviour together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from floodmark.compare import stats

ALPHA = 0.05


class Kind(Enum):
    """What a test is about."""

    BEHAVIOUR = "behaviour"
    METRIC = "metric"


@dataclass(frozen=True)
class Test:
    """One test.

    Attributes:
        kind: what it is about.
        key: two tests with equal keys are the same test, so they count once.
        p: what it gives.
        least: the smallest p that the same values could give, however they are grouped.
        varies: whether the values vary at all; a constant is not tested.
    """

    __test__ = False  # pytest collects classes by their name

    kind: Kind
    key: Hashable
    p: float
    least: float
    varies: bool


class Corrected(NamedTuple):
    """What becomes of a test in its family.

    Attributes:
        p_holm: p after the correction; at most ALPHA is significant.
        level: what p of this test has to reach if nothing else is significant, once there are enough boots.
    """

    p_holm: float
    level: float


def correct(tests: Sequence[Test]) -> tuple[list[Corrected], int]:
    """Correct p for all tests of a comparison, or of a suite.

    Behaviour and metrics have half of the level each, and all of it where the other has nothing to test. Within a
    kind all tests have the same share. What is rejected passes its share on. A test that could not be significant by
    itself, whatever the outcome, cannot raise a false alarm and takes no share.

    Args:
        tests: all of them.

    Returns:
        What becomes of each, in their order, and how many different tests had a share.

    Source: S. Holm 1979, section 3, for the weights; R. E. Tarone 1990 for tests that cannot be significant
    """
    shares = _shares([one for one in tests if one.least <= ALPHA])
    of_each = {one.key: one for one in tests if one.key in shares}
    p_holm = dict(
        zip(of_each, stats.holm([one.p for one in of_each.values()], [shares[key] for key in of_each]), strict=True)
    )
    planned = _shares([one for one in tests if one.varies])
    return [Corrected(p_holm.get(one.key, 1.0), ALPHA * planned.get(one.key, 1.0)) for one in tests], len(p_holm)


def _shares(tests: Sequence[Test]) -> dict[Hashable, float]:
    """Return the share of the level that each of these tests has; together it is 1."""
    keys = {kind: list(dict.fromkeys(one.key for one in tests if one.kind is kind)) for kind in Kind}
    kinds = sum(bool(found) for found in keys.values())
    return {key: 1 / kinds / len(found) for found in keys.values() for key in found}
