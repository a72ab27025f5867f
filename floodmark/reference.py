"""Pages of the documentation that follow from code: what there is to run, to set, to write and to call."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import click
import duckdb
from pydantic import BaseModel

from floodmark.cli import main
from floodmark.inputs.cases import Case, CaseFile, Expectation, Upstream, load_cases
from floodmark.inputs.parameters import Parameters, as_yaml, range_of
from floodmark.inputs.sql import lock
from floodmark.inputs.suites import SuiteFile
from floodmark.paths import ROOT
from floodmark.verdict import views as case_views

# Links of these pages are relative to where they would be in the repository.
FOLDER = "docs/reference"
HELP_WIDTH = 100
# `count(*) FILTER (status = 502 AND error IS NULL)`: expectations of how many get which answer, and no more.
_ANSWERS = re.compile(r"count\(\*\) FILTER \(status = (\d+)(?: AND error (?:IS NULL|= '(\w+)'))?\)")
_EXACTLY = re.compile(r"value = (.+)", re.DOTALL)


@cache
def reference_pages() -> dict[str, str]:
    """Return path in the repository, where no file is -> Markdown of every page."""
    pages = {
        "cases": cases_page(),
        "parameters": parameters_page(),
        "case-file": case_file_page(),
        "suite-file": suite_file_page(),
        "command-line": command_line_page(),
    }
    return {f"{FOLDER}/{name}.md": text for name, text in pages.items()}


# --- cases ----------------------------------------------------------------------------------------


def cases_page() -> str:
    """Return what each case is, what clients get by our model, and how a report of it is read."""
    head = _lines(
        "What the model predicts is checked in every run; [parameters](parameters.md) lists the values that a case",
        "starts from. All is said of workers that cannot run out of slots (`uncrowded`); what the names mean is in",
        "[case file](case-file.md#what-sql-may-use). The last column is for the default values, and empty where the",
        "number depends on how a race for the queue ends.",
    )
    return "# Cases\n\n" + head + "\n".join(_case(case) for case in load_cases().values())


def case_anchor(case: Case) -> str:
    """Return the name of a case's section of its page."""
    return f"case-{case.number}-{case.name}"


def _case(case: Case) -> str:
    file = f"cases/{case.number}-{case.name}.yml"
    base = next(iter(load_cases().values())).parameters.model_dump()
    own = {name: value for name, value in case.parameters.model_dump().items() if value != base[name]}
    calls = ", ".join(f"{name}: {_plain(value)}" for name, value in case.upstream.model_dump().items())
    lines = [
        f"\n## Case {case.number}: {case.name}\n",
        f"{case.title}. `{calls}` ([{file}](../../{file}))\n",
        *([f"Differs from the others in `{_settings(own)}`.\n"] if own else []),
        *(f"{paragraph}\n" for paragraph in case.reading),
    ]
    predicted = list(_answers(case))
    if predicted:
        lines.append(_table(("clients get", "over", "how many", "when", "by default"), predicted))
    return "\n".join(lines)


def _answers(case: Case) -> Iterator[tuple[str, ...]]:
    for one in case.expect:
        answer, exactly = _ANSWERS.fullmatch(one.value), _EXACTLY.fullmatch(one.holds)
        if answer and exactly:
            status = " ".join(filter(None, answer.groups()))
            when = one.applies.removeprefix("uncrowded").removeprefix(" AND ").removeprefix("true")
            formula = " ".join(exactly[1].split())
            number = _by_default(case, one, formula)
            yield status, " and ".join(one.transport), f"`{formula}`", when and f"`{when}`", number


def _by_default(case: Case, one: Expectation, formula: str) -> str:
    """Evaluate a prediction for the case's own parameters; empty where it needs to know what happened."""
    values = {**case.parameters.model_dump(), "sent": case.parameters.users}
    values["queue_limit"] = min(values["somaxconn"], values["upstream_backlog"])
    values["worker_slots"] = case.parameters.worker_slots
    values["uncrowded"] = case.parameters.uncrowded
    columns = ", ".join(f"${name} AS {name}" for name in values)
    database = lock(duckdb.connect())
    try:
        row = database.execute(f"SELECT {formula}, {one.applies} FROM (SELECT {columns})", values).fetchone()
    except (duckdb.BinderException, duckdb.CatalogException):
        return ""
    return str(row[0]) if row and row[1] else ""


# --- parameters -----------------------------------------------------------------------------------


