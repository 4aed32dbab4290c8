"""An archive in a store: its table of contents, and the files of each entry."""

from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

from pipeline.archive.selection import EntrySelection
from pipeline.catalog.manifest import TOC_NAME, File, Manifest, TableData
from pipeline.catalog.origin import Format
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.counting import counted
from pipeline.errors import BackupDamaged, InvalidRequest
from pipeline.postgres.large_objects import files_by_list
from pipeline.postgres.loading import names_money
from pipeline.postgres.role_names import rename_roles
from pipeline.postgres.toc import Toc, TocEntry
from pipeline.postgres.toc_format import TocCutShort, read_toc
from pipeline.postgres.toc_head import parse_head
from pipeline.stages.download import LARGEST_WHOLE, ObjectReader, read_whole
from storage_backends import StorageBackend

_WITH_DATA = {"TABLE DATA", "BLOBS"}
"""Entries that have data in an archive, in pg_dump's words."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup's archive, with its table of contents."""

    manifest: Manifest
    toc_data: bytes
    """The bytes of the table of contents, possibly with other bytes after it; empty for a script."""
    toc: Toc
    files: dict[str, File]
    """The archive's files, by path."""
    lists: dict[str, tuple[str, ...]]
    """The paths of the large objects in each list. The keys are the lists' paths. The lists themselves are not read."""
    fetched: int
    """Bytes read from the store to open the archive."""
    replaced: tuple[str, ...]
    """A sentence for each overwritten or deleted object whose stored version was read instead."""

    @property
    def format(self) -> Format:
        """The archive's format, by pg_dump's name."""
        return dump_format(self.manifest)

    @property
    def is_stream(self) -> bool:
        """True if the archive is a single file. pg_restore, or psql for a script, reads it from its start, whichever entries are wanted."""
        return self.format != "directory"

    @property
    def encoding(self) -> str:
        """The encoding of the tables' data, by PostgreSQL's name."""
        return self.manifest.dump.encoding or self.toc.encoding

    def check_directory(self, option: str) -> None:
        """Raise InvalidRequest if the archive is a single file, in which ``option`` can't change anything."""
        if self.is_stream:
            raise InvalidRequest(
                f"{self.manifest.backup_id} has the format {self.format}: {option} works only with the directory format."
            )

    def with_roles(self, roles: Mapping[str, str]) -> "Archive":
        """Return the archive with renamed roles. ``roles`` has the new names, by the names in the archive.

        Raises InvalidRequest if the archive is a single file, doesn't name one of the roles, or can't encode a new name.
        """
        if not roles:
            return self
        self.check_directory("--map-role")
        toc_data = rename_roles(self.toc_data, roles)
        return replace(self, toc_data=toc_data, toc=read_toc(toc_data))

    def choose(self, choice: EntrySelection) -> tuple[int, ...] | None:
        """Return the dump IDs of the chosen entries, in the order to restore them in; None for all entries.

        Raises InvalidRequest in these cases:

        - A pattern is invalid or matches nothing.
        - The archive lacks a listed dump ID.
        - The choice is a part of a script.
        - The list changes the order of the data in a single file.
        """
        if choice.is_all:
            return None
        if self.format == "plain":
            raise InvalidRequest(
                f"{self.manifest.backup_id} is a plain script, which psql runs as a whole: no part of it can be chosen."
            )
        if not choice.listed:
            return self._in_order(choice.select(self.toc)[0])
        known = {entry.dump_id: entry for entry in self.toc.entries}
        if unknown := [dump_id for dump_id in choice.listed if dump_id not in known]:
            raise InvalidRequest(
                f"The backup {self.manifest.backup_id} has no entry {unknown[0]}: the list belongs to another backup. "
                "pgstow show --toc prints this backup's list."
            )
        if self.is_stream:
            self._check_order([known[dump_id] for dump_id in choice.listed if known[dump_id].description in _WITH_DATA])
        return choice.listed

    def with_schemas(self, dump_ids: Collection[int], *, present: Collection[str]) -> tuple[int, ...]:
        """Return the dump IDs in the archive's order. Adds the entries' schemas, and leaves out schemas in ``present``."""
        chosen = set(dump_ids)
        needed = {entry.namespace for entry in self.toc.entries if entry.dump_id in chosen}
        schemas = [entry for entry in self.toc.entries if entry.description == "SCHEMA"]
        there = {entry.dump_id for entry in schemas if entry.tag in present}
        return self._in_order({*chosen, *(entry.dump_id for entry in schemas if entry.tag in needed)} - there)

    def files_of(self, dump_ids: Collection[int] | None, *, lists: bool = False) -> list[File]:
        """Return the files that hold the entries' data, in the order of the dump IDs; None stands for all entries in the archive's order.

        ``lists`` adds the lists of large objects, which only stock pg_restore needs. If the archive is a single file, return that file, which
        holds all of the archive.
        """
        if self.is_stream:
            return self.manifest.files
        entries = self.toc.data_entries
        if dump_ids is not None:
            by_id = {entry.dump_id: entry for entry in entries}
            entries = tuple(by_id[dump_id] for dump_id in dump_ids if dump_id in by_id)
        paths = [path for entry in entries for path in self.lists.get(entry.filename, (entry.filename,))]
        paths += [entry.filename for entry in entries if lists and entry.filename in self.lists]
        return [self.files[path] for path in paths]

    def tables_of(self, dump_ids: Collection[int] | None) -> Sequence[File | TableData]:
        """Return the tables whose rows the entries hold; None stands for all entries."""
        if not self.is_stream:
            return [file for file in self.files_of(dump_ids) if file.kind == "table"]
        if dump_ids is None:
            return self.manifest.tables
        wanted, data = set(dump_ids), [entry for entry in self.toc.entries if entry.description == "TABLE DATA"]
        names = {(entry.namespace, entry.tag) for entry in data if entry.dump_id in wanted}
        return [table for table in self.manifest.tables if (table.schema_name, table.relation) in names]

    def uses_money(self, dump_ids: Collection[int] | None) -> bool:
        """True if an entry uses the type money, directly or through a domain or table on which it depends. None stands for all entries.

        Also True for a script, whose entries aren't known. A partial backup may lack the types of its tables: see :func:`has_types_of_money`.
        """
        entries = self.toc.entries if dump_ids is None else self.toc.with_needed(dump_ids)
        return self.format == "plain" or names_money(entries)

    def _check_order(self, listed: Sequence[TocEntry]) -> None:
        """Raise InvalidRequest unless the data entries are in the archive's order, in which pg_restore reads a single file."""
        position = {entry.dump_id: number for number, entry in enumerate(self.toc.entries)}
        for before, after in pairwise(listed):
            if position[before.dump_id] > position[after.dump_id]:
                raise InvalidRequest(
                    f"The list has the data of {before.tag} ({before.dump_id}) before the data of {after.tag} ({after.dump_id}), but the "
                    f"archive has them the other way round. pg_restore reads the {self.format} format from its start: keep the archive's order."
                )

    def _in_order(self, dump_ids: Set[int]) -> tuple[int, ...]:
        """Return the dump IDs in the archive's order. A list for pg_restore should have this order."""
        return tuple(entry.dump_id for entry in self.toc.entries if entry.dump_id in dump_ids)


