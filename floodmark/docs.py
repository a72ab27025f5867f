"""Files of the repository that are generated from code; a test proves that they are current."""

from __future__ import annotations

import json
from pathlib import Path

from collectors.fields import TABLES, VIRTUAL_WINDOWS, Table
from floodmark.claims import PAGE, claims_page, read_evidence
from floodmark.inputs.cases import CASES, case_schema, load_cases
from floodmark.inputs.labs import LABS, lab_schema
from floodmark.inputs.suites import SUITES, suite_schema
from floodmark.runs.folders import RESULTS

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


def generated_files() -> dict[Path, str]:
    """Return path -> content of every generated file."""
    return {
        CASES / "schema.json": json.dumps(case_schema(), indent=2) + "\n",
        LABS / "schema.json": json.dumps(lab_schema(), indent=2) + "\n",
        SUITES / "schema.json": json.dumps(suite_schema(), indent=2) + "\n",
        RESULTS / "README.md": data_dictionary(),
        PAGE: claims_page(read_evidence()),
    }
