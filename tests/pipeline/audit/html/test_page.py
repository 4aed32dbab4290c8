"""The page as text: what it says, that everything foreign is escaped, and that hostile reports don't break it."""

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html import unescape

import pytest
from support.audit_reports import MADE_AT, audit_report, finding
from support.links import Html

from pipeline.audit.html import nights
from pipeline.audit.html.page import render
from pipeline.audit.html.plots import Point, draw
from pipeline.audit.html.view import finding_groups, tiles, verdict, view_of
from pipeline.audit.report import AuditReport, NightState, Severity, TableGrowth
from pipeline.words import one_line

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "]]></style></svg><a href=javascript:alert(1)>",
    "\u202egnp.exe\u2066",
    "half \ud800 of a character",
    "line\nbreak\x1b[2J\x00",
    "n" * 63,
]


def page(report: AuditReport) -> str:
    return "".join(render(report))


def hostile(name: str) -> AuditReport:
    """Return a report in which the name is wherever a store's text may be."""
    report = audit_report(1, 20)
    [database] = report.databases
    [store] = report.stores
    found = [replace(finding(name, Severity.CRITICAL, name, name, name), backup_id=name)]
    backups = [
        replace(
            b,
            cluster=name,
            database=name,
            backup_id=f"{name}{i}",
            store=name,
            verified=name,
            doubt=name if i % 2 else None,
        )
        for i, b in enumerate(database.backups)
    ]
    database = replace(
        database,
        cluster=name,
        database=name,
        backups=backups,
        findings=found,
        growth=[TableGrowth(name, name, 1, 2, 3, 4)],
    )
    heads = [replace(head, store=name, cluster=name, database=name, writer=name) for head in store.heads]
    return replace(
        report,
        stores=[replace(store, url=name, heads=heads), replace(store, url=name)],
        databases=[database],
        findings=found,
        policy=name,
        trusted_keys=[name],
        tool=name,
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_are(name: str) -> None:
    html = page(hostile(name))
    html.encode("utf-8")
    plain = page(hostile("name"))
    assert re.findall(r"<(\w+)", html) == re.findall(r"<(\w+)", plain)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]", html)
    assert one_line(name) in unescape(html)


