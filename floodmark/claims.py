"""What becomes of the study: every sentence of it that can be tested, with the runs that have tested it.

    cases/, labs/                  the sentences, how each is measured, and why it is so or not
    docs/claims-evidence.json      verdicts, collected from the runs in results/ by `floodmark claims --write`
    docs/claims-not-covered.yml    sentences that no run tests, with the reason
    docs/claims.md                 the page, generated from these three

A run counts when it can be repeated by its command: it is valid, and has the parameters of its case or of its lab, but
for what its inventory sets for its hosts. A verdict counts while the question is the one that the YAML asks now. Where
there is a run that was made by a commit, those that were made by a changed checkout do not count; where there is none,
their commit is marked with a +.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from floodmark.errors import RunError
from floodmark.inputs.cases import CASES, Base, CaseFile, Claim, Model, find_case, load_cases, read_model
from floodmark.inputs.labs import Lab, load_labs
from floodmark.inputs.parameters import Parameters, resolve_parameters
from floodmark.paths import ROOT
from floodmark.runs.folders import RESULTS, RunFolder, labs_in, read_json, runs_in
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.tables import number

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
        git_commit: that it was made by, with a + when the checkout differed from it.
        command: makes it again.
    """

    claim: str
    digest: str
    where: str
    transport: str
    kernel: str
    verdicts: dict[str, int]
    value: Any
    run_id: str
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
    verdict: Mapping[str, Any]
    run_id: str
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
            if known and known.claim.digest == one.verdict.get("digest"):
                groups.setdefault(_kind(one), []).append(one)
    return _in_order([_evidence(runs) for runs in groups.values()], stated)


