"""Packages import only from those that docs/whats-here.md names above them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "floodmark"


def order() -> list[str]:
    """The names of the tree's lines `  inputs/   what people write`, from the ground up."""
    tree = (ROOT / "docs/whats-here.md").read_text(encoding="utf-8")
    block = re.search(r"^floodmark/ .*\n((?:  .*\n)+)", tree, re.MULTILINE)
    assert block
    lines = re.findall(r"^  (\S+(?:, \S+)*)  ", block[1], re.MULTILINE)
    return [name.strip("/") for line in lines for name in line.split(", ")]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("floodmark."):
            yield str(node.module).split(".")[1]


def test_the_tree_names_all_packages_and_modules() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(order()) == there - {"__init__"}


def test_no_package_imports_from_one_below_it() -> None:
    places = {name: place for place, name in enumerate(order())}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for own, place in places.items()
        for path in [PACKAGE / f"{own}.py", *(PACKAGE / own).rglob("*.py")]
        if path.exists()
        for name in imports(path)
        if places[name] > place
    ]
    assert not wrong
