"""What becomes of the study: every sentence of it that can be tested, with the runs that have tested it.

    cases/, labs/                  the sentences, how each is measured, and why it is so or not
    docs/claims-evidence.json      verdicts, collected from the runs in results/ by `floodmark claims --write`
    docs/claims-not-covered.yml    sentences that no run tests, with the reason
    docs/claims.md                 the page, generated from these three

A run counts when its command repeats it and our model explains it: it is valid, its expectations hold, and it has the
parameters that its case or its lab has now, with what its inventory sets for its hosts. A verdict counts while the
question is the one that the YAML asks now. Where there is a run that was made by a commit, those that were made by a
changed checkout do not count; where there is none, their commit is marked with a +.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from pydantic import Field

from floodmark.errors import RunError
from floodmark.inputs.cases import CASES, Base, CaseFile, Claim, Model, find_case, load_cases, read_model
from floodmark.inputs.inventory import LAB_PARAMETERS, PARAMETERS, inventory_parameters
from floodmark.inputs.labs import Lab, load_labs
from floodmark.inputs.parameters import Parameters, resolve_parameters
from floodmark.model.run import ControlNode
from floodmark.model.verdict import ClaimVerdict
from floodmark.paths import ROOT
from floodmark.runner.suite import list_inventory
from floodmark.runs.folders import RESULTS, LabFolder, RunFolder, labs_in, runs_in
from floodmark.runs.verdicts import read_verdicts
from floodmark.text import number
from floodmark.values import Value, Variables

DOCS = ROOT / "docs"
EVIDENCE = DOCS / "claims-evidence.json"
NOT_COVERED = DOCS / "claims-not-covered.yml"
PAGE = DOCS / "claims.md"
GENERAL = "nginx and the kernel in general"
UNSEEN = "not observed"
# What `make case` takes when it is not told; ansible.cfg says so.
DEFAULT_INVENTORY = "inventory/testbed.yml"
# Behind the commit of a checkout that was changed since.
CHANGED = "+"


class NotCovered(Model):
    """A sentence of the study that no run tests."""

    study: str
    reason: str


class NotCoveredFile(Model):
    """`docs/claims-not-covered.yml`."""

    sentences: list[NotCovered] = Field(min_length=1)


@dataclass(frozen=True)
class Stated:
    """A claim in its place.

    Attributes:
        id: names it in the evidence: `case 2/several_lines`.
        section: of the page.
        claim: what it says.
    """

    id: str
    section: str
    claim: Claim


@dataclass(frozen=True)
class Evidence:
    """What the runs of one kind say of one claim.

    Attributes:
        claim: its id.
        digest: of what was measured.
        where: the case, or the point of a lab, or how many of its points were judged together.
        transport: unix, tcp, or both.
        kernel: release.
        verdicts: verdict -> number of runs.
        value: of the newest run.
        run_id: of the newest run.
        inventory: that it was made with, as seen from its checkout.
        settings: hash of its parameters, or of those of all points of a lab.
        git_commit: that it was made by, with a + when the checkout differed from it.
        command: makes it again.
    """

    claim: str
    digest: str
    where: str
    transport: str
    kernel: str
    verdicts: dict[str, int]
    value: Value
    run_id: str
    inventory: str
    settings: str
    git_commit: str
    command: str


# --- the sentences --------------------------------------------------------------------------------


def stated_claims() -> dict[str, Stated]:
    """Return all claims by their id, in the order of the page."""
    found = [_stated("general", GENERAL, one) for one in read_model(CASES / "base.yml", Base).claims]
    for number_, case in load_cases().items():
        file = read_model(CASES / f"{case.number}-{case.name}.yml", CaseFile)
        found += [_stated(f"case {number_}", f"Case {number_}: {case.title}", one) for one in file.claims]
    for lab in load_labs().values():
        claims = [*lab.file.claims, *lab.file.overall.claims]
        found += [_stated(f"lab {lab.name}", f"Lab {lab.name}: {lab.file.question}", one) for one in claims]
    return {one.id: one for one in found}


def _stated(place: str, section: str, claim: Claim) -> Stated:
    return Stated(f"{place}/{claim.name}", section, claim)


# --- from results to evidence ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """What one run says of one claim."""

    claim: str
    where: str
    transport: str
    kernel: str
    verdict: ClaimVerdict
    run_id: str
    inventory: str
    settings: str
    git_commit: str
    command: str


def collect(results: Path = RESULTS) -> list[Evidence]:
    """Return what the runs in a folder say of the claims as they are stated now.

    Of runs of one kind the newest gives the value, and all of them are counted.
    """
    stated, labs = stated_claims(), load_labs()
    groups: dict[tuple[str, ...], list[_Said]] = {}
    for path in [*runs_in(results), *labs_in(results)]:
        for one in _said_by(path, labs):
            known = stated.get(one.claim)
            if known and known.claim.digest == one.verdict.digest:
                groups.setdefault(_kind(one), []).append(one)
    return _in_order([_evidence(runs) for runs in groups.values()], stated)


def _evidence(runs: list[_Said]) -> Evidence:
    runs = [one for one in runs if not one.git_commit.endswith(CHANGED)] or runs
    newest = runs[-1]
    return Evidence(
        claim=newest.claim,
        digest=newest.verdict.digest,
        where=newest.where,
        transport=newest.transport,
        kernel=newest.kernel,
        verdicts=dict(sorted(Counter(one.verdict.verdict for one in runs).items())),
        value=newest.verdict.value,
        run_id=newest.run_id,
        inventory=newest.inventory,
        settings=newest.settings,
        git_commit=newest.git_commit,
        command=newest.command,
    )


def _said_by(path: Path, labs: Mapping[str, Lab]) -> Iterator[_Said]:
    """Yield what a folder of the results says, if it counts."""
    try:
        if (path / "lab.json").exists():
            yield from _said_by_lab(path, labs)
        elif (path / "run.json").exists():
            yield from _said_by_run(RunFolder(path), labs)
    except RunError:
        return  # damaged


def _said_by_run(run: RunFolder, labs: Mapping[str, Lab]) -> Iterator[_Said]:
    record = run.read_run()
    if record.clock != "host" or (record.lab and record.lab not in labs) or not _knows_all(record.parameters):
        return
    lab = labs[record.lab] if record.lab else None
    case_number, transport = record.case.number, str(record.parameters["transport"])
    place = f"lab {lab.name}" if lab else f"case {case_number}"
    inventory, settings = _inventory(record.inventory or []), _digest(record.parameters)
    of_case = f"{place}, case {case_number}" if lab else place
    where = _places(inventory, record.inventory_parameters).get((of_case, settings))
    if where is None:
        return
    if lab:
        command = _command(f"lab LAB={lab.name}", inventory)
    else:
        options = [] if transport == "unix" else [f"-e transport={transport}"]
        command = _command(f"case CASE={case_number}", inventory, *options)
    of_the_case = _names_in_case(case_number)
    for verdict in read_verdicts(run):
        for one in verdict.claims if verdict.passed else []:
            # What a case says is not asked under the settings of a lab.
            if lab is None:
                claim, seen_in = f"{place if one.name in of_the_case else 'general'}/{one.name}", where
            elif any(one.name == claim.name for claim in lab.file.claims):
                claim, seen_in = f"{place}/{one.name}", where
            elif one.name in lab.file.also_asks:
                claim, seen_in = f"general/{one.name}", f"{place}, {where}"
            else:
                continue
            yield _Said(
                claim, seen_in, transport, verdict.kernel or "", one, run.run_id, inventory, settings,
                _commit(record.control_node),
                command,
            )  # fmt: skip


@cache
def _names_in_case(case_number: int) -> set[str]:
    case = find_case(case_number, load_cases())
    return {one.name for one in read_model(CASES / f"{case.number}-{case.name}.yml", CaseFile).claims}


def _said_by_lab(path: Path, labs: Mapping[str, Lab]) -> Iterator[_Said]:
    record = LabFolder(path).read()
    lab = labs.get(record.lab)
    if lab is None or record.overall is None or record.table is None:
        return
    if not all(_knows_all(row.model_dump()) for row in record.table):
        return
    place, inventory = f"lab {lab.name}", _inventory([record.inventory])
    places = _places(inventory, record.inventory_parameters)
    settings = _digest_of_all({_digest(row.model_dump()) for row in record.table})
    if (place, settings) not in places:
        return  # with other settings, or not all of them
    transports = sorted({str(row.get("transport")) for row in record.table}, reverse=True)
    for host in record.overall:
        rows = [row.passed for row in record.rows_of(host.host)]
        for one in host.claims:
            yield _Said(
                f"{place}/{one.name}", f"{sum(rows)} of its {len(rows)} points", " and ".join(transports),
                host.kernel or "", one, path.name, inventory, settings, _commit(record.control_node),
                _command(f"lab LAB={lab.name}", inventory),
            )  # fmt: skip


def _commit(state: ControlNode) -> str:
    return f"{state.git_commit or 'unknown'}"[:12] + (CHANGED if state.git_dirty is not False else "")


def _command(target: str, inventory: str, *options: str) -> str:
    """Return what makes a run or a lab again."""
    if inventory != DEFAULT_INVENTORY:
        options = (f"-i {inventory}", *options)
    return f"make {target}" + (f" ARGS='{' '.join(options)}'" if options else "")


# --- what a command makes now ---------------------------------------------------------------------


def _inventory(paths: Sequence[str]) -> str:
    """Return what an inventory is called as seen from its checkout, wherever that lies."""
    each = [Path(path).parts for path in paths]
    return " -i ".join("/".join(one[one.index("inventory") :]) if "inventory" in one else one[-1] for one in each)


def _places(inventory: str, recorded: Mapping[str, Value]) -> Mapping[tuple[str, str], str]:
    """Return what the cases and the labs are made with now.

    Args:
        inventory: of the runs; one of this checkout counts as it is now.
        recorded: what it set for its hosts when the run was made, for one that is not here.

    Returns:
        Case or lab, and the hash of its parameters, or of those of all points -> the case, the point, or the lab.
    """
    return _places_with(inventory, json.dumps(recorded, sort_keys=True) if not (ROOT / inventory).exists() else "")


@cache
def _places_with(inventory: str, recorded: str) -> Mapping[tuple[str, str], str]:
    cases, labs = load_cases(), load_labs()
    if recorded:
        own = json.loads(recorded)
        variables: Variables = {PARAMETERS: own, LAB_PARAMETERS: dict.fromkeys(labs, own)}
    else:
        _, variables = list_inventory(ROOT / inventory)
    places = {}
    for case in cases.values():
        for transport in ("unix", "tcp"):
            layers = [case.parameters.model_dump(), inventory_parameters(variables), {"transport": transport}]
            settings = _digest(resolve_parameters(*layers, origin=inventory).model_dump())
            places[f"case {case.number}", settings] = f"case {case.number}"
    for lab in labs.values():
        digests = set()
        for point in lab.points({}):
            layers = lab.layers(point, find_case(point.case, cases), inventory_parameters(variables, lab))
            settings = _digest(resolve_parameters(*layers, origin=inventory).model_dump())
            digests.add(settings)
            places[f"lab {lab.name}, case {point.case}", settings] = point.name
        places[f"lab {lab.name}", _digest_of_all(digests)] = f"lab {lab.name}"
    return places


# The parameters that decide what is seen of a claim. How often the agent looks is for the host to say, and what key
# figures leave out no claim is asked of.
DECIDING = tuple(name for name in Parameters.model_fields if not name.endswith("_hz") and name != "warmup_s")


def _knows_all(parameters: Mapping[str, Value]) -> bool:
    """Tell whether a run recorded all parameters that decide; one of an older version may not have."""
    return all(name in parameters for name in DECIDING)


def _digest(parameters: Mapping[str, Value]) -> str:
    """Return the hash of the parameters that decide what is seen of a claim."""
    deciding = {name: parameters[name] for name in DECIDING}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]


def _digest_of_all(points: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(points)).encode()).hexdigest()[:12]


# --- what is kept ---------------------------------------------------------------------------------


def merge(found: list[Evidence], known: list[Evidence]) -> list[Evidence]:
    """Return what was found, and what was known before of runs that are not here: of other kernels, on other machines.

    Args:
        found: of the results that are there.
        known: as it was written down; what answers an older question is dropped.
    """
    stated = stated_claims()
    there = {_kind(one) for one in found}
    kept = [one for one in known if _kind(one) not in there and _is_current(one, stated)]
    return _in_order([*found, *kept], stated)


def _is_current(one: Evidence, stated: Mapping[str, Stated]) -> bool:
    """Tell whether it answers a claim as it is now, with settings that its command still makes."""
    asked = one.claim in stated and stated[one.claim].claim.digest == one.digest
    here = (ROOT / one.inventory).exists()
    return asked and (not here or one.settings in {settings for _, settings in _places(one.inventory, {})})


def _kind(one: _Said | Evidence) -> tuple[str, ...]:
    return one.claim, one.where, one.transport, one.kernel, one.command


def _in_order(found: list[Evidence], stated: Mapping[str, Stated]) -> list[Evidence]:
    order = list(stated)
    return sorted(found, key=lambda one: (order.index(one.claim), one.where, one.kernel or "", one.transport != "unix"))


def write_evidence(found: list[Evidence], path: Path = EVIDENCE) -> None:
    """Write down what was collected."""
    text = json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_evidence(path: Path = EVIDENCE) -> list[Evidence]:
    """Read what was collected."""
    return [Evidence(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


# --- the page -------------------------------------------------------------------------------------

_HEAD = """\
# Every sentence of the study, and what becomes of it

