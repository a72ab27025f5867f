"""All that differs between two hosts of two runs, before anything is said about what was measured."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from floodmark.errors import RunError
from floodmark.inputs.parameters import as_yaml
from floodmark.runs.folders import RESULTS
from floodmark.runs.records import Record, group_of, is_part, read_kernel_config, read_records
from floodmark.show.tables import table_of
from floodmark.values import Value

# In a sentence a value is shown up to this length; the table has it whole.
SHOWN_CHARACTERS = 60
# What a value is called that a run did not record.
NOT_RECORDED = "not recorded"


def read_one(name: str, results: Path = RESULTS) -> Record:
    """Return the one host that a name means.

    Raises:
        RunError: the run has several hosts, or cannot be read.
    """
    records = read_records(name, results)
    if len(records) > 1:
        choices = " or ".join(f"{name}:{one.host}" for one in records)
        raise RunError(f"run {name} has {len(records)} hosts: say which one, {choices}.")
    return records[0]


def differences(one: Record, other: Record) -> dict[str, tuple[Value, Value]]:
    """Return field -> both values, for the fields that are not the same; those of a group stand together."""
    names = list({**one.fields, **other.fields})
    groups = list(dict.fromkeys(map(group_of, names)))
    pairs = {
        name: (one.fields.get(name), other.fields.get(name))
        for name in sorted(names, key=lambda name: groups.index(group_of(name)))
    }
    found: dict[str, tuple[Value, Value]] = {
        name: (value, other_value) for name, (value, other_value) in pairs.items() if value != other_value
    }
    if "kernel_config" in found:
        found |= config_differences(one, other)
    return found


def config_differences(one: Record, other: Record) -> dict[str, tuple[str, str]]:
    """Return `kernel_config.OPTION` -> both values, for the options that both kernels know and that are not the same.

    What one of them does not know is a difference of the kernels, not of how they were configured.
    """
    options, others = read_kernel_config(one), read_kernel_config(other)
    return {
        f"kernel_config.{name}": (value, others[name])
        for name, value in sorted(options.items())
        if others.get(name, value) != value
    }


def print_differences(console: Console, one: Record, other: Record) -> None:
    """Print what differs between two hosts of two runs."""
    found = differences(one, other)
    same = len((one.fields.keys() | other.fields.keys()) - found.keys())
    if found:
        table = table_of("field", escape(one.name), escape(other.name))
        for name, pair in found.items():
            table.add_row(name, *(escape(text) for text in texts_of(name, *pair)))
        console.print(table)
    console.print(f"{len(found)} fields differ, {same} are the same.", highlight=False)


def texts_of(name: str, one: Value, other: Value) -> tuple[str, str]:
    """Return two values as text; of two command lines or mitigations only the parts that the other does not have."""
    if isinstance(one, str) and isinstance(other, str) and one and other:
        if name == "cmdline":
            return _parts_apart(one.split(), other.split(), " ")
        if is_part(name, ("mitigations",)) and not same_mitigations(one, other):
            return _parts_apart(clauses(one), clauses(other), "; ")
    return text_of(one), text_of(other)


def _parts_apart(one: Collection[str], other: Collection[str], between: str) -> tuple[str, str]:
    """Return the parts of each that the other does not have."""
    return (
        between.join(part for part in one if part not in other) or "-",
        between.join(part for part in other if part not in one) or "-",
    )


def same_mitigations(one: str, other: str) -> bool:
    """Tell whether two lines of /sys/devices/system/cpu/vulnerabilities name the same mitigations."""
    return set(clauses(one)) == set(clauses(other))


def clauses(mitigation: str) -> list[str]:
    """Return the parts of such a line, whatever the kernel puts between them.

    Older kernels separate the parts of `spectre_v2` with commas, newer ones with semicolons. A part `BHI: Not affected`
    is only written by kernels that know of BHI; nothing is done about it, so it says as much as no such part.
    Source: arch/x86/kernel/cpu/bugs.c spectre_v2_show_state
    """
    # Mitigation: Retpolines, IBPB: conditional, IBRS_FW, STIBP: conditional, RSB filling, PBRSB-eIBRS: Not affected
    parts = (part.strip() for part in re.split("[;,]", mitigation))
    return [part for part in parts if part and not part.endswith(": Not affected")]


def text_of(value: Value) -> str:
    """Return a value as the user writes it."""
    return NOT_RECORDED if value is None else as_yaml(value)


def shortened(text: str) -> str:
    """Return a text as it is shown within a sentence."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
