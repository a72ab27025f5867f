"""What people see of the study in the terminal: what becomes of its sentences, in short."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from floodmark.inputs.labs import STUDY
from floodmark.paths import relative
from floodmark.runs.folders import STUDY_PAGE, LabFolder
from floodmark.show.lab import sentences
from floodmark.show.tables import BAD, GOOD, UNCLEAR, table_of
from floodmark.study.evidence import evidence_of
from floodmark.study.outcome import Outcome, SentenceOutcome, sentences_of
from floodmark.study.sentences import load_sentences

COLOURS = {"confirmed": GOOD, "confirmed with a limit": UNCLEAR, "refuted": "red"}
# In the order in which they are counted.
VERDICTS: tuple[Outcome, ...] = ("confirmed", "confirmed with a limit", "refuted", "not observed", "not observable")


def outcomes_of(folder: LabFolder) -> list[SentenceOutcome]:
    """Return what becomes of each sentence of the study by the runs of one execution."""
    return sentences_of(evidence_of([folder.path]))


def in_short(outcomes: Sequence[SentenceOutcome]) -> str:
    """Say how many sentences have which verdict: `60 sentences: 30 confirmed, 5 refuted`."""
    counts = Counter(one.verdict for one in outcomes)
    each = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"{len(outcomes)} sentences: {each}"


def command_for(point: str) -> str:
    """Return the command that makes one run of the study by itself."""
    return shlex.join(["floodmark", "lab", STUDY, "-e", f"point={point}"])


def asked_elsewhere(outcome: SentenceOutcome) -> str:
    """Name the runs that a sentence is asked of where the study's own do not settle it; empty otherwise."""
    if outcome.verdict != "not observed":
        return ""
    places = (place for question in load_sentences()[outcome.id].questions for place in question.runs)
    return ", ".join(dict.fromkeys(place for place in places if not place.startswith(f"lab {STUDY}")))


def print_study(console: Console, folder: LabFolder) -> None:
    """Print what became of an execution of the study: its runs in a line, and the sentences that are not simply so."""
    record, outcomes = folder.read(), outcomes_of(folder)
    console.print(f"\n[bold]The study, as its author ran it[/bold]  {folder.path.name}", highlight=False)
    for overall in record.overall or []:
        said = sentences(record.rows_of(overall.host), overall)
        words = ", ".join(f"[{GOOD if good else BAD}]{sentence}[/]" for sentence, good in said)
        console.print(f"host {overall.host}, Linux {overall.kernel or 'unknown'}: {words}", highlight=False)
    console.print(f"[bold]{in_short(outcomes)}[/bold]", highlight=False)
    table = table_of("verdict", "the study says", "ours")
    for verdict in ("refuted", "confirmed with a limit"):
        for one in (one for one in outcomes if one.verdict == verdict):
            table.add_row(f"[{COLOURS[verdict]}]{verdict}[/]", escape(one.quote), escape(one.limit or one.ours))
    console.print(table)
    console.print(
        f"Every sentence, with pictures: {relative(folder.path / STUDY_PAGE)}", highlight=False, soft_wrap=True
    )
