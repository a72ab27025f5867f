"""Hosts with kernels of their own, and what can be seen only there: the trace, and each kernel's own answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.conftest import KERNELS_INVENTORY as INVENTORY
from tests.testbed.conftest import MACHINES, SHORT, evidence, run, verdicts_of

KERNELS = {"linux61": "6.1.", "linux612": "6.12."}

pytestmark = [pytest.mark.timeout(1200), pytest.mark.usefixtures("virtual_machines")]


def on_host(host: str, line: str) -> str:
    address = (MACHINES / "hosts" / host / "address").read_text()
    ssh = MACHINES / "ssh"
    done = run("ssh", "-i", f"{ssh}/id_ed25519", "-o", f"UserKnownHostsFile={ssh}/known_hosts", f"root@{address}", line)
    assert done.returncode == 0, evidence(done)
    return done.stdout


def play_on_all(*arguments: str, trace: bool = True, unseen: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Run a case on all kernels at a time; return host -> verdict.

    Every verdict is valid, and all expectations hold but those that cannot be seen.
    """
    done = run(
        "ansible-playbook", "run-case.yml", *INVENTORY, *SHORT, "-e", "run_serial=2", "-e", f"trace={trace}",
        *arguments, timeout_s=900,
    )  # fmt: skip
    verdicts = {verdict["host"]: verdict for verdict in verdicts_of(done)}
    assert verdicts.keys() == KERNELS.keys(), evidence(done)
    for host, verdict in verdicts.items():
        missed = [one["name"] for one in verdict["expectations"] if not one["holds"]]
        assert verdict["valid"], evidence(done)
        assert missed == list(unseen), evidence(done)
        assert verdict["kernel"].startswith(KERNELS[host])
        assert not [doubt for doubt in verdict["doubts"] if "trace" in doubt], verdict["doubts"]
    return verdicts


def assert_trace_and_samples_agree(metrics: dict[str, Any]) -> None:
    """By Little's law the waits add up to the area under the samples, which are some milliseconds apart."""
    assert metrics["trace_agreement_share"] >= 0.97, metrics
    tolerance = 0.05 * metrics["queue_area_conn_s"] + 0.2
    assert metrics["waits_area_conn_s"] == pytest.approx(metrics["queue_area_conn_s"], abs=tolerance), metrics


@pytest.fixture(scope="module")
def case_2(virtual_machines: None) -> dict[str, dict[str, Any]]:  # noqa: ARG001 - they have to be there
    """A run of case 2 on all kernels: host -> verdict."""
    return play_on_all("-e", "case=2", trace=False)


def test_each_kernel_fills_its_queue_to_one_more_than_the_limit(case_2: dict[str, dict[str, Any]]) -> None:
    for verdict in case_2.values():
        metrics = verdict["metrics"]
        assert (metrics["accept_queue_max"], metrics["queue_limit"]) == (9, 8)
        assert metrics["dead_in_queue_last"] == 9, "nginx has given up, and the slots remain used"


def test_the_configuration_of_each_kernel_is_recorded(case_2: dict[str, dict[str, Any]]) -> None:
    one, other = (f"{verdict['run_id']}:{host}" for host, verdict in case_2.items())
    done = run("floodmark", "diff", one, other, "--json")
    options = {name for name in json.loads(done.stdout) if name.startswith("kernel_config.CONFIG_")}
    assert 10 < len(options) < 1000, evidence(done)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_what_nobody_accepts_is_seen_waiting_and_then_dead(transport: str) -> None:
    for verdict in play_on_all("-e", "case=2", "-e", f"transport={transport}").values():
        metrics = verdict["metrics"]
        assert metrics["accept_queue_max"] == 9
        assert (metrics["waits_unaccepted"], metrics["waits_n"]) == (9, 0), "the trace counts as the samples do"
        assert metrics["dead_in_queue_last"] == 9, "nginx has given up, and the slots remain used"
        assert_trace_and_samples_agree(metrics)


