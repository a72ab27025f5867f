"""What was written down of the hosts of a run, by this version or an older one."""

from __future__ import annotations

from floodmark.model.host import HostDescription
from floodmark.model.stored import load
from floodmark.model.verdict import Verdict
from floodmark.runs.folders import HostFolder, RunFolder


def read_verdict(folder: HostFolder) -> Verdict:
    """Return the verdict on one host.

    Raises:
        RunError: it is missing, damaged, or of a newer version.
    """
    return load(Verdict, folder.verdict, _remedy(folder))


def read_description(folder: HostFolder) -> HostDescription:
    """Return what one host is.

    Raises:
        RunError: that is missing, damaged, or of a newer version.
    """
    return load(HostDescription, folder.description, _remedy(folder))


def _remedy(folder: HostFolder) -> str:
    return f"'floodmark judge {folder.path.parent.name}' makes it again."


def read_verdicts(run: RunFolder) -> list[Verdict]:
    """Return the verdict on each host of a complete run.

    Raises:
        RunError: the run is not complete or is damaged.
    """
    return [read_verdict(run.host(name)) for name in run.read_run().hosts.proxies]
