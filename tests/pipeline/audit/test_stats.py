"""How databases grow: what counts, and which forecasts are made."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.records import at, backup, database, table

from pipeline.audit.report import TableGrowth
from pipeline.audit.stats import LEAST_NIGHTS, DatabaseStats, forecast, summarize_database

DAY = timedelta(days=1)
MONTH = 30 * DAY
GIB = 1024**3


def grown(days: int, per_day: int, first: int = 0) -> list[tuple]:  # type: ignore[type-arg]
    return [(at(day), first + day * per_day) for day in range(days)]


def summarize(*backups: object, since: float = 0) -> DatabaseStats:
    return summarize_database(database(backups), at(since), MONTH)  # type: ignore[arg-type]


def test_an_even_growth_goes_on() -> None:
    found = forecast(grown(20, GIB), MONTH)
    assert found
    assert (found.at, found.nights) == (at(19) + MONTH, 20)
    assert found.expected == pytest.approx(49 * GIB)
    assert (found.low, found.high) == pytest.approx((49 * GIB, 49 * GIB))
    assert found.per_day == pytest.approx(GIB)


def test_an_uneven_growth_has_a_range() -> None:
    uneven = [(moment, size + (GIB if number % 2 else -GIB)) for number, (moment, size) in enumerate(grown(20, GIB))]
    near, far = forecast(uneven, DAY), forecast(uneven, 10 * MONTH)
    assert near
    assert far
    assert near.low < near.expected < near.high
    assert near.high - near.low > 2 * GIB  # sizes lie up to a GiB beside the line
    assert far.high - far.low > near.high - near.low


def test_nothing_gets_smaller_than_nothing() -> None:
    found = forecast(grown(10, -GIB, 12 * GIB), MONTH)
    assert found
    assert (found.low, found.expected, found.high) == (0, 0, 0)
    assert found.per_day == pytest.approx(-GIB)


@pytest.mark.parametrize("days", [0, 1, LEAST_NIGHTS - 1])
def test_too_few_days_give_no_forecast(days: int) -> None:
    assert forecast(grown(days, GIB), MONTH) is None
    assert forecast([(at(day / 100), size) for day, (_, size) in enumerate(grown(50, GIB))], MONTH) is None


def test_of_each_day_the_last_backup_counts() -> None:
    hourly = [(at(day + hour / 24), day * GIB) for day in range(10) for hour in (0, 5)]
    found, nightly = forecast(hourly, MONTH), forecast(grown(10, GIB), MONTH)
    assert found
    assert nightly
    assert (found.nights, found.expected) == (10, pytest.approx(nightly.expected))


def test_sizes_beyond_all_bounds() -> None:
    found = forecast([(at(day), 2**62 * (day % 2)) for day in range(20)], 3000 * DAY)
    assert found
    assert found.low == 0 < found.high


def test_only_whole_backups_that_are_believed_count() -> None:
    whole = [backup(at(day), tables=[table("pens", 10 * (day + 1))], stored=50) for day in range(3)]
    partial = backup(at(3), tables=[table("pens", 1)], stored=7, partial=True)
    doubted = backup(at(4), tables=[table("pens", 1)], stored=5, problem="It was made up.")
    unreadable = backup(at(5), problem="It is damaged.", readable=False)
    found = summarize(*whole, partial, doubted, unreadable, since=1)
    assert [night.rows for night in found.nights] == [20, 30]
    assert (found.left_out, found.stored_size) == (3, 3 * 50 + 7 + 5)
    assert found.growth == [TableGrowth("public", "pens", 20, 30, 200, 300)]


def test_a_backup_sends_only_its_own_objects() -> None:
    first = backup(at(0), stored=50)
    assert first.manifest
    own = f"data/prod/shop/{at(1):%Y%m%dT%H%M%SZ}-aaaaaa/toc.dat.zst"
    second = backup(at(1), stored=60, objects=[*first.manifest.objects, (own, 10, None)])
    found = summarize(first, second)
    assert [(night.stored_size, night.transferred) for night in found.nights] == [(50, 50), (60, 10)]
    assert found.stored_size == 60


def test_tables_that_came_went_and_changed() -> None:
    first = backup(at(0), tables=[table("gone", 9), table("same", 5), table("grown", 1)])
    between = backup(at(1), tables=[table("only here", 100)])
    last = backup(at(2), tables=[table("same", 5), table("grown", 3), table("new", 4)])
    assert summarize(first, between, last).growth == [
        TableGrowth("public", "gone", 9, 0, 90, 0),
        TableGrowth("public", "new", 0, 4, 0, 40),
        TableGrowth("public", "grown", 1, 3, 10, 30),
    ]


def test_tables_of_several_databases_in_one_script() -> None:
    before, after = (
        backup(at(day), tables=[replace(table("pens", rows), database=name) for name, rows in counts.items()])
        for day, counts in enumerate(({"crm": 1, "shop": 50}, {"crm": 2, "shop": 50}))
    )
    assert summarize(before, after).growth == [TableGrowth("public", "pens", 1, 2, 10, 20)]


def test_a_database_without_backups_that_count() -> None:
    found = summarize(backup(at(0), problem="It is damaged.", readable=False))
    assert (found.nights, found.growth, found.forecast) == ([], (), None)
