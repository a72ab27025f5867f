"""How an archive that another machine has made is checked, opened and unpacked."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from floodmark import disk
from floodmark.errors import RunError

# How much of a file is held in memory at once.
CHUNK_BYTES = 1 << 20
_WHAT_TO_DO = "Copy the archive again from where it is whole, or run the case again."


def checksum_file(archive: Path) -> Path:
    """Return where the SHA-256 of an archive is kept, which the host computed when it packed it."""
    return archive.with_name(f"{archive.name}.sha256")


def write_checksum(archive: Path, sha256: str) -> None:
    """Keep the SHA-256 of an archive beside it, as sha256sum writes it.

    Args:
        archive: the archive, which need not exist yet.
        sha256: 64 hexadecimal digits.
    """
    disk.write(checksum_file(archive), f"{sha256}  {archive.name}\n")


def verify(archive: Path) -> None:
    """Make sure that an archive is as the host packed it: by its SHA-256, and by the CRC of gzip where none is kept.

    The CRC stands behind the content, so reading one member of the archive does not reach it: to reach it is to read
    all of it once more.

    Raises:
        RunError: it is damaged.
        FileNotFoundError: there is none.

    Source: RFC 1952 section 2.3.1
    """
    try:
        expected = _read_checksum(archive)
        with archive.open("rb") as file:
            seen = hashlib.file_digest(file, "sha256").hexdigest()
        if expected not in (None, seen):
            raise RunError(
                f"{archive} is damaged: its SHA-256 is {seen}, and {expected} was expected, which the host computed. "
                f"{_WHAT_TO_DO}"
            )
        if expected is None:
            with gzip.open(archive) as stream:
                while stream.read(CHUNK_BYTES):
                    pass
    except FileNotFoundError:
        raise
    except (zlib.error, EOFError, OSError) as error:
        raise _no_gzip(archive, error) from None


def _no_gzip(archive: Path, error: Exception) -> RunError:
    return RunError(
        f"{archive} is damaged: a whole gzip stream was expected, and reading it ended with: {error}. {_WHAT_TO_DO}"
    )


def _read_checksum(archive: Path) -> str | None:
    """Return the SHA-256 that an archive should have; None where it was not kept, as before format 7."""
    path = checksum_file(archive)
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    # 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  host.tar.gz
    found = re.fullmatch(rf"([0-9a-f]{{64}})  {re.escape(archive.name)}\n", text)
    if not found:
        raise RunError(
            f"{path} is damaged: it says {text[:100]!r}, and one line of sha256sum about {archive.name} was expected. "
            f"Write it again, 'sha256sum {archive.name} >{path.name}', if you know that the archive is whole."
        )
    return found[1]


@contextmanager
def open_archive(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive of a host after it has been verified.

    Args:
        archive: the file.

    Yields:
        The archive, for reading.

    Raises:
        RunError: it is damaged.
        FileNotFoundError: there is none.
    """
    verify(archive)
    try:
        with tarfile.open(archive, "r:gz") as opened:
            yield opened
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise _no_gzip(archive, error) from None
    except tarfile.TarError as error:
        raise RunError(
            f"{archive} is damaged: a tar archive was expected, and reading it ended with: {error}. {_WHAT_TO_DO}"
        ) from None


def unpack(archive: tarfile.TarFile, target: Path) -> None:
    """Unpack the files and folders of an archive, and nothing that would lie outside of the target.

    The filter of tarfile that does this came with Python 3.11.4, and Debian 12 has an older one.

    Args:
        archive: an open one.
        target: the folder.

    Raises:
        tarfile.TarError: a name leads out of the target, or the archive is damaged.
    """
    room = target.resolve()
    for member in archive:
        place = (room / member.name).resolve()
        if not place.is_relative_to(room):
            raise tarfile.TarError(f"the name {member.name} leads out of the folder")
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
        elif source := archive.extractfile(member) if member.isfile() else None:
            place.parent.mkdir(parents=True, exist_ok=True)
            with source, place.open("wb") as file:
                shutil.copyfileobj(source, file)
