from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from collectors.config import Config
from collectors.errors import Unreadable
from collectors.host import cpu_governor, describe, describe_machine, kernel_config


def test_the_host_says_which_boot_it_is_and_what_it_could_not_read(tmp_path: Path) -> None:
    config = Config(tmp_path, [], "/", "none.service", "none.service", {})
    host = describe(config)
    assert host["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert "sysctls_before" in host["unread"]


def test_a_machine_is_described_without_the_agents_configuration(tmp_path: Path) -> None:
    """A load generator has none."""
    machine = describe_machine()
    json.dumps(machine)
    host = describe(Config(tmp_path, [], "/", "none.service", "none.service", {}))
    steady = [name for name in machine if name not in ("clocks", "versions", "unread")]
    assert [host[name] for name in steady] == [machine[name] for name in steady]  # type: ignore[literal-required]
    assert machine["unread"].items() <= host["unread"].items()
    assert machine["versions"].items() <= host["versions"].items()
    assert machine["clocks"]["kernel_boot_id"] == host["clocks"]["kernel_boot_id"]


def test_pressure_that_the_kernel_does_not_count_has_a_reason() -> None:
    machine = describe_machine()
    there = Path("/proc/pressure/cpu").exists()
    assert (machine["kernel"]["psi"], "kernel.psi" in machine["unread"]) == (True if there else None, not there)


def test_the_governors_of_all_processors_are_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"there is no .*scaling_governor"):
        cpu_governor(tmp_path)
    for number, name in enumerate(("schedutil", "performance", "schedutil")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n")
    assert cpu_governor(tmp_path) == "performance, schedutil"


@pytest.mark.parametrize("place", ["proc/config.gz", "boot/config-6.1.0", "lib/modules/6.1.0/config"])
def test_the_kernels_configuration_is_the_same_text_wherever_it_is(place: str, tmp_path: Path) -> None:
    text = b"CONFIG_HZ=250\n"
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    assert kernel_config("6.1.0", tmp_path) == text


def test_a_configuration_that_is_nowhere_is_said_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"no /proc/config.gz, /boot/config-6.1.0 or /lib/modules/6.1.0/config"):
        kernel_config("6.1.0", tmp_path)
