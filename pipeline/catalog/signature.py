"""Reads signed statements: tombstones, and the signature of an object, which has the object's key followed by ``.sig``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.catalog.canonical_json import brief
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.errors import Untrusted
from pipeline.trust.statement import LONGEST_ENVELOPE, Link, P, Removal
from storage_backends import ObjectNotFound, ObjectTooLarge, StorageBackend

if TYPE_CHECKING:  # the libraries for signatures are loaded only if there are trusted keys
    from pipeline.trust.policy import Signed, Trust


@dataclass(frozen=True, slots=True)
class BackupSignature:
    """What the signature of a backup says."""

    key_ids: list[str]
    """The IDs of the trusted keys that made the signature. If no trusted key did, the IDs that the envelope names; anybody can write those."""
    trusted: bool | None = None
    """True if a trusted key made the signature. None if there are no trusted keys."""
    writer: str | None = None
    """The name of the writer; None unless ``trusted``, since pgstow parses no statement before it has checked the signature."""
    sequence: int | None = None
    """The statement's number in the writer's chain; None unless ``trusted``."""
    problem: str | None = None
    """The reason why the signature isn't trusted, as a clause; None if it is trusted, or if there are no trusted keys."""


def describe_signature(
    store: StorageBackend, ref: BackupRef, sha256: str, trust: "Trust | None"
) -> BackupSignature | None:
    """Return what the backup's signature says; None if the backup isn't signed. ``sha256`` is the manifest's. Raises StorageError."""
    from pipeline.trust.envelope import key_ids_of  # loads the libraries for signatures

    named = list[str]()
    try:
        envelope = read_envelope(store, ref.manifest_key + SIGNATURE_SUFFIX)
        named = [brief(key_id) for key_id in key_ids_of(envelope)]
        if trust is None:
            return BackupSignature(named)
        signed = trust.read(envelope, ref.manifest_key, Link)
        signed.check_digest(sha256)
    except ObjectNotFound:
        return None
    except Untrusted as exc:
        return BackupSignature(named, False if trust else None, problem=str(exc))
    link = signed.predicate
    return BackupSignature(trust.signers(envelope, Link), True, link.writer, link.sequence)


def read_signature(store: StorageBackend, key: str, kind: type[P], trust: "Trust") -> "Signed[P]":
    """Return what a trusted key says about the object ``key``. The object itself isn't read.

    Raises Untrusted if no key that is trusted for the purpose of ``kind`` says anything about the object. Raises StorageError.
    """
    try:
        return trust.read(read_envelope(store, key + SIGNATURE_SUFFIX), key, kind)
    except ObjectNotFound as exc:
        raise Untrusted("unsigned", "it is not signed") from exc


def read_tombstone(store: StorageBackend, ref: BackupRef, trust: "Trust") -> "Signed[Removal]":
    """Return the statement that the backup was removed.

    Raises Untrusted if no key that is trusted for pruning made it, ObjectNotFound if there is none, or another StorageError.
    """
    return trust.read(read_envelope(store, ref.tombstone_key), ref.manifest_key, Removal)


def read_envelope(store: StorageBackend, key: str) -> bytes:
    """Return the bytes of an envelope. Raises Untrusted if there are too many, ObjectNotFound, or another StorageError."""
    try:
        return store.get(key, at_most=LONGEST_ENVELOPE)
    except ObjectTooLarge as exc:
        raise Untrusted("untrusted", f"its signature is longer than {LONGEST_ENVELOPE:,} bytes") from exc
