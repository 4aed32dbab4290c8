"""The storage contract. Every backend passes the one suite in ``tests/storage_backends/test_contract.py``."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

Body: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object."""

    key: str
    """Relative to the backend's URL."""
    size: int
    """Bytes."""
    modified: datetime
    """By the store's clock, in UTC."""
    checksum: str | None = None
    """The store's own, as ``algorithm:lowercase hex`` (``sha256``, ``crc32c``, ``md5``); None if the answer has none."""
    version: str | None = None
    """S3's version id or GCS's generation; None where the store keeps no versions."""
    retained_until: datetime | None = None
    """Until when a lock keeps it from being deleted, in UTC; None for no lock, and where the answer doesn't say."""
    held: bool | None = None
    """Whether a legal hold keeps it from being deleted; None where the answer doesn't say."""


class StorageBackend(Protocol):
    """A flat space of immutable objects under a URL. Safe to use from many threads at once.

    Keys are ``/``-separated, relative to the URL, and checked by :func:`storage_backends.keys.check_key` before use.
    Every method may raise :class:`AccessDenied`, :class:`BucketNotFound`, :class:`TransientStorageError` or plain
    :class:`StorageError`, and no exception of a vendor's SDK.
    """

    @property
    def url(self) -> str:
        """Where this is, for people and manifests: scheme, bucket and prefix; no options, no credentials."""
        ...

    @property
    def retained_until(self) -> datetime | None:
        """Until when each object that is put is locked, in UTC; None where this isn't told to lock any."""
        ...

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object, whole or not at all.

        ``sha256`` is the digest of ``body`` (32 bytes), which the store (or, where it cannot, this backend) checks
        against what was received; the returned info carries the checksum that the store confirmed. The caller must not
        change ``body`` before this returns.

        Raises:
            ObjectAlreadyExists: the key is taken. Never overwrites, not even with the same bytes.
            ChecksumMismatch: what arrived is not what ``sha256`` says; no object is left under the key.
        """
        ...

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """The object's bytes from ``offset``, ``length`` of them or up to the end, in memory.

        Without a range, ``at_most`` is how many bytes the object may have.

        Raises:
            ObjectTooLarge: the object has more than ``at_most`` bytes; no more than these were read.
            ObjectNotFound: the store itself says that there is no such object. An answer that isn't the store's raises StorageError.
            TransientStorageError: also when fewer bytes arrived than the store announced.
            RangeNotSatisfiable: the range reaches beyond the object's end.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Return size, time, checksum, version and lock, without the bytes. Raises ObjectNotFound as :meth:`get` does."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, in the order of the keys' UTF-8 bytes.

        Raises StorageError if the answer is no listing, lists something else, or is cut off. A listing never ends early in silence.
        Somebody else may have stored objects under keys that :func:`storage_backends.keys.is_key` refuses. These are listed, too; where such
        a name isn't UTF-8, with ``\\x`` and two digits for each odd byte.

        Writes under way are never listed. ``checksum``, ``version``, ``retained_until`` and ``held`` may be None here.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects. A key that does not exist is no error.

        Raises:
            ObjectLocked: a retention or a legal hold is on some of them; all the others are gone. Told before anything is
                hidden, also where the store would only put a newer, deleted version above the locked one.
            AccessDenied: one of them may not be deleted, for want of a permission; others may be gone.
        """
        ...

    def close(self) -> None:
        """Let go of connections. The backend is not used after."""
        ...
