"""What all hosts of one checkout's testbed share, and what a host is, whatever starts it.

All names follow from the folder that holds the state: a bridge, a subnet, ssh keys, and for each host a folder,
an address and a machine name, by which its process is found again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

# Reserved for benchmarks (RFC 2544), so it is nobody's own network.
BENCHMARK_NETWORK = ipaddress.IPv4Network("198.18.0.0/15")
PREFIX_LENGTH = 24
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
STOP_TIMEOUT_S = 10
ASK_AGAIN_S = 0.2
# The machine name on the command line of a container and of a virtual machine.
MACHINE_OPTIONS = ("--machine=", "guest=")
LAST_OF_CONSOLE = 2000


class HostError(Exception):
    """What went wrong, in one sentence."""


def run(*command: str) -> str:
    """Return what a command prints, or raise HostError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError("{}: {}".format(" ".join(command), (done.stderr or done.stdout).strip()))
    return done.stdout


def quietly(*command: str) -> None:
    """Run a command whose failure means that there was nothing to do."""
    subprocess.run(command, capture_output=True, check=False)


def boot_id() -> str:
    """Return the name of this boot of the control node."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def move_whole(built: Path, place: Path) -> None:
    """Give what was built its name when all of it is on the disk, so that it has it whole or not at all."""
    run("sync", "--file-system", str(built))
    built.rename(place)
    folder = os.open(str(place.parent), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def control_group_hierarchies() -> list[Path]:
    """Return where control groups are in which systemd keeps its units: one place, or two with version 1 beside 2."""
    mounts = (Path("/sys/fs/cgroup", name) for name in ("", "unified", "systemd"))
    return [path for path in mounts if (path / "cgroup.procs").exists()]


def end_processes(group: Path) -> None:
    """Kill what is in a control group and wait until it is empty: version 2 alone can (cgroup-v2.rst, cgroup.kill)."""
    if not (group / "cgroup.kill").exists():
        return
    with (group / "cgroup.events").open(encoding="ascii") as events:
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        (group / "cgroup.kill").write_text("1", encoding="ascii")
        # populated 1
        while "populated 1" in events.read():
            if not changed.poll(STOP_TIMEOUT_S * 1000):
                raise HostError(f"processes in {group} did not end within {STOP_TIMEOUT_S} s")
            events.seek(0)


def running_machines() -> dict[str, int]:
    """Return machine name -> pid of all containers and virtual machines that a testbed has started."""
    found: dict[str, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            for argument in (folder / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0"):
                for option in MACHINE_OPTIONS:
                    if argument.startswith(option + "fm-"):
                        found[argument[len(option) :]] = int(folder.name)
    return found


def dated(wanted: Mapping[str, object]) -> str:
    """Return what a host is to be as text, with the times when the files that it names were changed."""
    paths = [Path(str(value)) for value in wanted.values() if str(value).startswith("/")]
    changed = {str(path): path.stat().st_mtime_ns for path in paths if path.exists()}
    return json.dumps({"wanted": wanted, "changed": changed}, sort_keys=True)


class Testbed:
    """What all hosts of one checkout share: names, keys, a bridge and its subnet."""

    def __init__(self, state_dir: str) -> None:
        self.folder = Path(state_dir)
        self.id = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:6]
        self.bridge = "fm-" + self.id
        self.ssh = self.folder / "ssh"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time change what the hosts share.

        Disks, layers and the first archive of a boot have the private key of all hosts, so nobody else may look.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def forget_other_boots(self) -> None:
        """Remove what was written before this machine was booted: a power cut may have left it in pieces.

        Start states stay, because they have a checksum.
        """
        record = self.folder / "boot_id"
        if record.exists() and record.read_text(encoding="ascii", errors="replace") == boot_id():
            return
        for host in self.hosts():
            host.stop()
        for name in ("hosts", "ssh"):
            shutil.rmtree(str(self.folder / name), ignore_errors=True)
        for name in ("subnet", "kvm"):
            (self.folder / name).unlink(missing_ok=True)
        record.write_text(boot_id(), encoding="ascii")

    def hosts(self) -> list[Host]:
        """Return the hosts that have a folder here, or a process or a network namespace of our name."""
        prefix = self.bridge + "-"
        machines = [*running_machines(), *(path.name for path in Path("/run/netns").glob(prefix + "*"))]
        names = {path.name for path in self.folder.glob("hosts/*")}
        names |= {machine[len(prefix) :] for machine in machines if machine.startswith(prefix)}
        return [Host(self, name) for name in sorted(names)]

    def interfaces(self) -> list[str]:
        """Return the names of the hosts' interfaces on the bridge."""
        return sorted(path.name for path in Path("/sys/class/net").glob(f"fm{self.id}-*"))

    # --- keys ---------------------------------------------------------------------------------

    def make_keys(self) -> None:
        """Generate a key for the user and one for the hosts; both stay in this checkout."""
        self.ssh.mkdir(mode=0o700, exist_ok=True)
        options = ("-q", "-t", "ed25519", "-N", "", "-C", "floodmark testbed")
        for name in ("id_ed25519", "host_ed25519"):
            if not (self.ssh / name).exists():
                run("ssh-keygen", *options, "-f", str(self.ssh / name))

    def trust(self) -> None:
        """Write the known_hosts file: every address of the subnet has the one host key."""
        kind, key = (self.ssh / "host_ed25519.pub").read_text(encoding="ascii").split()[:2]
        lines = [f"{host.address} {kind} {key}\n" for host in self.hosts() if host.address_record.exists()]
        (self.ssh / "known_hosts").write_text("".join(lines), encoding="ascii")

    # --- network ------------------------------------------------------------------------------

    def subnet(self) -> ipaddress.IPv4Network:
        """Return the subnet of this testbed; the first time a free one is chosen."""
        record = self.folder / "subnet"
        if not record.exists():
            # Whoever removes a checkout without stopping its testbed leaves it running, under our name.
            self.remove_from_machine()
            record.write_text(str(self.free_subnet()), encoding="ascii")
        return ipaddress.IPv4Network(record.read_text(encoding="ascii"))

    def free_subnet(self) -> ipaddress.IPv4Network:
        """Return a subnet that no route of this machine touches."""
        taken: list[ipaddress.IPv4Network] = []
        for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
            with contextlib.suppress(ValueError):  # "default" is no network
                taken.append(ipaddress.IPv4Network(route["dst"]))
        candidates = list(BENCHMARK_NETWORK.subnets(new_prefix=PREFIX_LENGTH))
        first = int(self.id, 16) % len(candidates)
        for candidate in candidates[first:] + candidates[:first]:
            if not any(candidate.overlaps(other) for other in taken):
                return candidate
        raise HostError(f"all of {BENCHMARK_NETWORK} is in use on this machine; remove routes to it")

    def make_bridge(self) -> None:
        """Make the bridge that all hosts are on, with the control node as the first address."""
        if not Path("/sys/class/net", self.bridge).exists():
            run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "replace", f"{self.subnet()[1]}/{PREFIX_LENGTH}", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    # --- the end ------------------------------------------------------------------------------

    def remove(self) -> bool:
        """Stop every host and remove all traces; return whether there were any."""
        existed = self.folder.exists() or Path("/sys/class/net", self.bridge).exists() or bool(self.hosts())
        self.remove_from_machine()
        self.close_connections()
        shutil.rmtree(str(self.folder), ignore_errors=True)
        return existed

    def remove_from_machine(self) -> None:
        """End every host and remove what the kernel holds for it."""
        for host in self.hosts():
            host.stop()
            host.remove_from_kernel()
        for interface in (*self.interfaces(), self.bridge):
            quietly("ip", "link", "delete", interface)

    def close_connections(self) -> None:
        """End the ssh connections that Ansible keeps open for a while after a run."""
        sockets = Path("/run/floodmark-" + self.id)
        if sockets.exists():
            for path in sockets.iterdir():
                quietly("ssh", "-o", f"ControlPath={path}", "-O", "exit", "testbed")
            shutil.rmtree(str(sockets), ignore_errors=True)


