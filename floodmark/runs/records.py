"""What is known of one host in one run, as flat fields that can be compared with those of another.

A field is a setting when it should be the same in two runs that are compared: a kernel version, a parameter, a queue
limit. What is measured, and what differs between any two runs, is none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from floodmark.errors import RunError
from floodmark.inputs.parameters import SEEDS
from floodmark.model.host import HostDescription
from floodmark.model.run import RunRecord
from floodmark.model.verdict import Verdict
from floodmark.runs.archive import open_archive
from floodmark.runs.folders import RESULTS, RunFolder, find_run
from floodmark.runs.verdicts import read_description, read_verdicts
from floodmark.values import Value

# Fields with a short name of their own. The others are named after their place in host.json.
SHORT_NAMES = {
    "kernel.release": "kernel",
    "kernel.version": "kernel_version",
    "kernel.config_sha256": "kernel_config",
    "kernel.cmdline": "cmdline",
    "versions.nginx": "nginx",
    "versions.os": "os",
    "clocks.clocksource": "clocksource",
}
# Parts of host.json that are readings of the moment, or that come as fields of their own below.
NOT_FIELDS = ("listeners", "unread", "clocks.wall_minus_monotonic_ns", "clocks.wall_error_ns")
# Fields that may differ between runs that are compared: names, and what was before. The
# machine stands for the host, and the fingerprint of what was installed on it for the commit.
NOT_SETTINGS = ("host", *SEEDS, "boot_id", "git", "sysctls_before", "clocks", "format_version")
MACHINE_OF_THE_TESTBED = "the control node"


Fields = dict[str, Value]


@dataclass(frozen=True)
class Record:
    """One host of one run.

    Attributes:
        run: where it is.
        host: name of the host.
        verdict: on it.
        fields: all that can be compared; a value that was not recorded is None.
    """

    run: RunFolder
    host: str
    verdict: Verdict
    fields: Fields

    @property
    def name(self) -> str:
        """How a user names it."""
        return f"{self.run.run_id}:{self.host}"

    @property
    def settings(self) -> Fields:
        """The fields that should be the same in runs that are compared."""
        return {name: value for name, value in self.fields.items() if not is_part(name, NOT_SETTINGS)}


def read_kernel_config(record: Record) -> dict[str, str]:
    """Return the kernel's configuration: option -> value, `n` where it is not set; empty when it was not recorded.

    Raises:
        RunError: what the host wrote is damaged.
    """
    archive = record.run.host(record.host).archive
    try:
        with open_archive(archive) as opened:
            file = opened.extractfile("./kernel-config")
            content = file.read() if file else b""
    except (FileNotFoundError, KeyError):
        return {}
    # An archive may be whole and that of another run.
    recorded = record.fields.get("kernel_config")
    if recorded and hashlib.sha256(content).hexdigest() != recorded:
        raise RunError(f"{archive} is damaged: its kernel-config is not the one that host.json has the SHA-256 of.")
    text = content.decode(errors="replace")
    # CONFIG_HZ=250
    # # CONFIG_PREEMPT is not set
    found = re.finditer(r"^(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$", text, re.MULTILINE)
    return {match[1] or match[3]: match[2] or "n" for match in found}


def is_part(name: str, groups: tuple[str, ...]) -> bool:
    """Tell whether a field is one of these, or a part of one: `mitigations.retbleed` is of `mitigations`."""
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def group_of(name: str) -> str:
    """Return the group that a field belongs to, or its own name."""
    return name.partition(".")[0]


def read_records(name: str, results: Path = RESULTS) -> list[Record]:
    """Return what is known of a run, host by host.

    Args:
        name: a run as `find_run` knows it, or with one of its hosts: `latest:linux61`.
        results: where runs are kept.

    Raises:
        RunError: there is no such run or host, or what it left is not complete or damaged.
    """
    run_name, _, host = name.partition(":")
    run = find_run(run_name, results)
    record = run.read_run()
    hosts = record.hosts.proxies
    if host and host not in hosts:
        raise RunError(f"run {run.run_id} has no host '{host}': it has {', '.join(hosts)}.")
    return [_record(run, record, verdict) for verdict in read_verdicts(run) if host in ("", verdict.host)]


def _record(run: RunFolder, record: RunRecord, verdict: Verdict) -> Record:
    folder = run.host(verdict.host)
    # An invalid run is named and left out, so what its host is does not matter.
    description = read_description(folder) if verdict.valid or folder.description.exists() else None
    return Record(run, verdict.host, verdict, _fields(record, description, verdict.host))


def _fields(record: RunRecord, description: HostDescription | None, host: str) -> Fields:
    """Return all fields of one host: the case, the parameters, the host, and what measured it."""
    control = record.control_node.model_dump(exclude_unset=True)
    facts = flat(description.facts()) if description else ()
    return {
        "case": record.case.number,
        "clock": record.clock,
        **{f"upstream.{name}": value for name, value in record.case.upstream.items()},
        "others": [dict(one) for one in record.case.others],
        **record.parameters,
        **_queue_limits(description),
        "host": host,
        "machine": MACHINE_OF_THE_TESTBED if host in record.hosts.testbed else host,
        **{SHORT_NAMES.get(name, name): value for name, value in facts if not is_part(name, NOT_FIELDS)},
        "fingerprint": record.fingerprint,
        **{f"control_node.{name}": value for name, value in control.items() if not name.startswith("git_")},
        **{f"git.{name.removeprefix('git_')}": value for name, value in control.items() if name.startswith("git_")},
    }


def _queue_limits(description: HostDescription | None) -> Fields:
    limits = {one.name: one.limit_conns for one in description.listeners if one} if description else {}
    return {"queue_limit": limits.get("upstream"), "front_queue_limit": limits.get("front")}


def flat(tree: Mapping[str, Value], prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield the leaves of nested objects with their dotted names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
