"""The manifest commits a backup: a backup exists if, and only if, its manifest exists.

Fields such as ``path``, ``size`` and ``checksum`` have the same names as in PostgreSQL's backup_manifest. The manifest's bytes are
canonical, with a ``manifest_checksum``; see :mod:`pipeline.catalog.canonical_json`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from pipeline.catalog.canonical_json import Model, brief, document_schema
from pipeline.catalog.document import Document, dump_document, open_document
from pipeline.catalog.fields import MOST, ArchivePath, BackupId, Checksum, Count, Moment, ObjectKey, Sha256
from pipeline.catalog.keys import CLUSTER, GLOBALS, BackupRef, is_key_object_name, owners
from pipeline.catalog.origin import DumpOptions, Source
from pipeline.errors import ManifestInvalid

MANIFEST_VERSION = "2.0"
"""The newest version, which sealed backups have. The major version makes older versions of pgstow refuse a manifest as too new."""
UNSEALED_VERSION = "1.4"
"""The version of the manifests of backups that aren't sealed. Older versions of pgstow read them."""
LONGEST_MANIFEST = 512 * 1024 * 1024
"""The most bytes of a manifest. A file takes about 300 bytes, so a manifest has room for more than a million tables and large objects."""
TOC_NAME = "toc.dat"
"""The name of the table of contents in an archive of the directory format."""

FileKind = Literal["toc", "table", "large_object", "large_object_toc", "archive", "script"]
Kind = Literal["database", "globals", "cluster"]

_ITEM = ConfigDict(populate_by_name=True, serialize_by_alias=True, json_schema_extra={"additionalProperties": True})
"""For the items of a manifest's long lists. They are slotted dataclasses, since an instance of :class:`Model` takes 1.5 KB.

Fields that this pgstow does not know are skipped. The fields are in the order of their names, so that pydantic's JSON is canonical.
"""


class Compression(Model):
    """The compression of the objects."""

    algorithm: Literal["zstd"]
    level: int = Field(ge=-MOST, le=MOST, description="The lowest level")
    levels: list[Annotated[int, Field(ge=-MOST, le=MOST)]] = Field(
        default=[], description="All levels of the frames, in ascending order. Since 1.4"
    )


@dataclass(frozen=True, slots=True, kw_only=True, config=_ITEM)
class Segment:
    """A run of whole zstd frames in one object. The decompressed frames are the next part of the file."""

    length: Count = Field(description="Compressed bytes")
    object: Count = Field(description="Index into objects, from 0")
    offset: Count = Field(description="Offset in the object, in bytes")
    size: Count = Field(description="Decompressed bytes")


@dataclass(frozen=True, slots=True, kw_only=True, config=_ITEM)
class File:
    """One file of the archive."""

    checksum: Checksum
    dump_id: Count | None = Field(
        default=None, description="The number of the file's entry in pg_restore --list; null if the file has no entry"
    )
    kind: FileKind
    path: ArchivePath
    relation: str | None = Field(default=None, description="The table's name")
    rows: Count | None = Field(default=None, description="Number of the table's rows in the dump's snapshot")
    schema_name: Annotated[str | None, Field(alias="schema", description="The table's schema")] = None
    segments: tuple[Segment, ...]
    size: Count = Field(description="Uncompressed bytes")


@dataclass(frozen=True, slots=True, kw_only=True, config=_ITEM)
class TableData:
    """The rows of a table in a dump that is a single file."""

    checksum: Checksum = Field(
        description="SHA-256, in hexadecimal, of the file that the table would have in an archive of the directory format; "
        "HMAC-SHA-256 if the backup is sealed"
    )
    columns: str = Field(description="The columns that COPY names, in parentheses; empty if COPY names none")
    database: str | None = Field(default=None, description="For a cluster's script: the table's database")
    relation: str = Field(description="The table's name")
    rows: Count = Field(description="Number of the table's rows in the dump's snapshot")
    schema_name: Annotated[str, Field(alias="schema", description="The table's schema")]
    size: Count = Field(description="Bytes of the file that the table would have in an archive of the directory format")