Floodmark grew out of *Nginx Reverse Proxy Analysis*, a small study of nginx 1.22.1 on Linux 6.1.12, 6.2.1 and 6.2.2,
with five upstreams written in C behind a unix socket, `curl`s in a loop, `/proc/net/unix`, `strace` and nginx's
`stub_status`. Cases 1 to 5 and the four labs do again what it did. This page has each sentence of it that can be
tested: our verdict, the figure, the run that shows it, the command that makes it again, and where in the kernel or
nginx one can read why.

It is generated by `floodmark claims --write` from `cases/`, `labs/` and the verdicts of real runs
([claims-evidence.json](claims-evidence.json)). A run counts when it is valid, every expectation of our model holds in
it, and it has the parameters of its case or lab, with what its inventory sets for slow hosts, as they are now. n is the
number of such runs: one settles what is the same each time, a state or a count, and not how much a share or a size
varies. The value is that of the newest run, made by the commit beside it, or by a checkout that differed from it (+).
*Not observed*: the run cannot tell. *It depends*: on the case or the transport, as the table of the sentence shows.
"""


def claims_page(evidence: list[Evidence]) -> str:
    """Return docs/claims.md."""
    stated = stated_claims()
    by_claim: dict[str, list[Evidence]] = {name: [] for name in stated}
    for one in evidence:
        if one.claim in by_claim:
            by_claim[one.claim].append(one)
    parts = [_HEAD, _summary(stated, by_claim)]
    sections = dict.fromkeys(one.section for one in stated.values())
    for section in sections:
        parts.append(f"\n## {section[0].upper()}{section[1:]}\n")
        parts += [_describe(one, by_claim[one.id]) for one in stated.values() if one.section == section]
    parts.append(_not_covered())
    return "".join(parts)


def _summary(stated: Mapping[str, Stated], by_claim: Mapping[str, list[Evidence]]) -> str:
    counts = Counter(_in_short(by_claim[name]) for name in stated)
    lines = [f"\n{len(stated)} sentences: {', '.join(f'{n} {verdict}' for verdict, n in counts.most_common())}.\n"]
    lines.append("\n| where | the study says | verdict |\n|---|---|---|\n")
    for one in stated.values():
        place = one.id.partition("/")[0]
        lines.append(
            f"| {place} | [{one.claim.name.replace('_', ' ')}](#{_anchor(one)}) | {_in_short(by_claim[one.id])} |\n"
        )
    return "".join(lines)


def _in_short(evidence: list[Evidence]) -> str:
    """Say in a word what becomes of a claim over all runs that could tell."""
    seen = {verdict for one in evidence for verdict in one.verdicts} - {UNSEEN}
    if not seen:
        return "no evidence" if not evidence else UNSEEN
    return "it depends" if len(seen) > 1 else seen.pop()


def _anchor(one: Stated) -> str:
    """Return the name of a heading as GitHub links to it."""
    return _heading(one).lower().replace(" ", "-").replace(":", "").replace(",", "")


def _heading(one: Stated) -> str:
    return f"{one.id.partition('/')[0]} {one.claim.name.replace('_', ' ')}"


def _describe(one: Stated, evidence: list[Evidence]) -> str:
    claim = one.claim
    lines = [f"\n### {_heading(one)}\n\n> {claim.study}\n\n"]
    if claim.measured:
        lines.append(f"Measured: {claim.measured}; it holds when `{' '.join(claim.holds.split())}`.\n\n")
    telling = [each for each in evidence if set(each.verdicts) != {UNSEEN}]
    if telling:
        lines.append(
            "| in | transport | Linux | verdict | value | n | run | command |\n|---|---|---|---|---|---|---|---|\n"
        )
        lines += [_row(each) for each in telling]
    silent = dict.fromkeys(f"{each.where} over {each.transport}" for each in evidence if each not in telling)
    if silent:
        lines.append(f"\nNot observed in {', '.join(silent)}.\n")
    lines.append(f"\n{claim.why}\n\nSource: {claim.source}\n")
    return "".join(lines)


def _row(one: Evidence) -> str:
    n = sum(one.verdicts.values())
    verdict = (
        next(iter(one.verdicts)) if len(one.verdicts) == 1 else ", ".join(f"{k} {v} ×" for k, v in one.verdicts.items())
    )
    return (
        f"| {one.where} | {one.transport} | {one.kernel} | {verdict} | {number(one.value)} | {n} | "
        f"{one.run_id} ({one.git_commit}) | `{one.command}` |\n"
    )


def _not_covered() -> str:
    lines = ["\n## Not covered\n\n| the study says | why no run tests it |\n|---|---|\n"]
    lines += [f"| {one.study} | {one.reason} |\n" for one in read_model(NOT_COVERED, NotCoveredFile).sentences]
    return "".join(lines)
