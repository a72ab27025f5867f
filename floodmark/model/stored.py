"""Files that a run leaves: each is a model with a version, and what an older version wrote is migrated on reading."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from floodmark.errors import RunError

Content = dict[str, JsonValue]
# What SQL of a case, a lab or a claim can give.
Value = JsonValue
# A parameter as a run recorded it; an older run may lack some that there are now.
ParameterValues = dict[str, bool | int | float | str]

StoredT = TypeVar("StoredT", bound="Stored")


class Part(BaseModel):
    """A part of a stored file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stored(Part):
    """A file of a run.

    Attributes:
        newest: the version that is written now.
        migrations: version -> what turns the content of a file of that version into that of the next.
    """

    newest: ClassVar[int] = 1
    migrations: ClassVar[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}

    schema_version: int

    @classmethod
    def parse(cls: type[StoredT], content: Mapping[str, Any]) -> StoredT:
        """Return the model of a file's content, whatever version wrote it.

        Raises:
            ValueError: it is of a newer version, or its content does not fit.
        """
        version = content.get("schema_version", 1)
        if not isinstance(version, int) or not 1 <= version <= cls.newest:
            raise ValueError(
                f"it has version {version!r}, and this Floodmark reads 1 to {cls.newest}: read it with the Floodmark "
                "that wrote it, or update this one"
            )
        migrated = dict(content)
        for number in range(version, cls.newest):
            migrated = cls.migrations[number](migrated)
        try:
            return cls.model_validate({**migrated, "schema_version": cls.newest})
        except ValidationError as error:
            raise ValueError(first_fault(error)) from None


def first_fault(error: ValidationError) -> str:
    """Say what is wrong with a file, in the words of its first fault: `metrics.sent is 'many': …`."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it has no {where}"
    return f"{where} is {str(first['input'])[:60]!r}: {first['msg']}"


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
    except ValueError as error:
        raise refuse(f"damaged: {error}") from None
    if not isinstance(content, dict):
        raise refuse(f"damaged: it holds {type(content).__name__} and not an object")
    try:
        return model.parse(content)
    except ValueError as error:
        raise refuse(f"damaged: {error}") from None


def save(path: Path, content: Stored) -> None:
    """Write a stored file so that it is there whole or not at all."""
    write_json(path, content.model_dump(mode="json", by_alias=True))


def write_json(path: Path, content: object) -> None:
    """Write JSON so that the file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
