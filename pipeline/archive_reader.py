"""An archive as it lies in a store: its table of contents, and which files belong to what."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged
from pipeline.manifest import File, Manifest
from pipeline.postgres.patterns import choose_entries
from pipeline.postgres.toc import TOC_NAME, Toc, read_toc
from pipeline.stages.download import ObjectReader, check_content
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class Choice:
    """What of an archive to bring back, in pg_dump's patterns; all of it where there are none."""

    tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.tables or self.schemas)


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

    def choose(self, choice: Choice) -> frozenset[int] | None:
        """Dump IDs of the entries; None for all. Raises InvalidRequest where a pattern matches nothing."""
        return None if choice.is_all else frozenset(choose_entries(self.toc, choice.tables, choice.schemas))

    def with_schemas(self, dump_ids: Collection[int], *, present: Collection[str]) -> frozenset[int]:
        """The same dump IDs with the schemas that the entries lie in, and without those that are ``present``."""
        needed = {entry.namespace for entry in self.toc.entries if entry.dump_id in dump_ids}
        schemas = [entry for entry in self.toc.entries if entry.description == "SCHEMA"]
        there = {entry.dump_id for entry in schemas if entry.tag in present}
        return frozenset({*dump_ids, *(entry.dump_id for entry in schemas if entry.tag in needed)} - there)

    def in_order(self, dump_ids: Collection[int]) -> list[int]:
        """The same dump IDs in the archive's order, in which pg_restore takes what it is given a list of."""
        return [entry.dump_id for entry in self.toc.entries if entry.dump_id in dump_ids]

    def files_of(self, dump_ids: Collection[int] | None) -> list[File]:
        """The files that hold the data of the entries (of all where None), in the archive's order."""
        paths = []
        for entry in self.toc.data_entries:
            if dump_ids is None or entry.dump_id in dump_ids:
                paths += [entry.filename, *self.lists.get(entry.filename, ())]
        return [self.files[path] for path in paths]


def open_archive(store: StorageBackend, manifest: Manifest, workers: Workers, limits: Limits) -> Archive:
    """Read what tells the archive's structure, and check it. Raises BackupDamaged, also where the manifest lacks a file that it names."""
    files = {file.path: file for file in manifest.files}
    structure = [file for file in manifest.files if file.kind in {"toc", "large_object_toc"}]
    reader = ObjectReader(store, manifest.objects, structure, workers, limits)
    if TOC_NAME not in files:
        raise BackupDamaged(
            f"The manifest of {manifest.backup_id} names no {TOC_NAME}; nothing can be restored without it."
        )
    toc_data = b"".join(check_content(files[TOC_NAME], reader.read(files[TOC_NAME])))
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


def _listed_paths(parts: Iterable[bytes]) -> list[str]:
    """``blobs.toc`` has a line for each large object: its OID and its file's name."""
    return [line.split(b" ", 1)[1].decode() for line in b"".join(parts).splitlines()]
