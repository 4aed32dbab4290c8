"""Amazon S3, and stores that speak its API. The one place that imports boto3."""

import base64
import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

import boto3
import botocore.exceptions as aws
from botocore.config import Config

from storage_backends.backend import Body, ObjectInfo
from storage_backends.checks import check_body, read_range
from storage_backends.errors import (
    ChecksumMismatch,
    InvalidStorageURL,
    StorageError,
    quote,
)
from storage_backends.keys import check_prefix, check_root, join_key, relative_key
from storage_backends.s3_errors import s3_error, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DELETE_BATCH = 1000
"""`DeleteObjects`_ takes no more. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""

_CONNECTIONS = 64


class S3Backend:
    """Objects under ``prefix`` in an S3 bucket.

    - Create-only by `If-None-Match`_, which needs s3:PutObject and nothing more. A store that ignores the header (some
      gateways do) overwrites; nothing here can notice.
    - With ``checksum="sha256"`` the store is sent `ChecksumSHA256`_, refuses other bytes, and must say in its answer
      what it checked, or at least give an ETag that is the body's MD5. With ``"md5"``, for stores that refuse that
      header, it is sent Content-MD5, which every S3 store checks, and the SHA-256 is checked before sending.
    - A HEAD or GET of a key that doesn't exist is answered 403 (AccessDenied) unless s3:ListBucket is granted.
    - In a versioned bucket, deleting adds a delete marker; Object Lock protects the versions below it.
    - A bytes body is sent from where it lies; a memoryview is copied first.

    The SDK's own retries are off. ``connect_timeout`` and ``read_timeout`` are seconds of silence, not of the whole
    request.

    .. _If-None-Match: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    .. _ChecksumSHA256: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        path_style: bool = False,
        storage_class: str | None = None,
        kms_key: str | None = None,
        checksum: Literal["sha256", "md5"] = "sha256",
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
    ) -> None:
        self._bucket = bucket
        self._root = check_root(prefix)
        self._url = f"s3://{bucket}/{self._root}".rstrip("/")
        self._checksum = checksum
        self._put_options: dict[str, Any] = {"StorageClass": storage_class} if storage_class else {}
        if kms_key:
            self._put_options |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
        config = Config(
            retries={"total_max_attempts": 1},
            # Every put carries a digest already; another, by default CRC32, would only cost a pass over the body, and
            # stores other than Amazon's often refuse it.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_pool_connections=_CONNECTIONS,
            s3={"addressing_style": "path"} if path_style else None,
        )
        try:
            session = boto3.session.Session(profile_name=profile, region_name=region)
            self._client: S3Client = session.client("s3", endpoint_url=endpoint, config=config)
        except (aws.BotoCoreError, ValueError) as exc:
            raise InvalidStorageURL(f"{self._url} can't be opened: {quote(exc)}") from exc

    @property
    def url(self) -> str:
        """``s3://bucket/prefix``."""
        return self._url

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object; see :meth:`StorageBackend.put`."""
        name, where = self._locate(key)
        digest: dict[str, Any] = {
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(sha256).decode(),
        }
        if self._checksum == "md5":
            check_body(where, body, sha256)
            digest = {"ContentMD5": base64.b64encode(_md5(body)).decode()}
        data = bytes(body) if isinstance(body, memoryview) else body
        with s3_errors(where):
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=name,
                Body=data,  # type: ignore[arg-type]  # the stubs leave out bytearray, which boto3 takes
                IfNoneMatch="*",
                **digest,
                **self._put_options,
            )
        confirmed = f"md5:{_md5(body).hex()}" if self._checksum == "md5" else _confirmed(answer, body, sha256)
        if confirmed is None:
            self._withdraw(name)
            raise ChecksumMismatch(
                f"{where} was not kept: the store did not confirm its checksum; if the store has no SHA-256 checksums, "
                "use the option checksum=md5"
            )
        return ObjectInfo(
            key, memoryview(body).nbytes, _answered_at(answer), checksum=confirmed, version=_version(answer)
        )

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """The object's bytes; see :meth:`StorageBackend.get`."""
        name, where = self._locate(key)
        span: dict[str, Any] = {}
        if offset or length is not None:
            span["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"

        def fetch() -> bytes:
            with s3_errors(where):
                answer = self._client.get_object(Bucket=self._bucket, Key=name, **span)
                with contextlib.closing(answer["Body"]) as stream:
                    return stream.read()

        return read_range(where, offset, length, fetch=fetch, size=lambda: self.head(key).size)

    def head(self, key: str) -> ObjectInfo:
        """What is known of the object; see :meth:`StorageBackend.head`."""
        name, where = self._locate(key)
        with s3_errors(where):
            answer = self._client.head_object(Bucket=self._bucket, Key=name, ChecksumMode="ENABLED")
        return ObjectInfo(
            key,
            answer["ContentLength"],
            answer["LastModified"].astimezone(UTC),
            checksum=_sha256_of(answer) or _md5_of(answer),
            version=_version(answer),
        )

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under ``prefix`` in key order, without checksums; see :meth:`StorageBackend.list`."""
        check_prefix(prefix)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._root}/{prefix}" if self._root else prefix
        )
        with s3_errors(f"{self._url}/{prefix}"):
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = relative_key(self._root, entry["Key"])
                    if key is not None:
                        yield ObjectInfo(key, entry["Size"], entry["LastModified"].astimezone(UTC))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects, a thousand in a request; see :meth:`StorageBackend.delete`."""
        names = (join_key(self._root, key) for key in keys)
        if self._checksum == "md5":
            # DeleteObjects must carry a checksum of its body, which is a CRC32 in boto3: what such stores refuse.
            for name in names:
                with s3_errors(self._where(name)):
                    self._client.delete_object(Bucket=self._bucket, Key=name)
            return
        while batch := list(itertools.islice(names, _DELETE_BATCH)):
            with s3_errors(self._url):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": name} for name in batch], "Quiet": True}
                )
            for error in answer.get("Errors", ()):
                if error.get("Code") != "NoSuchKey":
                    raise s3_error(
                        self._where(error.get("Key", "")), error.get("Code", ""), 0, error.get("Message", "")
                    )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _locate(self, key: str) -> tuple[str, str]:
        name = join_key(self._root, key)
        return name, self._where(name)

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{name}"

    def _withdraw(self, name: str) -> None:
        # Credentials that can only create can't; the error that follows says enough.
        with contextlib.suppress(StorageError), s3_errors(self._where(name)):
            self._client.delete_object(Bucket=self._bucket, Key=name)