def parameters_page() -> str:
    """Return every parameter with its default, its range and its meaning."""
    base = next(iter(load_cases().values())).parameters.model_dump()
    rows = [
        (f"`{name}`", Parameters.model_fields[name].description or "", f"`{_plain(value)}`", range_of(name))
        for name, value in base.items()
    ]
    head = _lines(
        "Given with `-e name=value`, in a suite, or in an inventory's `floodmark_parameters`. The defaults are those",
        "of [cases/base.yml](../../cases/base.yml); a [case](cases.md) may have others, and `-e` has the last word.",
        "A lab overrides an inventory, unless that has values for just this lab in `floodmark_lab_parameters`:",
        "`{memory-stability: {start_spread_ms: 45000}}`.",
    )
    return "# Parameters\n\n" + head + _table(("parameter", "meaning", "default", "allowed"), rows)


# --- files ----------------------------------------------------------------------------------------


def case_file_page() -> str:
    """Return the keys of a case file, and what its SQL may use."""
    parts = (
        ("The file", CaseFile),
        ("upstream", Upstream),
        ("An entry of fault and expect", Expectation),
    )
    views = textwrap.dedent((case_views.__doc__ or "").rpartition("\n\n")[2])
    head = _lines(
        "`cases/<number>-<name>.yml`; [how to add a case](../../CONTRIBUTING.md#how-to-add-a-case) goes through it in",
        "order, and [cases/2-no-accept.yml](../../cases/2-no-accept.yml) is one. Unknown keys are errors.",
    )
    sql = (
        "\n## What SQL may use\n\nThe tables of a run ([columns](../../results/README.md)) and these:\n\n"
        f"```text\n{views.rstrip()}\n```\n"
    )
    return "# Case file\n\n" + head + "".join(_keys(title, model) for title, model in parts) + sql


def suite_file_page() -> str:
    """Return the keys of a suite file."""
    head = "`suites/<name>.yml`; [suites](../suites.md) says what becomes of it.\n"
    return "# Suite file\n\n" + head + _keys("The file", SuiteFile)


def _keys(title: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema(by_alias=True)
    required = set(schema.get("required", []))
    rows = [
        (f"`{name}`", _meaning(one, schema), _allowed(one, schema), _default(name, one, required))
        for name, one in schema["properties"].items()
    ]
    return f"\n## {title}\n\n" + _table(("key", "meaning", "value", "default"), rows)


def _meaning(one: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return what a key means: in its own words, or in those of the mapping behind it."""
    return str(one.get("description") or schema.get("$defs", {}).get(_behind(one), {}).get("description", ""))


def _behind(one: dict[str, Any]) -> str:
    return str(one.get("$ref", "")).rpartition("/")[2]


def _allowed(one: dict[str, Any], schema: dict[str, Any]) -> str:
    """Say in words what JSON Schema allows."""
    if "$ref" in one:
        kind = schema["$defs"][_behind(one)]
        return "mapping, see below" if "properties" in kind else _allowed(kind, schema)
    if "const" in one:
        return f"`{_plain(one['const'])}`"
    if "enum" in one:
        return " or ".join(f"`{_plain(value)}`" for value in one["enum"])
    if one.get("type") == "array":
        return (
            f"list of {_allowed(one['items'], schema)}".replace("of mapping,", "of mappings,")
            if one["items"]
            else "list"
        )
    if one.get("type") == "object":
        return "mapping"
    words = {"boolean": "`true` or `false`", "string": "text", "integer": "whole number"}.get(one.get("type", ""), "")
    ends = [f"{word} {one[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in one]
    return " ".join([words, *ends, *([f"like `{one['pattern']}`"] if "pattern" in one else [])])


def _default(name: str, one: dict[str, Any], required: set[str]) -> str:
    if name in required:
        return "must be given"
    default = one.get("default")
    return "" if default in ({}, [], None) or isinstance(default, dict) else f"`{_plain(default)}`"


# --- the command line -----------------------------------------------------------------------------


def command_line_page() -> str:
    """Return what each command says of itself, and the targets of the Makefile."""
    parent = click.Context(main, info_name="floodmark", max_content_width=HELP_WIDTH, terminal_width=HELP_WIDTH)
    commands = [_help("floodmark", main, parent)]
    for name, command in sorted(main.commands.items()):
        context = click.Context(command, parent=parent, info_name=name, terminal_width=HELP_WIDTH)
        commands.append(_help(f"floodmark {name}", command, context))
    targets = re.findall(r"^([a-z-]+):.*## (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    rows = [(f"`make {name}`", meaning) for name, meaning in targets]
    head = _lines(
        "Runs are made by `ansible-playbook`, or by `make`, which sets up what it needs. `floodmark` shows what came",
        "of them.",
    )
    makes = "\n## make\n\n" + _table(("target", "what it does"), rows)
    return "# Command line\n\n" + head + makes + "".join(commands)


def _help(name: str, command: click.Command, context: click.Context) -> str:
    return f"\n## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


# --- Markdown -------------------------------------------------------------------------------------


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n" + "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _plain(value: Any) -> str:
    """Return a value as YAML has it."""
    return ", ".join(map(as_yaml, value)) if isinstance(value, list) else as_yaml(value)


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items())
