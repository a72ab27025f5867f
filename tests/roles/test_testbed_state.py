"""What the testbed keeps on disk: whole, and not trusted when a power cut may have left it in pieces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils import testbed, testbed_qemu, testbed_virtual
from ansible.module_utils.testbed import HostError, move_whole
from ansible.module_utils.testbed import Testbed as State
from ansible.module_utils.testbed_qemu import VirtualMachine
from ansible.module_utils.testbed_virtual import StartState

DISK = b"a root file system" * 1000


@pytest.fixture
def state(tmp_path: Path) -> State:
    """The state of a testbed that has a host, and was used since this machine was booted."""
    state = State(str(tmp_path / ".testbed"))
    with state.locked():
        state.forget_other_boots()
    (state.folder / "hosts/linux61").mkdir(parents=True)
    (state.folder / "hosts/linux61/disk.qcow2").write_bytes(DISK)
    (state.folder / "subnet").write_text("198.18.7.0/24")
    (state.folder / "start-states").mkdir()
    return state


@pytest.fixture
def boot_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What looks as a boot of this machine does."""

    def boot() -> None:
        (tmp_path / "boot_id").write_text("another boot\n")
        monkeypatch.setattr(testbed, "BOOT_ID", tmp_path / "boot_id")

    return boot


def test_what_was_written_before_this_machine_was_booted_is_forgotten(
    state: State, boot_this_machine: Callable[[], None]
) -> None:
    """QEMU does not wait for the disk (cache=unsafe), so of a power cut its image may be anything."""
    state.forget_other_boots()
    assert (state.folder / "hosts/linux61/disk.qcow2").exists(), "the same boot"
    boot_this_machine()
    state.forget_other_boots()
    assert sorted(one.name for one in state.folder.iterdir()) == ["boot_id", "lock", "start-states"]
    (state.folder / "subnet").write_text("198.18.8.0/24")
    state.forget_other_boots()
    assert (state.folder / "subnet").exists(), "once for each boot"


@pytest.fixture
def saved(state: State, monkeypatch: pytest.MonkeyPatch) -> StartState:
    """A start state that was made of a disk."""
    monkeypatch.setattr(testbed_virtual, "run", lambda *command: shutil.copy(command[-2], command[-1]))
    start_state = StartState(state, "0123")
    assert not start_state.exists()
    start_state.save(state.folder / "hosts/linux61/disk.qcow2")
    return start_state


def test_a_start_state_is_trusted_as_long_as_this_machine_runs(saved: StartState) -> None:
    assert saved.exists()
    assert saved.disk.read_bytes() == DISK
    assert len(json.loads(saved.record.read_text())["sha256"]) == 64


def test_a_start_state_of_another_boot_has_to_have_its_checksum(
    saved: StartState, boot_this_machine: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_this_machine()
    assert saved.exists()
    assert json.loads(saved.record.read_text())["boot_id"] == "another boot", "it is read once for each boot"
    monkeypatch.undo()
    saved.disk.write_bytes(DISK[:-1] + b"?")
    assert not saved.exists(), "what was read before may have been changed by a power cut since"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 5}'])
def test_a_damaged_record_of_a_start_state_is_none(saved: StartState, text: str) -> None:
    saved.record.write_text(text)
    assert not saved.exists()


def test_what_was_built_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, place = tmp_path / "building" / "tree", tmp_path / "tree"
    (built / "usr").mkdir(parents=True)
    synced: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        assert not place.exists()
        synced.append(command)
        return ""

    monkeypatch.setattr(testbed, "run", run)
    move_whole(built, place)
    assert synced == [("sync", "--file-system", str(built))]
    assert (place / "usr").is_dir()


def test_a_host_that_boots_from_its_own_disk_says_that_this_is_gone(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(state.folder / "hosts/linux61")
    (state.folder / "hosts/linux61").mkdir()
    monkeypatch.setattr(testbed_qemu, "run", lambda *_: "")
    host = VirtualMachine(state, "linux61", disk="/image", kernel="", initramfs="", memory_mb=512)
    with pytest.raises(HostError, match="host linux61 is to boot the kernel on its own disk, and has none"):
        host.make_files()
