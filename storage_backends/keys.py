"""The rule for keys. Every store has the same rule, so that a backup can be copied from any store to any other."""

import re

from storage_backends.errors import InvalidStorageURL, StorageError

MAX_KEY_BYTES = 1024
"""The most bytes of a key in UTF-8, with the backend's own prefix: the limit of both `S3`_ and `GCS`_.

.. _S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
.. _GCS: https://cloud.google.com/storage/docs/objects#naming
"""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""The characters of the category Cc."""


def check_key(key: str) -> str:
    """Return ``key``. Raises StorageError, which gives the reason, if no object may have the key.

    A key is one or more parts joined by ``/``. A part is not empty, is not ``.`` or ``..``, and has no control
    character and no backslash. So a key is a relative path on every system, and never leaves its root.
    """
    if reason := _fault(key):
        raise StorageError(f"{key!r} can't be an object's key: {reason}")
    return key


def is_key(key: str) -> bool:
    """True if pgstow may give an object this key. A listing may hold other keys, which no method of a backend takes."""
    return _fault(key) is None


def check_prefix(prefix: str) -> str:
    """Return ``prefix``. Raises StorageError if no key can start with it. The prefix may end anywhere, also in ``/``."""
    check_key(f"{prefix}x")
    return prefix


def join_key(root: str, key: str) -> str:
    """Return the key in the bucket for ``key`` below a backend's own prefix ``root``. Raises StorageError as :func:`check_key` does.

    ``root`` is ``""``, or a prefix that neither begins nor ends with ``/``.
    """
    check_key(key)
    return check_key(f"{root}/{key}") if root else key


def _fault(key: str) -> str | None:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not key:
        return "it is empty"
    if len(encoded) > MAX_KEY_BYTES:
        return f"it is longer than {MAX_KEY_BYTES} bytes"
    if "\\" in key:
        return "it has a backslash"
    if _CONTROL.search(key):
        return "it has a control character"
    parts = key.split("/")
    if "" in parts:
        return "it starts or ends with “/”, or has an empty part"
    if "." in parts or ".." in parts:
        return "it has a part “.” or “..”"
    return None


def check_root(root: str) -> str:
    """Return a URL's path as :func:`join_key` takes it: ``/prefix/`` becomes ``prefix``. Raises InvalidStorageURL if no key can begin so."""
    root = root.strip("/")
    if root and (reason := _fault(root)):
        raise InvalidStorageURL(f"the storage URL's prefix {root!r} can't begin an object's key: {reason}")
    return root


def relative_key(root: str, key: str) -> str | None:
    """Return the key below a backend's own prefix for ``key`` in the bucket: the inverse of :func:`join_key`.

    :func:`is_key` may refuse the result. Return None if ``key`` ends in ``/``: cloud consoles make such empty “folders”, and pgstow doesn't.
    """
    if key.endswith("/"):
        return None
    return key.removeprefix(f"{root}/") if root else key
