"""Whether a machine that floods has room for what is asked of it: processors, memory, open files."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

import psutil

from floodmark.errors import FloodmarkError
from floodmark.inputs.parameters import Parameters

# What a process of Locust takes: seen were 62 MB and 16 kB for each user, who share the body that they send.
PROCESS_MB, USER_MB = 100, 0.02
# Open files besides the connections of users: libraries while they are loaded, logs, the leader.
OTHER_FILES = 100
UNLIMITED = 2**63 - 1
# Run by a shell: processors, available memory (kB), open files that a process may be allowed.
ASK = "nproc; sed -n 's/^MemAvailable: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo; ulimit -Hn"


@dataclass(frozen=True)
class Capacity:
    """What a machine has.

    Attributes:
        cpus: that may be used.
        memory_mb: that is available.
        descriptors: open files that a process may be allowed.
    """

    cpus: int = UNLIMITED
    memory_mb: int = UNLIMITED
    descriptors: int = UNLIMITED

    @classmethod
    def here(cls) -> Capacity:
        """Return what this machine has."""
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(
            cpus=len(os.sched_getaffinity(0)),
            memory_mb=psutil.virtual_memory().available // 1_000_000,
            descriptors=UNLIMITED if hard == resource.RLIM_INFINITY else hard,
        )

    @classmethod
    def parse(cls, text: str) -> Capacity:
        """Read what a machine has answered to ASK: "2", "23640764", "1048576"; what it does not tell is no limit."""
        lines = text.split()
        if len(lines) != len(ASK.split(";")):
            return cls()
        cpus, memory_kb, descriptors = (int(one) if one.isdecimal() else UNLIMITED for one in lines)
        return cls(cpus, memory_kb * 1024 // 1_000_000, descriptors)


def check_capacity(host: str, capacity: Capacity, parameters: Parameters) -> None:
    """Refuse a flood that a machine has no room for.

    Args:
        host: its name.
        capacity: what it has.
        parameters: of the run.

    Raises:
        FloodmarkError: it has too little of something.
    """
    processes, users = parameters.locust_processes, parameters.users
    if processes > capacity.cpus:
        raise FloodmarkError(
            f"load generator {host}: locust_processes={processes} asks for {processes} processors, and it has "
            f"{capacity.cpus}: ask for less, or let more machines flood together."
        )
    files = -(-users // processes) + OTHER_FILES
    if files > capacity.descriptors:
        raise FloodmarkError(
            f"load generator {host}: users={users} needs {files} open files in each process of Locust, and the system "
            f"allows {capacity.descriptors}: ask for fewer users or more locust_processes, or raise the hard limit "
            "(ulimit -Hn; LimitNOFILE= of systemd, nofile in /etc/security/limits.conf)."
        )
    memory_mb = int(PROCESS_MB * processes + USER_MB * users)
    if memory_mb > capacity.memory_mb:
        raise FloodmarkError(
            f"load generator {host}: Locust with {users} users in {processes} processes needs {memory_mb} MB of "
            f"memory, and it has {capacity.memory_mb} MB: ask for less, or let more machines flood together."
        )
