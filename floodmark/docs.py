"""Files of the repository that are generated from code; a test proves that they are current."""

from __future__ import annotations

import json
from pathlib import Path

from collectors.fields import TABLES, VIRTUAL_WINDOWS, Table
from floodmark.inputs.cases import CASES, case_schema, load_cases
from floodmark.inputs.labs import LABS, lab_schema
from floodmark.inputs.suites import SUITES, suite_schema
from floodmark.model.check import Severity
from floodmark.paths import ROOT
from floodmark.runs.folders import RESULTS
from floodmark.study.evidence import read_evidence
from floodmark.study.page import PAGE, claims_page
from floodmark.study.sentences import FOLDER, sentence_schema
from floodmark.verdict.rules import RULES, About, Rule

DOCS = ROOT / "docs"
_HEAD = """\
# Results

One folder for each run, named by its time (UTC), case and transport; `latest` names the newest that is complete.
This file is generated from `collectors/fields.py` by `make schema`.

```
<run>/run.json                 the case as resolved, parameters, hosts, versions, phases; written last
<run>/report.html              the same for people, with figures: one file that needs no network
<run>/<host>/host.json         what the host is, read back from it: kernel, sysctls, queue limits, clocks
<run>/<host>/<table>.parquet   the tables below
<run>/<host>/verdict.json      validity, expectations, claims and key figures
<run>/<host>/goaccess.html     nginx's access log as GoAccess shows it, times in UTC; not in virtual time
<run>/<host>/raw/host.tar.gz   what the host wrote, untouched; host.tar.gz.sha256 is what it must be
<run>/<host>/raw/console.log   in virtual time: the serial log; virtual.json beside it says what was fixed
<time>-lab-<name>/lab.json     the points of a lab, which are runs of their own, and the verdict on all of them together
<time>-lab-<name>/report.html  the same for people, with figures of the points side by side
<run>/load/<host>/             requests.N.csv, load.N.json of process N, and Locust's own statistics, report and log
```

`index.html` lists all runs and labs, each with its report. `suites/` has the journals of suites (docs/suites.md).
A run without `run.json` was not completed; `plan.json` then says what it was meant to be.

All tables of a host are on one clock, the host's monotonic one, so they can be joined on time:

```
python -c "import duckdb; print(duckdb.sql('from \\'results/latest/proxy1/accept_queue.parquet\\' limit 20'))"
```

All tables but the logs of nginx and of the upstream have a column `phase` besides: `baseline` before the first
request, `flood` until the last one has ended, `drain` afterwards.
A reading that failed is a row without values and with a reason; it is never 0 and never left out.
"""


def data_dictionary() -> str:
    """Return results/README.md: every table and column with unit, meaning and source."""
    return _HEAD + "".join(_describe(table) for table in (*TABLES.values(), VIRTUAL_WINDOWS))


def _describe(table: Table) -> str:
    rates = load_cases()[1].parameters.rates_hz
    rate = f" {rates[table.name]} readings a second by default." if table.name in rates else ""
    lines = [
        f"\n## {table.name}\n\n{table.about}{rate}\n\n",
        "| column | type | unit | meaning | source |\n|---|---|---|---|---|\n",
    ]
    lines += [
        f"| {field.name} | {field.type} | {field.unit} | {field.meaning} | {field.source} |\n" for field in table.fields
    ]
    return "".join(lines)


_CHECKS_HEAD = """\
# What a run is checked for

For readers of a verdict: why is this run INVALID, what does this note mean, what does VALID promise? Every run is held
against each of these rules: `floodmark show --json` lists them under `checks`, `floodmark sql "FROM checks"` has those
of all runs, and each report has a table of them. This page is generated from `floodmark/verdict/rules.py` by
`make schema`.

A broken rule of severity *invalid* makes the run INVALID: nothing follows from it for the case. One of severity *note*
is for the reader to weigh. A rule that nobody can check in a run, for want of a source, is a note that says so. A rule
marked ¹ makes the run invalid only if an expectation, a claim or a compared metric rests on the source in question;
otherwise it is a note.
"""


def checks_page() -> str:
    """Return docs/checks.md: every rule of the registry, by what it is about."""
    parts = [_CHECKS_HEAD]
    for about in About:
        parts.append(f"\n## {about}\n\n| id | what must be so | limit | otherwise |\n|---|---|---|---|\n")
        parts += [
            f"| `{rule.id}` | {rule.asks} | {rule.shown_limit} | {_otherwise(rule)} |\n"
            for rule in RULES.values()
            if rule.about is about
        ]
    return "".join(parts)


def _otherwise(rule: Rule) -> str:
    """Return what follows when a rule is not kept."""
    asked_for = f"; with `{rule.may}=true` a {Severity.NOTE}" if rule.may else ""
    return f"{rule.severity}{' ¹' if rule.rested else ''}{asked_for}"


def generated_files() -> dict[Path, str]:
    """Return path -> content of every generated file."""
    return {
        CASES / "schema.json": json.dumps(case_schema(), indent=2) + "\n",
        LABS / "schema.json": json.dumps(lab_schema(), indent=2) + "\n",
        SUITES / "schema.json": json.dumps(suite_schema(), indent=2) + "\n",
        FOLDER / "schema.json": json.dumps(sentence_schema(), indent=2) + "\n",
        RESULTS / "README.md": data_dictionary(),
        PAGE: claims_page(read_evidence()),
        DOCS / "checks.md": checks_page(),
    }
