"""Documents that follow from code are current, and what they say exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from floodmark.cli import main
from floodmark.docs import generated_files
from tests.conftest import ROOT, run

DOCUMENTS = [path for path in ROOT.rglob("*.md") if not {".venv", "results", ".testbed"} & set(path.parts)]


@pytest.mark.parametrize("path", generated_files(), ids=lambda path: path.name)
def test_a_generated_file_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated_files()[path], "run 'make schema'"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("name", sorted(main.commands))
def test_a_command_has_help_with_an_example(name: str) -> None:
    text = main.commands[name].get_help(click.Context(main.commands[name], info_name=name))
    assert "Example:" in text
    assert f"floodmark {name}" in text
    assert "\\b" not in text, "the examples are wrapped"


def test_make_alone_prints_every_target_with_a_line() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)", text, re.MULTILINE))
    printed = run("make").stdout
    assert targets
    assert {target for target in targets if f"make {target} " not in printed} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_file_has_hashes_and_no_addresses(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    pins = re.findall(r"^[a-z0-9_.\[\]-]+==", text, re.MULTILINE)
    assert len(re.findall(r"--hash=sha256:", text)) >= len(pins) > 0


def test_the_version_is_that_of_the_changelog() -> None:
    from floodmark import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
