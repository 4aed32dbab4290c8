"""Compares the content of restored tables with the archive. Each table is dumped again, and must give the same file as in the archive."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.archive.reader import Archive
from pipeline.archive.single_file import read_stream
from pipeline.catalog.manifest import File, Manifest
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.counting import counted
from pipeline.errors import InvalidRequest
from pipeline.events import Notice, Notify, Progress, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.loading import with_dump_settings
from pipeline.postgres.server import Server
from pipeline.restore.rows import Table, display_name, name_of
from pipeline.stages.download import ObjectReader
from storage_backends import StorageBackend

_INTERVAL = 0.2  # seconds between reports of progress


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing the tables' content."""

    compared: int
    """The number of tables that were compared."""
    problems: list[str]
    """One sentence for each table or partitioned table whose content differs from the archive."""


def check_comparable(manifest: Manifest) -> None:
    """Raise InvalidRequest unless the manifest has the settings on which the text of the dump depends."""
    if manifest.source.time_zone is None or manifest.source.bytea_output is None:
        raise InvalidRequest(
            f"The content of {manifest.backup_id} can't be compared: an older pgstow wrote its manifest, without the dump's time zone. Verify "
            "it without --checksums."
        )


def compare_content(
    target: Conninfo,
    archive: Archive,
    store: StorageBackend,
    limits: Limits,
    notify: Notify,
    programs: Sequence[Path] = (),
) -> Comparison:
    """Compare each table of a restored database with its rows in the archive. Return the result.

    A table that is dumped again is usually byte-identical, so its checksum matches the manifest. If the checksum differs, the rows may
    still be the same, but in another order or in another partition of the same table. pgstow then reads the archive from the store, and
    compares digests that don't depend on the order. If a table can't be compared, notify the user. Memory holds a few rows at a time.

    ``programs`` has the folders in which to look for pg_restore; empty for the usual folders. Raises BackupDamaged if an object is damaged,
    ConnectionFailed, another PipelineError, or StorageError.
    """
    tables = sorted(archive.tables_of(None), key=lambda table: -table.size)
    notify(Started("Comparing the content of tables"))
    redump = _Redump(with_dump_settings(target, archive.manifest.source, money=archive.uses_money(None)), archive)
    digests: dict[tuple[str, str], str] = {}
    shares = [tables[first :: limits.jobs] for first in range(limits.jobs)]
    total = sum(table.size for table in tables)

    def report() -> None:
        notify(Progress(redump.done, max(total, redump.done), 0))

    with Workers() as workers:
        for _, found in workers.map(redump.digests, shares, threads=limits.jobs, name="compare", tick=report):
            digests |= found
        others = [table for table in tables if digests.get(name_of(table)) != table.checksum]
        with redump.session() as server:
            skipped = _incomparable(server, others, notify)
            groups = _groups(server, [table for table in others if name_of(table) not in skipped], tables)
            again = [table for group in groups for table in group]
            stored = _stored_rows(archive, again, store, workers, limits, programs)
            wrong = []
            for group in groups:
                restored = LineDigest()
                for table in group:
                    restored.update_all(redump.read(server, table))
                if restored.value != sum(stored[name_of(table)].value for table in group):
                    wrong.append(group)
    problems = [
        f"{display_name(group[0])} doesn't have the same content as the archive{_with(group)}." for group in wrong
    ]
    return Comparison(len(tables) - len(skipped), problems)


def _stored_rows(
    archive: Archive,
    tables: Sequence[Table],
    store: StorageBackend,
    workers: Workers,
    limits: Limits,
    programs: Sequence[Path],
) -> Mapping[tuple[str, str], "LineDigest"]:
    """Return a digest of each table's rows in the archive, by the table's schema and name."""
    digests = {name_of(table): LineDigest() for table in tables}
    if not tables:
        return digests
    files = archive.manifest.files if archive.is_stream else [table for table in tables if isinstance(table, File)]
    reader = ObjectReader(store, archive.manifest.objects, files, workers, limits, archive.seal)
    if not archive.is_stream:
        for file in files:
            digests[name_of(file)].update_all(reader.read(file))
        return digests

    def take(schema: str, relation: str, rows: bytes) -> None:
        if digest := digests.get((schema, relation)):
            digest.update_all([rows])

    read_stream(archive.manifest, archive.seal, reader, limits, programs, take)
    for digest in digests.values():
        digest.update_all([COPY_END])
    return digests


