"""The contract's errors for Amazon S3's answers and boto3's exceptions."""

import contextlib
from collections.abc import Iterator
from typing import Final

import botocore.exceptions as aws
import urllib3
from botocore.parsers import ResponseParserError

from storage_backends.connections import Misanswered
from storage_backends.errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    CredentialsMissing,
    ObjectAlreadyExists,
    ObjectNotFound,
    RangeNotSatisfiable,
    StorageError,
    TransientStorageError,
    bucket_of,
    quote,
)
from storage_backends.faults import describe_failure, lasting_fault

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_BY_CODE: Final[dict[str, type[StorageError]]] = {
    "NoSuchBucket": BucketNotFound,
    "NoSuchKey": ObjectNotFound,
    "NoSuchVersion": ObjectNotFound,
    "PreconditionFailed": ObjectAlreadyExists,
    "InvalidRange": RangeNotSatisfiable,
    "BadDigest": ChecksumMismatch,
    "InvalidDigest": ChecksumMismatch,
    "XAmzContentChecksumMismatch": ChecksumMismatch,
    "XAmzContentSHA256Mismatch": ChecksumMismatch,
    "AccessDenied": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "ExpiredToken": AccessDenied,
    "InvalidAccessKeyId": AccessDenied,
    "InvalidToken": AccessDenied,
    "InvalidObjectState": StorageError,  # archived: 403, yet no permission would help
    "ConditionalRequestConflict": TransientStorageError,
    "OperationAborted": TransientStorageError,
    "RequestTimeout": TransientStorageError,
    "SlowDown": TransientStorageError,
    "InternalError": TransientStorageError,
    "ServiceUnavailable": TransientStorageError,
}
# A 404 alone doesn't mean that an object is missing: a proxy may answer 404, and so may a store whose key service lost a key.
_BY_STATUS: Final[dict[int, type[StorageError]]] = {
    401: AccessDenied,
    403: AccessDenied,
    408: TransientStorageError,
    412: ObjectAlreadyExists,
    416: RangeNotSatisfiable,
    429: TransientStorageError,
    500: TransientStorageError,
    502: TransientStorageError,
    503: TransientStorageError,
    504: TransientStorageError,
}
_PHRASES: Final[dict[type[StorageError], str]] = {
    AccessDenied: "access was denied",
    ChecksumMismatch: "the store received other bytes than were sent",
    ObjectAlreadyExists: "the object exists already",
    ObjectNotFound: "the object does not exist",
    StorageError: "the store refused",
}
_NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.SSOError,
    aws.TokenRetrievalError,
)


def s3_error(where: str, code: str, status: int, message: str) -> StorageError:
    """Return the contract's error for a refusal with this code and HTTP status (0 if unknown). Its sentence names ``where``."""
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, StorageError)
    said = quote(f"{code or status}: {message}".removesuffix(": "))
    phrase = _PHRASES.get(kind, "the store failed")
    if code == "NotImplemented" or status == 501:
        phrase = "the store doesn't support this request; if it refuses conditional puts, set create_only=look"
    if kind is BucketNotFound:
        phrase = f"there is no bucket {bucket_of(where)}"
    if status == 404 and kind is StorageError:
        phrase = "the store answers 404, but doesn't say that the object is missing"
    return kind(f"{where}: {phrase} ({said})" if said else f"{where}: {phrase}")


def status_of(exc: aws.ClientError) -> int:
    """Return the HTTP status of an answer that botocore raised; 0 if it has none."""
    return exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextlib.contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """Turn botocore's exceptions into the contract's errors. Their sentences name ``where``."""
    try:
        yield
    except aws.ClientError as exc:
        error = exc.response.get("Error", {})
        region = exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
        if 300 <= status_of(exc) < 400:
            raise StorageError(f"{where}: the bucket is in another region; set region={region}") from exc
        raise s3_error(where, error.get("Code", ""), status_of(exc), error.get("Message", "")) from exc
    except Misanswered as exc:
        raise StorageError(f"{where}: {exc}") from exc
    except _NO_CREDENTIALS as exc:
        raise CredentialsMissing(
            f"{where}: no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
            f"this machine a role ({quote(exc)})"
        ) from exc
    except (aws.ReadTimeoutError, urllib3.exceptions.ReadTimeoutError) as exc:
        raise TransientStorageError(f"{where}: the store was silent for too long; see read_timeout") from exc
    except (
        aws.ConnectionError,
        aws.HTTPClientError,
        aws.IncompleteReadError,
        ResponseParserError,
        urllib3.exceptions.HTTPError,  # as a body is read, botocore passes on what it doesn't know
    ) as exc:
        if fault := lasting_fault(exc):
            raise StorageError(f"{where}: {fault}") from exc
        raise TransientStorageError(f"{where}: {describe_failure(exc)}") from exc
    except aws.BotoCoreError as exc:
        raise StorageError(f"{where}: {quote(exc)}") from exc
    except ValueError as exc:  # botocore doesn't check the numbers and times in an answer
        raise StorageError(f"{where}: the store's answer made no sense ({quote(exc)})") from exc
