"""A store to which backups are copied, and what it has already."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pipeline.catalog.keys import BackupRef, tombstones_prefix
from pipeline.catalog.listing import ListedManifest, list_manifests
from pipeline.catalog.manifest import Manifest, load_manifest
from pipeline.catalog.reader import read_manifest_bytes
from pipeline.catalog.signature import read_signature, read_tombstone
from pipeline.copy.request import CopyRequest, CopyState
from pipeline.errors import ManifestInvalid, Untrusted
from pipeline.trust.statement import Link
from storage_backends import (
    BucketNotFound,
    ObjectAlreadyExists,
    ObjectNotFound,
    ObjectTooLarge,
    StorageBackend,
    StorageError,
    TransientStorageError,
)
from storage_backends.retrying import with_patience

_PROBE = 5.0
"""After a request failed, the seconds in which the store must answer another one. Otherwise, it counts as down."""
_SURE = ("sha256:", "md5:")
"""Checksums with which nobody can forge other bytes that match a given object."""


@dataclass(slots=True, eq=False)
class Target:
    """A store to which backups are copied."""

    store: StorageBackend
    manifests: Mapping[BackupRef, ListedManifest] = field(default_factory=dict)
    """The backups that the store had before."""
    tombstones: Collection[BackupRef] = frozenset()
    """The backups of which the store had a tombstone before."""
    down: StorageError | None = None
    """The error after which nothing more is sent to the store; None if it works."""

    @classmethod
    def look(cls, store: StorageBackend, cluster: str | None) -> "Target":
        """Return the target, with the backups of a cluster or of all clusters. If the store can't be listed, it is down.

        A folder that doesn't exist has no backups: perhaps the first object makes the folder.
        """
        try:
            manifests = {one.ref: one for one in list_manifests(store, cluster).manifests}
            keys = [info.key for info in store.list(tombstones_prefix(cluster))]
        except BucketNotFound:
            return cls(store)
        except StorageError as exc:
            return cls(store, down=exc)
        return cls(store, manifests, {ref for key in keys if (ref := BackupRef.of_tombstone_key(key))})

    def knows(self, ref: BackupRef) -> bool:
        """True if the store had the backup or its tombstone before."""
        return ref in self.manifests or ref in self.tombstones

    def check(self, error: Exception) -> None:
        """Find out if the store is down, after a request for a backup failed with this error."""
        if isinstance(error, StorageError) and is_down(self.store, error):
            self.down = error

    def find(self, request: CopyRequest, source: StorageBackend, listed: ListedManifest) -> CopyState | None:
        """Return :attr:`CopyState.PRESENT` or :attr:`CopyState.REMOVED`; None if the backup must be copied.

        Raises ObjectAlreadyExists if the store has another backup with the same ID. Raises StorageError, or as ``read_manifest_bytes`` does.
        """
        ref = listed.ref
        if there := self.manifests.get(ref):
            if not (_looks_the_same(there, listed) or self._has_the_same(request, source, ref)):
                raise ObjectAlreadyExists(
                    f"{self.store.url}/{ref.manifest_key} is the manifest of another backup; nothing was overwritten."
                )
            return CopyState.PRESENT
        if request.trust and ref in self.tombstones:
            try:
                read_tombstone(self.store, ref, request.trust)
            except (Untrusted, ObjectNotFound):
                return None
            return CopyState.REMOVED
        return None

    def _has_the_same(self, request: CopyRequest, source: StorageBackend, ref: BackupRef) -> bool:
        """True if the store has the same manifest, or its own believed manifest of the same dump: a backup may go to several stores at once."""
        mine, other = read_manifest_bytes(self.store, ref), read_manifest_bytes(source, ref)
        if mine == other:
            return True
        try:
            if request.trust:
                read_signature(self.store, ref.manifest_key, Link, request.trust).check(mine)
        except Untrusted as exc:
            if not request.excuses(exc):
                return False
        try:
            return _dump_of(load_manifest(mine, ref.manifest_key)) == _dump_of(load_manifest(other, ref.manifest_key))
        except ManifestInvalid:
            return False


def put_record(store: StorageBackend, key: str, body: bytes) -> bool:
    """Create a small object. Return False if the store has it already.

    Raises ObjectAlreadyExists if another object has the key, or another StorageError.
    """
    try:
        store.put(key, body, sha256=hashlib.sha256(body).digest())
    except ObjectAlreadyExists as exc:
        try:
            is_same = store.get(key, at_most=len(body)) == body
        except ObjectTooLarge:
            is_same = False
        if not is_same:
            raise taken(store, key) from exc
        return False
    return True


def taken(store: StorageBackend, key: str) -> ObjectAlreadyExists:
    """Return the error for a key that another object has."""
    return ObjectAlreadyExists(
        f"{store.url}/{key} is not the object to copy, though it has the same key; nothing was overwritten. If no backup needs that object, "
        "remove it, and copy again."
    )


def is_down(store: StorageBackend, error: StorageError) -> bool:
    """True if ``error`` may pass, but the store doesn't even answer a small request within a few seconds, or if its bucket is missing."""
    if not isinstance(error, (TransientStorageError, BucketNotFound)):
        return False
    try:
        next(iter(with_patience(store, _PROBE).list(tombstones_prefix())), None)
    except StorageError:
        return True
    return False


def _looks_the_same(one: ListedManifest, other: ListedManifest) -> bool:
    checksum = one.checksum or ""
    return checksum.startswith(_SURE) and (one.size, checksum) == (other.size, other.checksum)


def _dump_of(manifest: Manifest) -> tuple[frozenset[tuple[str, int, str]], frozenset[tuple[str, str]]]:
    """Return what all manifests of a dump have in common, in whichever store they are: its objects, or a cluster's members."""
    return (
        frozenset((stored.key, stored.size, stored.sha256) for stored in manifest.objects),
        frozenset((member.database, member.backup_id) for member in manifest.members),
    )
