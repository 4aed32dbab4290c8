"""Puts legal holds on backups and removes them. While a backup has a hold, nobody can delete it."""

from contextlib import suppress
from functools import partial

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.key_objects import list_key_objects
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.listing import list_backups
from pipeline.catalog.manifest import Manifest
from pipeline.catalog.members import read_member
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.events import Notify, Started
from storage_backends import ObjectNotFound, StorageBackend
from storage_backends.holds import ObjectLock, lock_of, may_lock, set_hold

_REQUESTS = 8  # concurrent requests


def hold(wanted: BackupSelector, store: StorageBackend, notify: Notify, *, held: bool) -> dict[BackupRef, int]:
    """Put a legal hold on a backup if ``held``, else remove its hold.

    The hold covers the manifest, the manifest's signature, the objects in the manifest, all key objects of the epoch, and all members.

    Return the number of objects of each backup. The backup that ``wanted`` selects comes first.

    If the call fails, repeat it. The manifest gets the hold before its objects, and loses it after them. So ``prune`` sees a hold as long as
    an object has one. If two backups share an object, removing one backup's hold also removes the hold of the shared object.

    Raises as ``find_backup`` and ``read_member`` do, and StorageError if the store has no holds or refuses.
    """
    found = find_backup(store, wanted, notify)
    objects = _objects(store, found)
    for member in found.members:
        objects |= _objects(store, read_member(store, found, member).manifest)
    manifests = [ref.manifest_key for ref in objects]
    keys = [key for named in objects.values() for key in named]
    objects_text = counted(len(manifests) + len(keys), "object")
    notify(Started(f"Putting a hold on {objects_text}" if held else f"Removing the hold of {objects_text}"))
    for step in (manifests, keys) if held else (keys, manifests):
        with Workers() as workers:
            for _ in workers.map(partial(set_hold, store, held=held), step, threads=_REQUESTS, name="hold"):
                pass
    return {ref: len(named) + 1 for ref, named in objects.items()}


def _objects(store: StorageBackend, manifest: Manifest) -> dict[BackupRef, list[str]]:
    """Return the keys of the backup's objects, except its manifest, by the backup. Raises StorageError."""
    ref = BackupRef(manifest.cluster, manifest.database, manifest.backup_id)
    keys = list(dict.fromkeys([*(stored.key for stored in manifest.stored), *list_key_objects(store, manifest)]))
    signature = ref.manifest_key + SIGNATURE_SUFFIX
    with suppress(ObjectNotFound):
        store.head(signature)
        keys.append(signature)
    return {ref: keys}


def find_holds(
    store: StorageBackend, cluster: str | None = None, database: str | None = None
) -> dict[BackupRef, ObjectLock]:
    """Return the locks of all backups whose manifest has a legal hold.

    The result also has backups for which the store can't tell; their ``held`` is None.

    If the store may have locks, each backup costs at least one request: no listing tells locks. Raises StorageError.
    """
    refs = list_backups(store, cluster, database)
    if not may_lock(store):
        return {}
    with Workers() as workers:
        locks = dict(workers.map(partial(manifest_lock, store), refs, threads=_REQUESTS, name="hold"))
    return {ref: locks[ref] for ref in refs if locks[ref].held is not False}


def manifest_lock(store: StorageBackend, ref: BackupRef) -> ObjectLock:
    """Return the lock of a backup's manifest; an empty lock if the manifest no longer exists. Raises StorageError."""
    try:
        return lock_of(store, ref.manifest_key)
    except ObjectNotFound:
        return ObjectLock()
