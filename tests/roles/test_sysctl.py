"""The program that sets kernel parameters and puts them back, on a folder that stands for /proc/sys."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import load_file


@pytest.fixture
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_file("roles/sysctl/files/sysctl.py")
    monkeypatch.setattr(module, "RECORD", tmp_path / "before.json")
    monkeypatch.setattr(module, "EARLIER_RECORD", tmp_path / "earlier/before.json")
    monkeypatch.setattr(module, "INSTALLED", tmp_path / "sysctl.d/60-floodmark.conf")
    monkeypatch.setattr(module, "path_of", lambda name: tmp_path / name)
    (tmp_path / "net.core.somaxconn").write_text("4096\n")
    (tmp_path / "run.conf").write_text("# a comment\nnet.core.somaxconn = 8\n")
    return module


def test_apply_sets_reads_back_and_records(sysctl: ModuleType, tmp_path: Path) -> None:
    sysctl.apply(tmp_path / "run.conf")
    assert sysctl.read("net.core.somaxconn") == "8"
    assert json.loads((tmp_path / "before.json").read_text()) == {"net.core.somaxconn": "4096"}
    assert "net.core.somaxconn = 8" in (tmp_path / "sysctl.d/60-floodmark.conf").read_text()


def test_restore_leaves_nothing_behind(sysctl: ModuleType, tmp_path: Path) -> None:
    sysctl.apply(tmp_path / "run.conf")
    sysctl.restore()
    assert sysctl.read("net.core.somaxconn") == "4096"
    assert not (tmp_path / "before.json").exists()
    assert not (tmp_path / "sysctl.d/60-floodmark.conf").exists()


def test_a_second_apply_does_not_take_our_values_for_the_hosts(sysctl: ModuleType, tmp_path: Path) -> None:
    sysctl.apply(tmp_path / "run.conf")
    sysctl.apply(tmp_path / "run.conf")
    sysctl.restore()
    assert sysctl.read("net.core.somaxconn") == "4096"


def test_restore_puts_back_what_an_earlier_version_has_set(sysctl: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier/before.json").write_text('{"net.core.somaxconn": "77"}')
    with pytest.raises(sysctl.SysctlError, match="a run of an earlier version has left"):
        sysctl.apply(tmp_path / "run.conf")
    sysctl.restore()
    assert sysctl.read("net.core.somaxconn") == "77"
    assert not (tmp_path / "earlier/before.json").exists()


def test_restore_without_a_record_changes_nothing(sysctl: ModuleType) -> None:
    sysctl.restore()
    assert sysctl.read("net.core.somaxconn") == "4096"


def test_a_parameter_that_does_not_exist_is_named(sysctl: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "run.conf").write_text("net.core.nothing = 1\n")
    (tmp_path / "net.core.nothing").mkdir()
    with pytest.raises(sysctl.SysctlError, match=r"net\.core\.nothing cannot be read"):
        sysctl.apply(tmp_path / "run.conf")


def test_a_value_that_the_kernel_changes_is_an_error(
    sysctl: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysctl, "read", lambda _name: "4096")
    with pytest.raises(sysctl.SysctlError, match="was set to 8 and reads 4096"):
        sysctl.apply(tmp_path / "run.conf")


def test_what_cannot_be_put_back_stays_on_record_and_the_others_are_put_back(
    sysctl: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "before.json").write_text('{"net.core.nothing": "1", "net.core.somaxconn": "77"}')
    (tmp_path / "net.core.nothing").mkdir()
    with pytest.raises(sysctl.SysctlError, match=r"net\.core\.nothing cannot be set to 1"):
        sysctl.restore()
    assert sysctl.read("net.core.somaxconn") == "77"
    assert (tmp_path / "before.json").exists()
