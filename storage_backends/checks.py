"""What every backend checks of what it is given, in the same words."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from storage_backends.backend import Body, ObjectInfo
from storage_backends.errors import (
    ChecksumMismatch,
    ObjectTooLarge,
    RangeNotSatisfiable,
    StorageError,
    TransientStorageError,
)


def check_body(where: str, body: Body, sha256: bytes) -> None:
    """Raise ChecksumMismatch unless ``sha256`` is the digest of ``body``; for stores that can't check it themselves."""
    if hashlib.sha256(body).digest() != sha256:
        raise ChecksumMismatch(f"{where} was not written: its bytes are not those that its SHA-256 was taken of")


def check_range(where: str, size: int, offset: int, length: int | None) -> int:
    """The end of the range in an object of ``size`` bytes, or RangeNotSatisfiable where it reaches beyond it."""
    end = size if length is None else offset + length
    if not 0 <= offset <= end <= size:
        raise RangeNotSatisfiable(f"{where} has {size} bytes, not a range from {offset} to {end}")
    return end


def check_size(where: str, size: int, at_most: int | None) -> None:
    """Raise ObjectTooLarge if an object of ``size`` bytes has more than the caller takes."""
    if at_most is not None and size > at_most:
        raise ObjectTooLarge(f"{where} has more than the {at_most} bytes that were expected")


def read_range(
    where: str, offset: int, length: int | None, *, fetch: Callable[[], bytes], size: Callable[[], int]
) -> bytes:
    """What ``fetch`` gets of the range by HTTP, which knows no range without bytes, and cuts off what reaches beyond the end.

    ``size`` asks for the object's size, where that has to be known.
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

    A listing that fails the check lists something else, or could not be taken up again after a break.
    """

    def __init__(self, where: str, prefix: str) -> None:
        self._where = where
        self._prefix = prefix
        self._last = ""
        self._tokens: set[str] = set()

    def take(self, name: str) -> None:
        """Raise StorageError if ``name`` can't be the next one."""
        if not name.startswith(self._prefix):
            raise StorageError(f"{self._where}: the store lists {name!r}, for which pgstow didn't ask")
        if name <= self._last:  # code points order as their UTF-8 bytes do
            raise StorageError(f"{self._where}: the store lists {name!r} after {self._last!r}, out of order")
        self._last = name

    def turn(self, token: str) -> str:
        """Return the token of the next page, or raise StorageError if it was given before: the listing would never end."""
        if token in self._tokens:
            raise StorageError(f"{self._where}: the store gives the same page of the listing again and again")
        self._tokens.add(token)
        return token


def is_locked(info: ObjectInfo) -> bool:
    """Whether a retention or a legal hold keeps the object from being deleted now, as far as the store told."""
    return bool(info.held) or (info.retained_until is not None and info.retained_until > datetime.now(UTC))


def locked_until(info: ObjectInfo) -> datetime | None:
    """Of a locked object: until when; None under a legal hold, which has no end."""
    return None if info.held else info.retained_until
