from __future__ import annotations

from pathlib import Path

from collectors.config import Config
from collectors.host import describe


def test_the_host_says_which_boot_it_is_and_what_it_could_not_read(tmp_path: Path) -> None:
    config = Config(tmp_path, [], "/", "none.service", "none.service", {})
    host = describe(config)
    assert host["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert "sysctls_before" in host["unread"]
