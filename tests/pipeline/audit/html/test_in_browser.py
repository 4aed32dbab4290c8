"""The page in a real headless Chromium: it is quiet, asks for nothing, and works by keyboard, in the dark and on paper."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.audit_reports import audit_report, finding
from support.browser import Page, new_page

from pipeline.audit.html.page import render
from pipeline.audit.report import AuditReport, Severity

FOLDED = "The database tenant_0019 has a gap."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


def written(report: AuditReport, file: Path) -> Path:
    with file.open("w", encoding="utf-8") as opened:
        opened.writelines(render(report))
    return file


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    report = audit_report(8, 40)
    gaps = [finding("gaps", Severity.WARNING, None, f"The database tenant_{n:04d} has a gap.") for n in range(20)]
    longest = replace(report.databases[-1], cluster="c" * 63, database="d" * 63)
    gaps.append(finding("long", Severity.WARNING, longest.database, "The name is as long as can be.", longest.cluster))
    report = replace(report, databases=[*report.databases[:-1], longest], findings=[*report.findings, *gaps])
    return written(report, folder / "report.html")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Page]:
    with new_page(folder / "profile") as page:
        yield page


@pytest.fixture
def page(browser: Page, file: Path) -> Page:
    browser.emulate()
    browser.open(file)
    return browser


def seen(page: Page, words: str) -> bool:
    """True if an element with exactly these words, or a list item that begins with them, is visible."""
    found: bool = page.ask(
        f"[...document.querySelectorAll('li, h1, h2, h3')].some(e => e.textContent.trim().startsWith('{words}') "
        "&& e.checkVisibility({contentVisibilityAuto: true, opacityProperty: true}) && e.getClientRects().length > 0)"
    )
    return found


def test_it_says_nothing_on_the_console_and_asks_for_nothing_else(page: Page, file: Path) -> None:
    assert page.requests == [file.as_uri()]
    assert page.complaints == []
    page.ask("document.body.append(Object.assign(document.createElement('img'), {src: 'https://example.com/x.png'}))")
    page.ask("document.body.setAttribute('style', 'color: red')")
    assert len(page.complaints) == 2, "the policy forbids both, and the browser says so"


def test_the_findings_are_visible_without_a_click(page: Page) -> None:
    assert seen(page, "The last backup of main/customers is 4 days old.")
    assert seen(page, "The database tenant_0000 has a gap.")
    assert not seen(page, FOLDED)


def test_the_keyboard_reaches_the_findings_and_what_is_folded(page: Page) -> None:
    page.press("Tab")
    assert page.ask("document.activeElement.textContent") == "Skip to the findings"
    page.press("Enter", "\r")
    assert page.ask("document.activeElement.id") == "findings"
    page.tab_to(".finding summary")
    assert page.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter", "\r")
    assert seen(page, FOLDED)


def test_a_link_to_a_database_unfolds_its_section(page: Page) -> None:
    page.ask("location.hash = document.querySelector('#overview tbody a').hash")
    assert page.ask("document.querySelector(location.hash).closest('details').open") is True


def test_the_table_is_sorted_and_filtered_by_keyboard(page: Page) -> None:
    first = "document.querySelector('#overview tbody tr:not([hidden]) th').textContent"
    assert page.ask(first) == "main/customers"
    page.tab_to("thead button")
    page.press("Enter", "\r")
    assert page.ask(first).startswith("cccc")
    page.press("Enter", "\r")
    assert page.ask(first) == "main/warehouse"
    page.tab_to("#filter")
    page.call("Input.insertText", text="SHOP")
    assert page.ask(first) == "main/shop"
    assert page.ask("document.getElementById('found').textContent") == "1 of 8 shown"


def test_it_follows_the_dark_scheme(page: Page) -> None:
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('h1')).color]"
    light = page.ask(colours)
    page.emulate(scheme="dark")
    dark = page.ask(colours)
    assert light == ["rgb(255, 255, 255)", "rgb(26, 33, 41)"]
    assert dark == ["rgb(18, 22, 27)", "rgb(228, 233, 238)"]


def test_all_findings_are_on_paper(page: Page) -> None:
    page.emulate("print", "dark")
    page.pdf()  # the browser lays out what was folded only when it needs it
    assert seen(page, FOLDED)
    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.ask("document.getElementById('tools').checkVisibility()") is False
    pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf()))
    assert 1 < pages < 20


@pytest.mark.parametrize(("medium", "width"), [("screen", 400), ("print", 690)])  # 690: A4 without its margins
def test_nothing_is_wider_than_a_narrow_screen_or_paper(page: Page, medium: str, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    page.emulate(medium)
    page.ask("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    page.call("Emulation.clearDeviceMetricsOverride")


def test_a_hostile_name_is_shown_as_text_and_runs_nothing(browser: Page, folder: Path) -> None:
    name = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>"
    report = audit_report(1, 3)
    database = replace(report.databases[0], database=name)
    found = [finding("gap", Severity.CRITICAL, name, f"{name} has a gap.")]
    browser.open(written(replace(report, databases=[database], findings=found), folder / "hostile.html"))
    assert browser.complaints == []
    assert browser.ask("[document.images.length, document.scripts.length]") == [0, 1]
    assert browser.ask("document.querySelector('#overview tbody th').textContent") == f"main/{name}"
