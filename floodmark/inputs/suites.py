"""Suite files: a matrix of runs, and the order in which they are made.

A block has every combination of case and parameters once, in an order of its own, and each run measures
all hosts, so that what changes with time (a warm machine, a busy neighbour) meets all of them alike.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from floodmark.errors import FloodmarkError, SuiteError, did_you_mean
from floodmark.inputs.cases import (
    MOST_COMBINATIONS,
    SCHEMA_DIALECT,
    Case,
    Model,
    WrittenValue,
    allow_parameters,
    find_case,
    load_cases,
    read_model,
)
from floodmark.inputs.inventory import hosts_of_a_run, inventory_parameters
from floodmark.inputs.parameters import SEEDS, Parameters, as_yaml, resolve_parameters, unknown_parameter
from floodmark.paths import ROOT, relative
from floodmark.values import Content, ParameterValue, ParameterValues, Variables

SUITES = ROOT / "suites"
# Halves of the repetitions, alike in everything: what differs between them is what chance does (A/A).
HALVES = ("a1", "a2")
# Values of `order` of an Ansible play.
ORDERS = ("inventory", "reverse_inventory")


class SuiteFile(Model):
    """One suite: a file `suites/<name>.yml`."""

    kind: ClassVar[str] = "suite"
    schema_file: ClassVar[str] = "suites/schema.json"
    error: ClassVar[type[FloodmarkError]] = SuiteError

    title: str = Field(min_length=1, description="The question that the suite answers, in one line.")
    inventory: str = Field(
        default="inventory/testbed.yml", description="Where the hosts are described; relative to this checkout."
    )
    hosts: list[str] = Field(
        default=[], description="The proxy hosts to measure; without it all of the inventory's group proxies."
    )
    boot: Literal["once", "block", "run"] = Field(
        default="once",
        description="What boots its hosts anew, so that repetitions are independent of each other: every block, every "
        "run, or nothing (once).",
    )
    cases: list[int] = Field(min_length=1, description="Numbers of the cases.")
    vary: dict[str, list[WrittenValue]] = Field(
        default={}, description="Parameters of which every value is combined with every other."
    )
    parameters: dict[str, WrittenValue] = Field(default={}, description="Parameters that are the same in all runs.")
    repetitions: int = Field(ge=1, le=1000, description="How many blocks; each has every combination once.")
    seed: int = Field(default=1, ge=0, description="What the order of the runs is drawn with.")


@dataclass(frozen=True)
class Combination:
    """One point of the matrix: a case, the varied parameters, and all parameters that follow."""

    case: Case
    varied: ParameterValues
    parameters: Parameters

    @property
    def name(self) -> str:
        """What it is called: `case2-transport=tcp`."""
        return self._named(self.varied)

    @property
    def settings(self) -> str:
        """The same without a seed: combinations that differ in nothing else are repetitions of each other."""
        return self._named({name: value for name, value in self.varied.items() if name not in SEEDS})

    def _named(self, varied: Mapping[str, ParameterValue]) -> str:
        return "-".join([f"case{self.case.number}", *(f"{name}={as_yaml(value)}" for name, value in varied.items())])


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite: a combination in its place."""

    block: int
    half: str
    host_order: str
    combination: Combination

    @property
    def name(self) -> str:
        """What the journal calls it; a combination comes once in a block."""
        return f"block{self.block}-{self.combination.name}"


