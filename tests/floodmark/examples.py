"""Examples in the documentation: how they are found, and how it is checked that they would work.

A block of a page that is marked with `<!-- runs -->` in the line above it needs no host, and is executed as it stands
on a made-up run. Of all others each command is checked as far as that goes without a host: options exist, values are
allowed, files are there, a plan can be made.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager

from floodmark.cli import main
from floodmark.inputs.cases import CaseFile, Expectation, find_case, load_cases, read_model
from floodmark.inputs.given import MARK
from floodmark.inputs.inventory import CAPS, LAB_PARAMETERS, OWNED, PARAMETERS
from floodmark.inputs.labs import STUDY, find_lab
from floodmark.inputs.parameters import given_parameters, resolve_parameters
from floodmark.inputs.status_page import FLOOD_FROM
from floodmark.inputs.suites import read_suite
from floodmark.runner import plan
from floodmark.runs.folders import is_lab_folder
from tests.conftest import ROOT

PAGES = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "inventory/**/README.md", "roles/*/README.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"(<!-- runs -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "sh")
# Playbooks whose `-e` a plan is made of.
PLANNED = {"run-case.yml": False, "web-ui.yml": True}
# Those that make labs, with the lab, if it is always the same.
LABS_OF = {"run-lab.yml": "", "study.yml": STUDY}
# Targets of other Makefiles that the text speaks of: the kernel's own.
KERNELS_TARGETS = {"bindeb-pkg", "modules_install"}
# An inventory that a reader has written: two machines that are theirs.
MINE: dict[str, Any] = {
    "groups": {"proxies": ["mine"], "load_generators": ["localhost"], "testbed": []},
    "hostvars": {"mine": {"floodmark_i_own_these_hosts": True}, "localhost": {"ansible_connection": "local"}},
}


class ExampleError(Exception):
    """An example that would not work as it stands; the sentence says why."""


class IncompleteError(ExampleError):
    """An example that names no case: enough within a sentence, and not to be copied."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        place: page and line, for people.
        language: what stands behind the fence.
        text: its lines.
        runs: it needs no host.
    """

    place: str
    language: str
    text: str
    runs: bool


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(f"{page.relative_to(ROOT)}:{line}", found[2], found[3], bool(found[1]))


def spans(page: Path) -> Iterator[str]:
    """Yield the spans of code of a page outside of its blocks."""
    for found in re.finditer(r"`([^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
        yield " ".join(found[1].split())


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command that can be checked, without what comes after a pipe or goes to a file."""
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or _program(line.split()[0]) not in CHECKS:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        end = next((number for number, word in enumerate(words) if set(word) <= set("|&;<>()")), len(words))
        yield words[:end]


def _program(word: str) -> str:
    return word.rpartition("/")[2]


def check(words: Sequence[str], results: Path) -> None:
    """Check one command.

    Args:
        words: the command and its arguments.
        results: where plans are written.

    Raises:
        ExampleError: it would not work.
        click.UsageError, FloodmarkError: the same, in the words of floodmark.
    """
    CHECKS[_program(words[0])](list(words[1:]), results)


def _check_floodmark(arguments: list[str], results: Path) -> None:
    with main.make_context("floodmark", arguments) as context:
        name, command, rest = main.resolve_command(context, [*context._protected_args, *context.args])
        assert command
        given = command.make_context(name, rest, parent=context).params
    suite = given.get("file") or given.get("suite_file")
    if suite == Path("FILE"):
        raise IncompleteError("no suite is named")
    if suite:
        read_suite(ROOT / suite)
    if name == "edge":
        extra = dict(one.partition("=")[::2] for one in given["extra"])
        _check_plan({"case": given["number"], **extra}, str(given["inventory"]), results, web=False)
    lab = {"study": STUDY, "lab": str(given.get("name"))}.get(name or "")
    # Without a name it is the list of labs, or the study; a name may be that of an execution.
    if lab and not is_lab_folder(str(given["name"])) and lab != "None":
        _check_lab(lab, dict(one.partition("=")[::2] for one in given["extra"]), str(given["inventory"]))


