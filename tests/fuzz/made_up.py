"""Input that nobody has written: what comes close to real input, and what does not; and how a test takes it."""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from floodmark.errors import FloodmarkError

T = TypeVar("T")

# --- how many examples there are ------------------------------------------------------------------

# Test -> its examples, and the least of all together.
EXAMPLES: dict[str, int] = {}
LEAST_EXAMPLES = 2000
# The same ones each time; `FUZZ=20 pytest tests/fuzz` looks for longer, and at others.
TIMES = int(os.environ.get("FUZZ", "1"))


def fuzz(examples: int, *strategies: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a test have made-up input for its last arguments.

    Args:
        examples: how many.
        strategies: make it, one for each argument.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        EXAMPLES[test.__qualname__] = examples
        # A folder of its own is not needed for each example; its files are written again. What fails is printed with
        # what makes it again, so no database of failures is kept in the checkout.
        chosen = settings(
            max_examples=examples * TIMES, derandomize=TIMES == 1, deadline=None, database=None, print_blob=True,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )  # fmt: skip
        wrapped: Callable[..., None] = pytest.mark.timeout(120 * TIMES)(chosen(given(*strategies)(test)))
        return wrapped

    return decorate


# --- values ---------------------------------------------------------------------------------------

# What parsers, SQL, shells, terminals and folders take for something else.
ODD_TEXTS = (
    "", " ", "0", "-1", "1e999", "nan", "true", "null", "~", "9" * 5000, "2026-99-99", "0b", "0x", "1_", "08:61", "=",
    "<<", "../../escaped", "/escaped", "a/b", ".", "-", "--", "'", '"', "'; DROP TABLE requests; --", "{{ 7 * 7 }}",
    "%s%n", "$(touch escaped)", "`touch escaped`", "a\nb", "a\r\nb", "\x1b[31m", "\x00", "\u202e", "é" * 300,
    "\U0001f600", "x" * 2000, "long words " * 200,
)  # fmt: skip
NUMBERS: SearchStrategy[Any] = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30, -(10**30), 1e308, 5e-324])
)
TEXTS = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=20))
ATOMS: SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES: SearchStrategy[Any] = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)


def _places(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each part of a document, but for the whole."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        yield (*here, key)
        yield from _places(part, (*here, key))


def _part(tree: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        tree = tree[step]
    return tree


@st.composite
def damaged(draw: DrawFn, document: Any, values: SearchStrategy[Any] = VALUES) -> Any:
    """Make documents that differ from a real one at a place or two.

    Args:
        draw: of hypothesis.
        document: the real one.
        values: what may stand where something else should.
    """
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(made))
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        parent = _part(made, tuple(way))
        what = draw(st.sampled_from(["another", "another", "another's", "none", "renamed", "more"]))
        if what == "another":
            parent[last] = draw(values)
        elif what == "another's":
            parent[last] = copy.deepcopy(_part(made, draw(st.sampled_from(places))))
        elif what == "none":
            del parent[last]
        elif isinstance(parent, dict):
            kept = parent.pop(last) if what == "renamed" else draw(values)
            parent[draw(TEXTS)] = kept
        else:
            parent.append(draw(values))
    return made


@st.composite
def garbled(draw: DrawFn, content: bytes) -> bytes:
    """Make files of which a piece is missing, is there twice, or is another one."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(made)))
        end = min(begin + draw(st.sampled_from([0, 1, 4, 100, len(made)])), len(made))
        taken = bytes(made[begin:end])
        made[begin:end] = draw(
            st.sampled_from([b"", taken * 2, bytes(one ^ 1 << (one & 7) for one in taken)])
            | st.binary(max_size=20)
            | st.sampled_from(ODD_TEXTS).map(str.encode)
        )
    return bytes(made)


def yaml_files(*documents: dict[str, Any]) -> SearchStrategy[bytes]:
    """Make YAML files that come close to real ones."""
    texts = [yaml.safe_dump(one, sort_keys=False, allow_unicode=True).encode() for one in documents]
    return st.one_of(st.sampled_from(documents).flatmap(damaged).map(_as_yaml), st.sampled_from(texts).flatmap(garbled))


def _as_yaml(document: Any) -> bytes:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def json_files(*documents: Any) -> SearchStrategy[bytes]:
    """Make JSON files that come close to real ones."""
    texts = [json.dumps(one).encode() for one in documents]
    return st.one_of(
        st.sampled_from(documents).flatmap(damaged).map(lambda one: json.dumps(one).encode()),
        st.sampled_from(texts).flatmap(garbled),
    )


# --- what may come of it --------------------------------------------------------------------------

# A sentence is for a terminal: one line, and no longer than somebody reads.
LONGEST_SENTENCE = 2500


def is_a_sentence(text: str) -> bool:
    """Tell whether a text is what a user gets to see of wrong input."""
    return text.isprintable() and 10 <= len(text) <= LONGEST_SENTENCE


def refuses_or_returns(function: Callable[[], T], *kinds: type[BaseException]) -> T | None:
    """Call a function: it returns something, or says in one sentence what is wrong; nothing else.

    Args:
        function: is called.
        kinds: of errors that are its sentences; FloodmarkError if none are named.
    """
    expected = kinds or (FloodmarkError,)
    try:
        return function()
    except expected as error:
        sentence = str(error)
    assert is_a_sentence(sentence), sentence[:5000]
    return None


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate")
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "socket.connect")
# Folders that are written to now, and what else was written or started; None while nobody looks.
_watched: tuple[list[str], list[str]] | None = None


def _look_on(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    folders, seen = _watched
    if event in _PROGRAMS:
        seen.append(f"{event} {arguments!r}"[:300])
    elif event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
        path = arguments[0]
        if isinstance(path, int):
            return
        # A folder is removed by way of its descriptor.
        within = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
        folder = Path(f"/proc/self/fd/{within}").readlink() if within >= 0 else Path.cwd()
        place = os.path.realpath(folder / os.fsdecode(path))
        if event == "os.mkdir" and Path(place).is_dir():
            return  # it is only made sure that it is there
        # A file without a name is made by opening its folder.
        if place != tempfile.gettempdir() and not any(place.startswith(folder) for folder in folders):
            seen.append(f"{event} {place}")


sys.addaudithook(_look_on)


@contextmanager
def nothing_outside(folder: Path) -> Iterator[None]:
    """Make sure that no program is started and nothing is written but in a folder, and in new folders in /tmp."""
    global _watched  # noqa: PLW0603 - a hook of the interpreter stays, and hears of everything
    own = [os.path.realpath(folder), f"{tempfile.gettempdir()}/tmp", f"{tempfile.gettempdir()}/floodmark-", "/dev/null"]
    seen: list[str] = []
    _watched = (own, seen)
    try:
        yield
    finally:
        _watched = None
    assert not seen, seen
