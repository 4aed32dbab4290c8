"""Earlier versions of objects, which some stores keep. So an object that was overwritten or deleted can still be read."""

from typing import Protocol, runtime_checkable

from storage_backends.backend import StorageBackend
from storage_backends.errors import ObjectNotFound


@runtime_checkable
class VersionedBackend(Protocol):
    """A store that may keep versions. Safe to use from many threads."""

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """Return the bytes of a version of the object, even if a newer version or a delete marker hides it.

        Raises:
            ObjectNotFound: the store has no such version. It was destroyed, or belongs to another store.
            ObjectTooLarge: the version has more than ``at_most`` bytes; at most one byte more was read.
            AccessDenied: the credentials may read only the newest version (S3: they lack s3:GetObjectVersion).
            StorageError: the call failed as any call may.
        """
        ...


def get_version(store: StorageBackend, key: str, version: str, *, at_most: int) -> bytes:
    """Return :meth:`VersionedBackend.get_version` of ``store``. Raises ObjectNotFound if the store keeps no versions."""
    if not isinstance(store, VersionedBackend):
        raise ObjectNotFound(f"{store.url}/{key}: the store keeps no versions")
    return store.get_version(key, version, at_most=at_most)
