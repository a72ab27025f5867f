"""Where packages of the testbed's release come from, asked of the real apt."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils import testbed_sources
from ansible.module_utils.testbed import HostError
from ansible.module_utils.testbed_sources import Archive, find_origin

from tests.conftest import load_file

testbed_tree = load_file("roles/testbed/library/testbed_tree.py")

SIGNED = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"

# As the installer of Debian 13 writes it, with a block that somebody has switched off.
DEB822 = """\
# Modernized from /etc/apt/sources.list
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: trixie trixie-updates
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://security.example/debian-security/
Suites: trixie-security
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://ftp.example.org/debian/
Suites: trixie
Components: main
Enabled: no
"""
# The same as the installer of Debian 12 wrote it.
ONE_LINE = """\
#deb cdrom:[Debian GNU/Linux 13.0.0 _Trixie_ - Official amd64 NETINST with firmware 20250809-11:20]/ trixie main

deb http://mirror.example/debian/ trixie main non-free-firmware
deb-src http://mirror.example/debian/ trixie main non-free-firmware

deb http://security.example/debian-security trixie-security main non-free-firmware
deb-src http://security.example/debian-security trixie-security main non-free-firmware

# trixie-updates, to get updates before a point release is made;
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian/ \
trixie-updates main non-free-firmware
"""
BOOKWORM_OF_TRIXIE = [
    f"{SIGNED} http://mirror.example/debian/ bookworm main",
    f"{SIGNED} http://mirror.example/debian/ bookworm-updates main",
    f"{SIGNED} http://mirror.example/debian/ bookworm non-free-firmware",
    f"{SIGNED} http://mirror.example/debian/ bookworm-updates non-free-firmware",
    f"{SIGNED} http://security.example/debian-security/ bookworm-security main",
    f"{SIGNED} http://security.example/debian-security/ bookworm-security non-free-firmware",
]


class ControlNode:
    """A folder that apt takes for the root of a machine."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.lists = root / "var/lib/apt/lists"
        self.cache = root / "var/cache/floodmark"
        for folder in ("etc/apt/sources.list.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial",
                       "var/cache/floodmark", "var/lib/dpkg"):  # fmt: skip
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        settings = {
            "Dir::Etc": f"{root}/etc/apt",
            "Dir::State": f"{root}/var/lib/apt",
            "Dir::State::status": f"{root}/var/lib/dpkg/status",
            "Dir::Cache": f"{root}/var/cache/apt",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",  # the folder of a test is for its user alone
        }
        (root / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
        monkeypatch.setenv("APT_CONFIG", str(root / "apt.conf"))

    def has(self, name: str, text: str) -> None:
        """Write a file of package sources, relative to /etc/apt."""
        (self.root / "etc/apt" / name).write_text(text)

    def knows(self, site: str, codename: str, origin: str = "Debian") -> None:
        """Lay the list of a suite as `apt-get update` leaves it, all of its components."""
        # mirror.example_debian_dists_trixie_main_binary-amd64_Packages
        start = f"{site.replace('_', '%5f').replace('/', '_')}_dists_{codename}"
        (self.lists / f"{start}_InRelease").write_text(f"Origin: {origin}\nCodename: {codename}\n")
        for component in ("main", "non-free-firmware"):
            (self.lists / f"{start}_{component}_binary-amd64_Packages").touch()

    def has_trixie(self, name: str, text: str) -> None:
        """Be a Debian 13 whose sources are in this file."""
        self.has(name, text)
        for site, codename in (("mirror.example/debian", "trixie"), ("mirror.example/debian", "trixie-updates"),
                               ("security.example/debian-security", "trixie-security")):  # fmt: skip
            self.knows(site, codename)


@pytest.fixture
def control_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ControlNode:
    return ControlNode(tmp_path / "node", monkeypatch)


@pytest.mark.parametrize(
    ("name", "text"),
    [("sources.list.d/debian.sources", DEB822), ("sources.list", ONE_LINE)],
    ids=["deb822", "one-line"],
)
def test_a_control_node_of_another_release_lends_its_mirrors(name: str, text: str, control_node: ControlNode) -> None:
    control_node.has_trixie(name, text)
    sources = testbed_sources.ReleaseSources("bookworm", control_node.cache)
    assert sources.lines == BOOKWORM_OF_TRIXIE


@pytest.mark.parametrize(
    ("name", "text"),
    [("sources.list.d/debian.sources", DEB822), ("sources.list", ONE_LINE)],
    ids=["deb822", "one-line"],
)
def test_a_control_node_of_the_release_lends_its_own_sources(name: str, text: str, control_node: ControlNode) -> None:
    control_node.has_trixie(name, text)
    control_node.has("sources.list.d/other.list", "deb http://apt.example.org/debian trixie main\n")
    control_node.knows("apt.example.org/debian", "trixie", origin="Example")
    sources = testbed_sources.ReleaseSources("trixie", control_node.cache)
    own = [line.replace("bookworm", "trixie") for line in BOOKWORM_OF_TRIXIE]
    assert sorted(sources.lines) == sorted(own)
    assert not sources.refresh(), "its own lists are not ours to fetch"
    assert list(control_node.cache.iterdir()) == []


def test_a_machine_that_is_no_debian_is_refused(control_node: ControlNode) -> None:
    control_node.has("sources.list", f"deb file:{control_node.root}/none jammy main\n")
    with pytest.raises(HostError, match=r"package sources \(apt-get indextargets\) offer no Debian release"):
        testbed_sources.ReleaseSources("bookworm", control_node.cache)


def test_a_machine_without_the_keys_of_debian_is_refused(
    control_node: ControlNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbed_sources, "KEYRING", str(control_node.root / "none.gpg"))
    with pytest.raises(HostError, match=r"none\.gpg is missing.*: install the package debian-archive-keyring"):
        testbed_sources.ReleaseSources("bookworm", control_node.cache)


# --- the derivation -------------------------------------------------------------------------------

MIRROR, SECURITY = "http://mirror.example.net/debian/", "http://mirror.example.net/debian-security/"
TRIXIE = [
    Archive(MIRROR, "stable", "trixie", "main"),
    Archive(MIRROR, "stable-updates", "trixie-updates", "main"),
    Archive(MIRROR, "trixie-proposed-updates", "trixie-proposed-updates", "main"),
    Archive(SECURITY, "stable-security", "trixie-security", "main"),
]
BOOKWORM = [Archive(MIRROR, "bookworm", "bookworm", "main"), Archive(SECURITY, "x", "bookworm-security", "main")]
SID = [Archive(MIRROR, "unstable", "sid", "main")]


@pytest.mark.parametrize(
    ("archives", "release", "own", "suites"),
    [
        (TRIXIE, "bookworm", False, ["bookworm", "bookworm-updates", "bookworm-security"]),
        (TRIXIE, "trixie", True, ["stable", "stable-updates", "trixie-proposed-updates", "stable-security"]),
        (TRIXIE, "sid", False, ["sid"]),
        (TRIXIE + BOOKWORM, "bookworm", True, ["bookworm", "x"]),
        (TRIXIE + BOOKWORM[1:], "bookworm", False, ["bookworm", "bookworm-updates", "bookworm-security"]),
        (SID, "bookworm", False, ["bookworm", "bookworm-updates"]),
        (SID, "sid", True, ["unstable"]),
        (TRIXIE + SID, "bookworm", False, ["bookworm", "bookworm-updates", "bookworm-security"]),
    ],
)
def test_suites_of_the_release_replace_those_of_the_control_node(
    archives: list[Archive], release: str, own: bool, suites: list[str]
) -> None:
    origin = find_origin(archives, release)
    assert origin.own is own
    mirrors = {"x": SECURITY, f"{release}-security": SECURITY, "stable-security": SECURITY}
    assert origin.lines == [f"{SIGNED} {mirrors.get(suite, MIRROR)} {suite} main" for suite in suites]


@pytest.mark.parametrize("release", ["", "13", "Bookworm", "../bookworm", "bookworm main", "bookworm-backports"])
def test_what_cannot_be_a_release_is_refused(release: str) -> None:
    with pytest.raises(HostError, match="is not the codename of a Debian release, such as bookworm or trixie"):
        find_origin(TRIXIE, release)


def test_sources_without_a_main_archive_are_refused() -> None:
    with pytest.raises(HostError, match="no main archive of Debian, only trixie-security: add one"):
        find_origin(TRIXIE[3:], "bookworm")


# --- a mirror, in a folder ------------------------------------------------------------------------


def trixie_of_a_folder(node: ControlNode) -> Path:
    """Let the control node have trixie of a mirror that is a folder; return where its suites are."""
    dists = node.root / "mirror/dists"
    dists.mkdir(parents=True)
    node.has("sources.list", f"deb file:{node.root}/mirror trixie main\n")
    node.knows(f"{node.root}/mirror", "trixie")
    return dists


def test_a_mirror_without_the_release_is_told_in_a_sentence(control_node: ControlNode) -> None:
    trixie_of_a_folder(control_node)
    sources = testbed_sources.ReleaseSources("bookworm", control_node.cache)
    with pytest.raises(HostError) as refused:
        sources.apt("apt-cache", "search", "linux-image")
    mirror = f"file:{control_node.root}/mirror"
    assert str(refused.value) == (
        f"testbed_release=bookworm is not on the mirrors of this machine's package sources: {mirror} has no bookworm, "
        f"{mirror} has no bookworm-updates; name a release that they have, such as trixie"
    )


def test_a_release_that_nobody_signed_is_not_taken(control_node: ControlNode) -> None:
    dists = trixie_of_a_folder(control_node)
    for suite in ("bookworm", "bookworm-updates"):
        (dists / suite).mkdir()
        (dists / suite / "Release").write_text(f"Origin: Debian\nCodename: {suite}\nSuite: {suite}\n")
    sources = testbed_sources.ReleaseSources("bookworm", control_node.cache)
    with pytest.raises(HostError, match=r"cannot be fetched.*bookworm Release' is not signed"):
        sources.refresh()


def test_the_control_node_keeps_its_lists_and_its_configuration(control_node: ControlNode) -> None:
    trixie_of_a_folder(control_node)

    def files() -> dict[Path, bytes]:
        paths = [path for folder in ("etc", "var/lib") for path in (control_node.root / folder).rglob("*")]
        return {path: path.read_bytes() for path in paths if path.is_file()}

    before = files()
    with pytest.raises(HostError, match="has no bookworm"):
        testbed_sources.ReleaseSources("bookworm", control_node.cache).refresh()
    assert files() == before


# --- the root file system -------------------------------------------------------------------------


def test_a_root_file_system_is_kept_for_each_release(control_node: ControlNode) -> None:
    control_node.has_trixie("sources.list", ONE_LINE)
    sources = {name: testbed_sources.ReleaseSources(name, control_node.cache) for name in ("bookworm", "trixie")}
    paths = {name: testbed_tree.path_of(Path("/cache"), one, ["nginx"]) for name, one in sources.items()}
    assert paths["bookworm"].name.startswith("bookworm-")
    assert paths["trixie"].name.startswith("trixie-")
    sources["trixie"].lines = sources["bookworm"].lines
    assert testbed_tree.path_of(Path("/cache"), sources["trixie"], ["nginx"]).name[7:] != paths["bookworm"].name[9:]