def _md5(body: Body) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _confirmed(answer: Any, body: Body, sha256: bytes) -> str | None:
    """The checksum by which the store confirmed ``body``, None where it confirmed nothing or something else."""
    if checked := _sha256_of(answer):
        return checked if checked == f"sha256:{sha256.hex()}" else None
    etag = _md5_of(answer)
    if etag == f"md5:{_md5(body).hex()}" and hashlib.sha256(body).digest() == sha256:
        return etag
    return None


def _sha256_of(answer: Any) -> str | None:
    encoded = answer.get("ChecksumSHA256", "")
    # “…-3” is a digest over the digests of a multipart upload's parts, not over the bytes.
    if not encoded or "-" in encoded:
        return None
    return f"sha256:{base64.b64decode(encoded).hex()}"


def _md5_of(answer: Any) -> str | None:
    """The MD5 that an ETag is: of a single put, unless KMS or a customer's key encrypts it.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    etag = answer.get("ETag", "").strip('"')
    if answer.get("ServerSideEncryption", "AES256") != "AES256" or answer.get("SSECustomerAlgorithm"):
        return None
    return f"md5:{etag}" if re.fullmatch("[0-9a-f]{32}", etag) else None


def _version(answer: Any) -> str | None:
    version: str = answer.get("VersionId", "null")
    return None if version == "null" else version


def _answered_at(answer: Any) -> datetime:
    """The store's clock; a put's answer has no other time."""
    with contextlib.suppress(KeyError, ValueError):
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
    return datetime.now(UTC)
