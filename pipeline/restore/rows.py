"""Checks that restored tables have as many rows as the manifest says."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from pipeline.catalog.manifest import File, TableData
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import RestoreFailed
from pipeline.events import Notice, Notify
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

Table: TypeAlias = File | TableData
"""A table with rows in a backup: the table's file in a directory archive, or the table's rows in a single file."""
Counts: TypeAlias = Mapping[tuple[str, str], int]
"""The number of rows on the server, by the table's schema and name."""

_AT_ONCE = 100
"""The most tables that one query counts. The query locks them all."""
_SMALL = 1024 * 1024
"""The most bytes of the tables that one query counts, unless it counts a single table."""


def count_rows(target: Conninfo, tables: Sequence[Table], workers: Workers, connections: int) -> Counts:
    """Count the rows of each table in the target, over up to ``connections`` connections, and return the numbers.

    If row security may hide a table's rows, the table is left out. Raises RestoreFailed if a table is missing, or ConnectionFailed.
    """
    largest_first = sorted(tables, key=lambda table: -table.size)
    shares = [largest_first[first::connections] for first in range(min(connections, len(tables)))]
    counts: dict[tuple[str, str], int] = {}
    for _, found in workers.map(partial(_count, target), shares, threads=connections, name="count"):
        counts |= found
    return counts


def check_rows(
    target: Conninfo,
    tables: Sequence[Table],
    workers: Workers,
    connections: int,
    notify: Notify,
    *,
    before: Counts = MappingProxyType({}),
) -> None:
    """Raise RestoreFailed unless each table has gained, since the count ``before``, as many rows as the manifest says.

    Known differences that stock pg_dump and pg_restore cause are allowed. If a table's rows can't be counted, notify the user. Also raises
    ConnectionFailed.
    """
    found = count_rows(target, tables, workers, connections)
    counts = {name: count - before.get(name, 0) for name, count in found.items()}
    for table in tables:
        if name_of(table) not in counts:
            notify(
                Notice(
                    f"The rows of {display_name(table)} can't be counted: row security may hide some rows from this role."
                )
            )
    if any(count != table.rows for table in tables if (count := counts.get(name_of(table))) is not None):
        with Server(target) as server:
            wrong = _unexplained(server, tables, counts)
        if wrong:
            first = wrong[0]
            more = " more than before" if before.get(name_of(first)) else ""
            raise RestoreFailed(
                f"{display_name(first)} has {counted(counts[name_of(first)], 'row')}{more}, but the backup has {first.rows} "
                f"({len(wrong)} of {counted(len(tables), 'table')} {'differs' if len(wrong) == 1 else 'differ'} from the manifest)."
            )


def name_of(table: Table) -> tuple[str, str]:
    """Return the table's schema and name."""
    return table.schema_name or "", table.relation or ""


def display_name(table: Table) -> str:
    """Return the table's schema and name as text for people."""
    return ".".join(name_of(table))


def _count(target: Conninfo, tables: Sequence[Table]) -> Counts:
    with Server(target) as server:
        filtered = server.filtered_tables()
        counts: dict[tuple[str, str], int] = {}
        for batch in _batches([table for table in tables if name_of(table) not in filtered]):
            counts |= server.count_rows(list(map(name_of, batch)))
        return counts


def _batches(tables: Sequence[Table]) -> Iterator[list[Table]]:
    """Yield the tables in batches, each for one query."""
    batch, size = list[Table](), 0
    for table in tables:
        if batch and (len(batch) == _AT_ONCE or size + table.size > _SMALL):
            yield batch
            batch, size = [], 0
        batch.append(table)
        size += table.size
    if batch:
        yield batch


def _unexplained(server: Server, tables: Sequence[Table], counts: Counts) -> list[Table]:
    """Return the tables whose number of rows differs, except differences that stock pg_dump and pg_restore are known to cause."""
    extensions, roots = server.extension_tables(), server.partition_roots()
    surplus = Counter[int]()
    """The rows that the partitions have beyond the manifest's, by the OID of the outermost partitioned table."""
    for table in tables:
        if (root := roots.get(name_of(table))) is not None:
            surplus[root] += counts.get(name_of(table), table.rows or 0) - (table.rows or 0)
    wrong = []
    for table in tables:
        name = name_of(table)
        if counts.get(name, table.rows) == table.rows:
            continue
        if name in extensions and counts[name] >= (table.rows or 0):
            continue  # CREATE EXTENSION added rows that pg_dump left out
        # If an enum's hash chooses the partition, pg_dump loads the rows through the partitioned table. The enum's new OIDs change the hashes,
        # so a row may move to another partition. Only the sum over all partitions must stay the same.
        if (root := roots.get(name)) is None or surplus[root]:
            wrong.append(table)
    return wrong
