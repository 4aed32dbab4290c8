"""Attestations: what a verification proved of a backup, kept beside it in the store.

Written like manifests, in canonical bytes and create-only: none is ever changed, and a later verification adds its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

from pydantic import Field

from pipeline.catalog import CatalogEntry
from pipeline.concurrency import Workers
from pipeline.document import Count, Model, Moment, Sha256, document_schema, dump_document, load_document
from pipeline.errors import ManifestInvalid
from pipeline.events import Notice, Notify
from pipeline.layout import BackupRef, attestations_prefix
from pipeline.stages.upload import upload
from storage_backends import AccessDenied, ObjectNotFound, StorageBackend

ATTESTATION_VERSION = "1.1"
_READERS = 8  # attestations read at once


class Level(StrEnum):
    """How far a verification goes; each includes what the one before it proves."""

    OBJECTS = "objects"
    """Every object is there, with the size and the checksum that the store reports. Reads no data."""
    BYTES = "bytes"
    """Every object was read again, and has the SHA-256 that the manifest says."""
    ARCHIVE = "archive"
    """pg_restore parses the archive, and each of its files decompresses to its size, SHA-256 and rows."""
    RESTORE = "restore"
    """All of it was restored into a server, and had the rows there that the manifest says."""


class RestoreProof(Model):
    """What restoring the backup showed."""

    server_version: str = Field(description="Of the server that it was restored into")
    pg_restore_version: str
    tables: Count = Field(description="Tables whose rows were counted, and were as many as the manifest says")
    rows: Count
    compared: Count | None = Field(
        description="Tables whose content was compared with the archive; null where that wasn't asked for"
    )
    assertions: list[str] = Field(
        description="The user's assertions that were checked: SQL, or the name of a file of it"
    )


class Attestation(Model):
    """What one verification of one backup found."""

    attestation_version: str = Field(default=ATTESTATION_VERSION, pattern=r"^\d+\.\d+$")
    cluster: str
    database: str
    backup_id: str
    manifest_sha256: Sha256 = Field(
        description="SHA-256 of the manifest's bytes: which backup this is about, beyond its name"
    )
    level: Literal["objects", "bytes", "archive", "restore"]
    good: bool = Field(description="True if nothing was wrong and everything could be read")
    problems: list[str] = Field(description="One sentence for each thing that was wrong")
    unreadable: list[str] = Field(
        default=[],
        description="One sentence for each object that the store failed to give, though it gave others. "
        "If problems is empty, the backup is neither good nor damaged, but unproven. Since 1.1",
    )
    objects: Count = Field(description="Objects that were looked at")
    objects_without_checksum: Count = Field(
        description="Objects of which the store reported no checksum, and that weren't read"
    )
    files: Count = Field(description="Files of the archive that were decompressed and checked")
    restore: RestoreProof | None = Field(description="At level restore, of a database, unless it failed to be restored")
    started_at: Moment
    finished_at: Moment
    tool: str = Field(default=f"pgstow {version('pgstow')}", description="What wrote this")

    @property
    def unproven(self) -> bool:
        """True if nothing was found wrong, but some objects could not be read."""
        return not self.good and bool(self.unreadable) and not self.problems

    @property
    def ref(self) -> BackupRef:
        """Which backup."""
        return BackupRef(self.cluster, self.database, self.backup_id)


def store_attestation(store: StorageBackend, attestation: Attestation) -> str:
    """Put it into the store; its key. Raises StorageError."""
    return upload(store, attestation.ref.attestation_key(attestation.finished_at), dump_attestation(attestation)).key


def dump_attestation(attestation: Attestation) -> bytes:
    """The attestation's canonical bytes, checksum included."""
    return dump_document(attestation, "attestation_checksum")


def load_attestation(data: bytes, key: str) -> Attestation:
    """Parse and check an attestation. Raises ManifestInvalid, naming ``key``, where it isn't what was written."""
    try:
        attestation = Attestation.model_validate_json(data)
    except ValueError as exc:
        raise ManifestInvalid(
            f"The attestation {key} is damaged, or of a version that this pgstow doesn't know."
        ) from exc
    try:
        load_document(data, "attestation_checksum")
    except ValueError as exc:
        raise ManifestInvalid(
            f"The attestation {key} was altered or damaged: its bytes do not match its attestation_checksum."
        ) from exc
    if not key.startswith(attestation.ref.attestations_prefix):
        raise ManifestInvalid(f"The attestation {key} is of another backup, {attestation.backup_id}: it was moved.")
    return attestation


def latest_attestations(
    store: StorageBackend, entries: Sequence[CatalogEntry], cluster: str | None, database: str | None, notify: Notify
) -> dict[BackupRef, Attestation] | None:
    """Return, for each of the backups, the attestation that counts; None if the credentials can't read attestations.

    That is the latest; but an earlier one that isn't good counts until one of its level or above is: what went less far doesn't refute it.
    One that is about another manifest than the one that is there counts for nothing.

    Costs one LIST per thousand attestations of the cluster or the database, and for each backup that has any, one GET for each from the
    latest back to the first that is of level restore or not good. What can't be read, and why, is a notice. Raises StorageError.
    """
    wanted = {entry.ref.attestations_prefix: entry for entry in entries}
    keys = defaultdict[str, list[str]](list)
    try:
        for info in store.list(attestations_prefix(cluster, database if cluster is not None else None)):
            prefix, slash, _ = info.key.rpartition("/")
            if prefix + slash in wanted:
                keys[prefix + slash].insert(0, info.key)  # they come oldest first
        return _read(store, [(wanted[prefix], newest_first) for prefix, newest_first in keys.items()], notify)
    except AccessDenied as exc:
        notify(Notice(f"When backups were last proven can't be told. {exc}"))
        return None


def _read(
    store: StorageBackend, histories: Sequence[tuple[CatalogEntry, Sequence[str]]], notify: Notify
) -> dict[BackupRef, Attestation]:
    found: dict[BackupRef, Attestation] = {}

    def take(ref: BackupRef, result: tuple[Attestation | None, str | None]) -> None:
        attestation, problem = result
        if problem:
            notify(Notice(problem))
        if attestation:
            found[ref] = attestation

    with Workers() as workers:
        reading = workers.pool(_READERS, "attestation")
        for entry, keys in histories:
            reading.submit(partial(_read_history, store, entry, keys), partial(take, entry.ref))
        while reading.pending:
            workers.collect(timeout=1.0)
    return found


def _read_history(
    store: StorageBackend, entry: CatalogEntry, newest_first: Sequence[str]
) -> tuple[Attestation | None, str | None]:
    """Return the attestation that counts, and a sentence on the first one that can't be used."""
    levels, counting, proven = list(Level), None, -1
    for key in newest_first:
        try:
            attestation = load_attestation(store.get(key), key)
        except (ManifestInvalid, ObjectNotFound) as exc:
            return counting, str(exc)
        if entry.sha256 != attestation.manifest_sha256:
            words = "is about another manifest than the one that is there."
            return counting, f"The attestation of {attestation.backup_id} {words}"
        level = levels.index(Level(attestation.level))
        if level <= proven:
            continue
        if counting is None or not attestation.good:
            counting = attestation
        proven = level
        if not attestation.good or levels[level] is Level.RESTORE:
            break
    return counting, None


def attestation_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an attestation, as published in docs/attestation.schema.json."""
    return document_schema(Attestation, f"pgstow attestation {ATTESTATION_VERSION}", "attestation_checksum")
