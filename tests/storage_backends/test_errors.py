"""Tests of errors of the SDKs that the tests' servers and proxies can't cause. So the tests raise these errors themselves."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
import urllib3
from google.auth.exceptions import RefreshError, TransportError

from storage_backends import AccessDenied, BucketNotFound, StorageError, TransientStorageError
from storage_backends.gcs_errors import gcs_errors
from storage_backends.moments import in_utc, parse_moment
from storage_backends.s3_answers import retained_until
from storage_backends.s3_errors import s3_errors


def test_a_broken_tls_record_in_a_body_may_pass() -> None:
    with pytest.raises(TransientStorageError, match="bad record mac"), s3_errors("s3://b/k"):
        raise urllib3.exceptions.SSLError("bad record mac")


def test_a_token_that_could_not_be_refreshed_for_the_moment_may_pass() -> None:
    with pytest.raises(TransientStorageError), gcs_errors("gs://b/k", missing=BucketNotFound):
        raise RefreshError("later", retryable=True)  # type: ignore[no-untyped-call]
    with pytest.raises(TransientStorageError), gcs_errors("gs://b/k", missing=BucketNotFound):
        raise RefreshError("metadata server") from TransportError("reset")  # type: ignore[no-untyped-call]


def test_a_token_that_is_refused_will_not() -> None:
    with pytest.raises(AccessDenied, match="invalid_grant"), gcs_errors("gs://b/k", missing=BucketNotFound):
        raise RefreshError("invalid_grant")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("year", [1, 9999])
def test_a_store_whose_times_utc_cannot_tell(year: int) -> None:
    zone = timezone(timedelta(hours=14 if year == 1 else -14))
    moment = datetime(year, *((1, 1) if year == 1 else (12, 31, 23)), tzinfo=zone)  # type: ignore[arg-type, misc]
    with pytest.raises(StorageError, match="made no sense"):
        in_utc(moment)
    with pytest.raises(StorageError, match="made no sense"):
        retained_until({"ObjectLockRetainUntilDate": moment})
    with pytest.raises(StorageError, match="made no sense"), gcs_errors("gs://b/k", missing=BucketNotFound):
        parse_moment(moment.isoformat())
    assert parse_moment("2026-11-23T02:00:00+02:00") == datetime(2026, 11, 23, tzinfo=UTC)
