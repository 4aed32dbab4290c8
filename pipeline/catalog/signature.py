"""Reads signed statements: tombstones, and the signature of an object, which has the object's key followed by ``.sig``."""

from typing import TYPE_CHECKING

from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.errors import Untrusted
from pipeline.trust.statement import LONGEST_ENVELOPE, P, Removal
from storage_backends import ObjectNotFound, ObjectTooLarge, StorageBackend

if TYPE_CHECKING:  # the libraries for signatures are loaded only if there are trusted keys
    from pipeline.trust.policy import Signed, Trust


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
