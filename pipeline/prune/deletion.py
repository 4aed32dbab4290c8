"""Deletes many objects at once. If an object is locked, it stays, without an error."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice

from pipeline.catalog.keys import BackupRef, attestations_prefix, data_prefix, keys_prefix, manifests_prefix
from pipeline.concurrency import Workers
from storage_backends import ObjectLocked, StorageBackend
from storage_backends.keys import is_key

_REQUESTS = 8  # concurrent requests
_LARGEST_BATCH = 1000
"""The most objects that a thread deletes at a time. S3 deletes as many in one request."""
_SMALLEST_BATCH = 100
"""The least number, unless fewer objects are left. Small batches share the work among the threads: for some stores, a thread must first
look up whether each object is locked."""
_PAGE = 1000
"""The number of objects that S3 and Google Cloud Storage list in one request."""

KeyAndSize = tuple[str, int]
"""An object's key, and its size in bytes."""
Database = tuple[str, str]
"""The names of a cluster and of a database."""


@dataclass(slots=True)
class Deleted:
    """The objects that were deleted, and the objects that had to stay."""

    objects: int = 0
    """The number of deleted objects."""
    size: int = 0
    """Bytes of the deleted objects."""
    locked: dict[str, datetime | None] = field(default_factory=dict)
    """The end of the lock of each locked object, by the object's key; None for a legal hold, or if the end is unknown."""
    odd: list[str] = field(default_factory=list)
    """Names of objects that stay, because pgstow never gives such names."""

    hidden: bool = False
    """True if the store keeps versions of deleted objects. They are then only hidden."""

    def add(self, batch: Iterable[KeyAndSize], locked: Mapping[str, datetime | None], *, hidden: bool) -> None:
        """Record that the objects of a batch were deleted, except the locked ones."""
        self.locked |= locked
        self.hidden |= hidden
        gone = [size for key, size in batch if key not in locked]
        self.objects += len(gone)
        self.size += sum(gone)


def remove_backups(
    store: StorageBackend,
    refs: Iterable[BackupRef],
    sealed: Set[BackupRef],
    objects: Mapping[Database, int],
    removed: Deleted,
) -> None:
    """Delete all objects of the backups except their manifests, and add the objects to ``removed``.

    ``sealed`` has the backups that may have key objects; without such backups, the credentials need no rights on key objects. ``objects``
    has the approximate number of objects that each database has in the store. By this number, pgstow chooses the way that takes fewer
    requests: it lists each of the backups, or all objects of the database. Raises StorageError, possibly after some objects were deleted.
    """
    _remove(store, _list(store, refs, sealed, objects), removed)


def remove_manifests(store: StorageBackend, refs: Iterable[BackupRef], removed: Deleted) -> set[BackupRef]:
    """Delete the manifests of the backups. Return the backups whose manifest is locked and stays.

    ``removed`` gets the locked manifests; the deleted manifests aren't counted. Raises StorageError as :func:`remove_backups` does.
    """
    by_key, manifests = {ref.manifest_key: ref for ref in refs}, Deleted()
    _remove(store, ((key, 0) for key in by_key), manifests)
    removed.add((), manifests.locked, hidden=manifests.hidden)
    return {by_key[key] for key in manifests.locked}


def _list(
    store: StorageBackend, refs: Iterable[BackupRef], sealed: Set[BackupRef], objects: Mapping[Database, int]
) -> Iterator[KeyAndSize]:
    """Yield all objects of the backups except their manifests. Raises StorageError."""
    databases = defaultdict[Database, list[BackupRef]](list)
    wanted = set[str]()
    for ref in refs:
        databases[ref.cluster, ref.database].append(ref)
        wanted.update(ref.prefixes)
        wanted.add(ref.keys_prefix)
    prefixes = list[str]()
    for database, those in databases.items():
        if objects.get(database, 0) // _PAGE + 1 < len(those):
            prefixes += (manifests_prefix(*database), attestations_prefix(*database), data_prefix(*database))
            prefixes += [keys_prefix(*database)] if not sealed.isdisjoint(those) else []
        else:
            prefixes += (prefix for ref in those for prefix in ref.prefixes)
            prefixes += (ref.keys_prefix for ref in those if ref in sealed)
    with Workers() as workers:
        for _, found in workers.map(partial(_list_below, store, wanted), prefixes, threads=_REQUESTS, name="listing"):
            yield from found


def _list_below(store: StorageBackend, wanted: Set[str], prefix: str) -> list[KeyAndSize]:
    """Return the objects below ``prefix`` whose key is in ``wanted``, or begins with a folder in ``wanted``. Raises StorageError."""
    return [(info.key, info.size) for info in store.list(prefix) if _place(info.key) in wanted]


def _place(key: str) -> str:
    """Return the folder of a backup that holds the object, with its slash, or the whole key if the object is in no such folder."""
    *folder, _ = parts = key.split("/", 4)
    return "/".join(folder) + "/" if len(parts) == 5 else key


def _remove(store: StorageBackend, objects: Iterable[KeyAndSize], removed: Deleted) -> None:
    batches = _batches(_only_keys(objects, removed))
    with Workers() as workers:
        for batch, (locked, hidden) in workers.map(
            partial(_remove_batch, store), batches, threads=_REQUESTS, name="removal"
        ):
            removed.add(batch, locked, hidden=hidden)


def _only_keys(objects: Iterable[KeyAndSize], removed: Deleted) -> Iterator[KeyAndSize]:
    for key, size in objects:
        if is_key(key):
            yield key, size
        else:
            removed.odd.append(key)


def _batches(objects: Iterator[KeyAndSize]) -> Iterator[Sequence[KeyAndSize]]:
    """Yield the objects in batches. A batch is as large as it can be while every thread gets one."""
    while taken := tuple(islice(objects, _REQUESTS * _LARGEST_BATCH)):
        size = max(_SMALLEST_BATCH, -(-len(taken) // _REQUESTS))
        for start in range(0, len(taken), size):
            yield taken[start : start + size]


def _remove_batch(store: StorageBackend, batch: Iterable[KeyAndSize]) -> tuple[dict[str, datetime | None], bool]:
    """Return the locked objects, and True if the store keeps versions of the deleted objects."""
    try:
        return {}, store.delete([key for key, _ in batch])
    except ObjectLocked as exc:
        return exc.objects, exc.hidden
