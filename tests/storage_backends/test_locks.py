"""Tests of an object's locks: a put can ask for retention, and a legal hold can be put on later. Each backend with locks is tested."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.faulty_http import LOGIN_PAGE, Answer, Fault, FaultyProxy
from support.object_stores import StoreBucket

from storage_backends import ObjectLocked, ObjectNotFound, StorageBackend, StorageError, open_backend
from storage_backends.backend import ObjectInfo
from storage_backends.gcs import GCSBackend
from storage_backends.holds import ObjectLock, lock_of, may_lock, set_hold
from storage_backends.limited import LimitedBackend
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend
from storage_backends.retrying import RetryingBackend
from storage_backends.s3 import S3Backend

UNTIL = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)


def put(backend: StorageBackend, key: str) -> Any:
    return backend.put(key, b"body", sha256=hashlib.sha256(b"body").digest())


def keys(backend: StorageBackend) -> list[str]:
    return [info.key for info in backend.list()]


class LockContract:
    """Tests of retention. A subclass gives two backends with the same objects. Only ``locking`` locks its new objects, until ``UNTIL``."""

    @pytest.fixture
    def locking(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def plain(self) -> Any:
        raise NotImplementedError

    def test_what_is_put_is_locked_until_then(self, locking: StorageBackend, plain: StorageBackend) -> None:
        assert put(locking, "a/b").retained_until == UNTIL
        info = plain.head("a/b")
        assert info.retained_until == UNTIL
        assert info.retained_until.tzinfo is UTC
        assert not info.held
        assert may_lock(RetryingBackend(LimitedBackend(plain, 10**9)))
        assert lock_of(RetryingBackend(LimitedBackend(plain, 10**9)), "a/b") == ObjectLock(UNTIL, False)

    def test_without_it_nothing_is_locked(self, plain: StorageBackend) -> None:
        assert put(plain, "key").retained_until is None
        info = plain.head("key")
        assert info.retained_until is None
        assert not info.held
        assert lock_of(plain, "key") == ObjectLock(None, False)
        with pytest.raises(ObjectNotFound):
            lock_of(plain, "missing")

    def test_a_locked_object_stays_and_all_others_are_deleted(
        self, locking: StorageBackend, plain: StorageBackend
    ) -> None:
        put(plain, "a")
        put(locking, "b")
        put(plain, "c")
        with pytest.raises(ObjectLocked, match=f"/b is locked until {UNTIL:%Y-%m-%d %H:%M:%SZ}$") as caught:
            plain.delete(["a", "b", "c", "missing"])
        assert caught.value.objects == {"b": UNTIL}
        assert keys(plain) == ["b"]
        assert plain.get("b") == b"body"


class HoldContract:
    """Tests of legal holds. A subclass gives ``plain``, a backend that has legal holds."""

    @pytest.fixture
    def plain(self) -> Any:
        raise NotImplementedError

    def test_a_held_object_stays_until_it_is_let_go(self, plain: StorageBackend) -> None:
        put(plain, "key")
        for _ in range(2):
            set_hold(plain, "key", held=True)
        assert plain.head("key").held
        assert lock_of(plain, "key").held
        with pytest.raises(ObjectLocked, match=r"key is under a legal hold$") as caught:
            plain.delete(["key"])
        assert caught.value.objects == {"key": None}
        assert keys(plain) == ["key"]
        for _ in range(2):
            set_hold(plain, "key", held=False)
        assert not plain.head("key").held
        plain.delete(["key"])
        assert keys(plain) == []

    def test_a_hold_passes_through_what_is_around_a_store(self, plain: StorageBackend) -> None:
        put(plain, "key")
        set_hold(RetryingBackend(LimitedBackend(plain, 10**9)), "key", held=True)
        assert plain.head("key").held
        set_hold(plain, "key", held=False)


class TestMemory(LockContract, HoldContract):
    @pytest.fixture
    def objects(self) -> dict[str, tuple[ObjectInfo, bytes]]:
        return {}

    @pytest.fixture
    def plain(self, objects: dict[str, tuple[ObjectInfo, bytes]]) -> StorageBackend:
        return MemoryBackend(objects=objects)

    @pytest.fixture
    def locking(self, objects: dict[str, tuple[ObjectInfo, bytes]]) -> StorageBackend:
        return MemoryBackend(retain_until=UNTIL, objects=objects)

    def test_a_locked_object_is_told_and_later_batches_are_deleted(
        self, locking: StorageBackend, plain: StorageBackend
    ) -> None:
        put(locking, "a")
        put(plain, "b")
        with pytest.raises(ObjectLocked):
            RetryingBackend(plain).delete(["a", *(f"missing {number}" for number in range(1000)), "b"])
        assert keys(plain) == ["a"]

    def test_a_missing_object_cannot_be_held(self, plain: StorageBackend) -> None:
        """This test isn't in the contract, because moto answers with an internal error."""
        with pytest.raises(ObjectNotFound):
            set_hold(plain, "missing", held=True)