@dataclass(frozen=True)
class Suite:
    """A suite with all that it takes from cases and inventory filled in."""

    name: str
    file: SuiteFile
    hosts: tuple[str, ...]
    combinations: tuple[Combination, ...]

    @property
    def inventory(self) -> Path:
        """The inventory's file or folder."""
        return ROOT / self.file.inventory

    @property
    def content(self) -> Content:
        """All that makes its runs what they are. More repetitions are more runs, and none is another one."""
        return {
            "suite": self.name,
            "inventory": self.file.inventory,
            "hosts": list(self.hosts),
            "boot": self.file.boot,
            "seed": self.file.seed,
            "combinations": {
                one.name: {
                    "upstream": one.case.upstream.model_dump(),
                    "others": [other.model_dump() for other in one.case.others],
                    "parameters": one.parameters.model_dump(),
                }
                for one in self.combinations
            },
        }

    @property
    def digest(self) -> str:
        """The hash of its content: two suites with one digest have the same runs."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()[:16]

    def runs(self) -> Iterator[SuiteRun]:
        """Yield all runs in their order; the first blocks do not depend on how many there are."""
        for block in range(1, self.file.repetitions + 1):
            for combination in self._random("order", block).sample(self.combinations, len(self.combinations)):
                yield SuiteRun(
                    block=block,
                    half=self._alternate(HALVES, block, combination),
                    host_order=self._alternate(ORDERS, block, combination),
                    combination=combination,
                )

    def _alternate(self, two: tuple[str, str], block: int, combination: Combination) -> str:
        """Give each of two repetitions that follow each other one of two values; a coin says which comes first."""
        repeated = [one.name for one in self.combinations if one.settings == combination.settings]
        pair, second = divmod((block - 1) * len(repeated) + repeated.index(combination.name), 2)
        coin = self._random(*two, pair, combination.settings).randrange(2)
        return two[coin ^ second]

    def _random(self, *purpose: object) -> random.Random:
        return random.Random("/".join(map(str, (self.file.seed, *purpose))))


def suite_schema() -> Content:
    """Return the JSON Schema of a suite file; `suites/schema.json` is this, written down."""
    schema = SuiteFile.model_json_schema()
    schema["$schema"] = SCHEMA_DIALECT
    allow_parameters(schema["properties"]["parameters"])
    allow_parameters(schema["properties"]["vary"], several=True)
    return schema


def read_suite(path: Path) -> SuiteFile:
    """Read a suite file and check what can be said without its inventory.

    Raises:
        FloodmarkError: it does not exist, does not fit its schema, or contradicts itself.
    """
    if not path.is_file():
        raise SuiteError(f"there is no suite file '{path}': {_nearest_suite(path)}")
    file = read_model(path, SuiteFile)
    name = relative(path)
    _refuse_twice(name, "cases", file.cases)
    _refuse_twice(name, "hosts", file.hosts)
    for axis, values in file.vary.items():
        if axis not in Parameters.model_fields:
            raise SuiteError(unknown_parameter(axis, f"{name}: vary"))
        if axis in file.parameters:
            raise SuiteError(
                f"{name}: {axis} is fixed by parameters ({as_yaml(file.parameters[axis])}) and varied "
                f"({_listed(values)}): it can be one of the two, take it out of the other."
            )
        if not values:
            raise SuiteError(f"{name}: vary.{axis} has no value: name those that are to be measured, or leave it out.")
        _refuse_twice(name, f"vary.{axis}", values)
    combinations = math.prod([len(file.cases), *map(len, file.vary.values())])
    if combinations > MOST_COMBINATIONS:
        raise SuiteError(
            f"{name}: cases and vary make {combinations:,} combinations, and a suite has at most "
            f"{MOST_COMBINATIONS:,}: vary less, or make several suites of it."
        )
    return file


def resolve_suite(path: Path, groups: Mapping[str, Sequence[str]], variables: Variables) -> Suite:
    """Resolve a suite against its inventory.

    Args:
        path: the suite file.
        groups: group -> hosts of its inventory.
        variables: what the inventory says for the hosts of a run, such as `floodmark_parameters`.

    Raises:
        FloodmarkError: something in the file is not as it must be.
    """
    file, name = read_suite(path), relative(path)
    return Suite(
        name=path.stem,
        file=file,
        hosts=_measured_hosts(name, file, groups),
        combinations=tuple(_combinations(name, file, inventory_parameters(variables))),
    )


def _combinations(name: str, file: SuiteFile, of_hosts: ParameterValues) -> Iterator[Combination]:
    cases = load_cases()
    seen: dict[str, Combination] = {}
    for number in file.cases:
        try:
            case = find_case(number, cases)
        except FloodmarkError as error:
            raise SuiteError(f"{name}: cases: {error}") from None
        for values in product(*file.vary.values()):
            varied = dict(zip(file.vary, values, strict=True))
            layers = [case.parameters.model_dump(), of_hosts, file.parameters, varied]
            one = Combination(case, varied, resolve_parameters(*layers, origin=name))
            same = seen.setdefault(f"{case.number} {one.parameters.model_dump_json()}", one)
            if same is not one:
                raise SuiteError(f"{name}: vary: {one.varied} is the same as {same.varied}: name each value once.")
            yield one


def _measured_hosts(name: str, file: SuiteFile, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    try:
        known = hosts_of_a_run(groups)
    except FloodmarkError as error:
        raise SuiteError(f"{name}: inventory = '{file.inventory}': {error}") from None
    for host in file.hosts:
        if host not in known.proxies:
            raise SuiteError(
                f"{name}: host '{host}' is not in the group proxies of {file.inventory}: "
                f"{did_you_mean(host, known.proxies)}Allowed are {', '.join(known.proxies)}."
            )
    hosts = tuple(file.hosts or known.proxies)
    real = [host for host in hosts if host not in known.testbed]
    if file.boot != "once" and real:
        raise SuiteError(
            f"{name}: boot: {file.boot} is for hosts of the testbed, and {', '.join(real)} of {file.inventory} "
            f"{'is' if len(real) == 1 else 'are'} not in the group testbed: say boot: once, or take other hosts. "
            "Floodmark does not reboot your machines."
        )
    return hosts


def _refuse_twice(name: str, key: str, values: Sequence[object]) -> None:
    texts = [as_yaml(value) for value in values]
    twice = [text for text in dict.fromkeys(texts) if texts.count(text) > 1]
    if twice:
        raise SuiteError(f"{name}: {key} has {twice[0]} twice: name each once, repetitions says how often it is run.")


def _nearest_suite(path: Path) -> str:
    known = [relative(one) for one in sorted(SUITES.glob("*.yml"))]
    return f"{did_you_mean(str(path), known)}There are {', '.join(known)}; docs/suites.md says how to write one."


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(as_yaml, values))
