"""Amazon S3, and stores that speak its API."""

import base64
import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Literal

import botocore.exceptions as aws

from storage_backends.backend import Body, ObjectInfo
from storage_backends.checks import ListingCheck, check_body, read_range
from storage_backends.connections import REMEDY
from storage_backends.errors import (
    AccessDenied,
    ChecksumMismatch,
    InvalidStorageURL,
    ObjectAlreadyExists,
    ObjectLocked,
    ObjectNotFound,
    StorageError,
    quote,
)
from storage_backends.holds import ObjectLock
from storage_backends.keys import check_prefix, check_root, join_key, relative_key
from storage_backends.moments import in_utc
from storage_backends.s3_answers import (
    answered_at,
    check_page,
    confirmed_checksum,
    info_of,
    md5,
    read_body,
    version_of,
)
from storage_backends.s3_deletion import delete_names, without_locked
from storage_backends.s3_errors import s3_errors, status_of
from storage_backends.s3_locks import lock_of, may_have_locks, require_holds
from storage_backends.s3_transport import S3Transport
from storage_backends.urls import check_encrypted


class S3Backend:
    """Objects under ``prefix`` in an S3 bucket.

    - A put is create-only by `If-None-Match`_, which needs s3:PutObject and nothing more. A store that ignores the header (some
      gateways do) overwrites, and the backend can't notice.
    - With ``create_only="look"``, for stores that refuse the header, a put asks first whether the key is taken, and is sent
      without the header. The put is safe if no other writer uses the key; pgstow's keys are fresh. It needs s3:GetObject and s3:ListBucket.
    - With ``checksum="sha256"`` a put carries `ChecksumSHA256`_, and the store refuses other bytes. Its answer must have the same
      checksum, or at least an ETag that is the body's MD5. With ``"md5"``, for stores that refuse the
      header, a put carries Content-MD5, which every S3 store checks, and the SHA-256 is checked before sending.
    - A HEAD or GET of a key that doesn't exist is answered 403 (AccessDenied) unless s3:ListBucket is granted.
    - With ``retain_until`` every put carries an `Object Lock`_ until then, in ``lock_mode``; the bucket must have Object Lock.
    - In a versioned bucket, S3 deletes by a delete marker, even above a locked version. So if the bucket may have
      Object Lock, a HEAD before each delete reads the object's lock (S3 shows it with s3:GetObjectRetention and
      s3:GetObjectLegalHold). Without s3:GetObject, two other requests read it. If the credentials may not read the lock, the object is
      deleted, and a locked version stays below the marker.
    - If ``path_style`` is True, the bucket stands in the URL's path; if False, in the host name. If None, the SDK chooses the
      host name at Amazon's endpoints, and the path elsewhere.
    - ``ca_bundle`` is a file of CAs to trust instead of the usual ones.
    - A body of bytes is sent without a copy; a memoryview is copied first.

    The SDK's own retries are off. ``connect_timeout`` is the most seconds to wait for a connection. ``read_timeout`` is the
    most seconds in which the store neither takes nor sends a byte. The whole request has no limit.
    Raises InvalidStorageURL for options that boto3 doesn't take, and StorageError for a CA bundle that can't be used.
    Missing credentials raise AccessDenied with the first request.

    .. _If-None-Match: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    .. _Object Lock: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
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
        ca_bundle: str | None = None,
        path_style: bool | None = None,
        storage_class: str | None = None,
        kms_key: str | None = None,
        checksum: Literal["sha256", "md5"] = "sha256",
        create_only: Literal["condition", "look"] = "condition",
        retain_until: datetime | None = None,
        lock_mode: Literal["governance", "compliance"] = "governance",
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        allow_http: bool = False,
    ) -> None:
        self._bucket = bucket
        self._root = check_root(prefix)
        self._url = f"s3://{bucket}/{self._root}".rstrip("/")
        self._checksum = checksum
        self._looks = create_only == "look"
        self._put_options: dict[str, Any] = {"StorageClass": storage_class} if storage_class else {}
        if kms_key:
            self._put_options |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
        self._retain_until = retain_until
        if retain_until:
            self._put_options |= {"ObjectLockMode": lock_mode.upper(), "ObjectLockRetainUntilDate": retain_until}
        try:
            self._transport = S3Transport(
                endpoint,
                region,
                profile,
                ca_bundle=ca_bundle,
                path_style=path_style,
                timeout=(connect_timeout, read_timeout),
            )
        except (aws.BotoCoreError, ValueError) as exc:
            raise InvalidStorageURL(f"{self._url} can't be opened: {quote(exc)}") from exc
        self._client = self._transport.client
        check_encrypted(
            self._client.meta.endpoint_url, allow_http=allow_http
        )  # the SDK's files and variables may name one, too

    @property
    def url(self) -> str:
        """``s3://bucket/prefix``."""
        return self._url

    @property
    def retained_until(self) -> datetime | None:
        """See :attr:`StorageBackend.retained_until`."""
        return self._retain_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object. Return its metadata; see :meth:`StorageBackend.put`."""
        name, where = self._locate(key)
        digest: dict[str, Any] = {
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(sha256).decode(),
        }
        if self._checksum == "md5":
            check_body(where, body, sha256)
            digest = {"ContentMD5": base64.b64encode(md5(body)).decode()}
        condition: dict[str, Any] = {"IfNoneMatch": "*"}
        if self._looks:
            self._require_free(key, where)
            condition = {}
        data = bytes(body) if isinstance(body, memoryview) else body
        with s3_errors(where):
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=name,
                Body=data,  # type: ignore[arg-type]  # the stubs leave out bytearray, which boto3 takes
                **condition,
                **digest,
                **self._put_options,
            )
        if "ETag" not in answer:
            raise StorageError(
                f"{where}: the store's answer to the put has no ETag, so the object may not be there; {REMEDY}"
            )
        confirmed = f"md5:{md5(body).hex()}" if self._checksum == "md5" else confirmed_checksum(answer, body, sha256)
        if confirmed is None:
            # Credentials that can only create can't delete the object. The error that follows says enough.
            with contextlib.suppress(StorageError):
                delete_names(self._client, self._bucket, [name], where, one_by_one=True)
            raise ChecksumMismatch(
                f"{where} was not kept: the store did not confirm its checksum; if the store has no SHA-256 checksums, "
                "use the option checksum=md5"
            )
        return ObjectInfo(
            key,
            memoryview(body).nbytes,
            answered_at(answer),
            checksum=confirmed,
            version=version_of(answer),
            retained_until=self._retain_until,
        )

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes; see :meth:`StorageBackend.get`."""
        name, where = self._locate(key)
        span: dict[str, Any] = {}
        if offset or length is not None:
            span["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"

        def fetch() -> bytes:
            with s3_errors(where):
                return self._read(name, where, at_most if length is None else length, **span)

        return read_range(where, offset, length, fetch=fetch, size=lambda: self.head(key).size)

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """Return the bytes of a version; see :meth:`VersionedBackend.get_version`."""
        name, where = self._locate(key)
        with s3_errors(where):
            try:
                return self._read(name, where, at_most, VersionId=version)
            except aws.ClientError as exc:
                if exc.response.get("Error", {}).get("Code") == "InvalidArgument":  # another store's
                    raise ObjectNotFound(f"{where}: no version {version}") from exc
                raise

    def head(self, key: str) -> ObjectInfo:
        """Return the object's metadata; see :meth:`StorageBackend.head`."""
        name, where = self._locate(key)
        try:
            with s3_errors(where):
                answer = self._client.head_object(Bucket=self._bucket, Key=name, ChecksumMode="ENABLED")
        except StorageError as exc:
            if isinstance(exc.__cause__, aws.ClientError) and status_of(exc.__cause__) == 404:
                self._confirm_missing(name, where)
            raise
        return info_of(key, where, answer)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order, without checksums; see :meth:`StorageBackend.list`."""
        check_prefix(prefix)
        asked, where = f"{self._root}/{prefix}" if self._root else prefix, f"{self._url}/{prefix}"
        check = ListingCheck(where, asked)
        following: dict[str, Any] = {}
        while True:
            with s3_errors(where):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=asked, **following)
            check_page(where, page, asked)
            for entry in page.get("Contents", ()):
                check.take(entry["Key"])
                key = relative_key(self._root, entry["Key"])
                if key is not None:
                    yield ObjectInfo(key, entry["Size"], in_utc(entry["LastModified"]), etag=entry.get("ETag"))
            if not page["IsTruncated"]:
                return
            following = {"ContinuationToken": check.turn(page["NextContinuationToken"])}

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects, a thousand in a request, or one by one with ``checksum="md5"``; see :meth:`StorageBackend.delete`."""
        locked: dict[str, datetime | None] = {}
        named = ((key, join_key(self._root, key)) for key in keys)
        unlocked = without_locked(self._client, self._bucket, named, self.head, locked)
        hidden = delete_names(self._client, self._bucket, unlocked, self._url, one_by_one=self._checksum == "md5")
        if locked:
            raise ObjectLocked(self._url, locked, hidden=hidden)
        return hidden

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off; see :meth:`HoldingBackend.set_hold`."""
        name, where = self._locate(key)
        require_holds(self._client, self._bucket, name)
        with s3_errors(where):
            self._client.put_object_legal_hold(
                Bucket=self._bucket,
                Key=name,
                LegalHold={"Status": "ON" if held else "OFF"},
                ChecksumAlgorithm="SHA256",
            )

    def overwrite(self, key: str, body: bytes) -> None:
        """Put without a condition; see :meth:`OverwritingBackend.overwrite`."""
        name, where = self._locate(key)
        digest = base64.b64encode(md5(body)).decode()
        with s3_errors(where):
            self._client.put_object(Bucket=self._bucket, Key=name, Body=body, ContentMD5=digest, **self._put_options)

    def may_lock(self) -> bool:
        """Return False if the bucket surely has no Object Lock; see :meth:`HoldingBackend.may_lock`."""
        return may_have_locks(self._client, self._bucket)

    def lock_of(self, key: str) -> ObjectLock:
        """Return the locks on the object; see :meth:`HoldingBackend.lock_of`. Costs a HEAD, and a request for each lock not shown."""
        name, _ = self._locate(key)
        info = None
        with contextlib.suppress(AccessDenied):
            info = self.head(key)
        return lock_of(self._client, self._bucket, name, info)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _read(self, name: str, where: str, at_most: int | None, **asked: Any) -> bytes:
        answer = self._client.get_object(Bucket=self._bucket, Key=name, **asked)
        return read_body(where, answer, at_most, in_part="Range" in asked)

    def _require_free(self, key: str, where: str) -> None:
        """Raise ObjectAlreadyExists unless the store says that there is no such object."""
        try:
            self.head(key)
        except ObjectNotFound:
            return
        except AccessDenied as exc:
            raise AccessDenied(f"{exc}; create_only=look needs s3:GetObject and s3:ListBucket") from exc
        raise ObjectAlreadyExists(f"{where}: the object exists already")

    def _confirm_missing(self, name: str, where: str) -> None:
        """Raise the error of a GET. A HEAD's 404 has no body, and so no code. A GET needs the same permission as a HEAD."""
        with s3_errors(where):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=name, Range="bytes=0-0")
            except aws.ClientError as exc:
                if status_of(exc) != 416:  # the object is there, and empty
                    raise
            else:
                answer["Body"].close()
        raise StorageError(f"{where}: the store answers HEAD with 404, and GET as if the object was there")

    def _locate(self, key: str) -> tuple[str, str]:
        name = join_key(self._root, key)
        return name, f"s3://{self._bucket}/{name}"
