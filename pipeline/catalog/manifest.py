"""The manifest commits a backup: a backup exists if, and only if, its manifest does.

Its fields have the names that PostgreSQL's own backup_manifest gives them, such as ``path``, ``size`` and ``checksum``. Its bytes are
canonical, with a ``manifest_checksum``; see :mod:`pipeline.catalog.canonical_json`.
"""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.catalog.canonical_json import Model, brief, document_schema, dump_document, load_document
from pipeline.catalog.fields import MOST, ArchivePath, BackupId, Count, Moment, ObjectKey, Sha256
from pipeline.catalog.keys import CLUSTER, DATA, GLOBALS, BackupRef, encode_name, is_backup_id
from pipeline.errors import ManifestInvalid
from pipeline.pg_dump_options import leaves_out

MANIFEST_VERSION = "1.3"
LONGEST_MANIFEST = 512 * 1024 * 1024
"""Bytes of a manifest. A file takes about 300 bytes, so the limit allows more than a million tables and large objects."""
TOC_NAME = "toc.dat"
"""The name of the table of contents in an archive of the directory format."""

FileKind = Literal["toc", "table", "large_object", "large_object_toc", "archive", "script"]
Format = Literal["directory", "custom", "tar", "plain"]
"""The formats of pg_dump."""
Kind = Literal["database", "globals", "cluster"]


class Extension(Model):
    """An extension that the database had."""

    name: str
    version: str


class Source(Model):
    """The server, as the dump's snapshot saw it."""

    server_version: str
    system_identifier: str | None = Field(description="Of the database cluster; null where the role may not read it")
    pg_dump_version: str
    encoding: str
    collation: str = Field(description="LC_COLLATE")
    character_type: str = Field(description="LC_CTYPE")
    locale_provider: str = Field(description="c (libc), i (ICU) or b (builtin)")
    locale: str | None = Field(description="The ICU or builtin provider's")
    icu_rules: str | None = Field(default=None, description="Added to the ICU locale's own (ICU_RULES)")
    tablespace: str | None = Field(default=None, description="The database's own; null for pg_default")
    host: str = Field(description="As connected to: a name, an address, or the folder of a socket")
    port: int = Field(ge=0, le=65535)
    standby: bool = Field(description="Whether the server was in recovery")
    wal_lsn: str | None = Field(description="Position in the write-ahead log at the snapshot")
    time_zone: str | None = Field(default=None, description="That times with a zone are dumped in")
    bytea_output: str | None = Field(default=None, description="How bytea is dumped: hex or escape")
    lc_monetary: str | None = Field(
        default=None,
        description="The locale in which money is dumped; of a script, null without money or where databases set their own",
    )
    quote_all_identifiers: bool | None = Field(
        default=None, description="Whether names of tables, types and the like in the data are always quoted"
    )
    extensions: list[Extension]
    roles: list[str] = Field(default=[], description="Of the cluster, for a script: its SQL may name any of them")
    superusers: list[str] = Field(
        default=[],
        description="The superusers among roles. Only a superuser may own an event trigger or a foreign-data wrapper. Since 1.2",
    )
    tablespaces: list[str] = Field(default=[], description="As roles")


class DumpOptions(Model):
    """How pg_dump, or pg_dumpall, was run."""

    format: Format | Literal["script"] = Field(description="pg_dump's, or a script of pg_dumpall's")
    jobs: Count
    only: Literal["schema", "data", "roles", "tablespaces"] | None = Field(
        description="Definitions without rows, or rows alone; of globals, one kind of them; null for all"
    )
    tables: list[str] = Field(default=[], description="Patterns, as for pg_dump --table")
    exclude_tables: list[str] = Field(default=[])
    schemas: list[str] = Field(default=[])
    exclude_schemas: list[str] = Field(default=[])
    exclude_table_data: list[str] = Field(default=[])
    options: list[str] = Field(
        default=[],
        description="Further options, as for pg_dump or pg_dumpall: --no-comments, --extension=postgis. Since 1.3",
    )
    unlogged_left_out: list[str] = Field(
        default=[],
        description="Unlogged tables and sequences of a standby, where they are empty: pg_dump left out their rows and values",
    )
    encoding: str | None = Field(default=None, description="Of a plain script: that of its text")
    large_objects: bool | None = Field(
        default=None, description="Of a plain script: whether it has some, and therefore transactions of its own"
    )
    databases: list[str] = Field(default=[], description="Of a cluster's script: the databases in it")
    exclude_databases: list[str] = Field(default=[], description="Of a cluster: patterns of databases left out")
    role_passwords: bool | None = Field(default=None, description="Whether globals have roles' password hashes")

    @property
    def choices(self) -> tuple[list[str], ...]:
        """The patterns and options that choose what is dumped, always in the same order."""
        return (
            self.tables,
            self.exclude_tables,
            self.schemas,
            self.exclude_schemas,
            self.exclude_table_data,
            self.exclude_databases,
            list(filter(leaves_out, self.options)),
        )

    @property
    def partial(self) -> bool:
        """True if something was left out."""
        return self.only is not None or any(self.choices)


class Compression(Model):
    """How objects are compressed."""

    algorithm: Literal["zstd"]
    level: int = Field(ge=-MOST, le=MOST)


class Segment(Model):
    """A run of whole zstd frames in one object; decompressed, it is the next part of the file."""

    object: Count = Field(description="Index into objects")
    offset: Count = Field(description="Bytes from the object's start")
    length: Count = Field(description="Bytes in the object")
    size: Count = Field(description="Bytes once decompressed")


