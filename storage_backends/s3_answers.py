"""Reads S3's answers, and checks that they are complete."""

import base64
import contextlib
import hashlib
import re
import shutil
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_plus

from storage_backends.backend import Body, ObjectInfo
from storage_backends.checks import BoundedBuffer, check_size
from storage_backends.connections import REMEDY
from storage_backends.errors import StorageError
from storage_backends.moments import in_utc


def check_page(where: str, page: Any, prefix: str) -> None:
    """Raise StorageError unless ``page`` has all elements that `a page of a listing`_ must have.

    A store may know only the first version of ListObjects. Its answer passes if the listing isn't cut off.

    .. _a page of a listing: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    # Some stores write a space as “+” in what they echo, and some echo nothing.
    if unquote_plus(page.get("Prefix") or prefix) not in (prefix, unquote_plus(prefix)):
        raise StorageError(f"{where}: the store lists {page['Prefix']!r}, for which pgstow didn't ask")
    if page["IsTruncated"] and not page.get("NextContinuationToken"):
        raise StorageError(
            f"{where}: the listing is cut off, and the store doesn't say how to go on; it may lack ListObjectsV2, which pgstow needs"
        )
    if any(not {"Key", "Size", "LastModified"} <= entry.keys() for entry in page.get("Contents", ())):
        raise StorageError(f"{where}: the store lists an object without its key, size or time")


def info_of(key: str, where: str, answer: Any) -> ObjectInfo:
    """Return an object's metadata from the answer to a HEAD. Raises StorageError if the answer has no size, or an impossible time."""
    if "ContentLength" not in answer:
        raise StorageError(f"{where}: the store's answer has no size; {REMEDY}")
    return ObjectInfo(
        key,
        answer["ContentLength"],
        in_utc(answer["LastModified"]),
        checksum=sha256_of(answer) or md5_of(answer),
        version=version_of(answer),
        retained_until=retained_until(answer),
        held={"ON": True, "OFF": False}.get(answer.get("ObjectLockLegalHoldStatus", "")),
    )


def read_body(where: str, answer: Any, at_most: int | None, *, in_part: bool) -> bytes:
    """Return the bytes of an object from the answer to a GET, which asked for a range if ``in_part``. Close the answer.

    Raises ObjectTooLarge above ``at_most`` bytes, and StorageError if the store gives the whole object instead of a range.
    """
    with contextlib.closing(answer["Body"]) as stream:
        if in_part and "ContentRange" not in answer:
            raise StorageError(f"{where}: pgstow asked for a part of the object, but the store gives the whole")
        size: int | None = answer.get("ContentLength")  # a store that isn't S3 may leave the size out
        if size is None:
            buffer = BoundedBuffer(where, at_most)
            shutil.copyfileobj(stream, buffer)
            return buffer.getvalue()
        check_size(where, size, at_most)
        whole: bytes = stream.read()
        return whole


def md5(body: Body) -> bytes:
    """Return the MD5 of the body, 16 bytes."""
    return hashlib.md5(body, usedforsecurity=False).digest()


def confirmed_checksum(answer: Any, body: Body, sha256: bytes) -> str | None:
    """Return the checksum by which the store confirmed ``body``; None if it confirmed nothing or something else."""
    if checked := sha256_of(answer):
        return checked if checked == f"sha256:{sha256.hex()}" else None
    etag = md5_of(answer)
    if etag == f"md5:{md5(body).hex()}" and hashlib.sha256(body).digest() == sha256:
        return etag
    return None


def sha256_of(answer: Any) -> str | None:
    """Return the SHA-256 that the store states, in the form of :attr:`ObjectInfo.checksum`; None if it states none of the whole object."""
    encoded = answer.get("ChecksumSHA256", "")
    # “…-3” is a digest over the digests of a multipart upload's parts, not over the bytes.
    if not encoded or "-" in encoded:
        return None
    return f"sha256:{base64.b64decode(encoded).hex()}"


def md5_of(answer: Any) -> str | None:
    """Return the MD5 that the ETag states. Return None after a multipart upload, or if KMS or a customer's key encrypts the object.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    etag = answer.get("ETag", "").strip('"')
    if answer.get("ServerSideEncryption", "AES256") != "AES256" or answer.get("SSECustomerAlgorithm"):
        return None
    return f"md5:{etag}" if re.fullmatch("[0-9a-f]{32}", etag) else None


def version_of(answer: Any) -> str | None:
    """Return the object's version; None if the bucket keeps no versions."""
    version: str = answer.get("VersionId", "null")
    return None if version == "null" else version


def retained_until(answer: Any) -> datetime | None:
    """Return until when the object is locked, in UTC; None if the answer names no lock. Raises StorageError as :func:`in_utc`."""
    until: datetime | None = answer.get("ObjectLockRetainUntilDate")
    return until and in_utc(until)


def answered_at(answer: Any) -> datetime:
    """Return the answer's date, by the store's clock in UTC: a put's answer has no other time. Without a date, return this machine's time."""
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
    return datetime.now(UTC)