@dataclass(frozen=True, slots=True, kw_only=True, config=_ITEM)
class StoredObject:
    """One object in the store."""

    checksum: str | None = Field(description="The checksum that the store confirmed, as algorithm:hexadecimal")
    key: ObjectKey
    sha256: Sha256
    size: Count = Field(description="Bytes")
    version: str | None = Field(description="The store's version ID or generation; null if the store keeps no versions")


class Encryption(Model):
    """How a backup's content is sealed. Each object with content is an age file; its name ends in ``.age``."""

    scheme: Literal["age"]
    epoch: BackupId = Field(
        description="The backup with which the epoch began: the name of the folder of the key objects"
    )
    recipient: str = Field(description="The epoch's own public key, to which the objects are sealed")
    recipients: list[str] = Field(
        description="The public keys, of age or ssh, to which the key object is sealed. Later key objects may have others"
    )
    key: StoredObject = Field(
        description="The key object that was stored with the backup: an age file that holds the epoch's identity"
    )
    checksums: Literal["hmac-sha256"] = Field(
        description="The checksums of files and tables are HMAC-SHA-256, under a key that is in the key object"
    )


LISTS: Mapping[str, TypeAdapter[list[Any]]] = {
    "files": TypeAdapter(list[File]),
    "objects": TypeAdapter(list[StoredObject]),
    "tables": TypeAdapter(list[TableData]),
}
"""The fields of a manifest that can have a million items, with their types."""


class Totals(Model):
    """The totals of all files and objects."""

    files: Count
    tables: Count
    rows: Count
    size: Count = Field(description="Uncompressed bytes of the archive")
    objects: Count
    stored_size: Count = Field(description="Bytes of the objects")


class Previous(Model):
    """The manifest of the database's backup before this one. If somebody alters or removes that manifest, the difference shows."""

    backup_id: BackupId
    sha256: Sha256


class Member(Model):
    """A backup that is part of a cluster's backup."""

    database: str = Field(description="The database's name, or @globals")
    backup_id: BackupId
    sha256: Sha256 = Field(description="SHA-256 of the backup's manifest, in hexadecimal")


class ManifestSummary(Model):
    """A committed backup, without the lists of its files, objects and tables. The lists are most of a manifest."""

    manifest_version: str = Field(default=UNSEALED_VERSION, pattern=r"^\d+\.\d+$")
    backup_id: BackupId
    cluster: str
    database: str
    kind: Kind
    tool: str = Field(description="Name and version of the program that wrote the manifest")
    started_at: Moment
    snapshot_at: Moment = Field(description="The time of the snapshot: all data are as they were at this time")
    finished_at: Moment
    source: Source
    dump: DumpOptions
    compression: Compression
    encryption: Encryption | None = Field(
        default=None, description="How the backup is sealed; null if it isn't sealed. Since 2.0"
    )
    members: list[Member] = Field(default=[], description="For a cluster: the backups of its globals and databases")
    totals: Totals
    durations: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        description="Seconds of each stage. Each stage begins when the stage before it ends. dump ends when pgstow has read the whole dump. "
        "upload_after_dump ends when the stores have all objects of data. For a cluster with members, members is the only stage"
    )
    previous: Previous | None
    tags: list[str] = Field(default=[], description="The backup's tags, for prune --keep-tag")
    job: str | None = Field(
        default=None,
        description="For a backup of pgstow run: the database's name in pgstow.toml. prune counts the backups of each name separately",
    )
    retained_until: Moment | None = Field(
        default=None,
        description="The time until which pgstow asked the store to lock the objects; null if it asked for no lock",
    )

    @property
    def databases(self) -> list[str]:
        """The names of the databases in a cluster's backup; empty for a backup of one database or of globals."""
        return self.dump.databases or [member.database for member in self.members if member.database != GLOBALS]

    @model_validator(mode="after")
    def _members_are_backups_of_databases(self) -> Self:
        """Refuse a member that is named twice, and a cluster as a member. An attacker may have named them."""
        names = [member.database for member in self.members]
        if CLUSTER in names or len(set(names)) != len(names):
            raise ValueError("a member is named twice, or is itself a cluster")
        return self

    @model_validator(mode="after")
    def _key_is_of_its_epoch(self) -> Self:
        """Refuse a key object outside the folder of the epoch. An attacker may have named it."""
        if encryption := self.encryption:
            folder = BackupRef(self.cluster, self.database, encryption.epoch).keys_prefix
            name = encryption.key.key.removeprefix(folder)
            if name == encryption.key.key or not is_key_object_name(name):
                raise ValueError(f"its key object lies outside of {folder}")
        return self