class TestS3(LockContract, HoldContract):
    @pytest.fixture
    def plain(self, s3_locking_bucket: StoreBucket) -> Iterator[StorageBackend]:
        with closing(open_s3(s3_locking_bucket)) as backend:
            yield backend

    @pytest.fixture
    def locking(self, s3_locking_bucket: StoreBucket) -> Iterator[StorageBackend]:
        with closing(open_s3(s3_locking_bucket, retain_until=UNTIL)) as backend:
            yield backend

    def test_a_buckets_own_retention_is_told(self, plain: StorageBackend, s3_locking_bucket: StoreBucket) -> None:
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 2}}
        s3_locking_bucket.client.put_object_lock_configuration(
            Bucket=s3_locking_bucket.bucket,
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
        )
        assert put(plain, "key").retained_until is None
        until = plain.head("key").retained_until
        assert until is not None
        assert abs(until - datetime.now(UTC) - timedelta(days=2)) < timedelta(minutes=5)

    def test_the_mode_is_asked_for(self, s3_locking_bucket: StoreBucket) -> None:
        for mode in ("governance", "compliance"):
            with closing(open_s3(s3_locking_bucket, retain_until=UNTIL, lock_mode=mode)) as backend:
                put(backend, mode)
            name = f"{s3_locking_bucket.prefix}/{mode}"
            answer = s3_locking_bucket.client.head_object(Bucket=s3_locking_bucket.bucket, Key=name)
            assert answer["ObjectLockMode"] == mode.upper()

    def test_a_bucket_without_object_lock_refuses(self, s3_bucket: StoreBucket) -> None:
        refused = pytest.raises(StorageError, match="ObjectLockConfiguration")
        with closing(open_s3(s3_bucket, retain_until=UNTIL)) as backend, refused:
            put(backend, "key")
        with closing(open_s3(s3_bucket)) as backend:
            put(backend, "key")
            with refused:
                set_hold(backend, "key", held=True)
            backend.delete(["key"])
            assert keys(backend) == []


