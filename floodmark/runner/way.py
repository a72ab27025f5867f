"""How a host of the inventory is reached besides Ansible: by the ssh command with all that the inventory has for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from floodmark.errors import FloodmarkError

# A connection of its own, which no other session shares and no end of Ansible closes.
OWN = ("-S", "none")


@dataclass(frozen=True)
class Way:
    """How a host is reached.

    Attributes:
        ssh: the command that ends in options, before the host; empty for the control node itself.
        host: what ssh calls it.
        user: who works there; empty for the user that ssh takes by itself.
        shares: whether it needs the connection that Ansible has opened, because a password was typed for that.
    """

    ssh: list[str]
    host: str
    user: str
    shares: bool

    @property
    def shell(self) -> list[str]:
        """The command that runs a shell line on the host, through a connection of its own if that is possible."""
        return [*self.ssh, *(() if self.shares else OWN), self.host] if self.ssh else ["sh", "-c"]


def way_of(name: str, connection: Any, remote_address: str) -> Way:
    """Return how a host is reached.

    Args:
        name: of the host in the inventory.
        connection: Ansible's connection plugin for it.
        remote_address: where Ansible reaches it.

    Raises:
        FloodmarkError: it is reached neither by ssh nor as the control node.
    """
    if connection.transport == "local":
        return Way([], "", "", shares=False)
    if connection.transport != "ssh":
        raise FloodmarkError(
            f"host {name}: it is reached by ssh or is the control node itself, and its ansible_connection is "
            f"{connection.transport}: set it to ssh or local."
        )
    connection.host = connection.get_option("host") or remote_address
    password = connection.get_option("password") is not None
    # sshpass would want the password once more, from a descriptor that only Ansible has.
    command = [part.decode() for part in connection._build_command(connection.get_option("ssh_executable"), "ssh")]  # noqa: SLF001
    command = command[next((at for at, part in enumerate(command) if part.endswith("ssh")), 0) :]
    return Way(command, connection.host, connection.get_option("remote_user") or "", shares=password)