@pytest.mark.slow
def test_every_connection_that_is_accepted_is_traced() -> None:
    sustained = ["-e", "load_shape=sustained", "-e", "duration_s=3", "-e", "users=6"]
    for verdict in play_on_all("-e", "case=1", *sustained).values():
        metrics = verdict["metrics"]
        assert metrics["waits_n"] == metrics["status"]["200"] == metrics["sent"]
        assert metrics["waits_unaccepted"] == 0
        assert 0 < metrics["wait_median_ms"] <= metrics["wait_p99_ms"] <= metrics["wait_max_ms"]
        assert_trace_and_samples_agree(metrics)


@pytest.mark.slow
def test_a_kernel_without_unix_diag_is_counted_in_proc_and_the_verdict_says_so() -> None:
    for host in KERNELS:
        on_host(host, "echo install unix_diag /bin/false >/etc/modprobe.d/without.conf; rmmod unix_diag || true")
    try:
        unseen = ["queue_limit_is_the_smaller_of_backlog_and_somaxconn"]
        for verdict in play_on_all("-e", "case=2", unseen=unseen).values():
            assert verdict["metrics"]["accept_queue_max"] == 9
            assert verdict["metrics"]["dead_in_queue_last"] is None
            assert [doubt for doubt in verdict["doubts"] if "the kernel has no unix_diag" in doubt]
    finally:
        for host in KERNELS:
            on_host(host, "rm /etc/modprobe.d/without.conf")


def test_a_kernel_of_ones_own_boots_by_its_path_and_one_that_finds_no_disk_says_so(tmp_path: Path) -> None:
    """The kernel of one host, taken as if built here, on the other."""
    kernel = max(Path("/var/cache/floodmark/kernels").glob("linux-image-6.1.*"))
    release = (kernel / "release").read_text()
    unpacked = run("debugfs", "-R", f"rdump /{release} {tmp_path}", str(kernel / "modules.ext4"))
    assert (tmp_path / release / "modules.dep").exists(), evidence(unpacked)
    own = [*INVENTORY, "--limit", "linux612", "-e", f"testbed_kernel_image={kernel}/vmlinuz"]

    up = run("ansible-playbook", "playbooks/testbed-up.yml", *own, "-e", f"testbed_kernel_modules={tmp_path}/{release}")
    assert up.returncode == 0, evidence(up)
    assert on_host("linux612", "uname -r").strip() == release

    up = run("ansible-playbook", "playbooks/testbed-up.yml", *own, "-e", "testbed_boot_timeout_s=60")
    assert up.returncode != 0
    assert "host linux612 did not boot; its console says:" in up.stderr, evidence(up)
    assert "floodmark: no root file system" in up.stderr, evidence(up)


def test_a_kernel_that_debian_does_not_have_is_refused_with_those_it_has() -> None:
    up = run("ansible-playbook", "playbooks/testbed-up.yml", *INVENTORY, "-e", "testbed_kernel=5.3")
    assert up.returncode != 0
    assert "testbed_kernel=5.3 is not among the kernels that the package sources of bookworm offer: " in up.stderr
    assert "6.1, 6.12" in up.stderr, evidence(up)


@pytest.mark.parametrize("boots", [True, False])
def test_a_kernel_that_panics_is_not_taken_for_one_that_boots(tmp_path: Path, boots: bool) -> None:
    """How KVM is tried, here without it: QEMU ends with status 0 in both."""
    from ansible.module_utils import testbed_qemu
    from ansible.module_utils.testbed import Testbed

    kernel = max(Path("/var/cache/floodmark/kernels").glob("linux-image-6.1.*"))
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (tmp_path / "empty").write_bytes(testbed_qemu.pack(nothing))
    initramfs = kernel / "initramfs" if boots else tmp_path / "empty"
    machine = testbed_qemu.VirtualMachine(
        Testbed(str(tmp_path)), "trial", kernel=f"{kernel}/vmlinuz", initramfs=str(initramfs), disk="", memory_mb=512
    )
    machine.folder.mkdir(parents=True)
    (machine.folder / "trial.log").write_text("reboot: Power down, of an earlier trial")
    assert machine.boots_and_powers_off("tcg") is boots
    log = (machine.folder / "trial.log").read_text(errors="replace")
    assert ("Kernel panic" in log) is not boots, log
