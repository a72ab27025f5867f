"""How an archive that another machine has made is checked, opened and unpacked."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from floodmark import disk
from floodmark.errors import RunError

# How much of a file is held in memory at once, and how much a header of an archive may be.
CHUNK_BYTES = 1 << 20
MOST_AT_ONCE_BYTES = 16 << 20
# More than this no run may write, so no archive unpacks to more; and its tables and logs are some dozens of files.
MOST_BYTES = 50_000_000_000
MOST_MEMBERS = 10_000
_WHAT_TO_DO = "Copy the archive again from where it is whole, or run the case again."


# What a system says of a name that is too long, or that lies below a file.
NOT_A_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


class TooMuchError(tarfile.TarError):
    """An archive that has more than a run may write."""


class _Content(gzip.GzipFile):
    """What an archive unpacks to; a small one may unpack to more than a disk or the memory can hold."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MOST_AT_ONCE_BYTES:
            raise TooMuchError(f"it has a part of {size} bytes at once")
        data = super().read(size)
        _refuse_more_than_allowed(self.tell())
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            _refuse_more_than_allowed(offset)
        return super().seek(offset, whence)


def _refuse_more_than_allowed(size: int) -> None:
    if size > MOST_BYTES:
        raise TooMuchError(f"it unpacks to more than {MOST_BYTES // 1_000_000} MB")


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
            with _Content(archive) as content:
                while content.read(CHUNK_BYTES):
                    pass
    except FileNotFoundError:
        raise
    except TooMuchError as error:
        raise _too_much(archive, error) from None
    except (zlib.error, EOFError, OSError) as error:
        raise _no_gzip(archive, error) from None


def _no_gzip(archive: Path, error: Exception) -> RunError:
    return RunError(
        f"{archive} is damaged: a whole gzip stream was expected, and reading it ended with: {error}. {_WHAT_TO_DO}"
    )


def _too_much(archive: Path, error: Exception) -> RunError:
    return RunError(f"{archive} is refused: {error}, and no run of Floodmark leaves such an archive.")


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
        RunError: it is damaged, or has more than a run may write.
        FileNotFoundError: there is none.
    """
    verify(archive)
    try:
        with _Content(archive) as content, tarfile.open(fileobj=content, mode="r:") as opened:
            yield opened
    except TooMuchError as error:
        raise _too_much(archive, error) from None
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
        TooMuchError: it has more than a run may write.
        tarfile.TarError: a name leads out of the target or cannot be that of a file, or the archive is damaged.
        OSError: the disk is full or broken.
    """
    target.mkdir(parents=True, exist_ok=True)
    room = target.resolve()
    free_bytes = shutil.disk_usage(target).free
    unpacked_bytes = 0
    for number, member in enumerate(archive):
        if number == MOST_MEMBERS:
            raise TooMuchError(f"it has more than {MOST_MEMBERS} files")
        unpacked_bytes += member.size
        _refuse_more_than_allowed(unpacked_bytes)
        if unpacked_bytes > free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        _unpack_member(archive, member, room)


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, room: Path) -> None:
    try:
        place = (room / member.name).resolve()
        if not place.is_relative_to(room):
            raise tarfile.TarError(f"the name {member.name} leads out of the folder")
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
        elif source := archive.extractfile(member) if member.isfile() else None:
            place.parent.mkdir(parents=True, exist_ok=True)
            with source, place.open("wb") as file:
                shutil.copyfileobj(source, file)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in NOT_A_NAME:
            raise
        raise tarfile.TarError(f"no file can have the name {member.name[:100]!r} here") from None
