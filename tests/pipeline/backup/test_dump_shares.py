"""``--split-tables auto`` splits a table only if the other jobs would otherwise have nothing left to do."""

from collections.abc import Sequence

import pytest

from pipeline.backup.dump_shares import choose_tables
from pipeline.config import MIB, SplitTables
from pipeline.postgres.table_ranges import SizedTable

GIB = 1024 * MIB


def chosen(
    sizes: Sequence[int], jobs: int, split: SplitTables = "auto", *, least: int = 256 * MIB, whole: Sequence[int] = ()
) -> list[int]:
    """Return the sizes of the chosen tables. The numbers in ``whole`` are those of tables that can't be split."""
    tables = [
        SizedTable(number, "public", f"t{number}", size, splittable=size >= least and number not in whole)
        for number, size in enumerate(sizes)
    ]
    return [table.size for table in choose_tables(tables, jobs, split)]


@pytest.mark.parametrize(
    ("sizes", "jobs", "expected"),
    [
        ([GIB], 2, [GIB]),
        ([GIB, GIB], 2, []),
        ([3 * GIB, GIB], 2, [3 * GIB]),
        ([3 * GIB, GIB], 4, [3 * GIB]),
        ([GIB, 900 * MIB], 2, []),
        ([GIB, GIB, GIB], 4, [GIB, GIB, GIB]),
        ([100 * MIB], 2, []),
        ([770 * MIB, *[MIB // 6] * 2000], 2, []),
        ([], 2, []),
    ],
)
def test_auto(sizes: Sequence[int], jobs: int, expected: Sequence[int]) -> None:
    assert chosen(sizes, jobs) == expected


def test_a_table_that_cannot_be_split_stays_whole() -> None:
    assert chosen([3 * GIB, GIB], 2, whole=[0]) == []


def test_a_size_splits_the_largest_tables() -> None:
    assert chosen([MIB, 3 * MIB, 2 * MIB], 2, 2 * MIB, least=2 * MIB) == [3 * MIB, 2 * MIB]
    assert len(chosen([MIB] * 200, 2, 1, least=1)) == 100
