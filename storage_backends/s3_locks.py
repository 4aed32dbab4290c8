"""The locks on an object in S3, read by requests that S3 refuses if the credentials may not read them.

The answer to a HEAD leaves out a lock that the credentials may not ask about. So a HEAD can show a lock, but never its absence.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
"""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from storage_backends.backend import ObjectInfo
from storage_backends.errors import AccessDenied, StorageError
from storage_backends.holds import ObjectLock
from storage_backends.moments import in_utc
from storage_backends.s3_errors import s3_errors, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NO_OBJECT_LOCK = {"ObjectLockConfigurationNotFoundError", "NoSuchBucket", "NotImplemented", "MethodNotAllowed"}
_UNLOCKED = "NoSuchObjectLockConfiguration"
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-configure.html"""
_UNASKED = (400, 405, 501)
"""The bucket has no Object Lock (S3: 400, InvalidRequest), or the store doesn't know the request. Then HEAD shows all locks."""

_T = TypeVar("_T")


def may_have_locks(client: "S3Client", bucket: str) -> bool:
    """Return False if the bucket surely has no Object Lock, else True."""
    try:
        with s3_errors(f"s3://{bucket}"):
            client.get_object_lock_configuration(Bucket=bucket)
    except StorageError as exc:
        return not isinstance(exc.__cause__, ClientError) or (
            exc.__cause__.response.get("Error", {}).get("Code") not in _NO_OBJECT_LOCK
        )
    return True


def lock_of(client: "S3Client", bucket: str, name: str, info: ObjectInfo | None) -> ObjectLock:
    """Return the locks on the object ``name``. ``info`` is HEAD's answer, or None if HEAD was refused. Raises ObjectNotFound or StorageError.

    In a bucket without Object Lock, no permission is missing.
    """
    lock = ask_locks(client, bucket, name, info)
    return ObjectLock() if lock.needs and not may_have_locks(client, bucket) else lock


def ask_locks(client: "S3Client", bucket: str, name: str, info: ObjectInfo | None) -> ObjectLock:
    """Return the locks as :func:`lock_of` does, but name missing permissions even if the bucket has no Object Lock."""
    where = f"s3://{bucket}/{name}"
    held, until = (info.held, info.retained_until) if info else (None, None)
    needs: list[str] = []
    if held is None:
        try:
            held = _ask(where, lambda: _is_on(client, bucket, name), False)
        except AccessDenied:
            needs.append("s3:GetObjectLegalHold")
    if until is None:
        try:
            until = _ask(where, lambda: _until(client, bucket, name), None)
        except AccessDenied:
            needs.append("s3:GetObjectRetention")
    return ObjectLock(until, held, tuple(needs))


def require_holds(client: "S3Client", bucket: str, name: str) -> None:
    """Raise StorageError if the store knows no legal holds. It would take the request that sets a hold for a put, and overwrite the object."""
    where = f"s3://{bucket}/{name}"
    with s3_errors(where):
        try:
            client.get_object_legal_hold(Bucket=bucket, Key=name)
        except ClientError as exc:
            if status_of(exc) == 501:
                raise StorageError(f"{where}: the store has no legal holds") from exc


def _is_on(client: "S3Client", bucket: str, name: str) -> bool:
    return client.get_object_legal_hold(Bucket=bucket, Key=name).get("LegalHold", {}).get("Status") == "ON"


def _until(client: "S3Client", bucket: str, name: str) -> datetime | None:
    until = client.get_object_retention(Bucket=bucket, Key=name).get("Retention", {}).get("RetainUntilDate")
    return until and in_utc(until)


def _ask(where: str, ask: Callable[[], _T], without_lock: _T) -> _T:
    try:
        with s3_errors(where):
            return ask()
    except StorageError as exc:
        refused = exc.__cause__
        if type(exc) is not StorageError or not isinstance(refused, ClientError):
            raise
        if status_of(refused) in _UNASKED or refused.response.get("Error", {}).get("Code") == _UNLOCKED:
            return without_lock
        raise
