"""Legal holds: what some stores can do beyond the storage contract."""

from typing import Protocol, runtime_checkable

from storage_backends.backend import StorageBackend
from storage_backends.errors import StorageError


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


def set_hold(store: StorageBackend, key: str, *, held: bool) -> None:
    """:meth:`HoldingBackend.set_hold` of ``store``. Raises StorageError where it is a store without holds."""
    if not isinstance(store, HoldingBackend):
        raise StorageError(f"{store.url} has no legal holds: Amazon S3 has, with Object Lock, and Google Cloud Storage")
    store.set_hold(key, held=held)
