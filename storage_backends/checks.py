"""Checks that all backends share: of bodies, ranges, sizes, listings and locks."""

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from storage_backends.backend import Body, ObjectInfo
from storage_backends.errors import (
    ChecksumMismatch,
    ObjectTooLarge,
    RangeNotSatisfiable,
    StorageError,
    TransientStorageError,
)
from storage_backends.holds import ObjectLock


def check_body(where: str, body: Body, sha256: bytes) -> None:
    """Raise ChecksumMismatch unless ``sha256`` is the digest of ``body``, for stores that can't check the digest themselves."""
    if hashlib.sha256(body).digest() != sha256:
        raise ChecksumMismatch(f"{where} was not written: the bytes to write don't match the given SHA-256")


def check_range(where: str, size: int, offset: int, length: int | None) -> int:
    """Return the end of the range in an object of ``size`` bytes. Raises RangeNotSatisfiable if the range isn't within the object."""
    end = size if length is None else offset + length
    if not 0 <= offset <= end <= size:
        raise RangeNotSatisfiable(f"{where} has {size} bytes, not a range from {offset} to {end}")
    return end


def check_size(where: str, size: int, at_most: int | None) -> None:
    """Raise ObjectTooLarge if ``size`` is more than ``at_most`` bytes; None for no limit."""
    if at_most is not None and size > at_most:
        raise ObjectTooLarge(f"{where} has more than the {at_most} bytes that were expected")


class BoundedBuffer(io.BytesIO):
    """The body of an answer. A write beyond ``at_most`` bytes raises ObjectTooLarge, whatever size the answer tells."""

    def __init__(self, where: str, at_most: int | None) -> None:
        super().__init__()
        self._where = where
        self._at_most = at_most

    def write(self, data: Any, /) -> int:
        """Take the next bytes."""
        check_size(self._where, self.tell() + memoryview(data).nbytes, self._at_most)
        return super().write(data)


def read_range(
    where: str, offset: int, length: int | None, *, fetch: Callable[[], bytes], size: Callable[[], int]
) -> bytes:
    """Return the bytes of a range, which ``fetch`` gets by HTTP. HTTP has no empty range, and shortens a range at the object's end.

    ``size`` gets the object's size in bytes. It is called only if the size has to be known.

    Raises RangeNotSatisfiable if the range isn't within the object, and TransientStorageError if bytes of the range are missing.
    """
    if offset >= 0 and (length is None or length > 0):
        try:
            data = fetch()
        except RangeNotSatisfiable:
            data = b""
        if data and length in (None, len(data)):
            return data
    else:
        data = b""
    end = check_range(where, size(), offset, length)
    if len(data) != end - offset:
        raise TransientStorageError(f"{where} gave {len(data)} bytes of {end - offset}")
    return data


class ListingCheck:
    """Checks that the names of one listing begin with ``prefix`` and come in the order of their UTF-8 bytes, each once.

    A listing that fails the check lists something else, or could not be continued after a break.
    """

    def __init__(self, where: str, prefix: str) -> None:
        self._where = where
        self._prefix = prefix
        self._last = ""
        self._tokens: set[str] = set()

    def take(self, name: str) -> None:
        """Raise StorageError if ``name`` can't be the next name of the listing."""
        if not name.startswith(self._prefix):
            raise StorageError(f"{self._where}: the store lists {name!r}, for which pgstow didn't ask")
        if name <= self._last:  # code points order as their UTF-8 bytes do
            raise StorageError(f"{self._where}: the store lists {name!r} after {self._last!r}, out of order")
        self._last = name

    def turn(self, token: str) -> str:
        """Return the token of the next page. Raises StorageError if the store gave the token before: the listing would never end."""
        if token in self._tokens:
            raise StorageError(f"{self._where}: the store gives the same page of the listing again and again")
        self._tokens.add(token)
        return token


def is_locked(info: ObjectInfo | ObjectLock) -> bool:
    """True if a retention or a legal hold keeps the object from being deleted now, as far as the store told."""
    return bool(info.held) or (info.retained_until is not None and info.retained_until > datetime.now(UTC))


def locked_until(info: ObjectInfo | ObjectLock) -> datetime | None:
    """Return the end of a locked object's retention, in UTC; None under a legal hold, which has no end."""
    return None if info.held else info.retained_until
