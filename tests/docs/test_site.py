"""The site is built without a warning, and has every page. No link is dead, in the site or in the pages on GitHub."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support.links import Html, anchors_of, fault_of, links_of

ROOT = Path(__file__).parents[2]
BUILDER = ROOT / ".venv-docs/bin/sphinx-build"
DOCS = sorted((ROOT / "docs").glob("*.md"))
MODULES = sorted(path for path in (ROOT / "terraform").rglob("README.md") if ".terraform" not in path.parts)
PAGES = [path for name in ("README", "CONTRIBUTING", "CHANGELOG") if (path := ROOT / f"{name}.md").exists()]
PAGES += DOCS + MODULES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_of_a_page_is_dead(page: Path) -> None:
    links = links_of(page.read_text("utf-8"))
    assert {link: fault for link in links if (fault := fault_of(link, page, ROOT))} == {}


def test_dead_links_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `--two`: three's\n\n# Same\n\n# Same\n\n[a](#one---two-threes) [b](#same-1) [c](#same-2) [d](no.md) [e](../x)\n"
        "<img src='no.svg'> [f](http://example.com) [g](https://example.com/x#y) `[h](no.md)`\n\n[i][j]\n\n[j]: gone.md\n"
    )
    assert anchors_of(page.read_text()) == {"one---two-threes", "same", "same-1"}
    faults = {link: fault_of(link, page, tmp_path) for link in links_of(page.read_text())}
    assert faults == {
        "#one---two-threes": None,
        "#same-1": None,
        "#same-2": "no such heading",
        "no.md": "no such file",
        "../x": "no such file",
        "no.svg": "no such file",
        "http://example.com": "no https",
        "https://example.com/x#y": None,
        "gone.md": "no such file",
    }


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. `make docs` builds it with the same options."""
    if not BUILDER.exists():
        pytest.skip("what builds the site is not here: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--doctree-dir", folder / "doctrees"]
    words = [BUILDER, *options, "-c", ROOT / "docs", ROOT, folder / "html"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def test_the_makefile_builds_it_as_this_test_does() -> None:
    assert "sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -c docs . build/docs" in (
        ROOT / "Makefile"
    ).read_text("utf-8")


def test_every_page_is_in_the_sidebar(site: Path) -> None:
    sidebar = (
        (site / "docs/index.html").read_text("utf-8").partition('class="sidebar-tree"')[2].partition("</aside>")[0]
    )
    listed = {(site / "docs" / link).resolve() for link in Html(sidebar).links}
    pages = {(site / path.relative_to(ROOT)).with_suffix(".html") for path in [*DOCS, *MODULES, ROOT / "CHANGELOG.md"]}
    assert pages - listed == {site / "docs/index.html"}
    captions = re.findall('caption-text">(.+?)<', sidebar)
    assert captions == ["Tutorial", "How-to", "Reference", "Explanation", "Terraform", "More"]


def test_no_link_of_the_site_is_dead(site: Path) -> None:
    pages = {path: Html(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > len(DOCS)
    dead = set[tuple[str, str]]()
    for page, html in pages.items():
        for link in [*html.links, *html.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = target.is_file() and (
                not parts.fragment or target not in pages or parts.fragment in pages[target].ids
            )
            if not there and link != "#":
                dead.add((page.name, link))
    assert dead == set()


def test_a_reader_needs_no_other_host(site: Path) -> None:
    loaded = {link for path in site.rglob("*.html") for link in Html(path.read_text("utf-8")).loaded}
    assert {link for link in loaded if urlsplit(link).netloc} == set()
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text("utf-8")) == []


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_browser_shows_it_and_its_search_finds_a_word(address: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not on this machine")

    def shown(page: str) -> str:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
        ]
        words = [chromium, *options, f"--user-data-dir={tmp_path}", "--dump-dom", f"{address}/{page}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
        return done.stdout

    assert "<h1>pgstow" in shown("docs/index.html")
    results = shown("search.html?q=legal+hold").partition('id="search-results"')[2]
    assert 'href="docs/stores.html' in results