def open_archive(store: StorageBackend, manifest: Manifest, workers: Workers, limits: Limits) -> Archive:
    """Read the table of contents, and check it. Fetches only the objects that hold it.

    Raises:
        InvalidRequest: the manifest doesn't describe a backup of a database, or the memory limit is too low for its objects.
        BackupDamaged: an object is damaged, or the manifest lacks a file that the archive names.
        DumpFailed: the table of contents is damaged or has an unknown version.
        StorageError: the store fails.
    """
    if manifest.kind != "database":
        raise InvalidRequest(
            f"{manifest.backup_id} is no backup of a database, but of "
            + (
                "roles and tablespaces: restore it with --globals-only."
                if manifest.kind == "globals"
                else "a cluster: use --all-databases."
            )
        )
    files = {file.path: file for file in manifest.files}
    if dump_format(manifest) != "directory":
        single_file(manifest)
        reader = ObjectReader(store, manifest.objects, manifest.files, workers, limits)
        toc_data, toc = (b"", Toc("", ())) if dump_format(manifest) == "plain" else _read_head(manifest, reader)[1:]
        return Archive(manifest, toc_data, toc, files, {}, reader.fetched, tuple(reader.replaced))
    toc_file = _toc_file(manifest)
    reader = ObjectReader(store, manifest.objects, [toc_file], workers, limits)
    toc_data = read_whole(toc_file, reader)
    toc = read_toc(toc_data)
    lists = files_by_list(toc, (file.path for file in manifest.files if file.kind == "large_object"))
    if missing := [entry.filename for entry in toc.data_entries if entry.filename not in files]:
        raise BackupDamaged(f"The manifest of {manifest.backup_id} names no {missing[0]}, which its archive needs.")
    return Archive(manifest, toc_data, toc, files, lists, reader.fetched, tuple(reader.replaced))


