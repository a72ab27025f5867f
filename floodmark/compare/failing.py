"""Which words of a comparison make `floodmark compare --fail-on` end with status 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from floodmark.compare.model import Comparison, Sameness, Verdict
from floodmark.errors import CompareError, did_you_mean

# Only what is shown to have changed can fail a job; what cannot be told yet can not.
WORDS: tuple[Sameness | Verdict, ...] = (
    Sameness.DIFFERENT,
    Verdict.SLOWER,
    Verdict.FASTER,
    Verdict.MORE,
    Verdict.LESS,
)


def read_words(text: str) -> tuple[Sameness | Verdict, ...]:
    """Return the words of `--fail-on different,slower`.

    Raises:
        CompareError: one of them is none of WORDS.
    """
    known = {word.value: word for word in WORDS}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise CompareError(f"--fail-on: '{name}' is not allowed: {hint}Allowed are {', '.join(known)}.")
    return tuple(known[name] for name in names)


def failures(comparisons: Mapping[str, Comparison], words: Sequence[Sameness | Verdict]) -> Iterator[str]:
    """Yield a line for each of these words that a comparison says, with what it says it of.

    Args:
        comparisons: name -> comparison; the name is empty where there is only one.
        words: of WORDS.
    """
    for name, comparison in comparisons.items():
        said: list[tuple[Sameness | Verdict, str, str]] = [
            (contrast.sameness, behaviour.name, arm)
            for behaviour in comparison.behaviours
            for arm, contrast in behaviour.compared.items()
        ]
        said += [
            (effect.verdict, result.metric.name, arm)
            for result in comparison.metrics
            for arm, effect in result.effects.items()
        ]
        where = f"{name}: " if name else ""
        for word, what, arm in said:
            if word in words:
                yield f"{where}{word.value}: {what} of {arm}"
