"""What a machine is, as it was read back from it: host.json of a proxy host, and the same of a load generator."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict

from floodmark.model.stored import Part, Stored
from floodmark.values import Content


class Described(Part):
    """A part of a description; the program that writes it may say more than this version knows."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Kernel(Described):
    """The kernel of a machine."""

    release: str
    version: str | None = None
    config_sha256: str | None = None
    cmdline: str | None = None


class Listener(Described):
    """A listening socket as the kernel has it; limit_conns is None where the kernel does not tell it."""

    name: str
    transport: str | None = None
    address: str | None = None
    limit_conns: int | None = None
    owner: str | None = None


class Clocks(Described):
    """The clocks of a machine (ns): how far the wall clock is ahead of the monotonic one, and how well that is known.

    kernel_boot_id is that of the kernel: two descriptions with the same one have the same monotonic clock.
    """

    wall_minus_monotonic_ns: int = 0
    wall_error_ns: int | None = None
    utc_offset_s: int = 0
    clocksource: str | None = None
    kernel_boot_id: str | None = None


class HostDescription(Stored):
    """host.json. Its version is that of the tables that the agent of this host writes."""

    model_config = ConfigDict(extra="allow", frozen=True)
    newest: ClassVar[int] = 1

    format_version: int = 1
    boot_id: str | None = None
    kernel: Kernel
    listeners: list[Listener | None] = []
    clocks: Clocks = Clocks()
    sysctls_before: dict[str, str] | None = None
    scheduling: dict[str, str | None] = {}
    unread: dict[str, str] = {}

    @property
    def somaxconn_before(self) -> int | None:
        """net.core.somaxconn before the run, None where it was not recorded."""
        value = (self.sysctls_before or {}).get("net.core.somaxconn", "")
        return int(value) if value.isdigit() else None

    def facts(self) -> Content:
        """Return all that was said, nested as it was written, without the version of the file."""
        return self.model_dump(mode="json", exclude={"schema_version"}, exclude_unset=True)

    def listener(self, name: str) -> Listener | None:
        """Return what was read of a listener, None where it could not be read."""
        return next((one for one in self.listeners if one is not None and one.name == name), None)


class LeaseEnd(Described):
    """Why the lease ended by which the run held the host: end.json. Its failures are in failure.txt as well."""

    why: str
    failures: list[str] = []


class UnitState(Described):
    """A systemd unit of the run, read just before it was stopped: one of units.json. Times are monotonic (ns)."""

    name: str
    active_state: str
    sub_state: str = ""
    result: str = ""
    restarts: int = 0
    active_since_ns: int | None = None
    inactive_since_ns: int | None = None
    exit_status: int | None = None
    read_ns: int
