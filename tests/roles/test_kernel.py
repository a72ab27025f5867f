"""What is read of kernels: GRUB's menu, their packages, their images."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import load_file

kernel_boot = load_file("roles/kernel/library/kernel_boot.py")
kernel_package = load_file("roles/kernel/library/kernel_package.py")
testbed_kernel = load_file("roles/testbed/library/testbed_kernel.py")

# As update-grub of Debian 12 writes it, shortened.
MENU = """
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1f0c' {
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1f0c' {
	menuentry 'Linux 6.12.1' --class debian $menuentry_id_option 'gnulinux-6.12.1-advanced-1f0c' {
	}
	menuentry 'Linux 6.12.1 (recovery mode)' $menuentry_id_option 'gnulinux-6.12.1-recovery-1f0c' {
	}
	menuentry 'Linux 6.1.0-56' --class debian $menuentry_id_option 'gnulinux-6.1.0-56-advanced-1f0c' {
	}
}
menuentry 'Debian on another disk' --class debian $menuentry_id_option 'osprober-gnulinux-simple-77aa' {
}
"""
# With GRUB_DISABLE_SUBMENU=y.
FLAT = "menuentry 'Linux 6.1.0-56' $menuentry_id_option 'gnulinux-6.1.0-56-advanced-1f0c' {\n}\n"

VERSION = b"6.12.1 (me@here) #3 SMP PREEMPT_DYNAMIC Mon Nov 23 09:00:00 UTC 2026"


def bzimage(version: bytes = VERSION) -> bytes:
    """Return the header of an x86 image: the magic number, and where its version is (x86/boot.rst)."""
    header = bytearray(0x400)
    header[0x202:0x206] = b"HdrS"
    header[0x20E:0x210] = (0x100).to_bytes(2, "little")
    header[0x300 : 0x300 + len(version)] = version
    return bytes(header)


# The header says that the version is behind the end of the file.
CUT = bzimage()[:0x20E] + b"\xff\xff"


def package(folder: Path, image: bytes = b"", release: str = "6.12.1", **fields: str) -> str:
    """Build a .deb, with a kernel in it or without."""
    control = {"Package": "linux-image-6.12.1", "Version": "6.12.1-3", "Architecture": "amd64", **fields}
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "boot").mkdir()
    lines = {**control, "Maintainer": "me <me@example.net>", "Description": "a package"}
    (tree / "DEBIAN/control").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    if image:
        (tree / f"boot/vmlinuz-{release}").write_bytes(image)
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", tree, folder / "it.deb"], check=True, capture_output=True
    )
    return str(folder / "it.deb")


def test_a_kernel_is_named_by_the_identifiers_of_submenu_and_entry() -> None:
    assert kernel_boot.find_entry(MENU, "6.1.0-56") == "gnulinux-advanced-1f0c>gnulinux-6.1.0-56-advanced-1f0c"


def test_a_menu_without_a_submenu_will_do() -> None:
    assert kernel_boot.find_entry(FLAT, "6.1.0-56") == "gnulinux-6.1.0-56-advanced-1f0c"


@pytest.mark.parametrize("release", ["6.1", "6.12", "6.12.1 (recovery mode)", "simple"])
def test_a_kernel_that_is_not_in_the_menu_is_refused_with_those_that_are(release: str) -> None:
    with pytest.raises(kernel_boot.MenuError, match=r"only for 6\.12\.1, 6\.1\.0-56: run update-grub"):
        kernel_boot.find_entry(MENU, release)


def test_a_package_tells_its_release_and_what_uname_will_say(tmp_path: Path) -> None:
    found = kernel_package.read_file(package(tmp_path, bzimage()))
    assert (found["name"], found["version"], found["architecture"]) == ("linux-image-6.12.1", "6.12.1-3", "amd64")
    assert (found["release"], found["build"]) == ("6.12.1", "#3 SMP PREEMPT_DYNAMIC Mon Nov 23 09:00:00 UTC 2026")


@pytest.mark.parametrize("image", [b"MZ", bytes(0x400), CUT], ids=["short", "of another kind", "cut off"])
def test_an_image_that_does_not_tell_its_build_is_taken_without(image: bytes, tmp_path: Path) -> None:
    found = kernel_package.read_file(package(tmp_path, image))
    assert (found["release"], found["build"]) == ("6.12.1", "")


def test_a_metapackage_is_refused_with_what_it_stands_for(tmp_path: Path) -> None:
    file = package(tmp_path, Package="linux-image-amd64", Depends="linux-image-6.1.0-56-amd64 (= 6.1.192-2)")
    with pytest.raises(kernel_package.PackageError, match=r"it stands for linux-image-6.1.0-56-amd64, name that"):
        kernel_package.read_file(file)


def test_a_package_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(kernel_package.PackageError, match=r"linux-headers-6.12.1 6.12.1-3 holds no kernel"):
        kernel_package.read_file(package(tmp_path, Package="linux-headers-6.12.1"))


def test_what_is_no_package_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.deb").write_text("This is not a package.\n")
    with pytest.raises(kernel_package.PackageError, match=r"text.deb cannot be read as a package"):
        kernel_package.read_file(str(tmp_path / "text.deb"))
    with pytest.raises(kernel_package.PackageError, match=r"there is no file .*none.deb on the control node"):
        kernel_package.read_file(str(tmp_path / "none.deb"))


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    file = Path(package(tmp_path, bzimage() * 100))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(kernel_package.PackageError, match=r"cannot be read as a package"):
        kernel_package.read_file(str(file))


@pytest.mark.parametrize("name", ["nginx", "linux-headers-6.1.0-56-amd64", "linux-image-6.1; reboot", "-linux-image-6"])
def test_a_name_of_another_kind_is_refused_before_anything_is_asked(name: str) -> None:
    with pytest.raises(kernel_package.PackageError, match="is not the name of a kernel's package"):
        kernel_package.read_named(name, "", keep=False)


# --- images for the testbed -----------------------------------------------------------------------


@pytest.mark.parametrize("image", [bzimage(), b"no image of x86"])
def test_modules_of_the_release_are_taken(image: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(image)
    testbed_kernel.need_one_release(tmp_path / "vmlinuz", Path("/lib/modules/6.12.1"))


def test_modules_of_another_release_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage())
    with pytest.raises(
        Exception, match=r"are of kernel 6\.2\.0, and testbed_kernel_image=.* is 6\.12\.1: name the folder"
    ):
        testbed_kernel.need_one_release(tmp_path / "vmlinuz", Path("/lib/modules/6.2.0"))


OFFER = """\
linux-image-6.1.0-55-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-56-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-image-6.12-cloud-amd64 - Linux 6.12 for x86-64 cloud (meta-package)
"""


class OldLists:
    """Package sources whose lists are older than the kernel 6.18 until they are fetched again.

    Attributes:
        release: the release.
        refreshed: how often they were fetched.
    """

    release = "bookworm"

    def __init__(self) -> None:
        self.refreshed = 0

    def apt(self, *_: str) -> str:
        return OFFER + ("linux-image-6.18.2+deb12-cloud-amd64 - Linux\n" if self.refreshed else "")

    def refresh(self) -> bool:
        self.refreshed += 1
        return self.refreshed == 1


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> OldLists:
    monkeypatch.setattr(testbed_kernel, "run", lambda *_: "amd64\n")
    return OldLists()


@pytest.mark.parametrize(
    ("version", "package_name"),
    [
        ("6.1", "linux-image-6.1.0-56-cloud-amd64"),
        ("6.1.0-55", "linux-image-6.1.0-55-cloud-amd64"),
        ("6.1.0-55-cloud-amd64", "linux-image-6.1.0-55-cloud-amd64"),
        ("6.12.117+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64"),
        ("6", "linux-image-6.12.117+deb12-cloud-amd64"),
    ],
)
def test_a_kernel_is_found_by_as_much_of_its_version_as_is_given(
    version: str, package_name: str, sources: OldLists
) -> None:
    assert testbed_kernel.package_of(version, sources) == package_name
    assert sources.refreshed == 0


def test_a_kernel_that_is_newer_than_the_lists_is_found(sources: OldLists) -> None:
    assert testbed_kernel.package_of("6.18", sources) == "linux-image-6.18.2+deb12-cloud-amd64"


@pytest.mark.parametrize("version", ["", "latest", "mainline", "6.2", "6.1.0-99", "v6.1", "6.1 or so"])
def test_a_version_that_is_none_or_not_offered_is_refused_with_those_that_are(version: str, sources: OldLists) -> None:
    offered = r"package sources of bookworm offer: 6\.1, 6\.12, 6\.18; take one of these"
    with pytest.raises(testbed_kernel.HostError, match=offered):
        testbed_kernel.package_of(version, sources)
