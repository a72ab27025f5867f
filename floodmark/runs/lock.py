"""A series of runs is made by one process at a time: the file `lock` in its folder, which says whose."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from floodmark.errors import FloodmarkError


@contextmanager
def only_process(folder: Path, what: str, error: type[FloodmarkError]) -> Iterator[None]:
    """Hold a folder as the only process.

    Args:
        folder: that exists.
        what: is being run, for the message: `suite kernels`.
        error: that is raised.

    Raises:
        FloodmarkError: another process holds it.
    """
    # The kernel releases the lock when the process ends, however it ends.
    with folder.joinpath("lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise error(
                f"{what} is being run by another process ({lock.read().strip() or 'just started'}): wait until it has "
                "ended, or end it; what it has finished is kept."
            ) from None
        lock.truncate(0)
        lock.write(f"pid {os.getpid()} since {datetime.now(UTC).isoformat(timespec='seconds')}")
        lock.flush()
        yield