def test_the_policy_allows_only_the_styles_and_the_script_of_the_page() -> None:
    html = page(audit_report(1, 3))
    policy = re.search(r'Content-Security-Policy" content="(.+?)"', html)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;;")
    for tag in ("style", "script"):
        [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy[1]
    assert not re.search(r"\s(style|on\w+)=", html)


def test_it_loads_nothing_and_each_of_its_links_has_a_target() -> None:
    html = Html(page(audit_report(7, 30)))
    assert {link for link in html.loaded if not link.startswith("#")} == set()
    assert {link.removeprefix("#") for link in html.links} - set(html.ids) == set()


def test_equal_findings_of_many_databases_are_one_group() -> None:
    found = [finding("gap", Severity.WARNING, f"d{n}", f"d{n} has a gap.") for n in range(300)]
    found += [finding("overdue", Severity.CRITICAL, "d0", "d0 is overdue."), finding("x", Severity.WARNING, None, "x.")]
    [(first, overdue), (second, others)] = finding_groups(found)
    assert (first, [group.name for group in overdue]) == (Severity.CRITICAL, ["overdue"])
    assert (second, [(group.name, group.databases) for group in others]) == (Severity.WARNING, [("gap", 300), ("x", 0)])
    html = page(replace(audit_report(0, 3), findings=found))
    shown, _, folded = html.partition("<details>")
    assert html.count("has a gap.") == 300
    assert shown.count("has a gap.") == 3
    assert "297 more findings" in folded
    assert shown.index("d0 is overdue.") < shown.index("d0 has a gap.")


def test_the_verdict_names_the_worst() -> None:
    report = audit_report(3, 30)
    assert verdict(report) == "1 critical finding and 2 warnings"
    assert verdict(replace(report, findings=[f for f in report.findings if f.severity != "critical"])) == (
        "2 warnings, nothing critical"
    )
    assert verdict(replace(report, findings=[])) == "No critical finding and no warning"


def test_a_report_without_databases_is_a_page() -> None:
    html = page(replace(audit_report(0, 3), findings=[], stores=[]))
    assert "Nothing was found. Each check passed." in html
    assert "The stores have no database." in html
    assert "There are no chains whose signatures were checked." in html


def test_a_backup_too_old_for_the_policy_misses_the_rpo() -> None:
    database = audit_report(1, 3).databases[0]
    assert database.last_good is not None
    age = MADE_AT - database.last_good.snapshot_at
    assert view_of(replace(database, rpo=age), 1, MADE_AT).rpo_met is True
    assert view_of(replace(database, rpo=age - timedelta(seconds=1)), 1, MADE_AT).rpo_met is False
    assert view_of(replace(database, rpo=age, last_good=None), 1, MADE_AT).rpo_met is False
    assert view_of(replace(database, rpo=None), 1, MADE_AT).rpo_met is None


def test_partial_and_doubted_backups_and_second_copies_are_in_no_line() -> None:
    database = audit_report(1, 6).databases[0]
    first, *others = database.backups
    copies = [
        first,
        replace(first, store="gs://copy"),
        replace(others[0], partial=True),
        replace(others[1], doubt="No."),
        others[2],
    ]
    assert view_of(replace(database, backups=copies), 1, MADE_AT).counted == [first, others[2]]


def test_a_share_is_whole_only_if_nothing_is_missing() -> None:
    report = audit_report(1, 300)
    backups = [replace(backup, signed=index > 0) for index, backup in enumerate(report.databases[0].backups)]
    view = view_of(replace(report.databases[0], backups=backups), 1, MADE_AT)
    numbers = {tile.words: (tile.number, tile.good) for tile in tiles(report, [view])}
    assert numbers["of the backups are signed by a trusted key"] == ("99%", False)


def test_the_calendar_has_each_night_once() -> None:
    days = [(date(2025, 11, 30) + timedelta(days=n), list(NightState)[n % 5]) for n in range(500)]
    calendars = nights.calendars(days)
    assert len(calendars) == 2
    drawn = sum(path.count("M") for one in calendars for path in one.paths.values())
    assert drawn + sum(len(cells) for one in calendars for cells in one.marks.values()) == 500
    assert (
        calendars[0].marks[NightState.MISSING][0].y
        == nights.PITCH * days[list(NightState).index(NightState.MISSING)][0].weekday()
    )
    assert nights.calendars([]) == []


def test_nights_are_told_in_words_too() -> None:
    states = [NightState.GOOD, NightState.MISSING, NightState.MISSING, NightState.PROVEN, NightState.MISSING]
    days = [(date(2026, 3, 1) + timedelta(days=n), state) for n, state in enumerate(states)]
    assert nights.in_words(days, NightState.MISSING) == "3 nights: 2026-03-02 – 2026-03-03, 2026-03-05"
    assert nights.in_words(days, NightState.DOUBTED) == ""
    assert nights.summary(days) == (
        "1 night proven by a restore; 1 night good backup; 3 nights no backup, though one was expected"
    )
    assert nights.strip(days)[NightState.MISSING] == "M1 5h2v5h-2zM4 5h1v5h-1z"


def test_the_worst_nights_of_a_fleet_are_named() -> None:
    html = page(audit_report(9, 30))
    assert "lack a backup: 2026-11-10 (3 databases), 2026-11-11 (3 databases)." in html


@pytest.mark.parametrize(
    ("largest", "kind", "unit"),
    [
        (500, "bytes", " B"),
        (3 * 2**30, "bytes", " GiB"),
        (90, "seconds", " min"),
        (6e9, "number", "G"),
        (0, "bytes", " B"),
    ],
)
def test_the_axis_of_a_plot_has_a_unit_that_fits(largest: float, kind: str, unit: str) -> None:
    since = datetime(2026, 11, 1, tzinfo=UTC)
    points = [Point(since + timedelta(days=n), largest * n / 3, "backup") for n in range(4)]
    plot = draw("Size", "words", points, since, since + timedelta(days=3), kind)  # type: ignore[arg-type]
    labels = re.findall("<text[^>]*>([^<]+)", plot.svg)
    assert [label for label in labels if label.endswith(unit)], labels


def test_a_century_has_three_calendars_and_names_of_years_alone() -> None:
    days = [(date(1926, 11, 30) + timedelta(days=n), NightState.GOOD) for n in range(36500)]
    assert len(nights.calendars(days)) == 3
    labels = [label.words for label in nights.month_labels([day for day, _ in days])]
    assert len(labels) <= 24
    assert labels[:2] == ["1927", "1932"]
    assert [label.words for label in nights.month_labels([day for day, _ in days[:60]])] == ["Dec", "1927"]
