"""Google Cloud Storage. Only this module and its modules ``gcs_…`` import Google's SDK."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import requests
from google.api_core.exceptions import NotFound, from_http_response
from google.cloud import storage  # type: ignore[import-untyped]  # the SDK has no types

from storage_backends.backend import Body, ObjectInfo
from storage_backends.checks import BoundedBuffer, ListingCheck, check_body, is_locked, locked_until, read_range
from storage_backends.errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    InvalidStorageURL,
    ObjectAlreadyExists,
    ObjectLocked,
    ObjectNotFound,
    StorageError,
    quote,
)
from storage_backends.gcs_answers import checksum_of, crc32c_of, info_of
from storage_backends.gcs_errors import gcs_errors
from storage_backends.gcs_session import open_session
from storage_backends.gcs_transport import Related
from storage_backends.holds import ObjectLock
from storage_backends.keys import check_prefix, check_root, join_key, relative_key
from storage_backends.moments import parse_moment
from storage_backends.urls import check_encrypted

_LISTED = "kind,items(name,size,timeCreated,crc32c,generation,retention,retentionExpirationTime),nextPageToken"
_CREATED = "name,size,timeCreated,crc32c,generation"


class GCSBackend:
    """Objects under ``prefix`` in a Google Cloud Storage bucket.

    - A put is create-only by `ifGenerationMatch=0`_, which needs storage.objects.create and nothing more.
    - The body's CRC32C is sent with the body, and GCS refuses `other bytes`_. GCS doesn't know SHA-256, which is checked before
      sending. The checksum is CRC32C, and the version is the generation.
    - With ``retain_until`` every put carries an `object retention`_ until then, unlocked (``lock_mode`` governance) or locked
      (compliance); the bucket must have object retention, and the credentials storage.objects.setRetention. A legal hold is a temporary hold.
    - Objects are deleted one by one, each after a look at its lock: if the bucket keeps versions, GCS itself would make a
      locked object noncurrent. If the credentials may not read an object's lock, GCS decides.

    Credentials are the `application default`_ credentials. An ``endpoint`` or STORAGE_EMULATOR_HOST of http:// is taken for an emulator,
    and gets no credentials. ``ca_bundle`` is a file of CAs to trust instead of the usual ones. The
    requests that fetch the credentials' tokens trust these CAs, too.
    ``project`` is billed for the requests, as `requester pays`_ buckets demand.
    Raises AccessDenied if there are no credentials, InvalidStorageURL for options that can't be used, and StorageError for a CA bundle
    that can't be used.
    The SDK's own retries are off. ``connect_timeout`` is the most seconds to wait for a connection. ``read_timeout`` is the
    most seconds in which the store neither takes nor sends a byte. The whole request has no limit.

    .. _ifGenerationMatch=0: https://cloud.google.com/storage/docs/request-preconditions
    .. _object retention: https://cloud.google.com/storage/docs/object-lock
    .. _other bytes: https://cloud.google.com/storage/docs/data-validation
    .. _application default: https://cloud.google.com/docs/authentication/application-default-credentials
    .. _requester pays: https://cloud.google.com/storage/docs/requester-pays
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        ca_bundle: str | None = None,
        project: str | None = None,
        storage_class: str | None = None,
        kms_key: str | None = None,
        retain_until: datetime | None = None,
        lock_mode: Literal["governance", "compliance"] = "governance",
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        allow_http: bool = False,
    ) -> None:
        self._root = check_root(prefix)
        self._url = f"gs://{bucket}/{self._root}".rstrip("/")
        self._project = project
        self._storage_class = storage_class
        self._kms_key = kms_key
        self._retain_until = retain_until
        self._lock_mode = "Locked" if lock_mode == "compliance" else "Unlocked"
        self._timeout = (connect_timeout, read_timeout)
        with gcs_errors(self._url, missing=BucketNotFound):
            named = endpoint or os.environ.get("STORAGE_EMULATOR_HOST")
            if named:
                check_encrypted(named, allow_http=allow_http)
            self._session = open_session(named, read_timeout, ca_bundle)
            try:
                self._client = storage.Client(
                    project=project,
                    credentials=self._session.credentials,
                    _http=self._session,
                    client_options={"api_endpoint": endpoint} if endpoint else None,
                )
                # For traces, the SDK would fetch the bucket's metadata in its own thread. This request may outlive close().
                # It needs the permission storage.buckets.get, which no other request of this module needs.
                self._client._bucket_metadata_cache = None
                self._bucket = self._client.bucket(bucket, user_project=project)
            except ValueError as exc:
                raise InvalidStorageURL(f"{self._url} can't be opened: {quote(exc)}") from exc

    @property
    def url(self) -> str:
        """``gs://bucket/prefix``."""
        return self._url

    @property
    def retained_until(self) -> datetime | None:
        """See :attr:`StorageBackend.retained_until`."""
        return self._retain_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object. Return its metadata; see :meth:`StorageBackend.put`."""
        name, where = self._locate(key)
        check_body(where, body, sha256)
        crc32c = crc32c_of(body)
        try:
            with gcs_errors(where, missing=BucketNotFound):
                created = self._upload(name, body, crc32c, {"ifGenerationMatch": "0"})
        except AccessDenied as exc:
            # Creating needs this permission only if it would overwrite an object.
            # https://cloud.google.com/storage/docs/access-control/iam-json
            if "storage.objects.delete" in str(exc):
                raise ObjectAlreadyExists(f"{where}: the object exists already") from exc
            raise
        if created.get("crc32c") != crc32c or int(created.get("size", -1)) != memoryview(body).nbytes:
            # Credentials that can only create can't delete the object. The error that follows says enough.
            with contextlib.suppress(StorageError):
                self.delete([key])
            raise ChecksumMismatch(f"{where} was not kept: the store did not confirm its CRC32C")
        with gcs_errors(where, missing=BucketNotFound):
            return ObjectInfo(
                key,
                memoryview(body).nbytes,
                parse_moment(created["timeCreated"]),
                checksum=checksum_of(crc32c),
                version=str(created["generation"]),
                retained_until=self._retain_until,
            )

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes; see :meth:`StorageBackend.get`."""
        name, where = self._locate(key)
        # One byte above the limit tells that the object is too large.
        last = at_most if length is None else offset + length - 1

        def fetch() -> bytes:
            buffer = BoundedBuffer(where, at_most if length is None else length)
            return self._read(self._bucket.blob(name), buffer, where, offset or None, last)

        return read_range(where, offset, length, fetch=fetch, size=lambda: self.head(key).size)

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """Return the bytes of a generation; see :meth:`VersionedBackend.get_version`."""
        name, where = self._locate(key)
        if not version.isdecimal():  # another store's
            raise ObjectNotFound(f"{where}: no generation {version}")
        blob = self._bucket.blob(name, generation=int(version))
        return self._read(blob, BoundedBuffer(where, at_most), where, None, at_most)

    def head(self, key: str) -> ObjectInfo:
        """Return the object's metadata; see :meth:`StorageBackend.head`."""
        name, where = self._locate(key)
        blob = self._bucket.blob(name)
        with gcs_errors(where, missing=ObjectNotFound):
            blob.reload(timeout=self._timeout, retry=None)
        return info_of(key, blob)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order, with checksums; see :meth:`StorageBackend.list`."""
        check_prefix(prefix)
        asked, where = f"{self._root}/{prefix}" if self._root else prefix, f"{self._url}/{prefix}"
        check = ListingCheck(where, asked)
        pages = self._client.list_blobs(
            self._bucket, prefix=asked, fields=_LISTED, timeout=self._timeout, retry=None
        ).pages
        while True:
            with gcs_errors(where, missing=BucketNotFound):
                page = next(pages, None)
            if page is None:
                return
            for blob in page:
                check.take(blob.name)
                key = relative_key(self._root, blob.name)
                if key is not None:
                    with gcs_errors(where, missing=BucketNotFound):
                        info = replace(info_of(key, blob), held=None)  # a listing doesn't tell holds
                    yield info
            if token := page.raw_page.get("nextPageToken"):
                check.turn(token)

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects; see :meth:`StorageBackend.delete`.

        To learn whether the store keeps versions, look for the last deleted version only: the setting is the bucket's.
        """
        locked: dict[str, datetime | None] = {}
        deleted: tuple[str, int] | None = None
        for key in keys:
            name, where = self._locate(key)
            with contextlib.suppress(AccessDenied, ObjectNotFound):
                info = self.head(key)
                if is_locked(info):
                    locked[key] = locked_until(info)
                    continue
                deleted = name, int(info.version or 0)
            with contextlib.suppress(ObjectNotFound), gcs_errors(where, missing=ObjectNotFound):
                self._bucket.blob(name).delete(timeout=self._timeout, retry=None)
        hidden = deleted is not None and self._still_has(*deleted)
        if locked:
            raise ObjectLocked(self._url, locked, hidden=hidden)
        return hidden

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a temporary hold on the object, or take it off; see :meth:`HoldingBackend.set_hold`."""
        name, where = self._locate(key)
        blob = self._bucket.blob(name)
        blob.temporary_hold = held
        with gcs_errors(where, missing=ObjectNotFound):
            blob.patch(timeout=self._timeout, retry=None)

    def overwrite(self, key: str, body: bytes) -> None:
        """Put without a condition; see :meth:`OverwritingBackend.overwrite`. GCS allows it only with storage.objects.delete."""
        name, where = self._locate(key)
        with gcs_errors(where, missing=BucketNotFound):
            self._upload(name, body, crc32c_of(body), {})

    def may_lock(self) -> bool:
        """Return True: each bucket has temporary holds."""
        return True

    def lock_of(self, key: str) -> ObjectLock:
        """Return the locks on the object; see :meth:`HoldingBackend.lock_of`. Credentials that may get the metadata see all locks."""
        try:
            info = self.head(key)
        except AccessDenied:
            return ObjectLock(None, None, ("storage.objects.get",))
        return ObjectLock(info.retained_until, info.held)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()  # type: ignore[no-untyped-call]

    def _locate(self, key: str) -> tuple[str, str]:
        name = join_key(self._root, key)
        return name, f"gs://{self._bucket.name}/{name}"

    def _still_has(self, name: str, generation: int) -> bool:
        """True if the store says that it still has the deleted generation: noncurrent, or `softly deleted`_.

        .. _softly deleted: https://cloud.google.com/storage/docs/soft-delete
        """
        for softly in (None, True):
            with contextlib.suppress(StorageError), gcs_errors(self._url, missing=ObjectNotFound):
                blob = self._bucket.blob(name, generation=generation)
                blob.reload(soft_deleted=softly, timeout=self._timeout, retry=None)
                return True
        return False

    def _read(self, blob: Any, buffer: BoundedBuffer, where: str, start: int | None, last: int | None) -> bytes:
        with gcs_errors(where, missing=ObjectNotFound):
            try:
                blob.download_to_file(
                    buffer, start=start, end=last, raw_download=True, checksum=None, timeout=self._timeout, retry=None
                )
            except NotFound as exc:
                # A download's error is plain text. The request for metadata needs the same permission, and says what is missing.
                blob.reload(timeout=self._timeout, retry=None)
                raise StorageError(f"{where}: the store describes the object, but answers 404 to a download") from exc
        return buffer.getvalue()

    def _upload(self, name: str, body: Body, crc32c: str, condition: dict[str, str]) -> dict[str, Any]:
        """Send metadata and body in one request (`multipart upload`_), however large the body. Return GCS's description of the object.

        The SDK's own upload turns into a resumable upload above 8 MiB: two requests at least, and a session that a failure
        leaves behind.

        .. _multipart upload: https://cloud.google.com/storage/docs/json_api/v1/objects/insert
        """
        metadata: dict[str, Any] = {"name": name, "crc32c": crc32c, "contentType": "application/octet-stream"}
        if self._retain_until:
            metadata["retention"] = {"mode": self._lock_mode, "retainUntilTime": self._retain_until.isoformat()}
        if self._storage_class:
            metadata["storageClass"] = self._storage_class
        query = {"uploadType": "multipart", "fields": _CREATED, **condition}
        if self._kms_key:
            query["kmsKeyName"] = self._kms_key
        if self._project:
            query["userProject"] = self._project
        related = Related(json.dumps(metadata).encode(), body)
        response = self._session.post(
            f"{self._client.api_endpoint}/upload/storage/v1{self._bucket.path}/o",
            params=query,
            data=related,  # type: ignore[arg-type]  # types-requests knows no sized iterable, requests does
            headers={"Content-Type": related.content_type},
            timeout=self._timeout,
        )
        if response.status_code != requests.codes.ok:
            raise from_http_response(response)  # type: ignore[no-untyped-call]
        created: dict[str, Any] = response.json()
        return created