class LineDigest:
    """A digest of lines that doesn't depend on their order: the sum of the lines' SHA-256. No line is kept in memory."""

    def __init__(self) -> None:
        self._line = hashlib.sha256()
        self.value = 0
        """The digest of all lines that have ended."""

    def update_all(self, parts: Iterable[bytes]) -> None:
        """Add more bytes. A part may begin or end within a line."""
        for part in parts:
            first, *others = part.split(b"\n")
            self._line.update(first)
            for other in others:
                self.value += int.from_bytes(self._line.digest(), "big")
                self._line = hashlib.sha256(other)


class _Redump:
    """Dumps a restored database's tables as pg_dump wrote them into the archive."""

    def __init__(self, target: Conninfo, archive: Archive) -> None:
        self._target = target
        self._source = archive.manifest.source
        self._seal = archive.seal
        self._encoding = archive.encoding
        self._columns = {(entry.namespace, entry.tag): entry.columns for entry in archive.toc.data_entries}
        self._columns |= {name_of(table): table.columns for table in archive.manifest.tables}
        self.done = 0
        """Bytes dumped so far. Use it only to report progress, because threads may overwrite each other's counts."""

    def session(self) -> Server:
        """Return a session in which the server writes values as it did for pg_dump (``setup_connection`` in pg_dump.c)."""
        server = Server(self._target)
        for name, value in (
            ("TimeZone", self._source.time_zone),
            ("bytea_output", self._source.bytea_output),
            ("quote_all_identifiers", "on" if self._source.quote_all_identifiers else "off"),
        ):
            server.fetch("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])
        return server

    def digests(self, tables: Sequence[Table]) -> Mapping[tuple[str, str], str]:
        """Return the checksum that each table's file would have in a new archive, by the table's schema and name.

        If row security may hide a table's rows, the table is left out.
        """
        found = {}
        with self.session() as server:
            filtered = server.filtered_tables()
            for table in (table for table in tables if name_of(table) not in filtered):
                digest = self._seal.digest()
                for part in self.read(server, table):
                    digest.update(part)
                    self.done += len(part)
                found[name_of(table)] = digest.hexdigest()
        return found

    def read(self, server: Server, table: Table) -> Iterator[bytes]:
        """Yield the bytes of the table's file in an archive of the directory format."""
        yield from server.copy_rows(*name_of(table), self._columns[name_of(table)], self._encoding)
        yield COPY_END


def _incomparable(server: Server, differing: Iterable[Table], notify: Notify) -> set[tuple[str, str]]:
    """Return schema and name of each table that can't be compared: an extension adds rows, or row security may hide rows from the role."""
    if not (differing := list(differing)):
        return set()
    extensions, filtered = server.extension_tables(), server.filtered_tables()
    found = set()
    for table in differing:
        if name_of(table) in extensions:
            notify(Notice(f"{display_name(table)} can't be compared: its extension also adds rows."))
        elif name_of(table) in filtered:
            notify(Notice(f"{display_name(table)} can't be compared: row security may hide rows from this role."))
        else:
            continue
        found.add(name_of(table))
    return found


def _groups(server: Server, differing: Iterable[Table], tables: Sequence[Table]) -> list[list[Table]]:
    """Return groups of tables to compare. A table is compared by itself, and a partition together with its table's other partitions."""
    if not (differing := list(differing)):
        return []
    roots = server.partition_roots()

    def group_of(table: Table) -> object:
        return roots.get(name_of(table), name_of(table))

    groups: dict[object, list[Table]] = defaultdict(list)
    for table in tables:
        groups[group_of(table)].append(table)
    return [groups[group] for group in dict.fromkeys(map(group_of, differing))]


def _with(group: Sequence[Table]) -> str:
    others = counted(len(group) - 1, "other partition")
    return f" (compared together with the table's {others})" if len(group) > 1 else ""
