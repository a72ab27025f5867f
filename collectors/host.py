"""What the host is, read back from it once the case is up: host.json.

    python3 -m collectors.host /etc/floodmark/agent.json

Nothing in it is assumed: queue limits come from the kernel, sysctls from /proc/sys, versions from the programs
themselves. What could not be read is null, with the reason beside it under `unread`; so is the limit of a unix
listener where the kernel has no unix_diag to tell it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, TypedDict, TypeVar

import psutil

from collectors import fields
from collectors.clocks import BOOT_ID, kernel_boot_id, wall_minus_monotonic
from collectors.config import AGENT_UNIT, Config, Listener, read_config
from collectors.errors import Unreadable
from collectors.proc_net_unix import find_listener, read_proc_net_unix
from collectors.sock_diag import ask_tcp_listener, ask_unix_listener, depth_of, kernel_has_unix_diag

T = TypeVar("T")

# What decides about queues, buffers and retransmissions on the path under test.
SYSCTLS = (
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.somaxconn",
    "net.core.wmem_default",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.unix.max_dgram_qlen",
)
SYSCTL_RECORD = Path("/run/floodmark-sysctl.json")


class Kernel(TypedDict):
    """The kernel; psi says whether it counts pressure."""

    release: str
    version: str
    config_sha256: str | None
    cmdline: str | None
    psi: bool | None


class Cpu(TypedDict):
    """The processors; governor is what sets their frequency, several names where they have different ones."""

    model: str | None
    count: int | None
    governor: str | None


class Clocks(TypedDict):
    """The clocks; two machines with one kernel_boot_id have one monotonic clock."""

    kernel_boot_id: str | None
    clocksource: str | None
    utc_offset_s: int
    wall_minus_monotonic_ns: int
    wall_error_ns: int


class MachineVersions(TypedDict):
    """What every machine has."""

    python: str
    psutil: str
    os: str | None


class MachineDescription(TypedDict):
    """What a machine is, whatever runs on it; unread has the reason for each None by its dotted name."""

    format_version: int
    boot_id: str | None
    kernel: Kernel
    mitigations: dict[str, str] | None
    cpu: Cpu
    memory_bytes: int
    virtualization: str | None
    clocks: Clocks
    versions: MachineVersions
    unread: dict[str, str]


class Attempts:
    """Reads what may be unreadable.

    Attributes:
        unread: name -> why it could not be read.
    """

    def __init__(self) -> None:
        self.unread: dict[str, str] = {}

    def __call__(self, name: str, read: Callable[[], T]) -> T | None:
        """Return what is read, or None and keep the reason."""
        try:
            return read()
        except (Unreadable, OSError, psutil.Error, subprocess.SubprocessError) as why:
            self.unread[name] = str(why)
            return None


def describe_machine() -> MachineDescription:
    """Return what this machine is: a proxy host, or a load generator."""
    attempt = Attempts()
    clock = wall_minus_monotonic()
    return {
        "format_version": fields.FORMAT_VERSION,
        # Runs with the same one are of the same boot; nspawn gives each start of a container one of its own.
        "boot_id": attempt("boot_id", lambda: _text(str(BOOT_ID))),
        "kernel": {
            "release": platform.release(),
            "version": platform.version(),
            "config_sha256": attempt(
                "kernel.config_sha256", lambda: hashlib.sha256(kernel_config(platform.release())).hexdigest()
            ),
            "cmdline": attempt("kernel.cmdline", lambda: _text("/proc/cmdline")),
            "psi": attempt("kernel.psi", lambda: bool(_text("/proc/pressure/cpu"))),
        },
        "mitigations": attempt("mitigations", _mitigations),
        "cpu": {
            "model": attempt("cpu.model", _cpu_model),
            "count": psutil.cpu_count(),
            "governor": attempt("cpu.governor", cpu_governor),
        },
        "memory_bytes": psutil.virtual_memory().total,
        "virtualization": attempt("virtualization", lambda: _output(["systemd-detect-virt"], good=(0, 1))),
        "clocks": {
            "kernel_boot_id": attempt("clocks.kernel_boot_id", kernel_boot_id),
            "clocksource": attempt(
                "clocks.clocksource",
                lambda: _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            ),
            "utc_offset_s": time.localtime().tm_gmtoff,
            "wall_minus_monotonic_ns": clock.offset_ns,
            "wall_error_ns": clock.error_ns,
        },
        "versions": {
            "python": platform.python_version(),
            "psutil": psutil.__version__,
            "os": attempt("versions.os", _os_name),
        },
        "unread": attempt.unread,
    }


def describe(config: Config) -> dict[str, Any]:
    """Return the content of host.json: the machine, and what the agent's configuration names on it."""
    machine = describe_machine()
    attempt = Attempts()
    return {
        **machine,
        "sysctls": {name: attempt(name, partial(_sysctl, name)) for name in SYSCTLS},
        "sysctls_before": attempt("sysctls_before", lambda: json.loads(_text(str(SYSCTL_RECORD)))),
        "listeners": [attempt(f"listeners.{one.name}", partial(_listener, one)) for one in config.listeners],
        # A server that waits for a processor behind others lets a short queue overflow.
        "scheduling": {
            name: attempt(f"scheduling.{name}", partial(_scheduling, unit))
            for name, unit in (("upstream", config.upstream_unit), ("agent", AGENT_UNIT))
        },
        "versions": {
            "nginx": attempt("versions.nginx", lambda: _output(["nginx", "-v"]).rpartition("/")[2].split()[0]),
            "systemd": attempt("versions.systemd", lambda: _output(["systemctl", "--version"]).splitlines()[0]),
            **machine["versions"],
        },
        "unread": {**machine["unread"], **attempt.unread},
    }


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace").strip()


