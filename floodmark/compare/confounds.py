"""What differs between results besides the axis: it is refused, unless it is allowed by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from floodmark.compare.diff import config_differences, same_mitigations, shortened, text_of, texts_of
from floodmark.compare.model import Question
from floodmark.errors import CompareError, did_you_mean
from floodmark.runs.records import Record, group_of, is_part, read_kernel_config
from floodmark.values import Value

# A kernel keeps some of the memory for itself, and not every kernel the same.
SAME_MEMORY = 0.05
# Fields of one group that a message names: a kernel has thousands of options.
MOST_OF_A_GROUP = 5
# What follows from an axis: it cannot stay the same when that one changes.
FOLLOWS = {
    "kernel": ("kernel_version",),
    "kernel_version": ("kernel",),
    "host": ("machine",),
    "case": ("upstream", "others"),
    "order": ("queue_limit", "front_queue_limit"),
    "nginx_listen_backlog": ("front_queue_limit",),
    "somaxconn": ("sysctls.net.core.somaxconn", "queue_limit"),
    "upstream_backlog": ("queue_limit",),
    "queue_limit": ("somaxconn", "sysctls.net.core.somaxconn", "upstream_backlog"),
}


def confounds(records: Sequence[Record], question: Question) -> tuple[dict[str, list[str]], list[str]]:
    """Return what differs and may, and what nobody has recorded.

    Raises:
        CompareError: something else than the axis differs.
    """
    settings = dict.fromkeys(name for one in records for name in one.settings)
    _check_allowed(question.allow, settings)
    expected = _with_what_follows((question.axis,))
    permitted = _with_what_follows(question.allow)
    differing = {
        name: values for name, values in varying(records).items() if name in settings and not is_part(name, expected)
    }
    differing = _with_config_options(differing)
    refused = {name: values for name, values in differing.items() if not is_part(name, permitted)}
    if refused:
        causes = {name: values for name, values in refused.items() if not _follows_from(name, refused)}
        lines = "".join(f"\n  {line}" for line in _lines_of(causes))
        permits = " ".join(f"--allow {name}" for name in dict.fromkeys(group_of(name) for name in causes))
        raise CompareError(
            f"--by {question.axis}: these results also differ in something else, so the {question.axis} would not be "
            f"what was compared:{lines}\nCompare runs that differ in nothing else, or allow it: {permits}"
        )
    allowed = {name: [text_of(value) for value, _ in values] for name, values in differing.items()}
    unchecked = [name for name in settings if all(one.settings.get(name) is None for one in records)]
    return allowed, unchecked


def varying(records: Sequence[Record]) -> dict[str, list[tuple[Value, Record]]]:
    """Return field -> its values, each with the first result that has it, for the fields with more than one."""
    found: dict[str, list[tuple[Value, Record]]] = {}
    for one in records:
        for name in {**records[0].fields, **one.fields}:
            values = found.setdefault(name, [(records[0].fields.get(name), records[0])])
            if all(_differ(name, one.fields.get(name), value) for value, _ in values):
                values.append((one.fields.get(name), one))
    return {name: values for name, values in found.items() if len(values) > 1}


def _differ(name: str, one: Value, other: Value) -> bool:
    """Tell whether two values of a field are different settings."""
    if name == "memory_bytes" and isinstance(one, int) and isinstance(other, int):
        return abs(one - other) > SAME_MEMORY * max(one, other)
    if is_part(name, ("mitigations",)) and isinstance(one, str) and isinstance(other, str):
        return not same_mitigations(one, other)
    return one != other


def _with_config_options(differing: dict[str, list[tuple[Value, Record]]]) -> dict[str, list[tuple[Value, Record]]]:
    """Put in the place of a configuration's hash the options that differ, where they were recorded.

    None may be left: options that one kernel does not know are no setting of the other one.
    """
    values = differing.get("kernel_config", [])
    if not values or not all(read_kernel_config(record) for _, record in values):
        return differing
    (_, first), *others = values
    options: dict[str, list[tuple[Value, Record]]] = {}
    for _, other in others:
        for name, (value, other_value) in config_differences(first, other).items():
            options.setdefault(name, [(value, first)]).append((other_value, other))
    return {name: values for name, values in differing.items() if name != "kernel_config"} | options


def _with_what_follows(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for name in names for part in (name, *FOLLOWS.get(name, ())))


def _follows_from(name: str, others: Iterable[str]) -> bool:
    """Tell whether a field follows from one of the others that is a cause itself: a parameter, not a reading."""
    return any(is_part(name, FOLLOWS.get(other, ())) and name not in FOLLOWS for other in others)


def _check_allowed(allow: Sequence[str], settings: Iterable[str]) -> None:
    groups = {part for name in settings for part in (name, group_of(name))}
    for name in allow:
        if not any(is_part(one, (name,)) for one in settings):
            raise CompareError(
                f"--allow: there is no field '{name}': {did_you_mean(name, groups)}Allowed are "
                f"{', '.join(sorted(groups))}."
            )


def _lines_of(causes: Mapping[str, Sequence[tuple[Value, Record]]]) -> Iterator[str]:
    """Yield a line for each field with its values, but few for a group of many."""
    shown: Counter[str] = Counter()
    for name, values in causes.items():
        group = group_of(name)
        shown[group] += 1
        if shown[group] <= MOST_OF_A_GROUP:
            yield f"{name}: {_both(name, values)}"
    for group, count in shown.items():
        if count > MOST_OF_A_GROUP:
            yield f"and {count - MOST_OF_A_GROUP} more of {group}, which 'floodmark diff' shows"


def _both(name: str, values: Sequence[tuple[Value, Record]]) -> str:
    """Return the first two values of a field and who has them."""
    (one, first), (other, second) = values[:2]
    texts = (shortened(text) for text in texts_of(name, one, other))
    more = f", and {len(values) - 2} more" if len(values) > 2 else ""
    return " and ".join(f"{text} ({who.name})" for text, who in zip(texts, (first, second), strict=True)) + more
