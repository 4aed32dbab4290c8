"""What a store's records say about the backups of one database: the input of every check. Nothing is judged here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.catalog.attestation import Attestation
from pipeline.catalog.keys import BackupRef
from pipeline.errors import SignatureFault
from pipeline.trust.chain import Node
from storage_backends.holds import ObjectLock


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table in a backup, as the manifest describes it."""

    schema: str
    relation: str
    rows: int
    size: int
    """Bytes before compression."""
    checksum: str | None
    """SHA-256 of the table's data, or HMAC-SHA-256 if the backup is sealed; None if the manifest has none."""
    database: str | None = None
    """For a cluster's script: the table's database."""


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What the bytes of one manifest say. The same bytes always give the same facts, so they may be cached by the manifest's SHA-256."""

    sha256: str
    """SHA-256 of the manifest's bytes, in hexadecimal."""
    job: str | None
    kind: str
    partial: bool
    started_at: datetime
    finished_at: datetime
    snapshot_at: datetime
    size: int
    """Bytes of the dump before compression."""
    stored_size: int
    """Bytes of all objects together."""
    rows: int
    tables: Sequence[TableFacts]
    """The tables with data, sorted by schema and name. Each pass over the sequence may unpack it anew."""
    objects: Sequence[tuple[str, int, str | None]]
    """Key, size in bytes, and the checksum that the store confirmed, of each object that the backup needs, its key object included.

    Each pass over the sequence may unpack it anew.
    """
    members: Sequence[BackupRef]
    system_identifier: str | None
    server_version: str
    recipients: Sequence[str]
    """The public keys to which the backup is sealed; empty if it isn't sealed."""
    retained_until: datetime | None
    contradiction: str | None = None
    """The reason why no backup can have made the manifest, whatever the clocks say; None if one can."""


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What the records of one backup say."""

    ref: BackupRef
    stored_at: datetime
    """The time when the manifest was stored, by the store's clock, in UTC."""
    manifest: ManifestFacts | None
    """None if the manifest can't be read."""
    problem: str | None
    """Why the manifest can't be read or believed, as a sentence; None if it can."""
    fault: SignatureFault | None
    """What is wrong with the signature; None if a trusted key signed the manifest, or if there are no trusted keys."""
    node: Node | None
    """The backup's place in its chain; None if no trusted key signed the backup."""
    attestations: Sequence[Attestation]
    """The results of verifications that the audit believes, the oldest first."""
    lock: ObjectLock | None = None
    """The locks on the manifest, as the store reports them. None if the store was not asked."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a database, as the store's listing reports it."""

    key: str
    size: int
    modified: datetime
    checksum: str | None
    retained_until: datetime | None
    """None if there is no lock, or if the listing doesn't say."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What one store has of one database."""

    store: str
    """The URL of the store."""
    cluster: str
    database: str
    backups: Sequence[BackupFacts]
    """The oldest first."""
    removed: Sequence[Node]
    """The signed backups that have a tombstone by a trusted key, and no believed manifest.

    A believed backup that has a tombstone all the same has the time of its removal in its own node.
    """
    odd_tombstones: Sequence[tuple[str, str]]
    """Key of each tombstone that can't be believed, and the reason as a sentence."""
    objects: Sequence[StoredObject]
    """The objects under ``data/`` and ``keys/``, in the order of their keys. Empty if nobody asked for them."""
    unlisted: Sequence[str] = ()
    """The folders of the store that the credentials can't list, such as ``data/``. Nothing is known of what is in them."""
    odd: Sequence[str] = ()
    """Keys that look like a manifest's of this database, but that pgstow never gives to a manifest."""
