"""What passes between the rooms has a type: no public signature has a mapping to Any."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "floodmark"
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping", "defaultdict", "OrderedDict"}
# `file: name` -> why it must stay.
EXCEPTIONS: dict[str, str] = {}


def maps_to_any(annotation: ast.expr) -> bool:
    """Tell whether an annotation has, at any depth, a mapping whose values may be anything."""
    for node in ast.walk(annotation):
        # Annotations may be texts: "Popen[bytes]".
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                continue
            if maps_to_any(inner):
                return True
        if isinstance(node, ast.Subscript) and _name(node.value) in MAPPINGS and isinstance(node.slice, ast.Tuple):
            *_, values = node.slice.elts
            if any(_name(one) == "Any" for one in ast.walk(values)):
                return True
    return False


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def untyped(body: list[ast.stmt], owner: str = "") -> Iterator[str]:
    """Yield the public functions, methods, attributes and names of types in a module or class that map to Any."""
    for node in body:
        if isinstance(node, ast.ClassDef) and _is_public(node.name):
            yield from untyped(node.body, f"{owner}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(node.name):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            annotations = [one.annotation for one in every if one] + [node.returns]
            if any(one and maps_to_any(one) for one in annotations):
                yield f"{owner}{node.name}"
        elif isinstance(node, ast.AnnAssign):
            name = _name(node.target)
            # `Row: TypeAlias = dict[str, Any]` has it as its value.
            if _is_public(name) and (maps_to_any(node.annotation) or (node.value and maps_to_any(node.value))):
                yield f"{owner}{name}"
        # A name for a type, even one that begins with _, may be what a public signature has.
        elif isinstance(node, ast.Assign) and maps_to_any(node.value):
            yield f"{owner}{_name(node.targets[0])}"


def found() -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in untyped(ast.parse(path.read_text(encoding="utf-8")).body)
    ]


def test_no_public_signature_has_a_mapping_to_any() -> None:
    assert [one for one in found() if one not in EXCEPTIONS] == []


def test_each_exception_is_still_one() -> None:
    assert EXCEPTIONS.keys() - set(found()) == set()


@pytest.mark.parametrize(
    "code",
    [
        "def read(content: dict[str, Any]) -> None: ...",
        "def read() -> Mapping[str, typing.Any]: ...",
        "def read(*, layers: list[dict[str, Any]] | None = None) -> None: ...",
        "def read(**given: Mapping[str, list[Any]]) -> None: ...",
        'def read(content: "dict[str, Any]") -> None: ...',
        "class Sample:\n    rows: ClassVar[dict[str, Any]] = {}",
        "class Sample:\n    @property\n    def rows(self) -> dict[str, Any]: ...",
        "class Sample:\n    def __init__(self, rows: dict[str, Any]) -> None: ...",
        "_Rows = dict[str, Any]",
        "Rows: TypeAlias = dict[str, Any]",
    ],
)
def test_it_finds_a_mapping_to_any(code: str) -> None:
    assert len(list(untyped(ast.parse(code).body))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "def read(content: dict[str, object], more: Any) -> Callable[[dict[str, str]], Any]: ...",
        "def _read(content: dict[str, Any]) -> None: ...",
        "class _Sample:\n    rows: dict[str, Any]",
        "class Sample:\n    _rows: dict[str, Any]",
        'CODE = {"a": "b"}',
    ],
)
def test_it_finds_nothing_else(code: str) -> None:
    assert not list(untyped(ast.parse(code).body))
