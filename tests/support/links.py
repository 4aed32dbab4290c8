"""The links and headings of a page: of Markdown as GitHub shows it, and of HTML."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MARKDOWN = MarkdownIt("commonmark").enable("table")


class Html(HTMLParser):
    """The ids, the links, and the files that a browser would load, of some HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids = set[str]()
        self.links = list[str]()
        self.loaded = list[str]()
        """Scripts, styles and pictures."""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in {"href", "src"} and value:
                self.loaded.append(value)
            elif name == "srcset" and value:
                self.loaded += [candidate.split()[0] for candidate in value.split(",")]


def _tokens(text: str) -> Iterator[Token]:
    for token in _MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def links_of(text: str) -> list[str]:
    """Every target in a page of Markdown, also in the HTML that it has."""
    found = list[str]()
    for token in _tokens(text):
        if token.type == "link_open":
            found.append(str(token.attrs["href"]))
        elif token.type == "image":
            found.append(str(token.attrs["src"]))
        elif token.type in {"html_inline", "html_block"}:
            html = Html(token.content)
            found += [*html.links, *html.loaded]
    return found


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    anchors = list[str]()
    tokens = _MARKDOWN.parse(text)
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            title = "".join(part.content for part in content.children or () if part.type in {"text", "code_inline"})
            slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
            number = next(n for n in range(len(anchors) + 1) if (f"{slug}-{n}" if n else slug) not in anchors)
            anchors.append(f"{slug}-{number}" if number else slug)
    return set(anchors)


def fault_of(link: str, page: Path, root: Path) -> str | None:
    """What is wrong with a link in a page of Markdown; None if nothing is. A link to another host isn't followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        good = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        return None if good else "no https"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(root) or not target.exists():
        return "no such file"
    if parts.fragment and not (target.suffix == ".md" and parts.fragment in anchors_of(target.read_text("utf-8"))):
        return "no such heading"
    return None
