"""Fetches what a host wrote: packed there, read part by part, and removed there once it is on the disk here.

Ansible's own fetch has a whole file in memory, and with `become` twice, on either side.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from floodmark.disk import make_folder, whole_file
from floodmark.errors import FloodmarkError
from floodmark.runs.archive import write_checksum

# A part is in memory some times over: as text, in pieces, and as what it means.
PART_BYTES = 4 << 20

PACK = """\
umask 077
if tar --create --gzip --file {archive} --directory {folder} .; then
    sha256sum <{archive} && stat --format %s {archive}
else
    rm -f {archive}
    exit 1
fi"""
# A terminal would change bytes, and sudo may have one.
READ = "dd if={archive} bs={bytes} skip={number} count=1 status=none | base64 --wrap=0"
REMOVE = "rm -rf {folder} {archive}"


class FetchError(FloodmarkError):
    """What a host wrote is not here."""


@dataclass(frozen=True)
class Said:
    """What came of a line for a shell."""

    status: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """The last thing that it complained of."""
        return (self.errors.strip().splitlines() or [f"status {self.status}"])[-1].rstrip(".")


Say = Callable[[str], Said]


def fetch(say: Say, folder: str, archive: Path) -> None:
    """Fetch a folder as an archive with its checksum, and remove it from the host.

    Args:
        say: lets a shell of the host run a line.
        folder: on the host.
        archive: where it goes here.

    Raises:
        FetchError: it is not here, and still there.
    """
    names = {"folder": shlex.quote(folder), "archive": shlex.quote(f"{folder}.tar.gz")}
    packed = say(PACK.format(**names))
    if packed.status != 0:
        raise FetchError(f"what the host wrote could not be packed and stays in {folder}: {packed.complaint}.")
    # 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  -
    # 1843200
    sha256, _, size = packed.output.split()
    try:
        make_folder(archive.parent, exist_ok=True)
        write_checksum(archive, sha256)
        with whole_file(archive) as unfinished:
            if _read(say, names["archive"], int(size), unfinished) != sha256:
                raise FetchError(
                    f"what the host wrote did not arrive as the host packed it, and stays there in {folder}: run the "
                    "case again."
                )
    except OSError as error:
        raise FetchError(
            f"{archive} cannot be written: {error.strerror}. What belongs there stays on the host in {folder}."
        ) from None
    say(REMOVE.format(**names))


def _read(say: Say, archive: str, size: int, path: Path) -> str:
    """Write an archive of a host into a file here, and return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(-(-size // PART_BYTES)):
            said = say(READ.format(archive=archive, bytes=PART_BYTES, number=number))
            try:
                part = base64.b64decode(said.output, validate=True)
            except binascii.Error:
                break
            digest.update(part)
            file.write(part)
    return digest.hexdigest()
