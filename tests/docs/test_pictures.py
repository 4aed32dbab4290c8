"""The pictures of docs/pictures: each can be shown anywhere, and the terminal in demo.svg shows what the demo prints now."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools import picture

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
VARYING = re.compile(
    r"\d{8}T\d{6}Z-[0-9a-f]{6}|justnow|\d+minutes?ago|\d[\d,.]*(?:h\d+m|m\d+s|[KMG]iB|[Bs])?",
)
"""IDs, ages, numbers, durations and sizes, in text without spaces."""


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
class TestEveryPicture:
    def test_it_has_words_for_those_who_do_not_see_it(self, path: Path) -> None:
        svg = ElementTree.parse(path).getroot()
        assert svg.get("role") == "img"
        assert (svg.get("aria-labelledby") or "").split() == ["title", "desc"]
        for name in ("title", "desc"):
            [element] = svg.findall(f"{SVG}{name}")
            assert element.get("id") == name
            assert (element.text or "").strip()

    def test_it_needs_nothing_from_elsewhere(self, path: Path) -> None:
        svg = ElementTree.parse(path).getroot()
        names = {element.tag for element in svg.iter()}
        assert not names & {f"{SVG}script", f"{SVG}image", f"{SVG}foreignObject", f"{SVG}use"}
        assert all(name.startswith(SVG) for name in names)
        attributes = [(name, value) for element in svg.iter() for name, value in element.items()]
        assert not [name for name, _ in attributes if name.endswith("href") or name.startswith("on")]
        urls = re.findall(r"url\(([^)]*)\)|@import", path.read_text("utf-8"))
        assert all(url.startswith("#") for url in urls)

    def test_it_scales(self, path: Path) -> None:
        svg = ElementTree.parse(path).getroot()
        assert svg.get("viewBox", "").startswith("0 0 800 ")


def test_the_pictures_are_found() -> None:
    assert {path.stem for path in PICTURES} >= {"demo", "pipeline", "restore", "roles", "store-layout"}


def test_the_terminal_shows_what_the_demo_prints_now() -> None:
    """If this fails after a change of a message or of the demo: ``make picture``."""
    svg = ElementTree.parse(ROOT / "docs" / "pictures" / "demo.svg").getroot()
    _, *shown = [text.text or "" for text in svg.iter(f"{SVG}text")]
    printed = picture.cut(picture.run("--scale", "0"))
    assert without_figures(shown) == without_figures([line.plain for line in printed])


def without_figures(lines: list[str]) -> str:
    return VARYING.sub("#", re.sub(r"\s", "", "".join(lines)))