class File(Model):
    """One file of the archive."""

    path: ArchivePath
    kind: FileKind
    size: Count = Field(description="Bytes, uncompressed")
    checksum: Sha256
    segments: list[Segment]
    dump_id: Count | None = Field(default=None, description="As pg_restore --list prints it")
    schema_name: str | None = Field(default=None, alias="schema", description="The table's schema")
    relation: str | None = Field(default=None, description="The table's name")
    rows: Count | None = Field(default=None, description="Rows of the table in the dump's snapshot")


class TableData(Model):
    """The rows of a table."""

    database: str | None = Field(default=None, description="In a script of a whole cluster")
    schema_name: str = Field(alias="schema", description="The table's schema")
    relation: str = Field(description="The table's name")
    columns: str = Field(description="Those that COPY names, in parentheses; empty for none")
    rows: Count = Field(description="Rows of the table in the dump's snapshot")
    size: Count = Field(description="Bytes of its file, had it one in an archive of the directory format")
    checksum: Sha256 = Field(description="SHA-256 of that file, in hexadecimal")


class StoredObject(Model):
    """One object in the store."""

    key: ObjectKey
    size: Count = Field(description="Bytes")
    sha256: Sha256
    checksum: str | None = Field(description="The store's own, as algorithm:hexadecimal")
    version: str | None = Field(description="The store's version id or generation")


class Totals(Model):
    """Sums over files and objects."""

    files: Count
    tables: Count
    rows: Count
    size: Count = Field(description="Bytes of the archive, uncompressed")
    objects: Count
    stored_size: Count = Field(description="Bytes of the objects")


class Previous(Model):
    """The manifest before this one of the same database, so that a removed or altered one shows."""

    backup_id: BackupId
    sha256: Sha256


class Member(Model):
    """A backup that is part of a cluster's."""

    database: str = Field(description="Or @globals")
    backup_id: BackupId
    sha256: Sha256 = Field(description="SHA-256 of its manifest")


class Manifest(Model):
    """A committed backup."""

    manifest_version: str = Field(default=MANIFEST_VERSION, pattern=r"^\d+\.\d+$")
    backup_id: BackupId
    cluster: str
    database: str
    kind: Kind
    tool: str = Field(description="What wrote this")
    started_at: Moment
    snapshot_at: Moment = Field(description="The moment that the data is of")
    finished_at: Moment
    source: Source
    dump: DumpOptions
    compression: Compression
    encryption: None = None
    files: list[File]
    objects: list[StoredObject]
    tables: list[TableData] = Field(
        default=[],
        description="Of a dump that is a single file, an archive or a script: the tables whose rows are in it",
    )
    members: list[Member] = Field(default=[], description="Of a cluster: the backups of its globals and databases")
    totals: Totals
    durations: dict[str, float] = Field(
        description="Seconds by stage: dump, then upload_after_dump; members for a cluster"
    )
    previous: Previous | None
    tags: list[str] = Field(default=[], description="Names given to it, for prune --keep-tag")
    job: str | None = Field(
        default=None,
        description="Of pgstow run: the database's name in pgstow.toml; prune counts those of each by themselves",
    )
    retained_until: Moment | None = Field(
        default=None, description="Until when the store was asked to lock its objects; null where it wasn't asked"
    )

    @property
    def databases(self) -> list[str]:
        """The names of a cluster's databases that are in the backup; empty for a backup of one database or of globals."""
        return self.dump.databases or [member.database for member in self.members if member.database != GLOBALS]

    @model_validator(mode="after")
    def _stays_with_its_own(self) -> Self:
        """Refuse objects of another database, a member that is named twice, and a cluster as a member. An attacker may have named them."""
        own = f"{DATA}{encode_name(self.cluster)}/{encode_name(self.database)}/"
        for stored in self.objects:
            backup_id, _, name = stored.key.removeprefix(own).partition("/")
            if not stored.key.startswith(own) or not is_backup_id(backup_id) or not name or "/" in name:
                raise ValueError(f"the object {stored.key} lies outside of {own}")
        names = [member.database for member in self.members]
        if CLUSTER in names or len(set(names)) != len(names):
            raise ValueError("a member is named twice, or is a cluster itself")
        return self

    @model_validator(mode="after")
    def _segments_fit(self) -> Self:
        for file in self.files:
            for segment in file.segments:
                if segment.object >= len(self.objects):
                    raise ValueError(f"{file.path} lies in an object that is not listed")
                if segment.offset + segment.length > self.objects[segment.object].size:
                    raise ValueError(f"{file.path} reaches beyond the end of its object")
            if sum(segment.size for segment in file.segments) != file.size:
                raise ValueError(f"the segments of {file.path} do not add up to its size")
        if len({file.path for file in self.files}) != len(self.files):
            raise ValueError("a file is listed twice")
        return self


def summarize(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest in JSON's types, without its files, tables and objects."""
    return manifest.model_dump(mode="json", exclude={"files", "objects", "tables"})


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's canonical bytes, checksum included."""
    return dump_document(manifest, "manifest_checksum")


def load_manifest(data: bytes, key: str) -> Manifest:
    """Return the manifest that was stored as ``key``.

    Raises ManifestInvalid as :func:`pipeline.catalog.canonical_json.load_document` does, or if the manifest belongs to another key.
    """
    manifest = load_document(data, Manifest, key, version=MANIFEST_VERSION)
    if BackupRef(manifest.cluster, manifest.database, manifest.backup_id).manifest_key != key:
        source = brief(f"{manifest.cluster}/{manifest.database} {manifest.backup_id}")
        raise ManifestInvalid(f"The manifest {key} says that it is of {source}: it was moved.")
    return manifest


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a manifest, as published in docs/manifest.schema.json."""
    return document_schema(Manifest, f"pgstow backup manifest {MANIFEST_VERSION}", "manifest_checksum")
