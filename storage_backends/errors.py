"""The errors of an object store, in the contract's words and not in those of a vendor's SDK.

``str(error)`` is one sentence that names the object or the bucket and fits on a terminal. The SDK's own exception is
chained as ``__cause__``.
"""

import re
import textwrap
from collections.abc import Mapping
from datetime import datetime

_LONGEST_QUOTE = 300
_USERINFO = re.compile(r"(?<=://)[^/\n]*@")


def bucket_of(where: str) -> str:
    """Return the bucket of an object's or a listing's URL, such as ``s3://bucket/key``."""
    return where.split("/")[2]


def quote(said: object) -> str:
    """Return the text of an SDK or a store as one line of at most 300 characters. Some stores answer in paragraphs, or in HTML."""
    return textwrap.shorten(str(said), _LONGEST_QUOTE, placeholder=" …")


def without_userinfo(text: str) -> str:
    """Return the text with ``***`` for the user and the password of each URL: an SDK may quote a proxy's URL."""
    return _USERINFO.sub("***@", text)


class StorageError(Exception):
    """The store could not do the request, and a retry would not help."""

    def __init__(self, sentence: str) -> None:
        super().__init__(without_userinfo(sentence))


class InvalidStorageURL(StorageError):
    """A storage URL that no backend understands, or an option that the backend doesn't have."""


class BucketNotFound(StorageError):
    """The bucket, or the directory that stands for it, does not exist."""


class ObjectNotFound(StorageError):
    """No object has this key."""


class RangeNotSatisfiable(StorageError):
    """The range is not within the object."""


class ObjectTooLarge(StorageError):
    """The object has more bytes than the caller takes."""


class ObjectAlreadyExists(StorageError):
    """An object has this key already. Nothing was changed."""


class AccessDenied(StorageError):
    """The credentials don't allow the request, or the object is locked against it."""


class CredentialsMissing(AccessDenied):
    """There are no credentials, or they can't be fetched."""


class ObjectLocked(AccessDenied):
    """A retention or a legal hold keeps objects from being deleted."""

    def __init__(self, store: str, objects: Mapping[str, datetime | None], *, hidden: bool) -> None:
        self.hidden = hidden
        """True if the store keeps versions of the other objects, which were deleted."""
        self.objects = dict(objects)
        """The key of each locked object, and the end of its lock in UTC; None for a legal hold, or if the end isn't known."""
        key, until = next(iter(self.objects.items()))
        more = f", and {len(self.objects) - 1:,} more" if len(self.objects) > 1 else ""
        why = f"is locked until {until:%Y-%m-%d %H:%M:%SZ}" if until else "is under a legal hold"
        super().__init__(f"{store}/{key} {why}{more}")


class ChecksumMismatch(StorageError):
    """The store received other bytes than were sent, or didn't confirm the bytes that it received."""


class TransientStorageError(StorageError):
    """The store failed in a way that may pass: throttling, 5xx, a connection reset, a time-out, a truncated body."""
