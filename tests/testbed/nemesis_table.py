"""Prints what came of a sweep as the table that docs/reliability.md has.

python -m tests.testbed.nemesis_table results/nemesis.csv […]
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

# A line: command,task,fault,status,restored_s,left
Row = dict[str, str]


def table(rows: Sequence[Row]) -> str:
    """Return a table in Markdown with a line for each command and signal."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["command"], row["fault"]].append(row)
    lines = [
        "| command | signal | n | tasks | restored within (s; median, longest) | what is left of the run |",
        "|---|---|---|---|---|---|",
    ]
    for (command, fault), some in sorted(groups.items()):
        restored_s = [float(row["restored_s"]) for row in some]
        left = ", ".join(f"{count} × {what}" for what, count in Counter(row["left"] for row in some).most_common())
        lines.append(
            f"| `{command}` | {fault} | {len(some)} | {len({row['task'] for row in some})} | "
            f"{statistics.median(restored_s):.1f}, {max(restored_s):.1f} | {left} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([row for name in sys.argv[1:] for row in csv.DictReader(Path(name).read_text("utf-8").splitlines())]))
