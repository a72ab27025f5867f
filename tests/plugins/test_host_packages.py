"""How packages get onto a host: what is there is left alone, nothing starts, and what was interrupted is finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import load_file

host_packages = load_file("plugins/modules/host_packages.py")

LOCKS = ("apt/lists/lock", "dpkg/lock-frontend")
UNABLE = "E: Unable to locate package nginx\n"
INTERRUPTED = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem. \n"


class ModuleFailedError(Exception):
    """fail_json was called."""


class Host:
    """A host with packages and units, and what is done on it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "floodmark"
        self.helper = folder / "helper"
        self.journal = folder / "updates"
        self.program = folder / "nginx"
        self.has_apt = True
        # dpkg's word for each package, and what apt-get install says until it works.
        self.packages: dict[str, str] = {}
        self.complaints: list[str] = []
        self.left_by_apt: dict[str, str] = {}
        self.unit = "not-found"
        self.done: list[str] = []
        self.environment: Mapping[str, str] = {}

    @property
    def installing(self) -> Path:
        return self.state / "installing"

    @property
    def masked(self) -> Path:
        return self.state / "masked"

    def run_command(self, command: list[str], environ_update: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        self.environment = environ_update or self.environment
        words = [word for word in command if not word.startswith("-")]
        if words[0] == "dpkg-query":
            asked = words[1:] or self.packages
            known = [f"{self.packages[name]:3} {name}\n" for name in asked if name in self.packages]
            return int(len(known) < len(asked)), "".join(known), "dpkg-query: no packages found\n"
        if words[:2] == ["systemctl", "show"]:
            return 0, f"LoadState={self.unit}\nFragmentPath=/etc/systemd/system/nginx.service\n", ""
        self.done.append(" ".join(words))
        if words[:2] == ["systemctl", "mask"]:
            assert self.masked.exists(), "a mask that nobody would take away again"
            self.unit = "masked"
        if words[:2] == ["apt-get", "install"]:
            assert self.installing.exists(), "an interruption that nobody would know of"
            if self.complaints:
                self.packages.update(self.left_by_apt)
                return 100, "", self.complaints.pop(0)
            self.packages.update(dict.fromkeys(words[2:], "ii"))
        return 0, "", ""

    def install(self, *packages: str, **more: str) -> bool:
        def fail(msg: str) -> None:
            raise ModuleFailedError(msg)

        params = {"packages": list(packages), "program": None, "masked": None, **more}
        module = SimpleNamespace(
            params=params, check_mode=False, run_command=self.run_command, fail_json=fail,
            get_bin_path=lambda name: f"/usr/bin/{name}" if self.has_apt else None,
        )  # fmt: skip
        return bool(host_packages.Packages(module).install())

    def install_nginx(self) -> bool:
        return self.install("nginx", program=str(self.program), masked="nginx.service")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    host.helper.mkdir()
    host.journal.mkdir()
    monkeypatch.setattr(host_packages, "JOURNAL", host.journal)
    monkeypatch.setattr(host_packages, "LOCK_RETRY_S", 0)
    monkeypatch.setattr(host_packages, "STATE", host.state)
    monkeypatch.setattr(host_packages, "MASKS_OF_DEBIANS_HELPER", host.helper)
    return host


def test_what_is_installed_is_left_alone(host: Host) -> None:
    host.packages["python3-psutil"] = "ii"
    assert not host.install("python3-psutil")
    assert (host.done, host.state.exists()) == ([], False)


def test_a_program_that_is_there_is_left_alone(host: Host) -> None:
    host.program.touch()
    host.unit = "loaded"
    assert not host.install_nginx()
    assert (host.done, host.state.exists()) == ([], False)


def test_a_unit_is_masked_before_its_package_comes(host: Host) -> None:
    assert host.install_nginx()
    assert host.done == ["systemctl mask nginx.service", "apt-get install nginx"]
    assert host.masked.read_text() == "nginx.service\n"
    assert not host.installing.exists()
    assert host.environment["DEBIAN_FRONTEND"] == "noninteractive"
    assert host.environment["NEEDRESTART_SUSPEND"]


def test_only_what_is_missing_is_asked_for(host: Host) -> None:
    host.packages.update({"strace": "ii", "bpftrace": "rc"})
    host.install("strace", "bpftrace", "python3-psutil")
    assert host.done == ["apt-get install bpftrace python3-psutil"]
    assert not host.state.exists(), "a folder that nobody needs"


def test_package_lists_are_fetched_only_when_the_known_ones_do_not_do(host: Host) -> None:
    host.complaints = [UNABLE]
    host.install("nginx")
    assert host.done == ["apt-get install nginx", "apt-get update", "apt-get install nginx"]


def test_another_apt_is_waited_for(host: Host) -> None:
    """Debian's apt-daily.service runs soon after a boot, and locks the lists first, then dpkg."""
    host.complaints = [
        f"E: Could not get lock /var/lib/{what}. It is held by process 812 (apt-get)\n" for what in LOCKS
    ]
    host.install("nginx")
    assert host.done == ["apt-get install nginx"] * 3


def test_another_apt_that_does_not_end_is_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_packages, "LOCK_TIMEOUT_S", 0)
    host.complaints = ["E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (apt)\n"] * 2
    with pytest.raises(ModuleFailedError, match="held by process 812"):
        host.install("nginx")


