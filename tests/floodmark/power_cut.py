"""A disk as a power cut leaves it.

Of a file that was never synced a file system may have anything from nothing to all of it, and of two names that were
changed in one folder either. Here the disk is looked at before each step that a program takes, in some of these states:
only what was synced is there; all names are there, with the content that was synced, or with half of the content where
none was; all is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Look = Callable[[Path, str], None]


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


class PowerCut:
    """Watches what is done below a folder, and shows what would be left of it.

    Args:
        root: the folder; what is in it already is on the disk, but for `unsynced`.
        room: an empty folder for what is left.
        look: is told a folder that is as the root would be, and what was about to happen.
        unsynced: files that nobody has synced yet.
    """

    def __init__(self, root: Path, room: Path, look: Look, unsynced: set[Path]) -> None:
        self.steps = 0
        self._root = root
        self._room = room
        self._look = look
        self._held: list[int] = []
        self._content: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._looks = False
        self._seen: set[tuple[tuple[Path, bytes], ...]] = set()
        for path in (root, *root.rglob("*")):
            if is_folder(path):
                self._sync_folder(path)
            elif path.is_file() and path not in unsynced:
                self._content[self._number(path)] = path.read_bytes()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Look before each step, and after the last one."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "replace", "rename", "unlink", "link", "symlink", "truncate"):
                patch.setattr(os, name, self._watched(name, getattr(os, name)))
            yield
            self.show("the end")
        for descriptor in self._held:
            os.close(descriptor)

    def _watched(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if self._looks:  # it is who looks that does this
                return really(*arguments, **named)
            self.show(f"{name} {arguments}")
            done = really(*arguments, **named)
            if name == "fsync":
                path = Path(f"/proc/self/fd/{arguments[0]}").readlink()
                if path == self._root or self._root in path.parents:
                    self._sync(path)
            return done

        return step

    def _sync(self, path: Path) -> None:
        if is_folder(path):
            self._sync_folder(path)
        else:
            self._content[self._number(path)] = path.read_bytes()

    def _sync_folder(self, path: Path) -> None:
        self._names[self._number(path)] = {one.name: self._number(one) for one in path.iterdir()}

    def _number(self, path: Path) -> int:
        """Return the inode of a file, which stays open: so no other file gets its number."""
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        self._held.append(descriptor)
        return os.fstat(descriptor).st_ino

    def show(self, step: str) -> None:
        """Let somebody look at what would be left now."""
        self._looks = True
        self.steps += 1
        names = {self._number(self._root): self._names_now(self._root)}
        for path in self._root.rglob("*"):
            if is_folder(path):
                names[self._number(path)] = self._names_now(path)
        content = {
            self._number(path): path.read_bytes()
            for path in self._root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        half = {
            one: text if text == self._content.get(one) else text[: len(text) // 2] for one, text in content.items()
        }
        for what, some_names, some_content in (
            ("only what was synced", self._names, self._content),
            ("all names", names, self._content),
            ("all names and half of the content", names, half),
            ("all", names, content),
        ):
            state = dict(self._files(Path(), self._number(self._root), some_names, some_content))
            if (key := tuple(sorted(state.items()))) not in self._seen:
                self._seen.add(key)
                self._look(self._lay_out(state), f"power cut before {step}, {what} was on the disk")
        self._looks = False

    def _names_now(self, path: Path) -> dict[str, int]:
        return {one.name: self._number(one) for one in path.iterdir()}

    def _files(
        self, folder: Path, number: int, names: Mapping[int, Mapping[str, int]], content: Mapping[int, bytes]
    ) -> Iterator[tuple[Path, bytes]]:
        for name, part in names[number].items():
            if part in names:
                yield from self._files(folder / name, part, names, content)
            else:
                yield folder / name, content.get(part, b"")

    def _lay_out(self, files: Mapping[Path, bytes]) -> Path:
        left = self._room / "left"
        shutil.rmtree(left, ignore_errors=True)
        left.mkdir()
        for path, content in files.items():
            (left / path).parent.mkdir(parents=True, exist_ok=True)
            (left / path).write_bytes(content)
        return left
