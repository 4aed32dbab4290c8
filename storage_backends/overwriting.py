"""Overwriting, which the storage contract never does. ``pgstow check`` tries it, as an attacker with the same credentials would."""

from typing import Protocol, runtime_checkable

from storage_backends.backend import StorageBackend
from storage_backends.errors import AccessDenied


@runtime_checkable
class OverwritingBackend(Protocol):
    """A store whose credentials may allow overwriting. Safe to use from many threads."""

    def overwrite(self, key: str, body: bytes) -> None:
        """Put the object without a condition, and replace any object of this key. Raises AccessDenied if the credentials don't allow it.

        Raises another StorageError as any call does.
        """
        ...


def overwrite(store: StorageBackend, key: str, body: bytes) -> None:
    """Call :meth:`OverwritingBackend.overwrite` of ``store``. Raises AccessDenied if the store has no credentials of its own."""
    if not isinstance(store, OverwritingBackend):
        raise AccessDenied(f"{store.url} has no credentials by which to overwrite")
    store.overwrite(key, body)


def overwrites(store: StorageBackend, key: str, body: bytes) -> bool:
    """True if ``store`` takes an unconditional put of ``key``; False if the credentials don't allow the put. Raises StorageError."""
    try:
        overwrite(store, key, body)
    except AccessDenied:
        return False
    return True
