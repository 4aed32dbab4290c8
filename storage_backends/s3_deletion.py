"""Deletes objects in S3, without a look at their locks."""

import contextlib
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from storage_backends.errors import ObjectNotFound
from storage_backends.s3_errors import s3_error, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BATCH = 1000
"""`DeleteObjects`_ takes no more. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""


def delete_names(client: "S3Client", bucket: str, names: Iterable[str], url: str, *, one_by_one: bool) -> bool:
    """Delete the objects, a thousand in a request unless ``one_by_one``. A name without an object is no error. Raises StorageError.

    Return True if S3 put a delete marker above a version instead of destroying it.

    DeleteObjects must carry a checksum of its body. boto3 takes a CRC32, which some stores refuse: these need ``one_by_one``. ``url``
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
