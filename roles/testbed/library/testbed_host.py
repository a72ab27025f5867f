#!/usr/bin/python
DOCUMENTATION = r"""
module: testbed_host
short_description: Starts and stops hosts of the built-in testbed
description:
  - A host is a systemd-nspawn container with its own systemd, sshd and network namespace, on a writable
    layer above a shared root file system. All names follow from the folder that holds the state.
  - Starting a host that runs is harmless; one that a killed run left half alive is replaced.
options:
  name:
    description: Name of the host; not needed to stop all.
    type: str
  state:
    description:
      - V(probed) tells whether a host runs, V(started) starts one host, V(absent) stops all hosts of the folder
        and removes everything.
    type: str
    required: true
    choices: [probed, started, absent]
  state_dir:
    description: Folder that holds the state of this checkout's testbed.
    type: path
    required: true
  tree:
    description: The root file system that the host is a layer above.
    type: path
  boot_timeout_s:
    description: How long the host may take to boot.
    type: int
    default: 60
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Start a host
  testbed_host:
    name: proxy1
    state: started
    state_dir: /root/floodmark/.testbed
    tree: /var/cache/floodmark/bookworm-0123456789ab
"""
RETURN = r"""
address:
  description: Address of the host.
  type: str
  returned: when O(state=started)
running:
  description: Whether the host runs and its sshd answers.
  type: bool
  returned: when O(state=probed)
"""

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
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

# Reserved for benchmarks (RFC 2544), so it is nobody's own network.
BENCHMARK_NETWORK = ipaddress.ip_network("198.18.0.0/15")
STOP_TIMEOUT_S = 10
# Arguments: the shared tree, the folder of the layer, then the command.
MOUNT_AND_RUN = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
shift 2
exec "$@"
"""


class HostError(Exception):
    """What went wrong, in one sentence."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError("{}: {}".format(" ".join(command), (done.stderr or done.stdout).strip()))
    return done.stdout


def quietly(*command):
    subprocess.run(command, capture_output=True, check=False)


