"""``--split-tables auto`` splits a table only if the jobs would otherwise end at different times."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.archive.reader import Archive
from pipeline.catalog.manifest import File, Segment
from pipeline.config import MIB, SplitTables
from pipeline.postgres.toc import Section, TocEntry
from pipeline.restore.shares import Shares, divide


def data_of(name: str) -> TocEntry:
    return TocEntry(
        dump_id=int(name),
        oid=0,
        description="TABLE DATA",
        section=Section.DATA,
        namespace="public",
        tag=name,
        filename=f"{name}.dat",
        dependencies=(),
        owner="",
        definition="",
        drop_statement="",
        copy_statement="",
    )


def divided(
    sizes: Sequence[int], jobs: int, split: SplitTables = "auto", whole: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Return the MiB that each job loads alone, and the MiB of each split table. ``sizes`` has the MiB of the tables.

    ``whole`` has the numbers of tables that must not be split.
    """
    entries = [data_of(str(number)) for number in range(len(sizes))]
    files = {
        entry.filename: File(
            path=entry.filename,
            kind="table",
            size=size * MIB,
            checksum="0" * 64,
            segments=(Segment(object=number, offset=0, length=1, size=size * MIB),),
        )
        for number, (entry, size) in enumerate(zip(entries, sizes, strict=True))
    }
    archive = cast("Archive", SimpleNamespace(files=files, lists={}))
    shares: Shares = divide(archive, entries, (), jobs, split, lambda entry: entry.dump_id not in whole)
    own = [sum(sizes[entry.dump_id] for entry in share) for share in shares.own]
    return own, [sizes[entry.dump_id] for entry in shares.split]


@pytest.mark.parametrize(
    ("sizes", "jobs", "whole", "own", "split"),
    [
        pytest.param([1000], 2, (), [0, 0], [1000], id="a lone table"),
        pytest.param([950, 25, 25], 2, (), [25, 25], [950], id="a table with most of the bytes"),
        pytest.param([500, 500], 2, (), [500, 500], [], id="two equal tables, two jobs"),
        pytest.param([500, 500, 500], 2, (), [500, 500], [500], id="three equal tables, two jobs"),
        pytest.param([100, 60, 50], 2, (), [100, 110], [], id="small tables keep the other job busy"),
        pytest.param([60, 1], 2, (), [60, 1], [], id="small tables never"),
        pytest.param([130, 40], 2, (), [130, 40], [], id="the other job waits only shortly"),
        pytest.param([2000, *[50] * 32], 2, (), [2000, 1600], [], id="an eighth is not worth it"),
        pytest.param([1000, 10], 2, (0,), [1000, 10], [], id="the largest may not be split"),
        pytest.param([1000, 900, 10], 2, (0,), [1000, 910], [], id="a split would not shorten the restore"),
        pytest.param([900, 900, 10], 4, (), [10, 0, 0, 0], [900, 900], id="two large tables, four jobs"),
        pytest.param([600, 900, 10], 4, (0,), [600, 10, 0, 0], [900], id="the largest that may be split"),
    ],
)
def test_auto(sizes: list[int], jobs: int, whole: tuple[int, ...], own: list[int], split: list[int]) -> None:
    assert divided(sizes, jobs, whole=whole) == (own, split)


def test_a_size_splits_each_table_of_at_least_this_size() -> None:
    assert divided([30, 20, 10], 2, 20 * MIB) == ([10, 0], [30, 20])
    assert divided([30, 20, 10], 2, "never") == ([30, 30], [])
    assert divided([30], 2, "never") == ([30], [])
