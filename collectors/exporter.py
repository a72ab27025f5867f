"""Shows the newest values to Prometheus, so that people can look on while a case is held up.

    python3 -m collectors.exporter 127.0.0.1:9177 FOLDER

A process of its own that reads the ends of the agent's files when it is asked, so that it costs the beat
nothing. Values are as old as the agent's last hand-over, a tenth of a second. What could not be read is absent.
Names follow from the registry: table, column and base unit; texts and process ids are labels.
"""

from __future__ import annotations

import csv
import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collectors.fields import SOURCES, Field, Table

# Enough for the newest row of every listener and process.
TAIL_BYTES = 32_768
# Suffix of a column -> base unit of Prometheus, and what a value is divided by.
BASE_UNITS = {"_ns": ("_seconds", 1e9), "_us": ("_seconds", 1e6), "_s": ("_seconds", 1.0)}
LABELS = ("listener", "role", "pid", "via", "source")


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:9177`.

    Raises:
        ValueError: this is no address on loopback: what the agent sees is nobody else's business.
    """
    host, _, port = text.rpartition(":")
    try:
        good = ipaddress.ip_address(host).is_loopback and 0 < int(port) < 65536
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"metrics={text} is not allowed: it must be an address on loopback such as 127.0.0.1:9177")
    return host, int(port)


def newest_rows(path: Path, table: Table) -> list[dict[str, str]]:
    """Return the newest complete row for each set of labels in a file that is being written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return []
    lines = tail.decode(errors="replace").split("\n")[1:-1]  # the first may be cut off, or be the header
    newest = {}
    for row in csv.DictReader(lines, fieldnames=table.columns):
        newest[tuple(row.get(name) for name in LABELS)] = row
    return list(newest.values())


def series_name(table: Table, field: Field) -> tuple[str, float]:
    """Return the name of a series and what its values are divided by."""
    for suffix, (base, factor) in BASE_UNITS.items():
        if field.name.endswith(suffix):
            return f"floodmark_{table.name}_{field.name[: -len(suffix)]}{base}", factor
    return f"floodmark_{table.name}_{field.name}", 1.0


class Exporter:
    """What prometheus_client asks for its families of series.

    Args:
        folder: where the agent writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Any]:
        """Yield a family for each column that has a newest value."""
        for table in SOURCES:
            rows = newest_rows(self._folder / f"{table.name}.csv", table)
            labels = [name for name in table.columns if name in LABELS]
            for field in table.fields:
                if field.type != "text" and field.name not in (*LABELS, "t_ns"):
                    yield from _family(table, field, labels, rows)


def _family(table: Table, field: Field, labels: list[str], rows: list[dict[str, str]]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    name, factor = series_name(table, field)
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = kind(name, field.meaning, labels=labels)
    seen = [row for row in rows if row[field.name]]
    for row in seen:
        family.add_metric([row[label] for label in labels], float(row[field.name]) / factor)
    if seen:
        yield family


def main() -> int:
    """Serve until the agent, which started us, closes our standard input."""
    try:
        host, port = parse_address(sys.argv[1])
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry()
        registry.register(Exporter(Path(sys.argv[2])))
        start_http_server(port, host, registry)
    except ModuleNotFoundError:
        print("metrics need prometheus_client: install python3-prometheus-client, or leave them off", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"metrics on {sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    print("ready", flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
