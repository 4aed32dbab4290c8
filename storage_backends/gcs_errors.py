"""The contract's errors for Google Cloud Storage's answers and its SDK's exceptions."""

import contextlib
from collections.abc import Iterator
from typing import Final

import requests
import urllib3
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

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

# https://cloud.google.com/storage/docs/json_api/v1/status-codes
_BY_STATUS: Final[dict[int, tuple[type[StorageError], str]]] = {
    401: (AccessDenied, "access was denied"),
    403: (AccessDenied, "access was denied"),
    408: (TransientStorageError, "the store timed out"),
    412: (ObjectAlreadyExists, "the object exists already"),
    416: (RangeNotSatisfiable, "the range is outside the object"),
    429: (TransientStorageError, "the store asks to slow down"),
    500: (TransientStorageError, "the store failed"),
    502: (TransientStorageError, "the store failed"),
    503: (TransientStorageError, "the store failed"),
    504: (TransientStorageError, "the store failed"),
}


def _error(where: str, exc: GoogleAPICallError, missing: type[StorageError]) -> StorageError:
    # The SDK's message is “METHOD URL: what the store said”.
    status, message = int(exc.code or 0), quote(exc.message).partition(": ")[2]
    if status == 404:
        # GCS's own error says so in JSON; a proxy's 404 doesn't. https://cloud.google.com/storage/docs/json_api/v1/status-codes#404-not-found
        if not any(_reason(error) == "notfound" for error in exc.errors):
            return StorageError(
                f"{where}: the store answers 404, but doesn't say that the object is missing ({message})"
            )
        if missing is BucketNotFound or "bucket does not exist" in message:
            return BucketNotFound(f"{where}: there is no bucket {bucket_of(where)}")
        return ObjectNotFound(f"{where}: the object does not exist")
    if status == 400 and "doesn't match calculated" in message:
        return ChecksumMismatch(f"{where}: the store received other bytes than were sent ({message})")
    kind, phrase = _BY_STATUS.get(status, (StorageError, "the store refused"))
    return kind(f"{where}: {phrase} ({status}: {message})")


def _failure(where: str, exc: Exception) -> StorageError:
    if fault := lasting_fault(exc):
        return StorageError(f"{where}: {fault}")
    return TransientStorageError(f"{where}: {describe_failure(exc)}")


def _reason(error: object) -> str:
    """Return an error's reason in one spelling. GCS writes notFound, and fake-gcs-server Not Found."""
    return str(error.get("reason")).replace(" ", "").lower() if isinstance(error, dict) else ""


@contextlib.contextmanager
def gcs_errors(where: str, *, missing: type[StorageError]) -> Iterator[None]:
    """Turn the SDK's exceptions into the contract's errors. ``missing`` is the error for a 404 of GCS's own."""
    try:
        yield
    except GoogleAPICallError as exc:
        raise _error(where, exc, missing) from exc
    except Misanswered as exc:
        kind, _ = _BY_STATUS.get(exc.status, (StorageError, ""))
        raise kind(f"{where}: {exc}") from exc
    except TransportError as exc:
        raise _failure(where, exc) from exc
    except DefaultCredentialsError as exc:
        raise CredentialsMissing(
            f"{where}: no Google credentials; set GOOGLE_APPLICATION_CREDENTIALS, run “gcloud auth application-default "
            "login”, or give this machine a service account"
        ) from exc
    except GoogleAuthError as exc:
        if exc.retryable or isinstance(exc.__cause__ or exc.__context__, TransportError):
            raise _failure(where, exc) from exc
        raise AccessDenied(f"{where}: Google refused the credentials ({quote(exc)})") from exc
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as exc:
        raise TransientStorageError(f"{where}: the store was silent for too long; see read_timeout") from exc
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as exc:
        raise _failure(where, exc) from exc
    except (ValueError, TypeError, AttributeError, KeyError) as exc:  # the SDK doesn't check the values in an answer
        raise StorageError(f"{where}: the store's answer made no sense ({quote(exc)})") from exc
