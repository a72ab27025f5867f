"""Complete runs that never were: run.json, host.json and verdict.json, as `floodmark compare` and `diff` read them."""

from __future__ import annotations

import copy
import io
import itertools
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from floodmark.inputs.cases import load_cases
from floodmark.inputs.inventory import Hosts
from floodmark.model.run import ControlNode, Plan, RecordedCase, RunRecord
from floodmark.model.stored import save
from floodmark.model.verdict import Verdict
from floodmark.runs.folders import RunFolder
from floodmark.verdict.rules import RESULTS_READABLE

HOST: dict[str, Any] = {
    "boot_id": "boot-1",
    "kernel": {"release": "6.1.0", "version": "#1 SMP", "config_sha256": "aa", "cmdline": "quiet root=/dev/vda"},
    "mitigations": {"retbleed": "Not affected", "spectre_v2": "Mitigation: Retpolines"},
    "cpu": {"model": "AMD EPYC", "count": 2},
    "memory_bytes": 1_020_000_000,
    "sysctls": {"net.core.somaxconn": "8"},
    "sysctls_before": {"net.core.somaxconn": "4096"},
    "listeners": [{"name": "upstream", "limit_conns": 8}, {"name": "front", "limit_conns": 4096}, None],
    "clocks": {"clocksource": "tsc", "utc_offset_s": 0, "wall_minus_monotonic_ns": 1},
    "versions": {"nginx": "1.22.1"},
    "unread": {},
}
CONTROL_NODE: dict[str, Any] = {
    "python": "3.11.2", "floodmark": "0.1.0", "ansible_core": "2.19.4", "locust": "2.47.0", "git_dirty": False,
}  # fmt: skip
METRICS: dict[str, Any] = {
    "accept_queue_max": 9,
    "queue_limit": 8,
    "states": {"01": 1, "02": 9},
    "status": {"502": 23, "504": 9},
    "errors": {},
    "nginx_errors": {"errno 11": 23},
    "sent": 32,
    "flood_s": 5.0,
    "request_median_s": 1.0,
}


def set_in(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set a leaf by its dotted name; a sysctl's own dots stay."""
    first, _, rest = name.partition(".")
    if rest and first in tree and isinstance(tree[first], dict):
        set_in(tree[first], rest, value)
    else:
        tree[name] = value


CASES = load_cases()


def plan_of(run: RunFolder, *hosts: str, case: int = 1, **parts: Any) -> Plan:
    """Return what plan.json says of a run.

    Args:
        run: which.
        hosts: that it measures; proxy1 unless given.
        case: its number.
        parts: other parts of it; of `parameters` those that differ from the case's.
    """
    definition = CASES[case]
    of_case = RecordedCase.model_validate(definition.model_dump(mode="json", by_alias=True, exclude={"parameters"}))
    given = {
        "run_id": run.run_id, "case": of_case, "hosts": Hosts(proxies=list(hosts) or ["proxy1"]),
        "control_node": ControlNode(**CONTROL_NODE), **parts,
        "parameters": {**definition.parameters.model_dump(), **parts.get("parameters", {})},
    }  # fmt: skip
    return Plan(**given)


def record_of(
    run: RunFolder, *hosts: str, case: int = 1, valid: bool = True, passed: bool = True, **parts: Any
) -> RunRecord:
    """Return what run.json says of a run; see `plan_of`."""
    plan = plan_of(run, *hosts, case=case, **parts)
    return RunRecord(**dict(plan), valid=valid, passed=passed)


class MadeUpRuns:
    """A results folder to which a test adds runs."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._numbers = itertools.count(1)

    def add(
        self,
        host: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        verdict: dict[str, Any] | None = None,
        case: int = 2,
        name: str = "proxy1",
        *,
        testbed: bool = False,
        config: str | None = None,
    ) -> str:
        """Write a run of one host, and return its path; what is given differs from the usual.

        Args:
            host: dotted name -> value in host.json; each run has a boot of its own unless given.
            params: parameters of the run.
            metrics: key figures of the verdict.
            verdict: the rest of the verdict; a check that is not ok is made of each of its `reasons`.
            case: number of the case.
            name: of the host.
            testbed: whether it is one of the testbed, which are all of one machine.
            config: text of the kernel's configuration.
        """
        number = next(self._numbers)
        run = RunFolder(self.results / f"20260101T{number:06}Z-case{case}-unix")
        described = copy.deepcopy(HOST)
        for key, value in {"boot_id": f"boot-{number}", **(host or {})}.items():
            set_in(described, key, value)
        testbed_hosts = [name] if testbed else []
        record = record_of(
            run, name, case=case, parameters=params or {}, hosts=Hosts(proxies=[name], testbed=testbed_hosts),
            fingerprint="f", control_node=ControlNode(**CONTROL_NODE, git_commit=f"commit-{number}"),
        )  # fmt: skip
        run.host(name).archive.parent.mkdir(parents=True)
        if config:
            described["kernel"]["config_sha256"] = sha256(config.encode()).hexdigest()
            with tarfile.open(run.host(name).archive, "w:gz") as archive:
                member = tarfile.TarInfo("./kernel-config")
                member.size = len(config)
                archive.addfile(member, io.BytesIO(config.encode()))
        run.host(name).description.write_text(json.dumps(described))
        said = {
            "schema_version": Verdict.newest, "run_id": run.run_id, "host": name,
            "kernel": described["kernel"]["release"], "params": record.parameters,
            "expectations": [{"name": "queue_fills", "holds": True}], "reasons": [],
            "metrics": {**METRICS, **(metrics or {})}, **(verdict or {}),
        }  # fmt: skip
        said["checks"] = [RESULTS_READABLE.check(False, ok=False, why=reason) for reason in said["reasons"]]
        said["expectations"] = [{"value": None, "condition": "true", **one} for one in said["expectations"]]
        save(run.host(name).verdict, Verdict.parse(said))
        save(run.record, record)
        return str(run.path)

    def join(self, path: str, other: str) -> str:
        """Make one run of two, which are of different hosts, and return its path."""
        run, joined = RunFolder(Path(path)), RunFolder(Path(other))
        record, hosts = run.read_run(), joined.read_run().hosts
        for name in hosts.proxies:
            joined.host(name).path.rename(run.host(name).path)
        together = Hosts(proxies=record.hosts.proxies + hosts.proxies, testbed=record.hosts.testbed + hosts.testbed)
        save(run.record, record.model_copy(update={"hosts": together}))
        return path

    def add_arms(self, field: str, values: dict[Any, list[float]], metric: str = "request_median_s") -> list[str]:
        """Add a run for each number of each arm, and return their paths.

        Args:
            field: dotted name in host.json that the arms differ in.
            values: value of the field -> the metric in each run.
            metric: which.
        """
        return [
            self.add({field: value}, metrics={metric: number})
            for value, numbers in values.items()
            for number in numbers
        ]
