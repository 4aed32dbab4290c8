"""Key objects: the keys of sealed backups, each sealed to the user's recipients. The store keeps them under ``keys/``."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress

from pipeline.catalog.canonical_json import brief
from pipeline.catalog.keys import BackupRef, is_key_object_name
from pipeline.catalog.manifest import Encryption, ManifestSummary
from pipeline.errors import BackupDamaged, InvalidRequest
from pipeline.events import Notice, Notify
from pipeline.trust.age import CannotOpen
from pipeline.trust.seal import UNSEALED, Epoch, Keys, Seal
from storage_backends import (
    AccessDenied,
    ObjectNotFound,
    ObjectTooLarge,
    StorageBackend,
    StorageError,
    TransientStorageError,
)
from storage_backends.versions import get_version

_MOST = 100
"""The most key objects of an epoch that are tried. An attacker who can create objects may add any number of them."""
LONGEST_KEY_OBJECT = 256 * 1024
"""The most bytes of a key object. It takes about 100 bytes for each of at most 100 recipients, or 1,000 bytes for an RSA key."""
_NAMED = 3  # recipients in an error


def open_seal(store: StorageBackend, manifest: ManifestSummary, keys: Keys) -> Seal:
    """Return the seal of the backup.

    Tries the key object that the manifest names, and then the newest others of its epoch. age authenticates no sender. So pgstow believes
    only a key object that holds the epoch's identity, whose public key is in the manifest.

    Raises InvalidRequest if ``keys`` open no key object, BackupDamaged if there is none to open, and StorageError.
    """
    if (encryption := manifest.encryption) is None:
        return UNSEALED
    for epoch in keys.epochs:
        if epoch.recipient == encryption.recipient:
            return epoch
    sealed_to = f"The backup {manifest.backup_id} is sealed to {_named(encryption.recipients)}"
    if not keys.identities:
        raise InvalidRequest(f"{sealed_to}: give --identity with the file of a fitting identity.")
    is_whole = False
    for key_object in _key_objects(store, manifest, encryption):
        is_whole |= hashlib.sha256(key_object).hexdigest() == encryption.key.sha256
        with suppress(CannotOpen, ValueError):
            return Epoch.read(bytes(keys.identities.open(key_object)), encryption.recipient)
    if not is_whole:
        raise BackupDamaged(
            f"{encryption.key.key} is missing from {store.url} or was altered, and the identity opens no other key object of the backup."
        )
    raise InvalidRequest(f"{sealed_to}, and the given identity opens none of its key objects: give another --identity.")


def tell_unneeded(manifest: ManifestSummary, keys: Keys, notify: Notify) -> None:
    """Notify if the user gave an identity for a backup that isn't sealed: somebody may have replaced a sealed backup."""
    if keys.identities and manifest.encryption is None:
        notify(Notice(f"The backup {manifest.backup_id} isn't sealed, so it needs no identity."))


def list_key_objects(store: StorageBackend, manifest: ManifestSummary) -> list[str]:
    """Return the keys of all key objects of the backup's epoch, the oldest first; none if the backup isn't sealed. Raises StorageError."""
    if (encryption := manifest.encryption) is None:
        return []
    prefix = BackupRef(manifest.cluster, manifest.database, encryption.epoch).keys_prefix
    return [info.key for info in store.list(prefix) if is_key_object_name(info.key.removeprefix(prefix))]


def _named(recipients: list[str]) -> str:
    shown = [brief(recipient) for recipient in recipients[:_NAMED]]
    if more := len(recipients) - len(shown):
        shown.append(f"{more} more")
    return " and ".join(shown)


def _key_objects(store: StorageBackend, manifest: ManifestSummary, encryption: Encryption) -> Iterator[bytes]:
    """Yield the content of key objects of the backup's epoch, first of the one that the manifest names. Raises StorageError."""
    named = encryption.key
    with suppress(ObjectNotFound, ObjectTooLarge):
        yield store.get(named.key, at_most=LONGEST_KEY_OBJECT)
    if named.version:
        with suppress(ObjectNotFound, ObjectTooLarge, AccessDenied):
            yield get_version(store, named.key, named.version, at_most=LONGEST_KEY_OBJECT)
    try:
        yield from (content for _, content in other_key_objects(store, manifest, encryption))
    except AccessDenied:
        return  # the credentials may read objects, but not list them


def other_key_objects(
    store: StorageBackend, manifest: ManifestSummary, encryption: Encryption
) -> Iterator[tuple[str, bytes]]:
    """Yield key and content of the newest key objects of the backup's epoch, without the one that the manifest names.

    At most 100 objects are yielded. Objects that can't be read are left out. Raises StorageError if they can't be listed, or if the store
    fails.
    """
    others = sorted(set(list_key_objects(store, manifest)) - {encryption.key.key}, reverse=True)
    for key in others[:_MOST]:
        try:
            content = store.get(key, at_most=LONGEST_KEY_OBJECT)
        except TransientStorageError:
            raise
        except StorageError:
            continue  # an attacker may store an object that nobody else can read: an archived one, or one with a key of the attacker's
        yield key, content
