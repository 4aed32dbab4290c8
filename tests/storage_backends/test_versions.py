"""Tests of hidden versions. A newer version or a deletion hides a version. Each backend with versions can still read it."""

import hashlib
from contextlib import closing
from typing import Any

import pytest
from support.object_stores import StoreBucket

from storage_backends import ObjectNotFound, ObjectTooLarge, StorageBackend, open_backend
from storage_backends.limited import LimitedBackend
from storage_backends.memory import MemoryBackend
from storage_backends.retrying import RetryingBackend
from storage_backends.versions import get_version

BODY = b"what was stored"


class VersionContract:
    """A subclass gives a bucket that keeps versions, and methods by which somebody else overwrites and deletes an object."""

    unknown = "x"
    """A version in the store's format that the store never gave."""

    def overwrite(self, bucket: StoreBucket, name: str) -> None:
        raise NotImplementedError

    def delete(self, bucket: StoreBucket, name: str) -> None:
        raise NotImplementedError

    @pytest.fixture
    def bucket(self) -> Any:
        raise NotImplementedError

    def test_what_a_newer_version_or_a_deletion_hides(self, bucket: StoreBucket) -> None:
        inner = open_backend(bucket.url, give_up_after=0)
        store: StorageBackend = RetryingBackend(LimitedBackend(inner, 10**9), give_up_after=0)
        version = store.put("a b/ü", BODY, sha256=hashlib.sha256(BODY).digest()).version
        assert version
        self.overwrite(bucket, f"{bucket.prefix}/a b/ü")
        assert store.get("a b/ü") == b"another"
        assert get_version(store, "a b/ü", version, at_most=len(BODY)) == BODY
        self.delete(bucket, f"{bucket.prefix}/a b/ü")
        with pytest.raises(ObjectNotFound):
            store.get("a b/ü")
        assert get_version(store, "a b/ü", version, at_most=len(BODY)) == BODY
        with pytest.raises(ObjectTooLarge):
            get_version(store, "a b/ü", version, at_most=len(BODY) - 1)
        for missing in (self.unknown, "no-such", "1"):
            with pytest.raises(ObjectNotFound):
                get_version(store, "a b/ü", missing, at_most=len(BODY))

    def test_a_deletion_says_that_it_only_hides(self, bucket: StoreBucket) -> None:
        inner = open_backend(bucket.url, give_up_after=0)
        store: StorageBackend = RetryingBackend(LimitedBackend(inner, 10**9), give_up_after=0)
        version = store.put("key", BODY, sha256=hashlib.sha256(BODY).digest()).version
        assert version
        assert store.delete(["key"])
        assert get_version(store, "key", version, at_most=len(BODY)) == BODY


class TestS3(VersionContract):
    unknown = "3HL4kqtJvjVBH40Nrjfkd"

    @pytest.fixture
    def bucket(self, s3_locking_bucket: StoreBucket) -> StoreBucket:
        return s3_locking_bucket

    def test_a_store_that_takes_no_batches_says_so_too(self, bucket: StoreBucket) -> None:
        with closing(open_backend(bucket.url, {"checksum": "md5"})) as store:
            store.put("key", BODY, sha256=hashlib.sha256(BODY).digest())
            assert store.delete(["key"])

    def overwrite(self, bucket: StoreBucket, name: str) -> None:
        bucket.client.put_object(Bucket=bucket.bucket, Key=name, Body=b"another")

    def delete(self, bucket: StoreBucket, name: str) -> None:
        bucket.client.delete_object(Bucket=bucket.bucket, Key=name)


class TestGCS(VersionContract):
    unknown = "1700000000000000"

    @pytest.fixture
    def bucket(self, gcs_bucket: StoreBucket) -> StoreBucket:
        bucket = gcs_bucket.client.bucket(gcs_bucket.bucket)
        bucket.versioning_enabled = True
        bucket.patch()
        return gcs_bucket

    def overwrite(self, bucket: StoreBucket, name: str) -> None:
        bucket.client.bucket(bucket.bucket).blob(name).upload_from_string(b"another")

    def delete(self, bucket: StoreBucket, name: str) -> None:
        bucket.client.bucket(bucket.bucket).blob(name).delete()


def test_a_store_without_versions_has_none() -> None:
    with pytest.raises(ObjectNotFound):
        get_version(MemoryBackend(), "key", "1", at_most=1)
