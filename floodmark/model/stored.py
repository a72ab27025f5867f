"""Files that a run leaves: each is a model with a version, and what an older version wrote is migrated on reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from floodmark import disk
from floodmark.errors import RunError
from floodmark.values import Content, Value

# How much of a wrong value a message shows.
SHOWN_CHARS = 60

StoredT = TypeVar("StoredT", bound="Stored")


class NewerVersionError(ValueError):
    """A file that a newer Floodmark wrote."""


class Part(BaseModel):
    """A part of a stored file. JSON has no infinity and no NaN, so a number is neither."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Stored(Part):
    """A file of a run.

    Attributes:
        newest: the version that is written now.
        migrations: version -> what turns the content of a file of that version into that of the next.
    """

    newest: ClassVar[int] = 1
    migrations: ClassVar[Mapping[int, Callable[[Content], Content]]] = {}

    schema_version: int

    @classmethod
    def parse(cls: type[StoredT], content: Mapping[str, Value]) -> StoredT:
        """Return the model of a file's content, whatever version wrote it.

        Raises:
            NewerVersionError: a newer version wrote it.
            ValueError: its content does not fit.
        """
        version = content.get("schema_version", 1)
        if type(version) is not int or version < 1:
            raise ValueError(f"schema_version is {version!r}, and it should be a whole number from 1 on")
        if version > cls.newest:
            raise NewerVersionError(
                f"version {version}, and this Floodmark reads 1 to {cls.newest}: read it with the Floodmark that wrote "
                "it, or update this one"
            )
        migrated = dict(content)
        try:
            for number in range(version, cls.newest):
                migrated = cls.migrations[number](migrated)
            return cls.model_validate({**migrated, "schema_version": cls.newest})
        except ValidationError as error:
            raise ValueError(first_fault(error, migrated)) from None


def first_fault(error: ValidationError, content: Mapping[str, Value]) -> str:
    """Say what is wrong with a file, by its first fault.

    Args:
        error: what pydantic says.
        content: of the file.

    Returns:
        Such as `metrics.sent is 'many', and it should be a valid integer`.
    """
    faults = error.errors(include_url=False)
    first = faults[0]
    if first["type"] == "missing":
        return f"it has no {_place((*_known(first['loc'], content), first['loc'][-1]))}"
    where = _known(first["loc"], content)
    if first["type"] == "extra_forbidden":
        return f"it has {_place(where)}, which this version does not know"
    if first["type"] == "value_error":
        return f"{_place(where)} {first['msg'].removeprefix('Value error, ')}".lstrip()
    # A part that may be one of several kinds has a fault for each.
    kinds = dict.fromkeys(one["msg"] for one in faults if _known(one["loc"], content) == where)
    allowed = " or ".join(kinds).replace("Input should be", "it should be", 1).replace("Input should be ", "")
    shown = repr(first["input"])
    return f"{_place(where)} is {shown if len(shown) <= SHOWN_CHARS else shown[:SHOWN_CHARS] + '…'}, and {allowed}"


def _known(place: tuple[int | str, ...], content: object) -> tuple[int | str, ...]:
    """Return a place without what names no part of the content: pydantic adds the kinds that it has tried."""
    found: list[int | str] = []
    for step in place:
        try:
            content = content[step]  # type: ignore[index]
        except (TypeError, KeyError, IndexError):
            continue
        found.append(step)
    return tuple(found)


def _place(steps: tuple[int | str, ...]) -> str:
    return ".".join(map(str, steps))


def load(model: type[StoredT], path: Path, remedy: str = "", called: str = "") -> StoredT:
    """Read a stored file.

    Args:
        model: what it holds.
        path: the file.
        remedy: what to do when it cannot be read, as a sentence.
        called: what the file is called in a message, if not by its path.

    Raises:
        RunError: it is missing, damaged, or of a newer version.
    """
    name = called or str(path)

    def refuse(what: str) -> RunError:
        return RunError(f"{name} is {what}. {remedy}".rstrip())

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refuse("missing") from None
    except OSError as error:
        raise refuse(f"not readable: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise refuse(f"damaged: {error}") from None
    if not isinstance(content, dict):
        raise refuse("damaged: it is no object of JSON")
    try:
        return model.parse(content)
    except NewerVersionError as error:
        raise RunError(f"{name} is of {error}.") from None
    except ValueError as error:
        raise refuse(f"damaged: {error}") from None


def save(path: Path, content: Stored) -> None:
    """Write a stored file so that it is there whole or not at all."""
    write_json(path, content.model_dump(mode="json", by_alias=True))


def write_json(path: Path, content: object) -> None:
    """Write JSON so that the file is there whole or not at all."""
    disk.write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
