"""Locks and legal holds, which some stores have beyond the storage contract."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from storage_backends.backend import StorageBackend
from storage_backends.errors import StorageError


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """The locks that keep an object from being deleted, and the permissions that are missing to read the rest."""

    retained_until: datetime | None = None
    """The end of the retention, in UTC; None if there is no retention, or if it can't be read."""
    held: bool | None = False
    """True if a legal hold is on the object; None if the hold can't be read."""
    needs: tuple[str, ...] = ()
    """The permissions that the credentials lack to read the rest; empty if nothing is left to read."""


@runtime_checkable
class HoldingBackend(Protocol):
    """A store with legal holds: a hold keeps an object from being deleted until it is taken off. Safe to use from many threads."""

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off. It is no error if the hold is on or off already.

        Raises:
            ObjectNotFound: the store has no such object.
            AccessDenied: the credentials don't allow it.
            StorageError: the bucket has no holds, or the call failed as any call may.
        """
        ...

    def may_lock(self) -> bool:
        """Return False if the store surely has no locks, so that :meth:`lock_of` needs no call; else True."""
        ...

    def lock_of(self, key: str) -> ObjectLock:
        """Return the locks on the object, as far as the credentials may read them.

        Raises:
            ObjectNotFound: the store has no such object.
            StorageError: the call failed as any call may. Missing permissions raise nothing: they are in :attr:`ObjectLock.needs`.
        """
        ...


def set_hold(store: StorageBackend, key: str, *, held: bool) -> None:
    """Call :meth:`HoldingBackend.set_hold` of ``store``. Raises StorageError if the store has no legal holds."""
    if not isinstance(store, HoldingBackend):
        raise StorageError(f"{store.url} has no legal holds; use S3 with Object Lock, or Google Cloud Storage")
    store.set_hold(key, held=held)


def may_lock(store: StorageBackend) -> bool:
    """Return :meth:`HoldingBackend.may_lock` of ``store``; False if the store has no locks."""
    return isinstance(store, HoldingBackend) and store.may_lock()


def lock_of(store: StorageBackend, key: str) -> ObjectLock:
    """Return :meth:`HoldingBackend.lock_of` of ``store``; no lock if the store has no locks."""
    return store.lock_of(key) if isinstance(store, HoldingBackend) else ObjectLock()