class Testbed:
    """What all hosts of one checkout share: names, keys, a bridge and its subnet."""

    def __init__(self, state_dir):
        self.folder = Path(state_dir)
        self.id = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:6]
        self.bridge = "fm-" + self.id
        self.ssh = self.folder / "ssh"

    @contextlib.contextmanager
    def locked(self):
        """Let one process at a time change what the hosts share."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def hosts(self):
        """Return the hosts that have a folder here or a network namespace of our name."""
        prefix = self.bridge + "-"
        names = {path.name for path in self.folder.glob("hosts/*")}
        names |= {path.name[len(prefix) :] for path in Path("/run/netns").glob(prefix + "*")}
        return [Host(self, name) for name in sorted(names)]

    def interfaces(self):
        return sorted(path.name for path in Path("/sys/class/net").glob(f"fm{self.id}-*"))

    # --- keys ---------------------------------------------------------------------------------

    def make_keys(self):
        """Generate a key for the user and one for the hosts; both stay in this checkout."""
        self.ssh.mkdir(mode=0o700, exist_ok=True)
        for name in ("id_ed25519", "host_ed25519"):
            if not (self.ssh / name).exists():
                run(
                    "ssh-keygen",
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    "floodmark testbed",
                    "-f",
                    str(self.ssh / name),
                )

    def trust(self):
        """Write the known_hosts file: every address of the subnet has the one host key."""
        kind, key = (self.ssh / "host_ed25519.pub").read_text(encoding="ascii").split()[:2]
        (self.ssh / "known_hosts").write_text(
            "".join(f"{host.address} {kind} {key}\n" for host in self.hosts()), encoding="ascii"
        )

    # --- network ------------------------------------------------------------------------------

    def subnet(self):
        """Return the subnet of this testbed; the first time a free one is chosen."""
        record = self.folder / "subnet"
        if not record.exists():
            # Whoever removes a checkout without stopping its testbed leaves it running, under our name.
            self.remove_from_machine()
            record.write_text(str(self.free_subnet()), encoding="ascii")
        return ipaddress.ip_network(record.read_text(encoding="ascii"))

    def free_subnet(self):
        taken = []
        for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
            with contextlib.suppress(ValueError):  # "default" is no network
                taken.append(ipaddress.ip_network(route["dst"]))
        candidates = list(BENCHMARK_NETWORK.subnets(new_prefix=24))
        first = int(self.id, 16) % len(candidates)
        for candidate in candidates[first:] + candidates[:first]:
            if not any(candidate.overlaps(other) for other in taken):
                return candidate
        raise HostError(f"all of {BENCHMARK_NETWORK} is in use on this machine; remove routes to it")

    def make_bridge(self):
        if not Path("/sys/class/net", self.bridge).exists():
            run("ip", "link", "add", self.bridge, "type", "bridge")
        gateway = self.subnet()[1]
        run("ip", "address", "replace", f"{gateway}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    # --- the end ------------------------------------------------------------------------------

    def remove(self):
        """Stop every host and remove all traces; return whether there were any."""
        existed = self.folder.exists() or Path("/sys/class/net", self.bridge).exists() or bool(self.hosts())
        self.remove_from_machine()
        self.close_connections()
        shutil.rmtree(str(self.folder), ignore_errors=True)
        return existed

    def remove_from_machine(self):
        """End every container and remove what the kernel holds for it."""
        for host in self.hosts():
            host.stop()
            host.remove_namespace()
        for interface in (*self.interfaces(), self.bridge):
            quietly("ip", "link", "delete", interface)

    def close_connections(self):
        """End the ssh connections that Ansible keeps open for a while after a run."""
        sockets = Path("/run/floodmark-" + self.id)
        if sockets.exists():
            for path in sockets.iterdir():
                quietly("ssh", "-o", f"ControlPath={path}", "-O", "exit", "testbed")
            shutil.rmtree(str(sockets), ignore_errors=True)


class Host:
    """One container: its folder, its network namespace, its process."""

    def __init__(self, testbed, name):
        self.testbed = testbed
        self.name = name
        self.folder = testbed.folder / "hosts" / name
        self.machine = f"fm-{testbed.id}-{name}"

    @property
    def address(self):
        return (self.folder / "address").read_text(encoding="ascii").strip()

    @property
    def interface(self):
        return "fm{}-{}".format(self.testbed.id, self.address.rpartition(".")[2])

    def pid(self):
        """Return the process of the container, whoever started it, or None."""
        option = ("--machine=" + self.machine).encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if option in (folder / "cmdline").read_bytes().split(b"\0"):
                    return int(folder.name)
        return None

    def runs(self):
        return self.pid() is not None and self.answers()

    # --- start --------------------------------------------------------------------------------

    def start(self, tree, timeout_s):
        """Boot the host unless it runs already; return whether it had to be booted."""
        with self.testbed.locked():
            self.testbed.make_keys()
            if self.runs():
                return False
            self.stop()
            self.folder.mkdir(parents=True, exist_ok=True)
            self.choose_address()
            self.testbed.make_bridge()
            self.make_network()
            self.testbed.trust()
            self.make_layer()
        self.boot(tree, timeout_s)
        return True

    def choose_address(self):
        record = self.folder / "address"
        if not record.exists():
            taken = {host.address for host in self.testbed.hosts() if (host.folder / "address").exists()}
            free = (str(one) for one in list(self.testbed.subnet().hosts())[1:])
            record.write_text(next(one for one in free if one not in taken), encoding="ascii")

    def make_network(self):
        """Give the host a network namespace with one interface on the bridge."""
        quietly("ip", "link", "delete", self.interface)
        self.remove_namespace()
        inside = ("ip", "-n", self.machine)
        run("ip", "netns", "add", self.machine)
        run("ip", "link", "add", self.interface, "type", "veth", "peer", "name", "eth0", "netns", self.machine)
        run("ip", "link", "set", self.interface, "master", self.testbed.bridge, "up")
        run(*inside, "address", "add", self.address + "/24", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")

    def make_layer(self):
        """Lay a fresh writable layer with this host's name and keys above the shared tree."""
        shutil.rmtree(str(self.folder / "layer"), ignore_errors=True)
        upper = self.folder / "layer" / "upper"
        for folder, mode in (("etc/ssh", 0o755), ("root/.ssh", 0o700)):
            (upper / folder).mkdir(parents=True)
            (upper / folder).chmod(mode)
        (upper / "root").chmod(0o700)
        for folder in ("work", "root"):
            (self.folder / "layer" / folder).mkdir()
        (upper / "etc/hostname").write_text(self.name + "\n", encoding="ascii")
        (upper / "etc/hosts").write_text(f"127.0.0.1 localhost {self.name}\n", encoding="ascii")
        shutil.copy(str(self.testbed.ssh / "id_ed25519.pub"), str(upper / "root/.ssh/authorized_keys"))
        for ending in ("", ".pub"):
            shutil.copy(
                str(self.testbed.ssh / ("host_ed25519" + ending)),
                str(upper / ("etc/ssh/ssh_host_ed25519_key" + ending)),
            )

    def boot(self, tree, timeout_s):
        """Start the container and wait until its systemd says that it is up."""
        layer = self.folder / "layer"
        ready_path = self.folder / "ready"
        ready_path.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
            (self.folder / "console.log").open("wb") as log,
        ):
            # The path of a unix socket is short, the path of a checkout may be long.
            folder = os.open(str(self.folder), os.O_PATH)
            short_path = f"/proc/{os.getpid()}/fd/{folder}/ready"
            ready.bind(short_path)
            process = subprocess.Popen(
                [
                    # The layer is mounted in a mount namespace that ends with the container.
                    *("unshare", "--mount", "--propagation", "private", "sh", "-ec", MOUNT_AND_RUN, "sh"),
                    *(str(tree), str(layer), "systemd-nspawn", "--quiet", "--boot"),
                    *("--machine=" + self.machine, "--directory=" + str(layer / "root")),
                    *("--network-namespace-path=/run/netns/" + self.machine, "--capability=CAP_NET_ADMIN"),
                    *("--register=no", "--keep-unit", "--notify-ready=yes", "--console=passive"),
                    *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                # Without this the container could not set the sysctls of its own network namespace.
                env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "NOTIFY_SOCKET": short_path},
            )  # fmt: skip
            try:
                self.wait_until_ready(ready, process, timeout_s)
            finally:
                os.close(folder)

    def wait_until_ready(self, ready, process, timeout_s):
        deadline = time.monotonic() + timeout_s
        ended = os.pidfd_open(process.pid)
        try:
            while time.monotonic() < deadline:
                readable, _, _ = select.select([ready, ended], [], [], deadline - time.monotonic())
                if ended in readable:
                    raise HostError(f"host {self.name} did not boot; its console says:\n{self.console()}")
                if ready in readable and b"READY=1" in ready.recv(4096).split(b"\n") and self.answers():
                    return
        finally:
            os.close(ended)
        self.stop()
        raise HostError(f"host {self.name} was not up after {timeout_s} s; its console says:\n{self.console()}")

    def answers(self):
        """Tell whether the host's sshd greets us."""
        try:
            with socket.create_connection((self.address, 22), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def console(self):
        return (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")[-2000:].strip()

    # --- stop ---------------------------------------------------------------------------------

    def stop(self):
        """End the container: ask it to power off, then insist."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.pid()
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                ended = os.pidfd_open(pid)
                signal.pidfd_send_signal(ended, number)
                select.select([ended], [], [], STOP_TIMEOUT_S)
                os.close(ended)

    def remove_namespace(self):
        quietly("ip", "netns", "delete", self.machine)


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "state": {"type": "str", "required": True, "choices": ["probed", "started", "absent"]},
            "state_dir": {"type": "path", "required": True},
            "tree": {"type": "path"},
            "boot_timeout_s": {"type": "int", "default": 60},
        },
        required_if=[("state", "probed", ["name"]), ("state", "started", ["name", "tree"])],
    )
    testbed = Testbed(module.params["state_dir"])
    try:
        if module.params["state"] == "absent":
            module.exit_json(changed=testbed.remove())
        host = Host(testbed, module.params["name"])
        if module.params["state"] == "probed":
            module.exit_json(changed=False, running=host.runs())
        changed = host.start(module.params["tree"], module.params["boot_timeout_s"])
        module.exit_json(changed=changed, address=host.address)
    except HostError as failure:
        module.fail_json(msg=str(failure))


if __name__ == "__main__":
    main()
