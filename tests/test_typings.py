"""What typings/ says of Ansible is so in the Ansible that is installed."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from tests.conftest import ROOT

STUBS = sorted((ROOT / "typings").rglob("*.pyi"))


def module_of(stub: Path) -> str:
    return ".".join(stub.relative_to(ROOT / "typings").with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("stub", STUBS, ids=module_of)
def test_what_is_declared_is_there(stub: Path) -> None:
    module = importlib.import_module(module_of(stub))
    body = ast.parse(stub.read_text(encoding="utf-8")).body
    functions = [(module, one) for one in body if isinstance(one, ast.FunctionDef)]
    for declared in (one for one in body if isinstance(one, ast.ClassDef)):
        own = getattr(module, declared.name)
        functions += [(own, one) for one in declared.body if isinstance(one, ast.FunctionDef)]
    for owner, function in functions:
        known = inspect.signature(getattr(owner, function.name)).parameters
        arguments = [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]
        assert set(arguments) <= known.keys(), f"{owner.__name__}.{function.name}"


def test_every_module_of_ours_has_its_name_in_ansibles_package() -> None:
    files = [*ROOT.glob("roles/*/module_utils/*.py"), *ROOT.glob("plugins/module_utils/*.py")]
    said = {stub.stem: stub.read_text(encoding="utf-8") for stub in STUBS}
    for file in files:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        assert said[file.stem] == f"from {name} import *\n"
