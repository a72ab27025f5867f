"""Hooks of MkDocs: pages that stand elsewhere in the repository, pages made from code, and links between all of them.

Every page is written for a plain repository page, with links from file to file. A link to another page leads to that
page of the site; a link to a source file leads to a page that shows the file, so that the site is complete by itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from floodmark.inputs.cases import load_cases
from floodmark.reference import FOLDER, case_anchor, reference_pages

ROOT = Path(__file__).resolve().parent.parent
# Pages that are not in docs/; the rest of what a repository page shows is reached from them.
ELSEWHERE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "inventory/example/README.md",
             "results/README.md", "roles/*/README.md")  # fmt: skip
SOURCES = "source"
# Where a page speaks of a file, the site has something better to show than the file. The reference itself links to it.
IN_THE_REFERENCE = {
    "floodmark/inputs/parameters.py": "reference/parameters.md",
    "floodmark/cli.py": "reference/command-line.md",
    "cases/schema.json": "reference/case-file.md",
    "suites/schema.json": "reference/suite-file.md",
    **{f"cases/{one.number}-{one.name}.yml": f"reference/cases.md#{case_anchor(one)}" for one in load_cases().values()},
}
# [text](target#anchor), and ![text](target)
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
# Fenced blocks and spans. A span may be the text of a link, whose target then stands in the next part.
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".yml": "yaml", ".json": "json", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in docs/, and one for each source file that a page links to."""
    for pattern in ELSEWHERE:
        for path in sorted(ROOT.glob(pattern)):
            name = str(path.relative_to(ROOT))
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, text in reference_pages().items():
        files.append(File.generated(config, name.removeprefix("docs/"), content=text))
    for page in list(files.documentation_pages()):
        origin = _origin(page.src_uri)
        for name in _linked(page.content_string, origin):
            uri = _uri(name, origin)
            if uri.startswith(f"{SOURCES}/") and uri not in files.src_uris:
                files.append(File.generated(config, uri, content=_source_page(name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site."""
    del config, files
    here = page.file.src_uri
    if here == "README.md":
        page.meta["hide"] = ["navigation"]  # the tabs are above it
    if here.startswith(f"{SOURCES}/"):
        return markdown
    origin = _origin(here)

    def lead(link: re.Match[str]) -> str:
        name = _resolve(link[2], origin)
        uri, _, anchor = _uri(name, origin).partition("#")
        target = os.path.relpath(uri, PurePosixPath(here).parent)
        return f"{link[1]}{target}#{anchor})" if anchor else f"{link[1]}{target}{link[3]}"

    return _outside_code(markdown, lambda text: LINK.sub(lead, text))


def _linked(markdown: str, origin: PurePosixPath) -> Iterator[str]:
    for text in CODE.split(markdown)[::2]:
        for link in LINK.finditer(text):
            yield _resolve(link[2], origin)


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Change what is not in a fenced block or a span of code."""
    return "".join(part if number % 2 else change(part) for number, part in enumerate(CODE.split(markdown)))


def _origin(uri: str) -> PurePosixPath:
    """Return the path in the repository of a page of the site."""
    if any((ROOT / uri).match(pattern) for pattern in ELSEWHERE) and (ROOT / uri).exists():
        return PurePosixPath(uri)
    return PurePosixPath("docs") / uri


def _resolve(target: str, origin: PurePosixPath) -> str:
    """Return the path in the repository that a link leads to."""
    name = os.path.normpath(origin.parent / target)
    if (ROOT / name).is_dir():
        name = f"{name}/README.md"
    if not (ROOT / name).is_file() and name not in reference_pages():
        raise PluginError(f"{origin}: the link to {target} leads nowhere: there is no {name} in the repository.")
    return name


def _uri(name: str, origin: PurePosixPath) -> str:
    """Return where the site has a file of the repository that a page links to."""
    if name in IN_THE_REFERENCE and not origin.is_relative_to(FOLDER):
        return IN_THE_REFERENCE[name]
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if any(PurePosixPath(name).match(pattern) for pattern in ELSEWHERE):
        return name
    return f"{SOURCES}/{name}.md"


def _source_page(name: str) -> str:
    path = ROOT / name
    language = LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8")
    return (
        "---\nsearch: {exclude: true}\nhide: [navigation, toc]\n---\n"
        f"# {name}\n\n`````{language}\n{text.rstrip()}\n`````\n"
    )


def on_env(env: Any, config: MkDocsConfig, files: Files) -> Any:
    """Refuse to build a page that nobody finds, with the line that is missing."""
    del env
    listed = set(_listed(config.nav))
    for page in files.documentation_pages():
        if page.src_uri not in listed and not page.src_uri.startswith((f"{SOURCES}/", "roles/")):
            raise PluginError(f"no reader finds {page.src_uri}: add a line '- {page.src_uri}' to nav in mkdocs.yml.")


def _listed(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif nav:
        for one in nav.values() if isinstance(nav, dict) else nav:
            yield from _listed(one)
