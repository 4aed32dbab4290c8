"""Deletes many objects at once. If an object is locked, it stays, without an error."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from pipeline.concurrency import Workers
from storage_backends import ObjectInfo, ObjectLocked, StorageBackend
from storage_backends.keys import is_key

_REMOVERS = 8  # concurrent requests
_BATCH = 100
"""The number of objects that a thread deletes at a time. For some stores, the thread must first look up whether each object is locked."""


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

    def add(self, batch: Iterable[ObjectInfo], locked: dict[str, datetime | None], *, hidden: bool) -> None:
        """Record that the objects of a batch were deleted, except the locked ones."""
        self.locked |= locked
        self.hidden |= hidden
        gone = [info for info in batch if info.key not in locked]
        self.objects += len(gone)
        self.size += sum(info.size for info in gone)


def remove(store: StorageBackend, objects: Iterable[ObjectInfo], removed: Deleted) -> None:
    """Delete the objects, and add them to ``removed``. Raises StorageError, possibly after some objects were deleted."""
    remaining = _only_keys(objects, removed)
    batches = iter(lambda: tuple(itertools.islice(remaining, _BATCH)), ())
    with Workers() as workers:
        for batch, (locked, hidden) in workers.map(
            partial(_remove_batch, store), batches, threads=_REMOVERS, name="removal"
        ):
            removed.add(batch, locked, hidden=hidden)


def _only_keys(objects: Iterable[ObjectInfo], removed: Deleted) -> Iterator[ObjectInfo]:
    for info in objects:
        if is_key(info.key):
            yield info
        else:
            removed.odd.append(info.key)


def _remove_batch(store: StorageBackend, batch: Iterable[ObjectInfo]) -> tuple[dict[str, datetime | None], bool]:
    """Return the locked objects, and True if the store keeps versions of the deleted objects."""
    try:
        return {}, store.delete([info.key for info in batch])
    except ObjectLocked as exc:
        return exc.objects, exc.hidden
