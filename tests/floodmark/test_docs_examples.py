"""The examples of the documentation work: what a reader copies is what there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from floodmark.errors import FloodmarkError
from floodmark.runner import plan
from floodmark.runner.capacity import Capacity
from floodmark.runs import folders as runs
from floodmark.runs.folders import RunFolder
from floodmark.verdict.judge import judge_run
from tests.conftest import ROOT
from tests.floodmark.examples import (
    PAGES,
    SHELL,
    Block,
    ExampleError,
    blocks,
    check,
    check_span,
    check_yaml,
    commands,
    help_examples,
    spans,
)
from tests.floodmark.verdict.test_judge import NoAccept

BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(*languages: str, runs: bool | None = None) -> pytest.MarkDecorator:
    """Parametrize a test with the blocks of some languages."""
    found = [one for one in BLOCKS if one.language in languages and runs in (None, one.runs)]
    return pytest.mark.parametrize("block", found, ids=lambda one: one.place)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which plans are made, however little there is of the machine."""
    monkeypatch.setattr(Capacity, "here", Capacity)
    monkeypatch.setattr(plan, "new_run", lambda number, transport: runs.new_run(number, transport, tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what floodmark is made of, with one run in its results: case 2 as it should be."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("floodmark", "collectors", "cases", "suites", "roles", "inventory"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = root / "results/20231114T221320Z-case2-unix"
    path.mkdir(parents=True)
    fake = NoAccept(path)
    fake.write()
    fake.write_plan("proxy1")
    judge_run(RunFolder(path))
    return root


@pytest.fixture
def execute(checkout: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in the copy, with the copy's floodmark."""

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(checkout),
        }
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)

    return run


def test_there_are_examples_of_every_kind() -> None:
    assert {one.language for one in BLOCKS} >= {*SHELL, "yaml", "python"}
    assert sum(one.runs for one in BLOCKS) >= 3
    programs = {words[0] for one in BLOCKS if one.language in SHELL for words in commands(one.text)}
    assert programs >= {"floodmark", "ansible-playbook", "make"}


@of(*SHELL)
def test_the_commands_of_a_block_are_such_as_there_are(block: Block, results: Path) -> None:
    for words in commands(block.text):
        check(words, results)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_in_sentences_are_such_as_there_are(page: Path, results: Path) -> None:
    for text in spans(page):
        check_span(text, results)


@pytest.mark.parametrize(("name", "text"), list(help_examples()))
def test_the_examples_of_a_commands_help_are_such_as_there_are(name: str, text: str, results: Path) -> None:
    found = list(commands(text))
    assert found, name
    for words in found:
        check(words, results)


@of("yaml")
def test_a_block_of_yaml_is_what_a_file_may_have(block: Block, tmp_path: Path) -> None:
    check_yaml(block.text, tmp_path)


@of("sh", "", runs=True)
def test_a_block_that_needs_no_host_runs(block: Block, execute: Callable[..., Any]) -> None:
    done = execute("bash", "-euo", "pipefail", "-c", block.text)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout


@of("python")
def test_a_block_of_python_runs(block: Block, execute: Callable[..., Any]) -> None:
    done = execute(sys.executable, "-c", block.text)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


# --- and would not, if they were wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("floodmark show --jason", "No such option"),
        ("floodmark compare RUN... --by kernel --format xml", "'xml' is not one of"),
        ("floodmark compare RUN...", "Missing option '--by'"),
        ("floodmark shwo", "No such command"),
        ("floodmark suite suites/kernel.yml", "there is no suite file"),
        ("floodmark edge --case 1 -e usres=5", "did you mean 'users'"),
        ("ansible-playbook run-case.yml -e case=2 -e somaxcon=8", "did you mean 'somaxconn'"),
        ("ansible-playbook run-case.yml -e case=2 \\\n  -e users=0", "users=0 is not allowed"),
        ("ansible-playbook run-case.yml -e case=2 -i inventory/kernel.yml", "no inventory inventory/kernel.yml"),
        ("ansible-playbook run-cases.yml -e case=2", "no playbook run-cases.yml"),
        ("ansible-playbook playbooks/install-kernel.yml -e kernel_pakage=x", "no role has a variable kernel_pakage"),
        ("make case CASE=77", "there is no case '77'"),
        ("make case CASE=2 ARGS='-e transport=udp'", "transport=udp is not allowed"),
        ("make study ARGS='-e order=nginx'", "order=nginx is not allowed"),
        ("floodmark study -e somaxcon=8", "did you mean 'somaxconn'"),
        ("floodmark lab study -e 'point=case 9'", "lab study has no point 'case 9'"),
        ("floodmark lab single-requst", "did you mean 'single-request'"),
        ("ansible-playbook study.yml -i inventory/kernel.yml", "no inventory inventory/kernel.yml"),
        ("ansible-playbook run-lab.yml -e lab=single-requst", "did you mean 'single-request'"),
        ("make tests", "the Makefile has no tests"),
        ("make case NUMBER=2", "the Makefile has no NUMBER"),
    ],
)
def test_a_wrong_command_is_found(line: str, sentence: str, results: Path) -> None:
    (words,) = commands(line)
    with pytest.raises((click.UsageError, FloodmarkError, ExampleError)) as caught:
        check(words, results)
    error = caught.value
    assert sentence in (error.format_message() if isinstance(error, click.UsageError) else str(error))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title: x\ncases: [1]\nrepetitions: 2\nvari: {}\n", "unknown key 'vari'"),
        ("number: 3\nupstream: {acept: true}\nname: x\ntitle: x\n", "unknown key 'upstream.acept'"),
        ("mine: {testbed_kernal_image: x}\n", "no role has a variable testbed_kernal_image"),
    ],
)
def test_wrong_yaml_is_found(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises((FloodmarkError, ExampleError), match=sentence):
        check_yaml(text, tmp_path)


def test_a_command_that_does_not_work_is_found(execute: Callable[..., Any]) -> None:
    done = execute("bash", "-euc", 'floodmark sql "SELECT depth FROM accept_queue"')
    assert done.returncode == 2
    assert "Binder Error" in done.stderr