def _check_playbook(arguments: list[str], results: Path) -> None:
    playbook, *rest = arguments
    if not (ROOT / playbook).is_file():
        raise ExampleError(f"there is no playbook {playbook}")
    extra: dict[str, str] = {}
    inventory = "inventory/testbed.yml"
    while rest:
        option = rest.pop(0)
        if option == "--ask-become-pass":
            continue
        if option not in ("-e", "-i", "--limit"):
            raise ExampleError(f"{playbook}: nobody has looked at the option {option}")
        value = rest.pop(0)
        if option == "-e":
            name, _, extra_value = value.partition("=")
            extra[name] = extra_value
        elif option == "-i":
            inventory = value
    if playbook in LABS_OF:
        extra.pop("new", None)
        _check_lab(LABS_OF[playbook] or extra.pop("lab", ""), extra, inventory)
        return
    if playbook in PLANNED:
        _check_plan(extra, inventory, results, web=PLANNED[playbook])
        return
    inventory_of(inventory)
    unknown = extra.keys() - plan.role_variables() - plan.RUN_OPTIONS
    if unknown:
        raise ExampleError(f"{playbook}: no role has a variable {', '.join(unknown)}")


def _check_make(arguments: list[str], results: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    targets = [word for word in arguments if "=" not in word]
    unknown = set(targets) - set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE)) - KERNELS_TARGETS
    if not KERNELS_TARGETS & set(targets):
        unknown |= given.keys() - set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))
    if unknown:
        raise ExampleError(f"the Makefile has no {', '.join(sorted(unknown))}")
    if "study" in targets:
        _check_floodmark(["study", *shlex.split(given.get("ARGS", ""))], results)
    for target, playbook in (("case", "run-case.yml"), ("web", "web-ui.yml")):
        if target in targets:
            case = ["-e", f"case={given.get('CASE', '')}"]
            _check_playbook([playbook, *case, *shlex.split(given.get("ARGS", ""))], results)


CHECKS = {"floodmark": _check_floodmark, "ansible-playbook": _check_playbook, "make": _check_make}


def _check_plan(extra: Mapping[str, str], inventory: str, results: Path, *, web: bool) -> None:
    if not extra.get("case"):
        raise IncompleteError("no case is named")
    made = plan.make_plan(extra, inventory_of(inventory), os.getpid(), web=web)
    assert made.folder.path.is_relative_to(results), "an example must not write into the results of this checkout"


def _check_lab(name: str, extra: Mapping[str, str], inventory: str) -> None:
    if name == "NAME":
        raise IncompleteError("no lab is named")
    lab, cases = find_lab(name), load_cases()
    inventory_of(inventory)
    plan.check_names(extra, plan.RUN_OPTIONS)
    for point in lab.points(extra):
        layers = lab.layers(point, find_case(point.case, cases), {})
        resolve_parameters(*layers, given_parameters(extra), origin="-e")


@cache
def inventory_of(name: str) -> dict[str, Any]:
    """Return what a run is told of an inventory; one that a reader is to write has two hosts."""
    if name.startswith("inventory/mine"):
        return MINE
    if not (ROOT / name).is_file():
        raise ExampleError(f"there is no inventory {name}")
    loader = DataLoader()
    inventory = InventoryManager(loader, sources=[str(ROOT / name)])
    variables = VariableManager(loader, inventory)
    hosts = {host.name: variables.get_vars(host=host, include_hostvars=False) for host in inventory.get_hosts()}
    first, *_ = inventory.get_hosts("proxies")
    return {**hosts[first.name], "groups": inventory.get_groups_dict(), "hostvars": hosts}


def check_yaml(text: str, folder: Path) -> None:
    """Check a block of YAML by what it looks like: a suite, a case, expectations of one, variables of hosts.

    Args:
        text: the block.
        folder: where a file of it may be written.

    Raises:
        ExampleError, FloodmarkError: something in it is not known, or not allowed.
    """
    content = yaml.safe_load(text)
    if isinstance(content, list):
        for one in content:
            Expectation.model_validate(one)
        return
    file = folder / "example.yml"
    file.write_text(text, encoding="utf-8")
    if "repetitions" in content:
        read_suite(file)
    elif "upstream" in content:
        read_model(file, CaseFile)
    else:
        # Variables of the hosts that the block names, or of all.
        known = plan.role_variables() | {CAPS, FLOOD_FROM, LAB_PARAMETERS, MARK, OWNED, PARAMETERS}
        of_hosts = [host for host in content.values() if isinstance(host, dict)] or [content]
        unknown = {name for host in of_hosts for name in host if not name.startswith("ansible_")} - known
        if unknown:
            raise ExampleError(f"no role has a variable {', '.join(sorted(unknown))}")


def check_span(text: str, results: Path) -> None:
    """Check a command within a sentence, which may leave out what the sentence is not about."""
    for words in commands(text):
        if len(words) > 1:
            with suppress(click.MissingParameter, IncompleteError):
                check(words, results)


def help_examples() -> Iterator[tuple[str, str]]:
    """Yield each command of floodmark with the examples of its help."""
    for name, command in main.commands.items():
        _, _, text = (command.help or "").partition("Example:")
        yield name, "\n".join(line.strip() for line in text.splitlines())