def dump_format(manifest: Manifest) -> Format:
    """Return the format of the manifest's archive, by pg_dump's name: ``plain`` for a script."""
    return "plain" if manifest.dump.format == "script" else manifest.dump.format


def check_format(manifest: Manifest, wanted: Format | None) -> None:
    """Raise InvalidRequest unless the archive has the ``wanted`` format; None accepts any format. pg_restore can't convert formats."""
    if wanted not in {None, dump_format(manifest)}:
        raise InvalidRequest(
            f"{manifest.backup_id} has the format {dump_format(manifest)}: pgstow can write it in this format, or as a plain script."
        )


def read_head(store: StorageBackend, manifest: Manifest, workers: Workers, limits: Limits) -> tuple[str, bytes]:
    """Return the name and the bytes of the file that ``pg_restore --list`` needs: ``toc.dat``, or the beginning of the single file.

    Fetches only the objects that hold these bytes. Raises InvalidRequest for a script, BackupDamaged if an object is damaged, DumpFailed if
    a single file's table of contents is damaged, and StorageError.
    """
    match dump_format(manifest):
        case "plain":
            raise InvalidRequest(f"{manifest.backup_id} is a plain script, which has no table of contents.")
        case "directory":
            file = _toc_file(manifest)
            return file.path, read_whole(file, ObjectReader(store, manifest.objects, [file], workers, limits))
        case _:
            reader = ObjectReader(store, manifest.objects, manifest.files, workers, limits)
            return single_file(manifest).path, _read_head(manifest, reader)[0]


def _read_head(manifest: Manifest, reader: ObjectReader) -> tuple[bytes, bytes, Toc]:
    """Return the bytes read from the start of the single file, its table of contents, and the parsed table of contents.

    Raises BackupDamaged if the table isn't within the first :data:`LARGEST_WHOLE` bytes, and DumpFailed if it is damaged.
    """
    file = single_file(manifest)
    head, tried = bytearray(), 0
    for part in reader.read(file):
        head += part
        if len(head) > LARGEST_WHOLE:
            raise BackupDamaged(f"{file.path} has no table of contents in its first {LARGEST_WHOLE} bytes.")
        if len(head) < 2 * tried:  # so that a long table of contents isn't parsed after each part
            continue
        tried = len(head)
        with suppress(TocCutShort):
            return bytes(head), *parse_head(bytes(head), dump_format(manifest))
    return bytes(head), *parse_head(bytes(head), dump_format(manifest))


def single_file(manifest: Manifest) -> File:
    """Return the file of a backup that has a single file. Raises BackupDamaged if the manifest names no file or several files."""
    if len(manifest.files) != 1:
        raise BackupDamaged(
            f"The manifest of {manifest.backup_id} names {counted(len(manifest.files), 'file')} instead of one."
        )
    return manifest.files[0]


def _toc_file(manifest: Manifest) -> File:
    found = next((file for file in manifest.files if file.path == TOC_NAME), None)
    if found is None:
        raise BackupDamaged(
            f"The manifest of {manifest.backup_id} names no {TOC_NAME}; without it, nothing can be restored."
        )
    return found