def _output(command: list[str], good: tuple[int, ...] = (0,)) -> str:
    """Return what a command prints on either stream; nginx prints its version as an error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    if done.returncode not in good:
        raise Unreadable(f"{' '.join(command)}: status {done.returncode}")
    return (done.stdout + done.stderr).strip()


def _sysctl(name: str) -> str:
    return _text("/proc/sys/" + name.replace(".", "/"))


def kernel_config(release: str, root: Path = Path("/")) -> bytes:
    """Return the text of the kernel's configuration.

    Args:
        release: as uname says it.
        root: where the file system begins.

    Raises:
        Unreadable: neither the kernel nor the distribution shows it.
    """
    shown = root / "proc/config.gz"  # with CONFIG_IKCONFIG_PROC, kernel/configs.c
    if shown.exists():
        return gzip.decompress(shown.read_bytes())
    for name in (f"boot/config-{release}", f"lib/modules/{release}/config"):
        if (root / name).exists():
            return (root / name).read_bytes()
    raise Unreadable(f"there is no /proc/config.gz, /boot/config-{release} or /lib/modules/{release}/config")


def _mitigations() -> dict[str, str]:
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    return {path.name: _text(str(path)) for path in sorted(folder.iterdir())}


def _cpu_model() -> str:
    # model name	: AMD EPYC 9R14
    for line in _text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def cpu_governor(root: Path = Path("/")) -> str:
    """Return what sets the processors' frequency, such as performance or schedutil.

    Args:
        root: where the file system begins.

    Raises:
        Unreadable: the kernel does not manage it, as in most guests.

    Source: drivers/cpufreq/cpufreq.c show_scaling_governor
    """
    paths = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    names = {_text(str(path)) for path in paths}
    if not names:
        raise Unreadable("there is no /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    return ", ".join(sorted(names))


def _os_name() -> str:
    # PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    raise Unreadable("/etc/os-release has no PRETTY_NAME")


def _scheduling(unit: str) -> str:
    pid = int(_output(["systemctl", "show", "--property=MainPID", "--value", unit]) or 0)
    if not pid:
        raise Unreadable(f"{unit} does not run")
    policies = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
    policy = os.sched_getscheduler(pid)
    return policies.get(policy, str(policy))


def _listener(listener: Listener) -> dict[str, Any]:
    """Return a listener as the kernel has it, with the program that owns it."""
    limit: int | None
    if listener.transport == "unix":
        inode = find_listener(read_proc_net_unix(), listener.path.encode())
        # Nothing but unix_diag tells the limit of a unix socket.
        limit = depth_of(ask_unix_listener(inode))[1] if kernel_has_unix_diag() else None
        owner = _owner_of_inode(inode)
    else:
        limit = depth_of(ask_tcp_listener(listener.port))[1]
        owner = _owner_of_port(listener.port)
    return {
        "name": listener.name,
        "transport": listener.transport,
        "address": listener.path or f"port {listener.port}",
        "limit_conns": limit,
        "owner": owner,
    }


def _owner_of_inode(inode: int) -> str | None:
    wanted = f"socket:[{inode}]"
    for process in psutil.process_iter():
        try:
            if any(wanted == str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()):
                return process.name()
        except (OSError, psutil.Error):
            continue  # it ended while we looked
    return None


def _owner_of_port(port: int) -> str | None:
    for connection in psutil.net_connections("tcp4"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            return psutil.Process(connection.pid).name()
    return None


def main() -> None:
    """Write host.json and the kernel's configuration into the output folder, and print the first."""
    config = read_config(Path(sys.argv[1]))
    with contextlib.suppress(Unreadable, OSError):  # host.json says why there is none
        (config.output / "kernel-config").write_bytes(kernel_config(platform.release()))
    text = json.dumps(describe(config), indent=2)
    (config.output / "host.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
