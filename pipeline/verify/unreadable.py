"""Tracks objects that a store fails to give although it gives other objects. They make a backup unproven: neither good nor damaged."""

import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import list_backups
from pipeline.catalog.reader import read_manifest
from pipeline.errors import BackupNotFound, ManifestInvalid
from storage_backends import ObjectInfo, ObjectNotFound, StorageBackend, StorageError, TransientStorageError
from storage_backends.backend import Body
from storage_backends.retrying import with_patience
from storage_backends.versions import get_version

MOST = 100
"""The number of unreadable objects after which pgstow doesn't try the backup's other objects."""
_HURRY = 5.0  # seconds to retry each object after the first unreadable object, so that many objects don't each take --give-up-after
_OTHERS = 3
"""The number of other backups. pgstow tries one object of each if the store gives no object of the verified backup."""

_T = TypeVar("_T")


class ObjectUnreadable(StorageError):
    """The store failed to give one object, even after all retries."""


class UnreadableTracker:
    """Wraps the store ``inner`` while one backup is verified, and remembers the objects that can't be read.

    ``keys`` has the keys of the backup's objects. If the store fails to give one of them even after all retries, the call raises
    :class:`ObjectUnreadable`, so that the caller can read the other objects. After the first unreadable object, each request is retried for
    only up to 5 seconds. Safe to use from many threads.
    """

    def __init__(self, inner: StorageBackend, keys: Collection[str]) -> None:
        self._inner = inner
        self.hurried = with_patience(inner, _HURRY)
        """``inner``, with retries for up to 5 seconds."""
        self._keys = frozenset(keys)
        self._lock = threading.Lock()
        self._unreadable: dict[str, TransientStorageError] = {}
        self._first: Callable[[StorageBackend], object] | None = None
        self._answered: list[str] = []
        self._gave_up = False

    def conclude(self, others: Iterable[str]) -> list[str]:
        """Return one sentence for each object that can't be read. Call this after the requests for all objects.

        ``others`` has the keys of objects of other backups. Raises TransientStorageError in two cases, which are no evidence against the
        backup:

        - The store is down: it gives neither an object that it gave before, nor an object of ``others``.
        - The store was down for a while: it now gives the first object that it failed to give.
        """
        if self._first is None:
            return []
        error = next(iter(self._unreadable.values()))
        if not any(self._answers(partial(_get, key)) for key in itertools.chain(self._answered, others)):
            raise error
        if self._answers(self._first):
            raise TransientStorageError(f"{error}; the store gives the object now, so verify again") from error
        more = [f"More than {MOST} objects could not be read; pgstow did not try the other objects."]
        return [*map(str, self._unreadable.values()), *(more if self._gave_up else [])]

    @property
    def any_unreadable(self) -> bool:
        """True if an object can't be read."""
        return bool(self._unreadable)

    @property
    def url(self) -> str:
        """The inner backend's URL."""
        return self._inner.url

    @property
    def retained_until(self) -> datetime | None:
        """The time until which the inner backend locks new objects; None if it locks none."""
        return self._inner.retained_until

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes; see :meth:`StorageBackend.get`. Also raises ObjectUnreadable."""
        return self._ask(key, lambda store: store.get(key, offset=offset, length=length, at_most=at_most))

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """Return the bytes of a version; see :meth:`VersionedBackend.get_version`. Also raises ObjectUnreadable."""
        return self._ask(key, lambda store: get_version(store, key, version, at_most=at_most))

    def head(self, key: str) -> ObjectInfo:
        """Return the store's report on the object; see :meth:`StorageBackend.head`. Also raises ObjectUnreadable."""
        return self._ask(key, lambda store: store.head(key))

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object, and return the store's report on it; see :meth:`StorageBackend.put`."""
        return self._inner.put(key, body, sha256=sha256)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order; see :meth:`StorageBackend.list`."""
        return self._inner.list(prefix)

    def delete(self, keys: Iterable[str]) -> bool:
        """Remove the objects; see :meth:`StorageBackend.delete`."""
        return self._inner.delete(keys)

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()

    def _ask(self, key: str, call: Callable[[StorageBackend], _T]) -> _T:
        if key not in self._keys:
            return call(self._inner)
        try:
            answer = call(self._store_for(key))
        except ObjectNotFound:
            self._answered = [key]
            raise
        except TransientStorageError as exc:
            with self._lock:
                self._unreadable[key] = exc
                self._first = self._first or call
            raise ObjectUnreadable(str(exc)) from exc
        self._answered = [key]
        return answer

    def _store_for(self, key: str) -> StorageBackend:
        with self._lock:
            if key in self._unreadable:
                raise ObjectUnreadable(str(self._unreadable[key]))
            if len(self._unreadable) >= MOST:
                self._gave_up = True
                raise ObjectUnreadable(f"{key} was not tried: more than {MOST} objects could not be read.")
            return self.hurried if self._unreadable else self._inner

    def _answers(self, call: Callable[[StorageBackend], object]) -> bool:
        """True if the store answers this call now. The answer that there is no such object counts, too."""
        try:
            call(self.hurried)
        except ObjectNotFound:
            return True  # this is an answer
        except StorageError:
            return False
        return True


def objects_of_others(store: StorageBackend, own: BackupRef) -> Iterator[str]:
    """Yield the key of the smallest object of each of up to three other backups. Raises StorageError.

    Backups of the same database come first, newest first. A backup whose manifest can't be read is skipped.
    """
    others = [ref for ref in list_backups(store) if ref != own]
    others.sort(
        key=lambda ref: ((ref.cluster, ref.database) == (own.cluster, own.database), ref.backup_id), reverse=True
    )
    for ref in others[:_OTHERS]:
        with suppress(ManifestInvalid, BackupNotFound, TransientStorageError):
            if objects := read_manifest(store, ref).objects:
                yield min(objects, key=lambda stored: stored.size).key


def _get(key: str, store: StorageBackend) -> bytes:
    return store.get(key)
