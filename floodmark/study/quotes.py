"""Whether a quotation stands in the study, without its text: the hashes of its units are in study/quotes.sha256.

The study's text is not part of this repository. It and every quotation are split by one rule:

1. A block between two fences (```), and one between <details> and </details>, is one unit. So is each heading, each
   row of a table, and each picture.
2. All other lines are paragraphs: one ends at an empty line, and before an item of a list.
3. A paragraph is split into sentences: after . ! or ? and before a capital letter, a quotation mark or a bracket.
4. Marks of Markdown are taken away: what a link leads to, # > | * ` [ ] at their places, and _ beside a word.
5. White space becomes one blank, and what is at the end of a unit besides letters, digits and closing brackets is
   dropped.

A hash is the first 16 digits of the SHA-256 of a unit. One that is no statement (a heading, code, a command, a link, an
instruction) has a - before it in the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from floodmark.paths import ROOT

QUOTES = ROOT / "study" / "quotes.sha256"
NO_STATEMENT = "-"
_DIGITS = 16
# [nginx stub status module](https://nginx.org/…), ![img_1.png](img_1.png), [text][1]
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
# - item, 1. item, > quotation, # heading
_LINE_MARK = re.compile(r"^\s*(?:[-*+]\s+|\d+\.\s+|>\s?|#+\s+)")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
# _Inbound proxy requests_, and not worker_connections
_EMPHASIS = re.compile(r"(?<!\w)_+|_+(?!\w)")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(\[])")
_TAIL = re.compile(r"[^\w)\]>\"”]+$")


def units(text: str) -> list[str]:
    """Return the units of a text, as they are compared."""
    return [unit for block in _blocks(text) for unit in _sentences(block) if unit]


def hashes(text: str) -> list[str]:
    """Return the hash of each unit of a text."""
    return [hashlib.sha256(unit.encode()).hexdigest()[:_DIGITS] for unit in units(text)]


def read_hashes(path: Path = QUOTES) -> dict[str, bool]:
    """Return the hash of each unit of the study -> whether it is a statement."""
    lines = path.read_text(encoding="ascii").split("\n")
    found = [line for line in lines if line and not line.startswith("#")]
    return {line.removeprefix(NO_STATEMENT): not line.startswith(NO_STATEMENT) for line in found}


def hash_file(text: str, known: dict[str, bool]) -> str:
    """Return study/quotes.sha256, made from the study's text.

    Args:
        text: of the study.
        known: hash -> whether it is a statement, as `read_hashes` has them; a unit that is not known is one.
    """
    found = dict.fromkeys(hashes(text))
    lines = [one if known.get(one, True) else NO_STATEMENT + one for one in found]
    return "# Units of the study; floodmark/study/quotes.py says how they are made.\n" + "\n".join(lines) + "\n"


def _blocks(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the paragraphs of a text, and whether each is one unit as it is."""
    paragraph: list[str] = []
    end = ""
    for line in text.splitlines():
        bare = line.strip()
        if end:  # within a block of code
            paragraph.append(line)
            if bare == end:
                yield "\n".join(paragraph), True
                paragraph, end = [], ""
            continue
        opens = "```" if bare.startswith("```") else "</details>" if bare == "<details>" else ""
        alone = bare.startswith(("#", "|", "!["))
        if paragraph and (not bare or opens or alone or _ITEM.match(line)):
            yield "\n".join(paragraph), False
            paragraph = []
        if alone:
            yield line, True
        elif opens or bare:
            paragraph.append(line)
        end = opens
    if paragraph:
        yield "\n".join(paragraph), bool(end)


def _sentences(block: tuple[str, bool]) -> Iterator[str]:
    text, whole = block
    plain = "\n".join(_LINE_MARK.sub("", line) for line in text.splitlines())
    plain = _LINK.sub(r"\1", plain)
    plain = " ".join(_EMPHASIS.sub("", re.sub(r"[*`|\\]", " " if whole else "", plain)).split())
    for one in [plain] if whole else _END.split(plain):
        yield _TAIL.sub("", one)
