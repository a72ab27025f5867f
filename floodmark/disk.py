"""How results are written: a file is there whole or not at all, whatever ends the process, the machine or its power.

What was measured is its user's own: nobody else may read a file or a folder that is made here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# For their user alone.
FILE_MODE = 0o600
FOLDER_MODE = 0o700


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Provide another name for a file while it is being written; it gets its own once it is on the disk.

    A file that is there already stays as it is until then, and for good when the writing fails.

    Args:
        path: of the file, in a folder that exists.

    Yields:
        An empty file in the same folder.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        yield unfinished
        # A rename may reach the disk before the content does: after a power cut the file would be there, and empty.
        sync(unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def make_folder(path: Path, *, exist_ok: bool = False) -> None:
    """Make a folder, and those above it that are missing.

    Args:
        path: of the folder.
        exist_ok: it may be there already.

    Raises:
        FileExistsError: it is there already.
        OSError: it cannot be made.
    """
    # mkdir(parents=True) leaves the mode of those above to the umask.
    for one in reversed([above for above in path.parents if not above.exists()]):
        one.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path.mkdir(mode=FOLDER_MODE, exist_ok=exist_ok)


def open_log(path: Path) -> TextIO:
    """Open a file to which lines are added as they come, by this process or by one that it starts.

    Raises:
        OSError: it cannot be opened.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE), "a", encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Wait until a folder is on the disk with all that is in it, also what other programs wrote."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)
    sync(folder.parent)
