"""Deletes objects in S3, and looks at their locks before."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from storage_backends.backend import ObjectInfo
from storage_backends.checks import is_locked, locked_until
from storage_backends.errors import AccessDenied, ObjectNotFound
from storage_backends.holds import ObjectLock
from storage_backends.s3_errors import s3_error, s3_errors
from storage_backends.s3_locks import ask_locks, may_have_locks

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BATCH = 1000
"""`DeleteObjects`_ takes no more. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""


def without_locked(
    client: "S3Client",
    bucket: str,
    objects: Iterable[tuple[str, str]],
    head: Callable[[str], ObjectInfo],
    locked: dict[str, datetime | None],
) -> Iterator[str]:
    """Yield the names of the objects without a lock, or with a lock that can't be read. Put the end of each lock into ``locked``, by key.

    ``objects`` has each object's key and its name in the bucket. ``head`` takes a key, and returns the object's lock, for which it needs
    s3:GetObject. If that is denied, two other requests ask for the lock; they need other permissions. If the bucket certainly has no Object
    Lock, pgstow asks for no lock. Raises StorageError.
    """
    may_lock: bool | None = None
    for key, name in objects:
        may_lock = may_have_locks(client, bucket) if may_lock is None else may_lock
        if may_lock:
            # An object that is gone, or whose lock can't be read, is yielded, too: the store decides.
            with contextlib.suppress(ObjectNotFound):
                lock: ObjectInfo | ObjectLock
                try:
                    lock = head(key)
                except AccessDenied:
                    lock = ask_locks(client, bucket, name, None)
                if is_locked(lock):
                    locked[key] = locked_until(lock)
                    continue
        yield name


def delete_names(client: "S3Client", bucket: str, names: Iterable[str], url: str, *, one_by_one: bool) -> bool:
    """Delete the objects, a thousand in a request unless ``one_by_one``. A name without an object is no error. Raises StorageError.

    Return True if S3 put a delete marker above a version instead of destroying it.

    DeleteObjects must carry a checksum of its body. botocore takes a CRC32, which some stores refuse: these need ``one_by_one``. ``url``
    stands in the sentence of an error that is about no single object.
    """
    hidden = False
    if one_by_one:
        for name in names:
            with contextlib.suppress(ObjectNotFound), s3_errors(f"s3://{bucket}/{name}"):
                hidden |= client.delete_object(Bucket=bucket, Key=name).get("DeleteMarker", False)
        return hidden
    remaining = iter(names)
    while batch := list(itertools.islice(remaining, _BATCH)):
        with s3_errors(url):
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": name} for name in batch]})
        hidden |= any(deleted.get("DeleteMarker") for deleted in answer.get("Deleted", ()))
        for error in answer.get("Errors", ()):
            if error.get("Code") != "NoSuchKey":
                where = f"s3://{bucket}/{error.get('Key', '')}"
                raise s3_error(where, error.get("Code", ""), 0, error.get("Message", ""))
    return hidden
