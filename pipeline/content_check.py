"""Whether what was restored has the content that was dumped: each table is copied out again, and must be the archive's file."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.archive_reader import Archive
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import InvalidRequest
from pipeline.events import Notice, Notify, Progress, Started
from pipeline.manifest import File, Manifest
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.server import Server
from pipeline.stages.download import ObjectReader
from storage_backends import StorageBackend

_INTERVAL = 0.2  # seconds between reports of progress


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing the tables' content found."""

    compared: int
    """Tables that were compared."""
    problems: list[str]
    """One sentence for each table or partitioned table whose content isn't what was dumped."""


def check_comparable(manifest: Manifest) -> None:
    """Raises InvalidRequest unless the manifest says what the text of the dump depends on."""
    if manifest.source.time_zone is None or manifest.source.bytea_output is None:
        raise InvalidRequest(
            f"The content of {manifest.backup_id} can't be compared: its manifest, by an older pgstow, doesn't say in which time zone "
            "it was dumped; verify it without --checksums."
        )


def compare_content(
    target: Conninfo, archive: Archive, store: StorageBackend, limits: Limits, notify: Notify
) -> Comparison:
    """Compare each table of a restored database with its file in the archive.

    Dumped again, it usually is that very file, and so has the SHA-256 that the manifest says. Where it isn't, rows may just lie in another
    order, or in another partition of the same table: then the archive's file is read from the store, and digests of both are compared that
    don't depend on the order. Holds no more than a few rows in memory. Raises PipelineError or StorageError.
    """
    tables = sorted((file for file in archive.files.values() if file.kind == "table"), key=lambda file: -file.size)
    notify(Started("Comparing the content of tables"))
    redump = _Redump(target, archive)
    digests: dict[str, str] = {}
    total = sum(file.size for file in tables)
    with Workers() as workers:
        comparing = workers.pool(limits.jobs, "compare")
        for first in range(limits.jobs):
            comparing.submit(partial(redump.digests, tables[first :: limits.jobs]), digests.update)
        while comparing.pending:
            workers.collect(timeout=_INTERVAL)
            notify(Progress(redump.done, max(total, redump.done), 0, ()))
        others = [file for file in tables if digests[file.path] != file.checksum]
        with redump.session() as server:
            skipped = _incomparable(server, others, notify)
            groups = _groups(server, [file for file in others if file not in skipped], tables)
            again = [file for group in groups for file in group]
            reader = ObjectReader(store, archive.manifest.objects, again, workers, limits)
            wrong = []
            for group in groups:
                stored, restored = LineDigest(), LineDigest()
                for file in group:
                    stored.update_all(reader.read(file))
                    restored.update_all(redump.read(server, file))
                if stored.value != restored.value:
                    wrong.append(group)
    problems = [f"{_shown(group[0])} doesn't have the content that was dumped{_with(group)}." for group in wrong]
    return Comparison(len(tables) - len(skipped), problems)


class LineDigest:
    """A digest of lines whatever their order: the sum of their SHA-256. No line is held in memory."""

    def __init__(self) -> None:
        self._line = hashlib.sha256()
        self.value = 0
        """Of the lines that have ended."""

    def update_all(self, parts: Iterable[bytes]) -> None:
        """Take more bytes; a part may begin and end within a line."""
        for part in parts:
            first, *others = part.split(b"\n")
            self._line.update(first)
            for other in others:
                self.value += int.from_bytes(self._line.digest(), "big")
                self._line = hashlib.sha256(other)


class _Redump:
    """A restored database's tables, as pg_dump wrote them into the archive."""

    def __init__(self, target: Conninfo, archive: Archive) -> None:
        self._target = target
        self._source = archive.manifest.source
        self._encoding = archive.toc.encoding
        self._columns = {entry.filename: entry.columns for entry in archive.toc.data_entries}
        self.done = 0
        """Bytes, only shown: threads may lose a count to each other."""

    def session(self) -> Server:
        """One in which values look as they did to pg_dump (``setup_connection`` in pg_dump.c)."""
        server = Server(self._target)
        for name, value in (
            ("DateStyle", "ISO"),
            ("IntervalStyle", "postgres"),
            ("extra_float_digits", "3"),
            ("search_path", ""),
            ("synchronize_seqscans", "off"),
            ("TimeZone", self._source.time_zone),
            ("bytea_output", self._source.bytea_output),
        ):
            server.fetch("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])
        return server

    def digests(self, tables: Sequence[File]) -> Mapping[str, str]:
        """The SHA-256 that each table's file would have now, by path."""
        found = {}
        with self.session() as server:
            for file in tables:
                digest = hashlib.sha256()
                for part in self.read(server, file):
                    digest.update(part)
                    self.done += len(part)
                found[file.path] = digest.hexdigest()
        return found

    def read(self, server: Server, file: File) -> Iterator[bytes]:
        """The table's file."""
        yield from server.copy_rows(*_name(file), self._columns[file.path], self._encoding)
        yield COPY_END


def _incomparable(server: Server, differing: Iterable[File], notify: Notify) -> list[File]:
    """The tables that may differ for a reason that stock pg_dump and pg_restore have, or that this role doesn't see all of."""
    if not (differing := list(differing)):
        return []
    extensions, filtered = server.extension_tables(), server.filtered_tables()
    found = []
    for file in differing:
        if _name(file) in extensions:
            notify(Notice(f"{_shown(file)} can't be compared: its extension fills it, too."))
        elif _name(file) in filtered:
            notify(Notice(f"{_shown(file)} can't be compared: its row security may hide rows from this role."))
        else:
            continue
        found.append(file)
    return found


def _groups(server: Server, differing: Iterable[File], tables: Sequence[File]) -> list[list[File]]:
    """Each table by itself, and a partition together with all others of its table."""
    if not (differing := list(differing)):
        return []
    roots = server.partition_roots()
    groups: dict[object, list[File]] = {}
    for file in differing:
        root = roots.get(_name(file))
        groups[root or file.path] = [other for other in tables if roots.get(_name(other)) == root] if root else [file]
    return list(groups.values())


def _name(file: File) -> tuple[str, str]:
    return file.schema_name or "", file.relation or ""


def _shown(file: File) -> str:
    return ".".join(_name(file))


def _with(group: Sequence[File]) -> str:
    return f" (nor do, together with it, the {len(group) - 1} other partitions)" if len(group) > 1 else ""