class Host:
    """One host: its folder, its address, its process. What starts it is a class of its own for each driver."""

    def __init__(self, testbed: Testbed, name: str) -> None:
        self.testbed = testbed
        self.name = name
        self.folder = testbed.folder / "hosts" / name
        self.address_record = self.folder / "address"
        self.machine = f"fm-{testbed.id}-{name}"

    @property
    def address(self) -> str:
        """The address that was chosen for it."""
        return self.address_record.read_text(encoding="ascii").strip()

    @property
    def interface(self) -> str:
        """The name of its end on the bridge."""
        return "fm{}-{}".format(self.testbed.id, self.address.rpartition(".")[2])

    @property
    def mac_address(self) -> str:
        """The hardware address of its interface: the same at every boot, or who remembers another asks it in vain."""
        return "52:54:00:" + ":".join(f"{part:02x}" for part in ipaddress.ip_address(self.address).packed[1:])

    def pid(self) -> int | None:
        """Return the process of the host, whoever started it, or None."""
        return running_machines().get(self.machine)

    def runs(self, wanted: Mapping[str, object]) -> bool:
        """Tell whether the host is there as it is wanted and its sshd greets us."""
        record = self.folder / "wanted.json"
        same = record.exists() and record.read_text(encoding="utf-8") == dated(wanted)
        return same and self.pid() is not None and self.answers()

    def answers(self) -> bool:
        """Tell whether the host's sshd greets us."""
        try:
            with socket.create_connection((self.address, 22), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    # --- start --------------------------------------------------------------------------------

    def start(self, wanted: Mapping[str, object], timeout_s: int, fresh: bool = False) -> bool:
        """Boot the host unless it runs already as it is wanted; return whether it had to be booted.

        Args:
            wanted: what it is to be.
            timeout_s: how long that may take.
            fresh: boot it in any case.
        """
        with self.testbed.locked():
            self.testbed.forget_other_boots()
            self.testbed.make_keys()
            if self.runs(wanted) and not fresh:
                return False
            self.stop()
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "wanted.json").write_text(dated(wanted), encoding="utf-8")
            self.choose_address()
            self.testbed.make_bridge()
            quietly("ip", "link", "delete", self.interface)
            self.make_network()
            self.testbed.trust()
            self.make_files()
        self.boot(timeout_s)
        return True

    def choose_address(self) -> None:
        """Take the first address of the subnet that no other host has, and keep it."""
        if not self.address_record.exists():
            taken = {host.address for host in self.testbed.hosts() if host.address_record.exists()}
            free = (str(one) for one in list(self.testbed.subnet().hosts())[1:])
            self.address_record.write_text(next(one for one in free if one not in taken), encoding="ascii")

    def make_network(self) -> None:
        """Connect the host with the bridge; the driver does it."""
        raise NotImplementedError

    def make_files(self) -> None:
        """Lay a fresh writable layer above what hosts share; the driver does it."""
        raise NotImplementedError

    def boot(self, timeout_s: int) -> None:
        """Start the process and wait until the host says that it is up; the driver does it."""
        raise NotImplementedError

    def write_own_files(self, root: Path) -> None:
        """Write what this host alone has below a root folder: its name and keys."""
        for folder, mode in (("etc/ssh", 0o755), ("root/.ssh", 0o700)):
            (root / folder).mkdir(parents=True)
            (root / folder).chmod(mode)
        (root / "root").chmod(0o700)
        (root / "etc/hostname").write_text(self.name + "\n", encoding="ascii")
        (root / "etc/hosts").write_text(f"127.0.0.1 localhost {self.name}\n", encoding="ascii")
        shutil.copy(str(self.testbed.ssh / "id_ed25519.pub"), str(root / "root/.ssh/authorized_keys"))
        for ending in ("", ".pub"):
            key = self.testbed.ssh / ("host_ed25519" + ending)
            shutil.copy(str(key), str(root / ("etc/ssh/ssh_host_ed25519_key" + ending)))

    def wait_until_ready(self, ready_fd: int, process: subprocess.Popen[bytes], timeout_s: int) -> None:
        """Wait until the host has written READY=1 to a descriptor and its sshd answers.

        Raises:
            HostError: it has ended, or the time is over; with the end of what its console shows.
        """
        deadline = time.monotonic() + timeout_s
        said = b""
        ended = os.pidfd_open(process.pid)
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                is_up = b"READY=1" in said
                if is_up and self.answers():
                    return
                # Its systemd says one time that it is up; the network may take longer, and does not say so.
                readable, _, _ = select.select([ready_fd, ended], [], [], ASK_AGAIN_S if is_up else left_s)
                if ended in readable:
                    raise HostError(f"host {self.name} did not boot; its console says:\n{self.console()}")
                if ready_fd in readable:
                    said += os.read(ready_fd, 4096)
        finally:
            os.close(ended)
        self.stop()
        raise HostError(f"host {self.name} was not up after {timeout_s} s; its console says:\n{self.console()}")

    def console(self) -> str:
        """Return the last lines that the host wrote to its console."""
        text = (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")
        return text[-LAST_OF_CONSOLE:].strip()

    # --- stop ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the host: ask it to power off, then insist."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.pid()
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                ended = os.pidfd_open(pid)
                signal.pidfd_send_signal(ended, number)
                select.select([ended], [], [], STOP_TIMEOUT_S)
                os.close(ended)

    def remove_from_kernel(self) -> None:
        """Remove what the kernel holds for a container that has ended: its network and its control groups."""
        quietly("ip", "netns", "delete", self.machine)
        groups = [path / self.machine for path in control_group_hierarchies() if (path / self.machine).exists()]
        for group in groups:
            end_processes(group)
        for group in groups:
            for folder, _, _ in os.walk(str(group), topdown=False):
                Path(folder).rmdir()
