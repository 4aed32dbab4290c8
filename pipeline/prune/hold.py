"""Legal holds: nobody can delete a backup until its hold is taken off."""

from functools import partial

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import list_backups
from pipeline.catalog.reader import read_manifest
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.events import Notify, Started
from storage_backends import ObjectNotFound, StorageBackend
from storage_backends.holds import ObjectLock, lock_of, set_hold

_REQUESTS = 8  # at once


def hold(wanted: BackupSelector, store: StorageBackend, notify: Notify, *, held: bool) -> dict[BackupRef, int]:
    """Put a legal hold on a backup if ``held``, else take it off. It covers the manifest, the objects in the manifest, and all members.

    Return the number of objects by backup. The backup that ``wanted`` means comes first.

    If the call fails, repeat it. A manifest is held before its objects and let go after them, so ``prune`` sees a hold as long as an object
    is held. If two backups share an object, taking the hold off one backup takes it off the shared object.

    Raises BackupNotFound or ManifestInvalid if there is no such backup, InvalidRequest if several fit, or StorageError if the store has no
    holds or refuses.
    """
    found = find_backup(store, wanted, notify)
    meant = BackupRef(found.cluster, found.database, found.backup_id)
    refs = [meant, *(BackupRef(meant.cluster, member.database, member.backup_id) for member in found.members)]
    objects = {ref: [stored.key for stored in read_manifest(store, ref).objects] for ref in refs}
    manifests = [ref.manifest_key for ref in refs]
    keys = [key for named in objects.values() for key in named]
    notify(Started(f"{'Holding' if held else 'Letting go'} {counted(len(manifests) + len(keys), 'object')}"))
    for step in (manifests, keys) if held else (keys, manifests):
        with Workers() as workers:
            for _ in workers.map(partial(set_hold, store, held=held), step, threads=_REQUESTS, name="hold"):
                pass
    return {ref: len(named) + 1 for ref, named in objects.items()}


def find_holds(
    store: StorageBackend, cluster: str | None = None, database: str | None = None
) -> dict[BackupRef, ObjectLock]:
    """Return the locks of all backups whose manifest is under a legal hold. If this can't be told, the backup's lock has None as ``held``.

    Costs a request or more for each backup. Raises StorageError.
    """
    refs = list_backups(store, cluster, database)
    with Workers() as workers:
        locks = dict(workers.map(partial(manifest_lock, store), refs, threads=_REQUESTS, name="hold"))
    return {ref: locks[ref] for ref in refs if locks[ref].held is not False}


def manifest_lock(store: StorageBackend, ref: BackupRef) -> ObjectLock:
    """Return the lock on a backup's manifest; an empty lock if the manifest is gone. Raises StorageError."""
    try:
        return lock_of(store, ref.manifest_key)
    except ObjectNotFound:
        return ObjectLock()
