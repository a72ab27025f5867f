"""Hosts that are systemd-nspawn containers: the control node's kernel, everything else of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

from ansible.module_utils.testbed import PREFIX_LENGTH, Host, Testbed, control_group_hierarchies, run

# Arguments: the machine name, the hierarchies of control groups, the shared tree, the folder of the layer, the command.
# systemd-nspawn puts a container beside its own control group. Two that are started from one group would share one,
# and units of the same name in them would end each other's processes.
ENTER_MOUNT_AND_RUN = """
for hierarchy in $2; do
    mkdir -p "$hierarchy/$1"
    echo $$ > "$hierarchy/$1/cgroup.procs"
done
shift 2
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
shift 2
exec "$@"
"""
# nspawn puts a boot id of its own in the place of the kernel's; collectors/clocks.py reads this one where it is.
KERNEL_BOOT_ID = ("/proc/sys/kernel/random/boot_id", "/run/host/floodmark/kernel-boot-id")


class Container(Host):
    """A container on a writable layer above a shared root file system.

    Args:
        testbed: that it is of.
        name: of the host.
        tree: the root file system.
    """

    def __init__(self, testbed: Testbed, name: str, *, tree: str) -> None:
        super().__init__(testbed, name)
        self.tree = tree

    def make_network(self) -> None:
        """Give the host a network namespace with one interface on the bridge."""
        self.remove_from_kernel()
        inside = ("ip", "-n", self.machine)
        run("ip", "netns", "add", self.machine)
        peer = ("name", "eth0", "address", self.mac_address, "netns", self.machine)
        run("ip", "link", "add", self.interface, "type", "veth", "peer", *peer)
        run("ip", "link", "set", self.interface, "master", self.testbed.bridge, "up")
        run(*inside, "address", "add", f"{self.address}/{PREFIX_LENGTH}", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")

    def make_files(self) -> None:
        """Lay a fresh writable layer with this host's name and keys."""
        layer = self.folder / "layer"
        shutil.rmtree(str(layer), ignore_errors=True)
        for folder in ("upper", "work", "root"):
            (layer / folder).mkdir(parents=True)
        self.write_own_files(layer / "upper")

    def boot(self, timeout_s: int) -> None:
        """Start the container and wait until its systemd says that it is up."""
        layer = self.folder / "layer"
        (self.folder / "ready").unlink(missing_ok=True)
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
                    *("unshare", "--mount", "--propagation", "private", "sh", "-ec", ENTER_MOUNT_AND_RUN, "sh"),
                    *(self.machine, " ".join(str(path) for path in control_group_hierarchies())),
                    *(self.tree, str(layer), "systemd-nspawn", "--quiet", "--boot"),
                    *("--machine=" + self.machine, "--directory=" + str(layer / "root")),
                    *("--network-namespace-path=/run/netns/" + self.machine, "--capability=CAP_NET_ADMIN"),
                    *("--register=no", "--keep-unit", "--notify-ready=yes", "--console=passive"),
                    *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
                    "--bind-ro=" + ":".join(KERNEL_BOOT_ID),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                # Without this the container could not set the sysctls of its own network namespace.
                env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "NOTIFY_SOCKET": short_path},
            )  # fmt: skip
            try:
                self.wait_until_ready(ready.fileno(), process, timeout_s)
            finally:
                os.close(folder)
