"""The documentation as a site: it is built without a complaint, is complete, and needs no network."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from mkdocs.exceptions import PluginError
from playwright.sync_api import Browser, Page

from floodmark.cli import main
from floodmark.inputs.cases import load_cases
from floodmark.inputs.parameters import Parameters
from floodmark.reference import reference_pages
from scripts import docs_site
from tests.conftest import ROOT, evidence, run


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it; mkdocs is strict, so a dead link or anchor ends it."""
    folder = tmp_path_factory.mktemp("site")
    done = run(sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder), NO_MKDOCS_2_WARNING="1")
    assert done.returncode == 0, evidence(done)
    return folder


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser in which every word on the console and every request to a network is a failure."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []


def test_all_that_pages_load_is_there(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loads = re.compile(
        r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*rel="(?:stylesheet|icon)"[^>]*href="([^"]+)"'
    )
    for path in pages:
        if path.name == "404.html":
            continue  # a server shows it at any address
        for found in loads.findall(path.read_text(encoding="utf-8")):
            target = "".join(found).partition("?")[0]
            assert (path.parent / target).is_file(), f"{path}: {target}"


@pytest.mark.parametrize("address", ["index.html", "reference/parameters.html", "results/index.html", "load.html"])
def test_a_page_fits_a_phone(site: Path, page: Page, address: str) -> None:
    page.goto((site / address).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    page.wait_for_load_state()
    assert page.evaluate(broken) == 0


def test_the_search_works_from_disk(site: Path, page: Page) -> None:
    page.goto((site / "index.html").as_uri())
    page.click("label[for=__search]")
    page.type("input[name=query]", "accept_queue_hz")  # it listens to keys
    link = page.locator(".md-search-result__link", has_text="Parameters").first
    link.click()
    page.wait_for_url("**/reference/parameters.html*")


def test_the_reference_has_all_that_there_is() -> None:
    pages = {PurePosixPath(path).stem: text for path, text in reference_pages().items()}
    for name in Parameters.model_fields:
        assert f"| `{name}` |" in pages["parameters"]
    for case in load_cases().values():
        assert f"\n## Case {case.number}: {case.name}\n" in pages["cases"]
        assert all(paragraph in pages["cases"] for paragraph in case.reading)
    for name in ("upstream_queue", "queue_limit", "turned_away"):
        assert name in pages["case-file"].partition("## What SQL may use")[2]
    for name in main.commands:
        assert f"\n## floodmark {name}\n" in pages["command-line"]


def test_what_clients_get_by_default_is_what_the_readme_says() -> None:
    """Two sources: the README's table is written by hand, the other is computed from the expectations."""
    section = reference_pages()["docs/reference/cases.md"].partition("## Case 2:")[2].partition("## Case 3:")[0]
    rows = re.findall(r"^\| (\d+) \| (unix|tcp) \|.*\| (\d+) \|$", section, re.MULTILINE)
    (said,) = re.findall(r"^\| 2 \| never calls accept\(\) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    for transport, text in zip(("unix", "tcp"), said.split(" / "), strict=True):
        computed = {(number, status) for status, over, number in rows if over == transport}
        assert set(re.findall(r"(\d+) × (\d+)", text)) == computed


def test_a_dead_link_ends_the_build() -> None:
    with pytest.raises(PluginError, match=r"docs/load\.md: the link to \.\./nowhere\.md leads nowhere"):
        docs_site._resolve("../nowhere.md", PurePosixPath("docs/load.md"))


@pytest.mark.parametrize(
    ("origin", "target", "uri"),
    [
        ("README.md", "docs/load.md", "load.md"),
        ("docs/load.md", "../README.md", "README.md"),
        ("docs/kernels.md", "../roles/kernel/README.md", "roles/kernel/README.md"),
        ("README.md", "inventory/example/", "inventory/example/README.md"),
        ("docs/load.md", "../floodmark/loadgen/client.py", "source/floodmark/loadgen/client.py.md"),
        ("docs/accept-queue.md", "../cases/2-no-accept.yml", "reference/cases.md#case-2-no-accept"),
        ("docs/reference/cases.md", "../../cases/2-no-accept.yml", "source/cases/2-no-accept.yml.md"),
    ],
)
def test_a_link_between_files_is_one_between_pages(origin: str, target: str, uri: str) -> None:
    page = PurePosixPath(origin)
    assert docs_site._uri(docs_site._resolve(target, page), page) == uri


def test_a_link_in_code_is_left_alone() -> None:
    text = "```\n[a](b)\n```\n`[c](d)` and [`e`](f)"
    assert docs_site._outside_code(text, str.upper) == "```\n[a](b)\n```\n`[c](d)` AND [`e`](F)"


def test_a_page_that_nobody_finds_ends_the_build(tmp_path: Path) -> None:
    settings = (ROOT / "mkdocs.yml").read_text().replace("      - load.md\n", "")
    settings = settings.replace("docs_dir: docs", f"docs_dir: {ROOT}/docs").replace("[scripts/", f"[{ROOT}/scripts/")
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = run(sys.executable, "-m", "mkdocs", "build", "-f", str(tmp_path / "mkdocs.yml"), NO_MKDOCS_2_WARNING="1")
    assert done.returncode != 0
    assert "no reader finds load.md: add a line '- load.md' to nav in mkdocs.yml" in done.stderr, evidence(done)
