"""Locks and legal holds: what some stores can do beyond the storage contract."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from storage_backends.backend import StorageBackend
from storage_backends.errors import StorageError


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What keeps an object from being deleted, and which rights are missing to tell."""

    retained_until: datetime | None = None
    """In UTC; None if there is no retention, or if it can't be told."""
    held: bool | None = False
    """True if a legal hold is on the object; None if that can't be told."""
    needs: tuple[str, ...] = ()
    """The permissions that the credentials lack to tell the rest; empty if everything was told."""


@runtime_checkable
class HoldingBackend(Protocol):
    """A store that can keep an object from being deleted until that is taken back. Safe to use from many threads."""

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off. What is so already is no error.

        Raises:
            ObjectNotFound: no such object.
            AccessDenied: the credentials do not allow it.
            StorageError: the bucket has no holds; and what any call may raise.
        """
        ...

    def lock_of(self, key: str) -> ObjectLock:
        """Return what locks the object, as far as the credentials may ask.

        Raises:
            ObjectNotFound: no such object.
            StorageError: as any call does, but no AccessDenied.
        """
        ...


def set_hold(store: StorageBackend, key: str, *, held: bool) -> None:
    """:meth:`HoldingBackend.set_hold` of ``store``. Raises StorageError where it is a store without holds."""
    if not isinstance(store, HoldingBackend):
        raise StorageError(f"{store.url} has no legal holds: Amazon S3 has, with Object Lock, and Google Cloud Storage")
    store.set_hold(key, held=held)


def lock_of(store: StorageBackend, key: str) -> ObjectLock:
    """Return :meth:`HoldingBackend.lock_of` of ``store``; no lock if the store has none."""
    return store.lock_of(key) if isinstance(store, HoldingBackend) else ObjectLock()