def test_what_cannot_be_installed_is_said_in_one_sentence(host: Host) -> None:
    host.complaints = [UNABLE, "W: a warning\n" + UNABLE]
    with pytest.raises(ModuleFailedError) as failed:
        host.install("nginx")
    assert str(failed.value) == (
        "apt-get could not install nginx on this host: Unable to locate package nginx: repair that there and run this "
        "again, or install it by hand"
    )


def test_a_host_without_apt_says_what_is_to_be_installed(host: Host) -> None:
    host.has_apt = False
    with pytest.raises(ModuleFailedError, match=r"lacks python3-psutil and has no apt-get .* install it by hand"):
        host.install("python3-psutil")
    assert host.done == []


def test_what_was_interrupted_is_finished(host: Host) -> None:
    host.state.mkdir()
    host.installing.write_text("nginx\n")
    host.unit, host.packages["nginx"] = "masked", "iF"
    host.program.touch()
    host.complaints = [INTERRUPTED]
    assert host.install_nginx()
    assert host.done == ["apt-get install nginx", "dpkg", "apt-get install nginx"]
    assert not host.installing.exists()


def test_what_was_unpacked_in_part_is_unpacked_again(host: Host) -> None:
    host.state.mkdir()
    host.installing.write_text("nginx\n")
    host.packages["nginx-common"] = "iUR"
    host.complaints = [INTERRUPTED]
    host.install("nginx")
    assert host.done == ["apt-get install nginx", "dpkg", "apt-get install nginx-common nginx"]


def test_an_interruption_is_remembered_until_everything_is_installed(host: Host) -> None:
    host.complaints, host.left_by_apt = [INTERRUPTED, INTERRUPTED], {"nginx-common": "iU"}
    with pytest.raises(ModuleFailedError):
        host.install("nginx")
    assert host.installing.exists()
    host.complaints = [INTERRUPTED]
    host.install("nginx")
    assert "dpkg" in host.done


def test_where_nothing_was_begun_nothing_is_remembered(host: Host) -> None:
    host.complaints = [UNABLE, UNABLE]
    with pytest.raises(ModuleFailedError):
        host.install("nginx")
    assert not host.state.exists()


def test_what_others_have_interrupted_is_theirs(host: Host) -> None:
    host.packages["theirs"] = "iH"
    (host.journal / "0001").touch()
    host.complaints = [INTERRUPTED] * 4
    for _ in range(2):
        with pytest.raises(
            ModuleFailedError, match="dpkg was interrupted, you must manually run 'dpkg --configure -a'"
        ):
            host.install("nginx")
    assert "dpkg" not in host.done


def test_a_service_of_the_hosts_own_is_not_replaced(host: Host) -> None:
    host.unit = "loaded"
    with pytest.raises(ModuleFailedError) as failed:
        host.install_nginx()
    assert str(failed.value) == (
        f"this host has no {host.program}, and a service nginx.service (/etc/systemd/system/nginx.service) that the "
        f"package nginx would restart: link {host.program} to the program that the service runs, and that one is used"
    )
    assert (host.done, host.state.exists()) == ([], False)


def test_a_mask_of_the_hosts_own_stays_its_own(host: Host) -> None:
    host.unit = "masked"
    host.install_nginx()
    assert host.done == ["apt-get install nginx"]
    assert not host.masked.exists()


def test_a_mask_that_the_package_would_take_away_is_kept(host: Host) -> None:
    """Where nginx was removed before, Debian's helper has masked its unit and unmasks it when it comes back."""
    host.unit = "masked"
    (host.helper / "nginx.service").touch()
    host.install_nginx()
    assert host.masked.exists()
    assert not (host.helper / "nginx.service").exists()
