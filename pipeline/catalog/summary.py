"""Reads the summary of a manifest, without a model for each file and object. For a large manifest, this takes a small part of the time.

The manifest's checksum covers all of its bytes. But the descriptions of files, objects and tables are looked at only as far as a list of
backups needs. If these descriptions contradict each other, only :func:`pipeline.catalog.manifest.load_manifest` finds out. Such a manifest
was made up, and no command that reads a backup's data takes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from pipeline.catalog.document import Document
from pipeline.catalog.fields import MOST
from pipeline.catalog.keys import BackupRef, owners
from pipeline.catalog.manifest import LISTS, FileKind, ManifestSummary, check_place, open_manifest
from pipeline.catalog.plausibility import Contents, DescribedFile


@dataclass(frozen=True, slots=True)
class LoadedSummary:
    """The summary of a manifest."""

    manifest: ManifestSummary
    sha256: str
    """SHA-256 of the manifest's bytes, in hexadecimal."""
    contents: Contents
    owners: frozenset[BackupRef]
    """The backups that wrote the objects in the manifest."""


_Name = Annotated[str, msgspec.Meta(max_length=1000)]
"""A name in the database. PostgreSQL's longest have 63 bytes, unless it was built for longer ones. The bound keeps searches short."""
_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
_Checksum = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ListedObject(msgspec.Struct, frozen=True, gc=False):
    """An object that a manifest names."""

    key: str
    size: _Count
    """Bytes."""
    checksum: str | None = None
    """The checksum that the store confirmed, as algorithm:hexadecimal; None if it confirmed none."""


class ListedTable(msgspec.Struct, frozen=True, gc=False):
    """A table with data that a manifest describes."""

    relation: _Name
    """The table's name."""
    size: _Count
    """Bytes before compression."""
    checksum: _Checksum
    """SHA-256 of the table's data; HMAC-SHA-256 if the backup is sealed."""
    schema_name: _Name = msgspec.field(name="schema")
    rows: _Count
    database: _Name | None = None
    """For a cluster's script: the table's database."""


@dataclass(frozen=True, slots=True)
class LoadedDetails:
    """The summary of a manifest, and what the manifest says about each table and each object."""

    summary: LoadedSummary
    tables: Sequence[ListedTable]
    objects: Sequence[ListedObject]


class _File(msgspec.Struct, frozen=True, gc=False):
    kind: FileKind
    size: _Count


class _DescribedFile(msgspec.Struct, frozen=True, gc=False):
    kind: FileKind
    size: _Count
    checksum: _Checksum
    relation: _Name | None = None
    rows: _Count | None = None
    schema_name: _Name | None = msgspec.field(name="schema", default=None)


class _Object(msgspec.Struct, frozen=True, gc=False):
    key: str


class _Table(msgspec.Struct, frozen=True, gc=False):
    relation: str


def load_summary(data: bytes, key: str) -> LoadedSummary:
    """Return the summary of the manifest that is stored under ``key``. The result doesn't keep ``data`` in memory.

    Raises ManifestInvalid with the same messages as :func:`pipeline.catalog.manifest.load_manifest`, but for fewer faults.
    """
    document = open_manifest(data, key)
    tables = document.glance("tables", _Table) if "tables" in document.apart else ()
    return _summarize(document, document.glance("files", _File), document.glance("objects", _Object), tables)


def load_details(data: bytes, key: str) -> LoadedDetails:
    """Return the summary of the manifest that is stored under ``key``, with its tables and its objects, the key object included.

    The result doesn't keep ``data`` in memory. Raises ManifestInvalid as :func:`load_summary` does.
    """
    document = open_manifest(data, key)
    files, objects = document.glance("files", _DescribedFile), document.glance("objects", ListedObject)
    tables = document.glance("tables", ListedTable) if "tables" in document.apart else []
    summary = _summarize(document, files, objects, tables)
    tables += [
        ListedTable(file.relation, file.size, file.checksum, file.schema_name or "", file.rows or 0)
        for file in files
        if file.kind == "table" and file.relation is not None
    ]
    if encryption := summary.manifest.encryption:
        objects.append(ListedObject(encryption.key.key, encryption.key.size, encryption.key.checksum))
    return LoadedDetails(summary, tables, objects)


def _summarize(
    document: Document,
    files: Sequence[DescribedFile],
    objects: Sequence[_Object | ListedObject],
    tables: Sequence[object],
) -> LoadedSummary:
    contents = Contents.of(files, tables=bool(tables))
    keys = (stored.key for stored in objects)
    manifest = document.model(ManifestSummary)
    try:
        found = owners(keys, manifest.cluster, manifest.database)
    except ValueError as exc:
        document.items("objects", LISTS["objects"])  # raises a more exact error if no object can have such a key
        raise document.invalid(exc) from exc
    check_place(manifest, document.key)
    return LoadedSummary(manifest, document.sha256, contents, found)
