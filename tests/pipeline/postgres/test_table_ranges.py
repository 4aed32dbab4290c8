"""The ranges of a table cover all of its pages, once each, and all pages that follow."""

import pytest

from pipeline.postgres.table_ranges import RangedTable

KIB = 1024


@pytest.mark.parametrize(
    ("pages", "page_size", "expected"),
    [
        (0, 0, [(0, None)]),
        (1, 8 * KIB, [(0, None)]),
        (8, 8 * KIB, [(0, None)]),
        (9, 8 * KIB, [(0, 8), (8, None)]),
        (20, 8 * KIB, [(0, 8), (8, 16), (16, None)]),
        (3, 100 * KIB, [(0, 1), (1, 2), (2, None)]),
    ],
)
def test_ranges(pages: int, page_size: int, expected: list) -> None:
    table = RangedTable(1, "public.t", "a", pages, page_size, b"")
    assert list(table.ranges(64 * KIB)) == expected


def test_the_ranges_of_a_huge_table_are_made_one_by_one() -> None:
    assert next(RangedTable(1, "public.t", "a", 10**15, 8 * KIB, b"").ranges(64 * KIB)) == (0, 8)
