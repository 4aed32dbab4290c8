"""Whether what was restored has the rows that the manifest says."""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from pipeline.concurrency import Workers
from pipeline.errors import RestoreFailed
from pipeline.events import Notice, Notify
from pipeline.manifest import File
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

_Counts: TypeAlias = Mapping[str, int]
"""Rows in the server, by the table's file in the archive."""


def count_rows(target: Conninfo, tables: Sequence[File], workers: Workers, connections: int) -> dict[str, int]:
    """Rows in the server by the table's file, counted over several connections. Raises RestoreFailed where a table isn't there."""
    largest_first = sorted(tables, key=lambda file: -file.size)
    counting = workers.pool(connections, "count")
    counts: dict[str, int] = {}
    for first in range(min(connections, len(tables))):
        counting.submit(partial(_count, target, largest_first[first::connections]), counts.update)
    while counting.pending:
        workers.collect(timeout=1.0)
    return counts


def check_rows(
    target: Conninfo,
    files: Sequence[File],
    workers: Workers,
    connections: int,
    notify: Notify,
    *,
    before: _Counts = MappingProxyType({}),
) -> None:
    """Count the tables' rows. Raises RestoreFailed where one has not the rows that the manifest says, more than there were ``before``."""
    tables = [file for file in files if file.kind == "table"]
    found = count_rows(target, tables, workers, connections)
    counts = {path: count - before.get(path, 0) for path, count in found.items()}
    if not all(counts[file.path] == file.rows for file in tables):
        with Server(target) as server:
            wrong = _unexplained(server, tables, counts, notify)
        if wrong:
            first = wrong[0]
            more = " more than before" if before.get(first.path) else ""
            raise RestoreFailed(
                f"{_shown(first)} has {counts[first.path]} rows{more} where the backup has {first.rows} "
                f"({len(wrong)} of {len(tables)} tables differ from the manifest)."
            )


def _count(target: Conninfo, tables: Sequence[File]) -> _Counts:
    with Server(target) as server:
        return {file.path: server.count_rows(*_name(file)) for file in tables}


def _unexplained(server: Server, tables: Sequence[File], counts: _Counts, notify: Notify) -> list[File]:
    """The tables whose rows differ for no reason that stock pg_dump and pg_restore have."""
    extensions, filtered, roots = server.extension_tables(), server.filtered_tables(), server.partition_roots()
    wrong = []
    for file in tables:
        if counts[file.path] == file.rows:
            continue
        name = _name(file)
        if name in extensions and counts[file.path] >= (file.rows or 0):
            continue  # CREATE EXTENSION filled it, and pg_dump left those rows out
        if name in filtered:
            notify(
                Notice(f"The rows of {_shown(file)} can't be counted: its row security may hide some from this role.")
            )
            continue
        # Rows of a partition by an enum's hash are dumped for the partitioned table, since its values' OIDs change and so the hashes.
        root = roots.get(name)
        siblings = [other for other in tables if root is not None and roots.get(_name(other)) == root]
        surplus = sum(counts[other.path] - (other.rows or 0) for other in siblings)
        if not siblings or surplus != 0:
            wrong.append(file)
    return wrong


def _name(file: File) -> tuple[str, str]:
    return file.schema_name or "", file.relation or ""


def _shown(file: File) -> str:
    return ".".join(_name(file))
