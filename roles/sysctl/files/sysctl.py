#!/usr/bin/python3
"""Set kernel parameters for one run and put them back afterwards.

    sysctl.py apply FILE    FILE holds lines `net.core.somaxconn = 8`
    sysctl.py restore

`apply` records what each parameter was before it touches any, installs FILE in /run/sysctl.d
(where a reboot forgets it), sets the parameters and reads them back. `restore` undoes all of it
from the record. Both are safe to repeat. The record is complete or not there at all, and it never
holds a value that this program has set.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

RECORD = Path("/run/floodmark-sysctl.json")
# Where it was when a timer undid the runs.
EARLIER_RECORD = Path("/run/floodmark-sysctl/before.json")
INSTALLED = Path("/run/sysctl.d/60-floodmark.conf")


class SysctlError(Exception):
    """A parameter that cannot be read or set."""


def parse(text: str) -> dict[str, str]:
    """Return the parameters of a sysctl.d file: name -> value.

    A line: `net.core.somaxconn = 8`. Lines that begin with # or ; are comments (sysctl.d(5)).
    """
    settings = {}
    for line in text.splitlines():
        if line.strip() and line.lstrip()[0] not in "#;":
            name, _, value = line.partition("=")
            settings[name.strip()] = value.strip()
    return settings


def path_of(name: str) -> Path:
    """Return the file below /proc/sys of a parameter."""
    return Path("/proc/sys", *name.split("."))


def read(name: str) -> str:
    """Return the present value, its numbers separated by one blank."""
    try:
        return " ".join(path_of(name).read_text(encoding="ascii").split())
    except OSError as error:
        raise SysctlError(f"{name} cannot be read: {error.strerror}") from error


def write(name: str, value: str) -> None:
    """Set a parameter and make sure that the kernel took it."""
    try:
        path_of(name).write_text(value, encoding="ascii")
    except OSError as error:
        raise SysctlError(f"{name} cannot be set to {value}: {error.strerror}") from error
    found = read(name)
    if found != value:
        raise SysctlError(f"{name} was set to {value} and reads {found}")


def write_record(before: dict[str, str]) -> None:
    """Write what the parameters were, so that it is on the disk before any of them is touched."""
    fresh = RECORD.with_suffix(".new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(before, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(RECORD)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def read_record(path: Path) -> dict[str, str]:
    """Return what the parameters were.

    Raises:
        SysctlError: the record is damaged.
    """
    # {"net.core.somaxconn": "4096"}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in before.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise SysctlError(f"{path} is damaged, and only it says what the parameters were: {error}") from error


def apply(source: Path) -> None:
    """Set all parameters of a file."""
    text = source.read_text(encoding="utf-8")
    settings = parse(text)
    if EARLIER_RECORD.exists():
        raise SysctlError(f"a run of an earlier version has left {EARLIER_RECORD}: put it back first, with restore")
    if not RECORD.exists():  # a second apply must not take our own values for the host's
        if INSTALLED.exists():
            raise SysctlError(
                f"{INSTALLED} is there and {RECORD} is not: a run has set these parameters, and what they were before "
                "is lost; set them by hand, then remove the first file"
            )
        write_record({name: read(name) for name in settings})
    INSTALLED.parent.mkdir(exist_ok=True)
    INSTALLED.write_text(text, encoding="utf-8")
    for name, value in settings.items():
        write(name, value)
        print(f"{name} = {value}")


def restore() -> None:
    """Put back what was recorded; the record goes when all of it is back.

    Raises:
        SysctlError: for all parameters that could not be put back, after the others were.
    """
    for record in filter(Path.exists, (RECORD, EARLIER_RECORD)):
        before = read_record(record)
        problems = []
        for name, value in before.items():
            try:
                write(name, value)
                print(f"{name} = {value} (as it was)")
            except SysctlError as error:
                problems.append(str(error))
        if problems:
            raise SysctlError("; ".join(problems))
        # In this order: whatever ends this program, one of the two files says that there was a run.
        INSTALLED.unlink(missing_ok=True)
        record.unlink()
        if record == EARLIER_RECORD:
            record.parent.rmdir()


def main() -> int:
    """Do as the command line says."""
    try:
        if sys.argv[1:2] == ["apply"] and len(sys.argv) == 3:
            apply(Path(sys.argv[2]))
        elif sys.argv[1:] == ["restore"]:
            restore()
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (SysctlError, OSError) as error:
        print(f"sysctl: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
