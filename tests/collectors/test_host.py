from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from collectors.config import Config
from collectors.errors import Unreadable
from collectors.host import describe, kernel_config


def test_the_host_says_which_boot_it_is_and_what_it_could_not_read(tmp_path: Path) -> None:
    config = Config(tmp_path, [], "/", "none.service", "none.service", {})
    host = describe(config)
    assert host["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert "sysctls_before" in host["unread"]


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