def _evidence(runs: list[_Said]) -> Evidence:
    runs = [one for one in runs if not one.git_commit.endswith(CHANGED)] or runs
    newest = runs[-1]
    return Evidence(
        claim=newest.claim,
        digest=newest.verdict["digest"],
        where=newest.where,
        transport=newest.transport,
        kernel=newest.kernel,
        verdicts=dict(sorted(Counter(one.verdict["verdict"] for one in runs).items())),
        value=newest.verdict["value"],
        run_id=newest.run_id,
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
    except (RunError, KeyError, TypeError):
        return  # damaged, or of a version that recorded less


def _said_by_run(run: RunFolder, labs: Mapping[str, Lab]) -> Iterator[_Said]:
    content = run.read_run()
    if content["clock"] != "host":
        return
    lab = labs.get(content["lab"]) if content["lab"] else None
    if content["lab"] and lab is None:
        return
    place = where = f"case {content['case']['number']}"
    transport = content["parameters"]["transport"]
    if lab:
        place, where = f"lab {lab.name}", _point_of(lab, content["parameters"], content)
    elif not _is_as_in_the_case(content):
        return
    if not where:
        return
    if lab:
        command = _command(f"lab LAB={lab.name}", content["inventory"])
    else:
        options = [] if transport == "unix" else [f"-e transport={transport}"]
        command = _command(f"case CASE={content['case']['number']}", content["inventory"], *options)
    of_the_case = _names_in_case(content["case"]["number"])
    for verdict in read_verdicts(run):
        for one in verdict["claims"] if verdict["valid"] else []:
            # What a case says is not asked under the settings of a lab.
            if lab is None:
                claim, seen_in = f"{place if one['name'] in of_the_case else 'general'}/{one['name']}", where
            elif any(one["name"] == claim.name for claim in lab.file.claims):
                claim, seen_in = f"{place}/{one['name']}", where
            elif one["name"] in lab.file.also_asks:
                claim, seen_in = f"general/{one['name']}", f"{place}, {where}"
            else:
                continue
            yield _Said(claim, seen_in, transport, verdict["kernel"], one, run.run_id, _commit(content), command)


def _names_in_case(case_number: int) -> set[str]:
    case = find_case(case_number, load_cases())
    return {one.name for one in read_model(CASES / f"{case.number}-{case.name}.yml", CaseFile).claims}


def _said_by_lab(path: Path, labs: Mapping[str, Lab]) -> Iterator[_Said]:
    content = read_json(path / "lab.json")
    lab = labs.get(content["lab"])
    if lab is None or "overall" not in content:
        return
    if any(not _point_of(lab, row, content) for row in content["table"]):
        return  # with other settings
    transports = sorted({row["transport"] for row in content["table"]}, reverse=True)
    for host in content["overall"]:
        for one in host["claims"]:
            yield _Said(
                f"lab {lab.name}/{one['name']}", _where(lab, content, host["host"]), " and ".join(transports),
                host["kernel"], one, path.name, _commit(content),
                _command(f"lab LAB={lab.name}", [content["inventory"]]),
            )  # fmt: skip


def _where(lab: Lab, content: Mapping[str, Any], host: str) -> str:
    valid = sum(row["valid"] and row["host"] == host for row in content["table"])
    return f"{valid} of its {len(lab.points({}))} points"


def _commit(content: Mapping[str, Any]) -> str:
    state = content["control_node"]
    return f"{state['git_commit'] or 'unknown'}"[:12] + (CHANGED if state["git_dirty"] is not False else "")


def _command(target: str, inventories: Sequence[str], *options: str) -> str:
    """Return what makes a run or a lab again; an inventory is named as seen from its checkout, wherever that lies."""
    for inventory in inventories:
        parts = Path(inventory).parts
        name = "/".join(parts[parts.index("inventory") :]) if "inventory" in parts else parts[-1]
        if name != DEFAULT_INVENTORY:
            options = (f"-i {name}", *options)
    return f"make {target}" + (f" ARGS='{' '.join(options)}'" if options else "")


def _is_as_in_the_case(content: Mapping[str, Any]) -> bool:
    """Tell whether a run has its case's parameters but for the transport and what its inventory sets."""
    parameters = content["parameters"]
    own = find_case(content["case"]["number"], load_cases()).parameters.model_dump()
    wanted = {**own, **content["inventory_parameters"], "transport": parameters["transport"]}
    return _settings(wanted) == _settings(parameters)


def _point_of(lab: Lab, parameters: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Return which point of a lab has these parameters; nothing when none has."""
    own = find_case(lab.file.case, load_cases()).parameters.model_dump()
    of_inventory = content["inventory_parameters"]
    for point in lab.points({}):
        wanted = resolve_parameters(own, lab.file.parameters, of_inventory, point.varied, origin=f"labs/{lab.name}.yml")
        if _settings(wanted.model_dump()) == _settings(parameters):
            return point.name
    return ""


def _settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that decide what happens; how often the agent looks is for the host to say."""
    return {name: parameters[name] for name in Parameters.model_fields if not name.endswith("_hz")}


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
    return one.claim in stated and stated[one.claim].claim.digest == one.digest


def _kind(one: _Said | Evidence) -> tuple[str, ...]:
    return one.claim, one.where, one.transport, one.kernel, one.command


def _in_order(found: list[Evidence], stated: Mapping[str, Stated]) -> list[Evidence]:
    order = list(stated)
    return sorted(found, key=lambda one: (order.index(one.claim), one.where, one.kernel, one.transport != "unix"))


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

Floodmark grew out of a small study of an nginx 1.22.1 reverse proxy on Linux 6.1 and 6.2, with five upstreams written
in C behind a unix socket, `curl`s in a loop, `/proc/net/unix`, `strace` and nginx's `stub_status`. Its cases and labs
are ours. This page has each sentence of it that can be tested: our verdict, the figure, the run that shows it, the
command that makes it again, and where in the kernel or nginx one can read why.

It is generated by `floodmark claims --write` from `cases/`, `labs/` and the verdicts of real runs
([claims-evidence.json](claims-evidence.json)). A run counts when it is valid and has the parameters of its case or lab,
but for what its inventory sets for slow hosts. n is the number of such runs; the value is that of the newest one, made
by the commit beside it, or by a checkout that differed from it (+). *Not observed*: the run cannot tell. *It depends*:
on the case or the transport, as the table of the sentence shows.
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
