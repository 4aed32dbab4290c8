"""A table is found in all backups that have it."""

import pytest
from support.records import at, backup, database, table

from pipeline.audit.find import find_tables
from pipeline.errors import InvalidRequest

BACKUPS = [
    backup(at(1), tables=[table("orders", 5), table("Orders", 6), table("pens", 1)]),
    backup(at(2), tables=[table("orders", 7), table("orders", 8, schema="sales")]),
    backup(at(3), tables=[table("pens", 2)]),
]


@pytest.mark.parametrize(
    ("pattern", "rows"),
    [
        ("orders", [7, 8, 5]),
        ("ORDERS", [7, 8, 5]),
        ('"Orders"', [6]),
        ("sales.*", [8]),
        ("p?ns", [2, 1]),
        ("public.orders", [7, 5]),
        ("order", []),
    ],
)
def test_patterns_are_those_of_pg_dump(pattern: str, rows: list[int]) -> None:
    found = find_tables([database(BACKUPS)], pattern)
    assert [one.table.rows for one in found.tables] == rows
    assert not found.problems


def test_the_backups_of_each_database_come_newest_first() -> None:
    found = find_tables([database(BACKUPS, "crm"), database(BACKUPS, "shop")], "pens")
    assert [(one.ref.database, one.snapshot_at) for one in found.tables] == [
        ("crm", at(3)),
        ("crm", at(1)),
        ("shop", at(3)),
        ("shop", at(1)),
    ]


def test_doubts_are_told() -> None:
    doubted = backup(at(4), tables=[table("pens", 3)], problem="It was made up.")
    unreadable = backup(at(5), problem="It is damaged.", readable=False)
    found = find_tables([database([*BACKUPS, doubted, unreadable])], "pens")
    assert [one.problem for one in found.tables] == ["It was made up.", None, None]
    assert found.problems == ["It is damaged.", "It was made up."]


def test_a_pattern_that_makes_no_sense() -> None:
    with pytest.raises(InvalidRequest, match="is not a pattern"):
        find_tables([], 'a."b')