class TestAsking:
    """Tests of credentials that may not read locks. S3 then leaves a lock out of its answer to a HEAD, as if the object had no lock."""

    HOLD, RETENTION = "s3:GetObjectLegalHold", "s3:GetObjectRetention"
    OBJECT = Answer(
        body=b"body",
        kind="application/octet-stream",
        headers=(("ETag", '"841a2d689ad86bd1611447453c22c6fc"'), ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")),
    )

    @pytest.fixture
    def proxy(self, s3_endpoint: str) -> Iterator[FaultyProxy]:
        with FaultyProxy(s3_endpoint) as proxy:
            yield proxy

    def ask(self, bucket: StoreBucket, proxy: FaultyProxy, *denied: str) -> ObjectLock:
        """Return the lock of the object ``key`` while the store denies these requests."""
        proxy.heal()
        for request in denied:
            proxy.fail(with_=Fault.FORBIDDEN, path=request, times=math.inf)
        with closing(open_backend(bucket.url_at(proxy.url))) as backend:
            return lock_of(backend, "key")

    def test_what_cannot_be_told(self, s3_locking_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        with closing(open_s3(s3_locking_bucket)) as backend:
            put(backend, "key")
            nothing = self.ask(s3_locking_bucket, proxy)
            assert nothing == ObjectLock(None, False, ())
            assert self.ask(s3_locking_bucket, proxy, r"\?legal-hold") == ObjectLock(None, None, (self.HOLD,))
            assert self.ask(s3_locking_bucket, proxy, r"\?retention") == ObjectLock(None, False, (self.RETENTION,))
            everything = self.ask(s3_locking_bucket, proxy, "")
            assert everything == ObjectLock(None, None, (self.HOLD, self.RETENTION))

    def test_a_bucket_that_locks_nothing(self, s3_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        """If pgstow may read the bucket's configuration, it needs no right to read an object's locks."""
        with closing(open_s3(s3_bucket)) as backend:
            put(backend, "key")
            assert self.ask(s3_bucket, proxy, r"\?legal-hold", r"\?retention") == ObjectLock()
            assert self.ask(s3_bucket, proxy, "").held is None

    UNKNOWN = Answer(400, b"<Error><Code>InvalidArgument</Code></Error>", "application/xml")

    @pytest.mark.parametrize("answer", [Fault.NO_OBJECT_LOCK, Fault.NO_BUCKET_LOCK, UNKNOWN])
    def test_what_s3_answers_where_nothing_locks(
        self, s3_locking_bucket: StoreBucket, proxy: FaultyProxy, answer: Fault | Answer
    ) -> None:
        """moto answers differently, so the proxy gives these answers."""
        with closing(open_s3(s3_locking_bucket)) as backend:
            put(backend, "key")
        proxy.fail(with_=answer, path=r"\?(legal-hold|retention)", times=2)
        with closing(open_backend(s3_locking_bucket.url_at(proxy.url))) as backend:
            assert lock_of(backend, "key") == ObjectLock(None, False, ())

    def test_what_the_store_says_where_head_is_denied(self, s3_locking_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        """moto doesn't know GET with ?retention, so the proxy answers."""
        with closing(open_s3(s3_locking_bucket)) as backend:
            put(backend, "key")
            set_hold(backend, "key", held=True)
        until = f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{UNTIL.isoformat()}</RetainUntilDate></Retention>"
        proxy.fail(with_=Answer(200, until.encode(), "application/xml"), path=r"\?retention")
        proxy.fail(with_=Fault.FORBIDDEN, method="HEAD", times=math.inf)
        with closing(open_backend(s3_locking_bucket.url_at(proxy.url))) as backend:
            assert lock_of(backend, "key") == ObjectLock(UNTIL, True, ())

    def test_a_lock_is_seen_before_a_deletion_where_head_is_denied(
        self, s3_locking_bucket: StoreBucket, proxy: FaultyProxy
    ) -> None:
        """The credentials for prune may lack the right to read data. A deletion would put a marker above the locked version."""
        with closing(open_s3(s3_locking_bucket)) as backend:
            put(backend, "free")
            put(backend, "held")
            set_hold(backend, "held", held=True)
        proxy.fail(with_=Fault.FORBIDDEN, method="HEAD", times=math.inf)
        with closing(open_backend(s3_locking_bucket.url_at(proxy.url))) as backend:
            with pytest.raises(ObjectLocked) as caught:
                backend.delete(["free", "held"])
            assert caught.value.objects == {"held": None}
            assert caught.value.hidden
            assert keys(backend) == ["held"]

    def test_a_store_that_takes_the_question_for_a_get(self, s3_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        proxy.fail(with_=self.OBJECT, path=r"\?(legal-hold|retention)", times=2)
        with closing(open_backend(s3_bucket.url_at(proxy.url))) as backend:
            put(backend, "key")
            assert lock_of(backend, "key") == ObjectLock(None, False, ())

    def test_a_hold_is_asked_only_of_a_store_that_has_holds(self, s3_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        """A store without holds may treat the request as a put, and overwrite the object."""
        for answer in (self.OBJECT, Answer(501)):
            proxy.heal()
            with closing(open_backend(s3_bucket.url_at(proxy.url))) as backend:
                backend.delete(["key"])
                put(backend, "key")
                proxy.fail(with_=answer, method="GET", path=r"\?legal-hold")
                with pytest.raises(StorageError, match=r"key: the store has no legal holds$"):
                    set_hold(backend, "key", held=True)
                assert proxy.count("PUT", r"\?legal-hold") == 0
                assert backend.get("key") == b"body"

    def test_only_a_bucket_without_object_lock_surely_has_no_locks(
        self, s3_bucket: StoreBucket, proxy: FaultyProxy
    ) -> None:
        with closing(open_backend(s3_bucket.url_at(proxy.url), give_up_after=0)) as backend:
            assert not may_lock(backend)
            proxy.fail(with_=Fault.FORBIDDEN, path=r"\?object-lock", times=math.inf)
            assert may_lock(backend), "the credentials may not read the bucket's configuration"

    def test_a_failure_says_nothing_of_locks(self, s3_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        for answer in (Fault.INTERNAL_ERROR, Answer(404, b"<html/>"), LOGIN_PAGE):
            proxy.heal()
            with closing(open_backend(s3_bucket.url_at(proxy.url), give_up_after=0)) as backend:
                backend.delete(["key"])
                put(backend, "key")
                proxy.fail(with_=answer, path=r"\?(legal-hold|retention)", times=math.inf)
                with pytest.raises(StorageError):
                    lock_of(backend, "key")


def open_s3(bucket: StoreBucket, **options: Any) -> S3Backend:
    return S3Backend(bucket.bucket, bucket.prefix, endpoint=bucket.endpoint, path_style=True, **options)


class TestGCS(LockContract):
    """fake-gcs-server stores retention, but would delete the object all the same. It stores no holds, so no test shows what a hold does."""

    def test_a_missing_object_cannot_be_held(self, plain: StorageBackend) -> None:
        with pytest.raises(ObjectNotFound):
            set_hold(plain, "missing", held=True)
        put(plain, "key")
        set_hold(plain, "key", held=True)

    @pytest.fixture
    def plain(self, gcs_bucket: StoreBucket) -> Iterator[StorageBackend]:
        backend = GCSBackend(gcs_bucket.bucket, gcs_bucket.prefix, endpoint=gcs_bucket.endpoint)
        yield backend
        backend.close()

    @pytest.fixture
    def locking(self, gcs_bucket: StoreBucket) -> Iterator[StorageBackend]:
        backend = GCSBackend(gcs_bucket.bucket, gcs_bucket.prefix, endpoint=gcs_bucket.endpoint, retain_until=UNTIL)
        yield backend
        backend.close()


def test_a_directory_has_no_holds(tmp_path: Path) -> None:
    store = LocalBackend(tmp_path)
    put(store, "key")
    assert lock_of(RetryingBackend(store), "key") == ObjectLock()
    assert not may_lock(RetryingBackend(LimitedBackend(store, 10**9)))
    for backend in (store, RetryingBackend(store)):
        with pytest.raises(StorageError, match="has no legal holds"):
            set_hold(backend, "key", held=True)