class Manifest(ManifestSummary):
    """A committed backup."""

    files: list[File]
    objects: list[StoredObject]
    tables: list[TableData] = Field(
        default=[],
        description="For a dump that is a single file (custom, tar, plain or script): the tables whose rows are in the file",
    )

    @property
    def stored(self) -> list[StoredObject]:
        """All objects that the backup needs: the objects with content, and the key object."""
        return [*self.objects, *([self.encryption.key] if self.encryption else [])]

    @property
    def summary(self) -> ManifestSummary:
        """The manifest without its lists."""
        content = {**self.__dict__, **(self.model_extra or {})}
        return ManifestSummary.model_construct(**{name: value for name, value in content.items() if name not in LISTS})

    @model_validator(mode="after")
    def _stays_in_its_database(self) -> Self:
        """Refuse objects of another database. An attacker may have named them."""
        owners((stored.key for stored in self.objects), self.cluster, self.database)
        return self

    @model_validator(mode="after")
    def _segments_fit(self) -> Self:
        for file in self.files:
            for segment in file.segments:
                if segment.object >= len(self.objects):
                    raise ValueError(f"{file.path} lies in an object that the manifest doesn't list")
                if segment.offset + segment.length > self.objects[segment.object].size:
                    raise ValueError(f"{file.path} reaches beyond the end of its object")
            if sum(segment.size for segment in file.segments) != file.size:
                raise ValueError(f"the segments of {file.path} do not add up to its size")
        if len({file.path for file in self.files}) != len(self.files):
            raise ValueError("a file is listed twice")
        return self


def summarize(manifest: ManifestSummary) -> dict[str, Any]:
    """Return the manifest's fields in JSON's types, without its files, tables and objects."""
    return manifest.model_dump(mode="json", exclude=set(LISTS))


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's canonical bytes, checksum included."""
    lists = {name: kind.dump_json(getattr(manifest, name)) for name, kind in LISTS.items()}
    return dump_document(manifest, "manifest", lists)


def load_manifest(data: bytes, key: str) -> Manifest:
    """Return the manifest that is stored under ``key``.

    Raises ManifestInvalid as :func:`pipeline.catalog.document.open_document` does, or if the manifest belongs to another key.
    """
    document = open_manifest(data, key)
    lists: dict[str, list[Any]] = {
        name: document.items(name, kind) for name, kind in LISTS.items() if name in document.apart
    }
    manifest = document.model(Manifest, **lists)
    check_place(manifest, key)
    return manifest


def open_manifest(data: bytes, key: str) -> Document:
    """Return the document of a manifest, with its lists kept apart. Raises ManifestInvalid as :func:`load_manifest` does."""
    return open_document(data, "manifest", key, version=MANIFEST_VERSION, apart=LISTS)


def check_place(manifest: ManifestSummary, key: str) -> None:
    """Raise ManifestInvalid if a manifest that is stored under ``key`` belongs to another key."""
    if BackupRef(manifest.cluster, manifest.database, manifest.backup_id).manifest_key != key:
        source = brief(f"{manifest.cluster}/{manifest.database} {manifest.backup_id}")
        raise ManifestInvalid(f"The manifest {key} says that it belongs to {source}: it was moved.")


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a manifest, as published in docs/manifest.schema.json."""
    return document_schema(Manifest, f"pgstow backup manifest {MANIFEST_VERSION}", "manifest_checksum")
