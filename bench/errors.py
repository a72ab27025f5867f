"""How often a comparison is wrong, and how often it finds what is there: the rates that docs/comparing.md quotes.

    make bench-errors

Records are drawn from real runs of cases 1, 2, 6 and 10 (tests/floodmark/compare/spreads.json) and go through the
code of `floodmark compare`, behaviour and metrics together.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from rich.console import Console

from bench.figures import Figure, publish
from floodmark.compare import effects
from floodmark.compare.family import ALPHA
from floodmark.compare.model import Sameness, Verdict
from tests.floodmark.compare.simulated import (
    CASES,
    CHANGES,
    NOISY_CHANGES,
    OTHER,
    alarms,
    compare_values,
    simulate,
    slow_boots,
)

# Intervals are drawn with fewer samples than usual, which takes a tenth of the time. Alarms rest on p, not on them.
DRAWS = 200


def false_alarms(count: int) -> Iterator[Figure]:
    """Yield how often two arms that do not differ are said to differ in anything."""
    for boots in (1, 3, 5, 7, 10):
        found = {}
        for case in CASES:
            random = np.random.default_rng([boots, int(case)])
            found[case] = [bool(alarms(simulate(random, case, boots))) for _ in range(count // len(CASES))]
        every = [one for of_case in found.values() for one in of_case]
        each = ", ".join(f"case {case} {np.mean(of_case):.1%}" for case, of_case in found.items())
        name = f"false alarms, {boots} boots of each arm"
        yield Figure(name, float(np.mean(every)), "", len(every), target=ALPHA, note=each)


def powers(count: int) -> Iterator[Figure]:
    """Yield how often a change in every run is called different."""
    for name, (case, behaviours, change) in CHANGES.items():
        for boots in (4, 5):
            random = np.random.default_rng(boots)
            found = []
            for _ in range(count):
                compared = {one.name: one.compared[OTHER] for one in simulate(random, case, boots, change).behaviours}
                found.append(all(compared[one].sameness is Sameness.DIFFERENT for one in behaviours))
            yield Figure(f"found: {name}, {boots} boots", float(np.mean(found)), "", count, better="higher")


def powers_in_noise(count: int) -> Iterator[Figure]:
    """Yield how often a change of what varies by itself is found."""
    for name, (case, what, change) in NOISY_CHANGES.items():
        for boots in (5, 6, 7, 10):
            random = np.random.default_rng(boots)
            found = [what in alarms(simulate(random, case, boots, change)) for _ in range(count)]
            yield Figure(f"found: {name}, {boots} boots", float(np.mean(found)), "", count, better="higher")


def tails(count: int) -> Iterator[Figure]:
    """Yield what is said of medians that are the same, with a tail and without one."""
    for boots in (7, 10, 36, 60, 100):
        for slow in (0.1, 0.0):
            random = np.random.default_rng(boots)
            said = [
                compare_values(slow_boots(random, boots, 0.0), slow_boots(random, boots, slow)) for _ in range(count)
            ]
            who = "one boot in ten half as long again" if slow else "no difference"
            for verdict in (Verdict.EQUIVALENT, Verdict.MEDIANS_EQUIVALENT):
                rate = said.count(verdict) / count
                yield Figure(f"{verdict.value}: {who}, {boots} boots", rate, "", count)


def main() -> None:
    """Measure everything and publish it."""
    parser = argparse.ArgumentParser(prog="bench.errors", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=2000, help="how many A/A comparisons of each size")
    options = parser.parse_args()
    effects.DRAWS = DRAWS
    few = max(1, options.comparisons // 10)
    figures = [
        *false_alarms(options.comparisons),
        *powers(few),
        *powers_in_noise(few),
        *tails(options.comparisons // 2),
    ]
    publish("errors", figures, Console())


if __name__ == "__main__":
    main()
