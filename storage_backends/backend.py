"""The storage contract. Every backend passes the one suite in ``tests/storage_backends/test_contract.py``."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

Body: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object's metadata, as the store reports it."""

    key: str
    """Relative to the backend's URL."""
    size: int
    """Bytes."""
    modified: datetime
    """When the object was written, in UTC, by the store's clock; by this machine's clock if the store's answer has no time."""
    checksum: str | None = None
    """The store's own checksum, as ``algorithm:lowercase hex`` (``sha256``, ``crc32c``, ``md5``); None if the answer has none."""
    version: str | None = None
    """S3's version id or GCS's generation; None if the store keeps no versions, or the answer doesn't say."""
    retained_until: datetime | None = None
    """Until when a lock keeps the object from being deleted, in UTC; None if there is no lock, or the answer doesn't say."""
    held: bool | None = None
    """True if a legal hold keeps the object from being deleted; None if the answer doesn't say."""
    etag: str | None = None
    """In a listing: a text that differs once the object was written again, even with the same size and time. None if the store has none."""


class StorageBackend(Protocol):
    """A flat space of immutable objects under a URL. Safe to use from many threads at once.

    Keys are ``/``-separated, relative to the URL, and checked by :func:`storage_backends.keys.check_key` before use.
    Every method may raise :class:`AccessDenied`, :class:`BucketNotFound`, :class:`TransientStorageError` or plain
    :class:`StorageError`, and no exception of a vendor's SDK.
    """

    @property
    def url(self) -> str:
        """The backend's URL for people and manifests: scheme, bucket and prefix; no options, no credentials."""
        ...

    @property
    def retained_until(self) -> datetime | None:
        """The end of the lock that the backend sets on each new object, in UTC; None if it locks no objects."""
        ...

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object, whole or not at all. Return its metadata, with the checksum that the store confirmed.

        ``sha256`` is the digest of ``body`` (32 bytes). The store checks the bytes that it received against the digest; if the store can't,
        the backend checks ``body`` before sending. The caller must not change ``body`` before this returns.

        Raises:
            ObjectAlreadyExists: the key is taken. Never overwrites, not even with the same bytes.
            ChecksumMismatch: ``body`` doesn't match ``sha256``, or the store didn't confirm the bytes. The object is deleted again, if the
                credentials may delete.
        """
        ...

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes from ``offset``, in memory: ``length`` bytes, or all bytes up to the end if ``length`` is None.

        If the call asks for no range, ``at_most`` bounds the object's size in bytes.

        Raises:
            ObjectTooLarge: the object has more than ``at_most`` bytes; at most one byte more was read.
            ObjectNotFound: the store itself says that there is no such object. An answer that isn't the store's raises StorageError.
            TransientStorageError: also when fewer bytes arrived than the store announced.
            RangeNotSatisfiable: the range reaches beyond the object's end.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Return the object's size, time, checksum, version and lock, without the bytes. Raises ObjectNotFound as :meth:`get` does."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with ``prefix``, in the order of the keys' UTF-8 bytes.

        Raises StorageError if the answer is no listing, lists something else, or is cut off. A listing never ends early in silence.
        Somebody else may have stored objects under keys that :func:`storage_backends.keys.is_key` refuses. The listing has these keys, too.
        If a key isn't UTF-8, ``\\x`` and two hex digits stand for each byte that can't be decoded.

        Unfinished writes are never listed. ``checksum``, ``version``, ``retained_until`` and ``held`` may be None in a listing.
        """
        ...

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects. A key without an object is no error.

        Return True if the store says that it keeps a version of what was deleted. The object is only hidden then: it takes room, and a lock
        may be on it.

        Raises:
            ObjectLocked: a retention or a legal hold is on some of the objects; all other objects are deleted. A locked object stays
                visible: no delete marker is put above its locked version, if the credentials may read the lock. The error says, too,
                whether versions are kept.
            AccessDenied: the credentials may not delete one of the objects; other objects may be deleted.
        """
        ...

    def close(self) -> None:
        """Close the connections. The backend must not be used afterwards."""
        ...
