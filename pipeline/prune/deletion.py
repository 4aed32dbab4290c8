"""Delete objects, many at once. Locked objects stay, which is no error."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from pipeline.concurrency import Workers
from storage_backends import ObjectInfo, ObjectLocked, StorageBackend
from storage_backends.keys import is_key

_REMOVERS = 8  # requests at once
_BATCH = 100
"""Objects that a thread deletes at a time. Some stores must be asked for each object's lock first, which the thread does, too."""


@dataclass(slots=True)
class Deleted:
    """The objects that were deleted, and those that had to stay."""

    objects: int = 0
    """The number of deleted objects."""
    size: int = 0
    """Bytes of the deleted objects."""
    locked: dict[str, datetime | None] = field(default_factory=dict)
    """The end of the lock by the key of each locked object; None for a legal hold, or if the end is unknown."""
    odd: list[str] = field(default_factory=list)
    """Names of objects that stay, since pgstow gives no object such a name."""

    hidden: bool = False
    """True if the store keeps versions of what was deleted. The objects are only hidden then."""

    def add(self, batch: Iterable[ObjectInfo], locked: dict[str, datetime | None], *, hidden: bool) -> None:
        """Record that the objects of a batch were deleted, except the locked ones."""
        self.locked |= locked
        self.hidden |= hidden
        gone = [info for info in batch if info.key not in locked]
        self.objects += len(gone)
        self.size += sum(info.size for info in gone)


def remove(store: StorageBackend, objects: Iterable[ObjectInfo], removed: Deleted) -> None:
    """Delete the objects, and add them to ``removed``. Raises StorageError: some objects may be deleted then."""
    remaining = _keys_alone(objects, removed)
    batches = iter(lambda: tuple(itertools.islice(remaining, _BATCH)), ())
    with Workers() as workers:
        for batch, (locked, hidden) in workers.map(
            partial(_remove_batch, store), batches, threads=_REMOVERS, name="removal"
        ):
            removed.add(batch, locked, hidden=hidden)


def _keys_alone(objects: Iterable[ObjectInfo], removed: Deleted) -> Iterator[ObjectInfo]:
    for info in objects:
        if is_key(info.key):
            yield info
        else:
            removed.odd.append(info.key)


def _remove_batch(store: StorageBackend, batch: Iterable[ObjectInfo]) -> tuple[dict[str, datetime | None], bool]:
    """Return the locked objects, and whether the store keeps versions of the others."""
    try:
        return {}, store.delete([info.key for info in batch])
    except ObjectLocked as exc:
        return exc.objects, exc.hidden
