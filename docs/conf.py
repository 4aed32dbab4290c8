"""How Sphinx makes the site: `make docs`. The repository is its source folder, so that a link leads to the same file as on GitHub."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import BashLexer
from sphinx import addnodes

ROOT = Path(__file__).parents[1]
RELEASE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

project = "pgstow"
release = RELEASE
html_title = f"pgstow {RELEASE}"
html_copy_source = False
html_show_sphinx = False
html_use_index = False
show_warning_types = True

root_doc = "docs/index"
include_patterns = ["docs/*.md", "terraform/README.md", "terraform/**/README.md", "CHANGELOG.md"]
exclude_patterns = [".*", "build", "dist", "demo-output"]
extensions = ["myst_parser", "sphinx_copybutton"]

myst_heading_anchors = 6  # by GitHub's rule
smartquotes = False  # "--" begins an option
highlight_language = "text"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

html_theme = "furo"
html_static_path = ["site/site.css"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
templates_path = ["site"]
html_theme_options = {"light_css_variables": {"color-code-background": "#f3f4f6"}, "top_of_page_buttons": []}

copybutton_prompt_text = "$ "
copybutton_selector = "div:not(.highlight-text, .highlight-json) > div.highlight > pre"


def add_sidebar(app: Any, docname: str, source: list[str]) -> None:
    """Make the sidebar from the first page's own lists: each heading with the first link of each item below it."""
    if docname == root_doc:
        for section in source[0].split("\n## ")[1:]:
            caption, _, items = section.partition("\n")
            pages = re.findall(r"^- \[(.+?)\]\((.+?)\.md\)", items, re.MULTILINE)
            entries = "\n".join(f"{title} <{page}>" for title, page in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def mend_links(app: Any, doctree: nodes.document) -> None:
    """Have a link to a folder lead to its README, or be plain text if the folder has none; ../README.md is the site's first page."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link.get("reftype") != "myst":
            continue
        if link["refdomain"] == "doc":
            if (link["reftarget"], link["reftargetid"]) == ("README", None):
                link["reftarget"] = root_doc
            continue
        folder = (ROOT / link["refdoc"]).parent.joinpath(link["reftarget"]).resolve()
        if not folder.is_dir():
            continue
        readme = str(folder.relative_to(ROOT) / "README")
        if readme in app.env.found_docs:
            link["refdomain"], link["reftarget"], link["reftargetid"] = "doc", readme, None
        else:
            link.replace_self(link.children)


def copy_pictures(app: Any, error: Exception | None) -> None:
    """Lay the pictures where HTML inside a page finds them: Sphinx copies only those that Markdown names."""
    for picture in [] if error else (ROOT / "docs").rglob("*.svg"):
        place = Path(app.outdir) / picture.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, place)


def setup(app: Any) -> None:
    """Have Sphinx call these functions."""
    app.add_lexer("crontab", BashLexer)
    app.connect("source-read", add_sidebar)
    app.connect("doctree-read", mend_links)
    app.connect("build-finished", copy_pictures)
