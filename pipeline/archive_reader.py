"""An archive as it lies in a store: its table of contents, and which files belong to what."""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, replace

from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged, InvalidRequest
from pipeline.manifest import File, Manifest
from pipeline.postgres.patterns import choose_entries
from pipeline.postgres.role_names import rename_roles
from pipeline.postgres.toc import TOC_NAME, Toc, read_toc
from pipeline.stages.download import ObjectReader, check_content
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class Choice:
    """What of an archive to bring back, in pg_dump's patterns or by dump IDs; all of it where there are none. Raises InvalidRequest."""

    tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    listed: tuple[int, ...] = ()
    """Dump IDs of the very entries to take, in the order to take them in."""

    def __post_init__(self) -> None:
        if self.listed and self.by_pattern:
            raise InvalidRequest("A list of entries says what to take: leave out the patterns for tables and schemas.")

    @property
    def by_pattern(self) -> bool:
        """Whether patterns say what to take."""
        return bool(self.tables or self.schemas)

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.by_pattern or self.listed)


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup's archive, of which the table of contents and the lists of large objects were read."""

    manifest: Manifest
    toc_data: bytes
    toc: Toc
    files: dict[str, File]
    """By path."""
    lists: dict[str, tuple[str, ...]]
    """Paths of the large objects in each list of them, in its order."""
    fetched: int
    """Bytes read from the store for this."""

    def with_roles(self, roles: Mapping[str, str]) -> "Archive":
        """The same archive with other roles, by the ones that it names. Raises InvalidRequest where it names one of those nowhere."""
        if not roles:
            return self
        toc_data = rename_roles(self.toc_data, roles)
        return replace(self, toc_data=toc_data, toc=read_toc(toc_data))

    def choose(self, choice: Choice) -> tuple[int, ...] | None:
        """Dump IDs of the entries in the order to restore them in; None for all.

        Raises InvalidRequest where a pattern matches nothing, or a dump ID isn't the archive's.
        """
        if choice.is_all:
            return None
        if choice.by_pattern:
            return self._in_order(choose_entries(self.toc, choice.tables, choice.schemas))
        known = {entry.dump_id for entry in self.toc.entries}
        if unknown := [dump_id for dump_id in choice.listed if dump_id not in known]:
            raise InvalidRequest(
                f"The backup {self.manifest.backup_id} holds no entry {unknown[0]}: the list is another's. pgstow show --toc prints its own."
            )
        return choice.listed

    def with_schemas(self, dump_ids: Collection[int], *, present: Collection[str]) -> tuple[int, ...]:
        """The same dump IDs with the schemas that the entries lie in, and without those that are ``present``."""
        chosen = set(dump_ids)
        needed = {entry.namespace for entry in self.toc.entries if entry.dump_id in chosen}
        schemas = [entry for entry in self.toc.entries if entry.description == "SCHEMA"]
        there = {entry.dump_id for entry in schemas if entry.tag in present}
        return self._in_order({*chosen, *(entry.dump_id for entry in schemas if entry.tag in needed)} - there)

    def files_of(self, dump_ids: Collection[int] | None) -> list[File]:
        """The files that hold the data of the entries, in the order of the dump IDs; of all in the archive's, where None."""
        entries = self.toc.data_entries
        if dump_ids is not None:
            by_id = {entry.dump_id: entry for entry in entries}
            entries = tuple(by_id[dump_id] for dump_id in dump_ids if dump_id in by_id)
        return [self.files[path] for entry in entries for path in (entry.filename, *self.lists.get(entry.filename, ()))]

    def _in_order(self, dump_ids: Set[int]) -> tuple[int, ...]:
        """The archive's, in which pg_restore takes what it is given a list of."""
        return tuple(entry.dump_id for entry in self.toc.entries if entry.dump_id in dump_ids)


def open_archive(store: StorageBackend, manifest: Manifest, workers: Workers, limits: Limits) -> Archive:
    """Read what tells the archive's structure, and check it. Raises BackupDamaged, also where the manifest lacks a file that it names."""
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
    structure = [file for file in manifest.files if file.kind in {"toc", "large_object_toc"}]
    reader = ObjectReader(store, manifest.objects, structure, workers, limits)
    toc_file = _toc_file(manifest)
    toc_data = b"".join(check_content(toc_file, reader.read(toc_file)))
    toc = read_toc(toc_data)
    lists = {
        file.path: tuple(_listed_paths(check_content(file, reader.read(file))))
        for file in structure
        if file.kind == "large_object_toc"
    }
    named = [entry.filename for entry in toc.data_entries] + [path for paths in lists.values() for path in paths]
    if missing := [path for path in named if path not in files]:
        raise BackupDamaged(f"The manifest of {manifest.backup_id} names no {missing[0]}, which its archive needs.")
    return Archive(manifest, toc_data, toc, files, lists, reader.fetched)


def read_toc_data(store: StorageBackend, manifest: Manifest, workers: Workers, limits: Limits) -> bytes:
    """An archive's ``toc.dat``; nothing else is fetched than the object that holds it."""
    file = _toc_file(manifest)
    return b"".join(ObjectReader(store, manifest.objects, [file], workers, limits).read(file))


def _toc_file(manifest: Manifest) -> File:
    found = next((file for file in manifest.files if file.path == TOC_NAME), None)
    if found is None:
        raise BackupDamaged(
            f"The manifest of {manifest.backup_id} names no {TOC_NAME}; nothing can be restored without it."
        )
    return found


def _listed_paths(parts: Iterable[bytes]) -> list[str]:
    """``blobs.toc`` has a line for each large object: its OID and its file's name."""
    return [line.split(b" ", 1)[1].decode() for line in b"".join(parts).splitlines()]
