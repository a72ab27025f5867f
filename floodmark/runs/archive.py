"""How an archive that another machine has made is unpacked."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path


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
