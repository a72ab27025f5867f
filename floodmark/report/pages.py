"""What all pages have in common: one file each, with all it needs inside, and nothing that runs but our own scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from floodmark import __version__, disk
from floodmark.errors import RunError
from floodmark.show.run import prediction_text
from floodmark.text import number, one_line

HERE = Path(__file__).parent
OURS = HERE / "static"
# The live page has the same colours, the same charts, and uPlot.
SHARED = HERE.parent / "web" / "static"
UPLOT = ("uPlot-1.6.32.min.js", "uPlot-1.6.32.min.css", "uPlot-LICENSE")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("floodmark.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number, "one_line": one_line, "breakable": breakable, "prediction": prediction_text,
    }  # fmt: skip
    return environment


def breakable(name: str) -> Markup:
    """Return a long name that can be broken into lines at its underscores and dots."""
    return escape(name).replace("_", Markup("_<wbr>")).replace(".", Markup(".<wbr>"))


def render(template: str, *, scripts: Sequence[Path] = (), styles: Sequence[Path] = (), **content: Any) -> str:
    """Return a page.

    Args:
        template: its file in templates/.
        scripts: files that become its one script.
        styles: style sheets besides the colours and our own.
        content: what the template asks for; all text in it is escaped.
    """
    script = "\n".join(_read(path) for path in scripts)
    # The browser runs this script and no other, whatever a log line holds, and asks nobody for anything.
    allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    sheets = (*styles, SHARED / "colours.css", OURS / "report.css")
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup("\n".join(_read(path) for path in sheets)),
            script=Markup(script),
            version=__version__,
            **content,
        )
    )


def uplot() -> tuple[list[Path], list[Path]]:
    """Return the scripts and the style sheets that draw charts in which one can zoom."""
    code, sheet, _ = UPLOT
    return [SHARED / code, SHARED / "charts.js", OURS / "report.js"], [SHARED / sheet]


@cache
def _read(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.name == UPLOT[0]:  # its licence wants to be where its code is
        text = f"/*\n{_read(SHARED / UPLOT[2]).strip()}\n*/\n{text}"
    return text


def write_page(path: Path, page: str) -> None:
    """Write a page so that it is there whole or not at all, whoever else writes it.

    Raises:
        RunError: the folder cannot be written to.
    """
    try:
        disk.write(path, page)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror}. Make its folder writable, or name another file with --output."
        ) from None
