#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_package
short_description: Tells which kernel a package holds, from the package itself
description:
  - Reads a C(.deb), or the package of a name, which is taken from the host's sources unless it is installed.
    What was taken stays where apt finds it when it installs it. Nothing is installed.
options:
  file:
    description: Path of a C(.deb).
    type: path
  name:
    description: Name of a package in this host's sources, instead of O(file).
    type: str
  target_release:
    description: The release of the sources that O(name) is taken from, such as V(bookworm-backports).
    type: str
author: ["The Floodmark developers"]
"""
EXAMPLES = r"""
- name: Read a package
  kernel_package:
    file: /home/me/linux-image-6.12.0_6.12.0-1_amd64.deb
"""
RETURN = r"""
path:
  description: The C(.deb) that was read; empty when the package is installed.
  type: str
  returned: success
name:
  description: Name of the package.
  type: str
  returned: success
version:
  description: Version of the package.
  type: str
  returned: success
architecture:
  description: What it was built for, in Debian's words.
  type: str
  returned: success
release:
  description: What C(uname -r) says of its kernel.
  type: str
  returned: success
build:
  description: What C(uname -v) says of its kernel; empty where an image does not tell.
  type: str
  returned: success
sha256:
  description: Hash of the kernel's image.
  type: str
  returned: success
"""

import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TypedDict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernel_image import version_of

ARCHIVES = Path("/var/cache/apt/archives")
IMAGE = re.compile(r"\.?/boot/vmlinuz-(.+)")
# What names of other packages than kernels hold that begin the same is found out by reading them.
NAME = re.compile(r"linux-image-[a-z0-9.+~-]+")


class Facts(TypedDict):
    """What an image says of its kernel; see RETURN."""

    release: str
    build: str
    sha256: str


class Package(Facts):
    """What a package holds; see RETURN."""

    name: str
    version: str
    architecture: str


class PackageError(Exception):
    """What is wrong with a package, in one sentence with what to do."""


def output(*command: str, cwd: str | None = None) -> str:
    """Return what a command prints, or raise PackageError with what it said."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PackageError(f"{command[0]} is missing, which reads packages: install Debian's package dpkg") from None
    if done.returncode != 0:
        raise PackageError((done.stderr or done.stdout).strip())
    return done.stdout


def kernel_of(file: str) -> tuple[str, bytes] | None:
    """Return the release and the image of the kernel in a .deb, or None."""
    command = ["dpkg-deb", "--fsys-tarfile", file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unpack:
        assert unpack.stdout
        assert unpack.stderr
        try:
            with tarfile.open(fileobj=unpack.stdout, mode="r|") as members:
                for member in members:
                    found = IMAGE.fullmatch(member.name)
                    image = members.extractfile(member) if found and member.isfile() else None
                    if found and image:
                        return found.group(1), image.read()
        except tarfile.TarError as error:
            unpack.stdout.close()  # whoever still writes there would not end
            raise PackageError(unpack.stderr.read().decode(errors="replace").strip() or str(error)) from None
    return None


def read_file(file: str) -> Package:
    """Return what a .deb holds."""
    if not Path(file).is_file():
        raise PackageError(
            f"there is no file {file} on the control node: give the path of one .deb, such as "
            "../linux-image-6.12.0_6.12.0-1_amd64.deb of `make bindeb-pkg`, or the name of a package"
        )
    try:
        control = output("dpkg-deb", "--show", "--showformat=${Package}|${Version}|${Architecture}|${Depends}", file)
        name, version, architecture, depends = control.split("|", 3)
        kernel = kernel_of(file)
    except PackageError as error:
        raise PackageError(f"{file} cannot be read as a package: {error}") from None
    if kernel is None:
        # Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
        named = NAME.match(depends)
        raise PackageError(
            f"the package {name} {version} holds no kernel (/boot/vmlinuz-RELEASE): "
            + (f"it stands for {named.group(0)}, name that" if named else "give one that does, linux-image-RELEASE")
        )
    release, image = kernel
    return {"name": name, "version": version, "architecture": architecture, **facts(release, image)}


def facts(release: str, image: bytes) -> Facts:
    build = version_of(image).partition(") ")[2]  # what uname -v will say
    return {"release": release, "build": build, "sha256": hashlib.sha256(image).hexdigest()}


def installed(name: str) -> Package | None:
    """Return what an installed package holds, or None."""
    try:
        state = output("dpkg-query", "--show", "--showformat=${db:Status-Status}|${Version}|${Architecture}", name)
    except PackageError:
        return None  # dpkg does not know it
    status, version, architecture = state.split("|")
    listed = map(IMAGE.fullmatch, output("dpkg-query", "--listfiles", name).splitlines())
    images = [found for found in listed if found]
    if status != "installed" or not images:
        return None
    return {
        "name": name,
        "version": version,
        "architecture": architecture,
        **facts(images[0].group(1), Path(images[0].group(0)).read_bytes()),
    }


def download(name: str, target_release: str | None, folder: str) -> Path:
    """Return the .deb of a name from this host's sources."""
    options = [f"--target-release={target_release}"] if target_release else []
    try:
        output("apt-get", "download", *options, name, cwd=folder)
    except PackageError:
        output("apt-get", "update")  # what the host knows may be old
        output("apt-get", "download", *options, name, cwd=folder)
    (file,) = Path(folder).glob("*.deb")
    return file


def read_named(name: str, target_release: str | None, keep: bool) -> tuple[str, Package]:
    """Return where the package of a name is, and what it holds; keep its .deb for the installation.

    The first is empty when it is installed.
    """
    if not NAME.fullmatch(name):
        raise PackageError(
            f"kernel_package={name} is not the name of a kernel's package: those begin with linux-image-; "
            "`apt-cache search --names-only '^linux-image-[0-9]'` on the host lists them. A .deb is given by its path"
        )
    found = installed(name)
    if found:
        return "", found
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = download(name, target_release, folder)
        except PackageError as error:
            raise PackageError(
                f"the package {name} could not be had from the host's sources: {error}. Name one of "
                "`apt-cache search --names-only '^linux-image-[0-9]'`, or give the path of a .deb on the control node"
            ) from None
        found = read_file(str(file))
        path = ARCHIVES / file.name
        if keep and not path.exists():
            shutil.move(str(file), str(path))
    return str(path), found


def main() -> None:
    module = AnsibleModule(
        argument_spec={"file": {"type": "path"}, "name": {"type": "str"}, "target_release": {"type": "str"}},
        required_one_of=[("file", "name")],
        mutually_exclusive=[("file", "name")],
        supports_check_mode=True,
    )
    given = module.params
    try:
        if given["file"]:
            path, found = given["file"], read_file(given["file"])
        else:
            path, found = read_named(given["name"], given["target_release"], keep=not module.check_mode)
    except (PackageError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, path=path, **found)


if __name__ == "__main__":
    main()
