"""The storage contract, clause by clause, on every backend.

A subclass opens its backend. It can also put, get and list without the backend, so that no backend is tested with itself.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
from support.faulty_http import FaultyProxy
from support.object_stores import StoreBucket

from storage_backends import (
    BucketNotFound,
    ChecksumMismatch,
    ObjectAlreadyExists,
    ObjectInfo,
    ObjectNotFound,
    ObjectTooLarge,
    RangeNotSatisfiable,
    StorageBackend,
    StorageError,
    TransientStorageError,
)
from storage_backends.gcs import GCSBackend
from storage_backends.keys import is_key
from storage_backends.lazy import LazyBackend
from storage_backends.limited import LimitedBackend
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend
from storage_backends.retrying import RetryingBackend
from storage_backends.s3 import S3Backend

TRICKY_KEYS = [
    "a b/c",
    "a+b",
    "a-b",
    "a.b",
    "a/b",
    "a/b.c",
    "a/c/" + "d" * 200,
    "a0",
    "aB",
    "a@b",
    "a%2Fb",
    "a%b",
    "a=b&c?d#e",
    "a:b;c,d",
    "ab",
    "é",
    "e\u0301",
    "\uff5e",
    "\U0001f600",
    "'\"<>&",
    "/".join(["k" * 200] * 4),
]
UNUSUAL_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/.",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "a\\b",
    "\udcff",
    "é" * 513,
]


def put(backend: StorageBackend, key: str, body: bytes | bytearray | memoryview = b"body") -> ObjectInfo:
    return backend.put(key, body, sha256=hashlib.sha256(body).digest())


class Raw(Protocol):
    """Direct access to the store, without the backend under test."""

    def put(self, key: str, body: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...
    def keys(self) -> set[str]: ...


class StorageContract:
    """The tests of the contract. A subclass defines the fixtures ``backend`` and ``raw``."""

    @pytest.fixture
    def backend(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def raw(self) -> Raw:
        raise NotImplementedError

    def test_put_stores_the_bytes(self, backend: StorageBackend, raw: Raw) -> None:
        put(backend, "a/b", b"\x00binary\xff")
        assert raw.get("a/b") == b"\x00binary\xff"
        assert raw.keys() == {"a/b"}

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_put_takes_any_body(self, backend: StorageBackend, raw: Raw, kind: Callable[[bytes], Any]) -> None:
        put(backend, "key", kind(b"some bytes"))
        assert raw.get("key") == b"some bytes"

    def test_put_takes_part_of_a_buffer(self, backend: StorageBackend, raw: Raw) -> None:
        put(backend, "key", memoryview(bytearray(b"some bytes"))[5:])
        assert raw.get("key") == b"bytes"

    @pytest.mark.parametrize("size", [0, 1, 32 * 1024 * 1024], ids=["empty", "one byte", "32 MiB"])
    def test_size_makes_no_difference(self, backend: StorageBackend, raw: Raw, size: int) -> None:
        body = hashlib.sha256(b"seed").digest() * (size // 32) + b"x" * (size % 32)
        assert put(backend, "key", body).size == size
        # Compared outside the assert: pytest would take minutes to show how 32 MiB differ.
        same = backend.get("key") == body and raw.get("key") == body
        assert same
        assert backend.head("key").size == size

    def test_put_and_head_describe_the_object(self, backend: StorageBackend) -> None:
        put_info = put(backend, "a/b", b"described")
        head_info = backend.head("a/b")
        assert put_info.key == head_info.key == "a/b"
        assert put_info.size == head_info.size == 9
        assert put_info.checksum == head_info.checksum
        assert put_info.checksum is not None
        assert put_info.version == head_info.version
        for info in (put_info, head_info):
            assert info.modified.tzinfo is UTC
            assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)

    def test_put_never_overwrites(self, backend: StorageBackend, raw: Raw) -> None:
        raw.put("key", b"first")
        for body in (b"second", b"first"):
            with pytest.raises(ObjectAlreadyExists, match="key"):
                put(backend, "key", body)
        assert raw.get("key") == b"first"

    def test_one_of_many_racing_puts_wins(self, backend: StorageBackend, raw: Raw) -> None:
        barrier = threading.Barrier(8)

        def race(number: int) -> bool:
            barrier.wait()
            try:
                put(backend, "folder/contested", b"%d" % number)
            except ObjectAlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, range(8)))
        assert won.count(True) == 1
        assert raw.get("folder/contested") == b"%d" % won.index(True)

    def test_put_refuses_what_its_digest_does_not_describe(self, backend: StorageBackend, raw: Raw) -> None:
        with pytest.raises(ChecksumMismatch, match="key"):
            backend.put("key", b"body", sha256=hashlib.sha256(b"other").digest())
        assert raw.keys() == set()

    def test_get_ranges(self, backend: StorageBackend, raw: Raw) -> None:
        raw.put("key", b"0123456789")
        for offset, length, expected in [
            (0, None, b"0123456789"),
            (4, None, b"456789"),
            (0, 4, b"0123"),
            (9, 1, b"9"),
            (0, 10, b"0123456789"),
            (3, 0, b""),
            (10, 0, b""),
            (10, None, b""),
        ]:
            assert backend.get("key", offset=offset, length=length) == expected, (offset, length)

    def test_get_refuses_ranges_beyond_the_object(self, backend: StorageBackend, raw: Raw) -> None:
        raw.put("key", b"0123456789")
        for offset, length in [(0, 11), (9, 2), (10, 1), (11, None), (11, 0), (-1, 1), (-1, None), (3, -1)]:
            with pytest.raises(RangeNotSatisfiable, match="key has 10 bytes"):
                backend.get("key", offset=offset, length=length)

    def test_get_of_an_empty_object(self, backend: StorageBackend, raw: Raw) -> None:
        raw.put("key", b"")
        assert backend.get("key") == b""

    def test_get_and_head_of_no_object(self, backend: StorageBackend, raw: Raw) -> None:
        raw.put("folder/key", b"")
        for key in ("other", "folder", "folder/key/below"):
            with pytest.raises(ObjectNotFound, match=key):
                backend.get(key)
            with pytest.raises(ObjectNotFound, match=key):
                backend.get(key, offset=1, length=1)
            with pytest.raises(ObjectNotFound, match=key):
                backend.get(key, length=0)
            with pytest.raises(ObjectNotFound, match=key):
                backend.head(key)

    def test_keys_keep_their_spelling(self, backend: StorageBackend, raw: Raw) -> None:
        for key in TRICKY_KEYS:
            put(backend, key, key.encode())
        assert raw.keys() == set(TRICKY_KEYS)
        for key in TRICKY_KEYS:
            assert backend.get(key) == key.encode()
            assert backend.head(key).key == key
        backend.delete(TRICKY_KEYS)
        assert raw.keys() == set()

    def test_list_is_in_the_order_of_utf8_bytes(self, backend: StorageBackend, raw: Raw) -> None:
        for key in TRICKY_KEYS:
            raw.put(key, b"x" * len(key))
        listed = list(backend.list())
        assert [info.key for info in listed] == sorted(TRICKY_KEYS, key=str.encode)
        assert [info.size for info in listed] == [len(info.key) for info in listed]
        assert all(info.modified.tzinfo is UTC for info in listed)

    def test_list_by_prefix(self, backend: StorageBackend, raw: Raw) -> None:
        for key in TRICKY_KEYS:
            raw.put(key, b"")
        for prefix in ("a", "a/", "a/b", "a.", "k" * 200 + "/", "none", "a/b/", "a%", "é"):
            expected = sorted((key for key in TRICKY_KEYS if key.startswith(prefix)), key=str.encode)
            assert [info.key for info in backend.list(prefix)] == expected

    def test_list_of_nothing(self, backend: StorageBackend) -> None:
        assert list(backend.list()) == []

    def test_more_than_a_page_is_listed_and_deleted(self, backend: StorageBackend, raw: Raw) -> None:
        keys = [f"many/{number:04}" for number in range(1001)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda key: raw.put(key, b""), [*keys, "other"]))
        assert [info.key for info in backend.list("many/")] == keys
        backend.delete(info.key for info in backend.list("many/"))
        assert raw.keys() == {"other"}

    def test_delete_tolerates_keys_that_do_not_exist(self, backend: StorageBackend, raw: Raw) -> None:
        raw.put("a/b", b"")
        raw.put("a/c", b"")
        hidden = backend.delete(["none", "a/b", "a/none/at/all"])
        assert not hidden  # none of these stores keeps versions
        backend.delete([])
        backend.delete(["a/b"])
        assert raw.keys() == {"a/c"}

    def test_a_deleted_key_is_free(self, backend: StorageBackend, raw: Raw) -> None:
        put(backend, "a/b", b"first")
        backend.delete(["a/b"])
        put(backend, "a/b", b"second")
        assert raw.get("a/b") == b"second"

    def test_a_listing_tells_an_object_that_was_written_again(self, backend: StorageBackend, raw: Raw) -> None:
        raw.put("a", b"one")
        raw.put("b", b"one")
        before = list(backend.list())
        assert list(backend.list()) == before
        backend.delete(["a"])
        raw.put("c", b"two")  # takes the number of the deleted file, if the store is a folder
        raw.put("a", b"two")
        first, second, _ = backend.list()
        assert (first.etag, first.version, first.checksum) != (before[0].etag, before[0].version, before[0].checksum)
        assert second == before[1]

    def test_unusual_keys_are_refused(self, backend: StorageBackend, raw: Raw) -> None:
        for key in UNUSUAL_KEYS:
            calls: list[Callable[[], object]] = [
                partial(put, backend, key),
                partial(backend.get, key),
                partial(backend.head, key),
                partial(backend.delete, [key]),
            ]
            for call in calls:
                with pytest.raises(StorageError, match="can't be an object's key"):
                    call()
        assert raw.keys() == set()

    def test_unusual_keys_of_somebody_else_stop_no_listing(self, backend: StorageBackend, raw: Raw) -> None:
        for key in ("odd/a", "odd/b\\c", "odd/d"):
            raw.put(key, b"body")
        assert [info.key for info in backend.list("odd/") if is_key(info.key)] == ["odd/a", "odd/d"]
        assert [info.key for info in backend.list("odd/")] == ["odd/a", "odd/b\\c", "odd/d"]

    def test_no_larger_object_is_read_than_the_caller_takes(self, backend: StorageBackend) -> None:
        for size in (0, 1, 1000):
            put(backend, f"size/{size}", bytes(size))
            for at_most in (size, size + 1):
                assert backend.get(f"size/{size}", at_most=at_most) == bytes(size)
        for size, at_most in ((1, 0), (1000, 999), (1000, 0)):
            with pytest.raises(ObjectTooLarge, match=f"more than the {at_most} bytes"):
                backend.get(f"size/{size}", at_most=at_most)

    def test_unusual_prefixes_are_refused(self, backend: StorageBackend) -> None:
        for prefix in ("/", "../", "a//", "a/../", "\0"):
            with pytest.raises(StorageError, match="can't be an object's key"):
                list(backend.list(prefix))

    def test_many_threads_share_a_backend(self, backend: StorageBackend) -> None:
        def use(number: int) -> bool:
            key, body = f"shared/{number % 3}/{number}", b"%d" % number * 10_000
            put(backend, key, body)
            same = backend.get(key) == body and backend.head(key).size == len(body)
            if number % 2:
                backend.delete([key])
            return same

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(use, range(48)))
        assert len(list(backend.list("shared/"))) == 24

    def test_url_is_where_the_objects_are(self, backend: StorageBackend) -> None:
        scheme, _, rest = backend.url.partition("://")
        assert scheme in ("s3", "gs", "file", "memory")
        assert rest
        assert not set("?#@") & set(backend.url)


class RawMemory:
    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._objects = backend._objects

    def put(self, key: str, body: bytes) -> None:
        checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self._objects[key] = ObjectInfo(key, len(body), datetime.now(UTC), checksum), body

    def get(self, key: str) -> bytes:
        return self._objects[key][1]

    def keys(self) -> set[str]:
        return set(self._objects)


class TestMemory(StorageContract):
    @pytest.fixture
    def backend(self) -> StorageBackend:
        return MemoryBackend()

    @pytest.fixture
    def raw(self, backend: MemoryBackend) -> Raw:
        return RawMemory(backend)


class RawDirectory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, body: bytes) -> None:
        (self._root / key).parent.mkdir(parents=True, exist_ok=True)
        (self._root / key).write_bytes(body)

    def get(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def keys(self) -> set[str]:
        return {str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()}


class TestLocal(StorageContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> StorageBackend:
        (tmp_path / "root").mkdir()
        return LocalBackend(tmp_path / "root")

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        return RawDirectory(tmp_path / "root")


class RawS3:
    def __init__(self, store: StoreBucket) -> None:
        self._store = store

    def put(self, key: str, body: bytes) -> None:
        self._store.client.put_object(Bucket=self._store.bucket, Key=f"{self._store.prefix}/{key}", Body=body)

    def get(self, key: str) -> bytes:
        answer = self._store.client.get_object(Bucket=self._store.bucket, Key=f"{self._store.prefix}/{key}")
        with answer["Body"] as stream:
            return bytes(stream.read())

    def keys(self) -> set[str]:
        pages = self._store.client.get_paginator("list_objects_v2").paginate(Bucket=self._store.bucket)
        return {
            entry["Key"].removeprefix(f"{self._store.prefix}/") for page in pages for entry in page.get("Contents", ())
        }


class TestS3(StorageContract):
    @pytest.fixture
    def backend(self, s3_bucket: StoreBucket) -> Iterator[StorageBackend]:
        # S3 refuses a wrong checksum. moto accepts it, so the proxy refuses it.
        with FaultyProxy(s3_bucket.endpoint, verify_digests=True) as proxy:
            backend = S3Backend(s3_bucket.bucket, s3_bucket.prefix, endpoint=proxy.url, path_style=True)
            yield backend
            backend.close()

    @pytest.fixture
    def raw(self, s3_bucket: StoreBucket) -> Raw:
        return RawS3(s3_bucket)

    def test_no_bucket(self, s3_bucket: StoreBucket) -> None:
        backend = S3Backend("no-such-bucket", endpoint=s3_bucket.endpoint, path_style=True)
        calls: list[Callable[[], object]] = [
            lambda: put(backend, "key"),
            lambda: backend.get("key"),
            lambda: list(backend.list()),
            lambda: backend.delete(["key"]),
        ]
        for call in calls:
            with pytest.raises(BucketNotFound, match="no-such-bucket"):
                call()
        backend.close()


class RawGCS:
    def __init__(self, store: StoreBucket) -> None:
        self._store = store

    def put(self, key: str, body: bytes) -> None:
        self._blob(key).upload_from_string(body, "application/octet-stream")

    def get(self, key: str) -> bytes:
        return bytes(self._blob(key).download_as_bytes())

    def keys(self) -> set[str]:
        return {
            blob.name.removeprefix(f"{self._store.prefix}/")
            for blob in self._store.client.list_blobs(self._store.bucket)
        }

    def _blob(self, key: str) -> Any:
        return self._store.client.bucket(self._store.bucket).blob(f"{self._store.prefix}/{key}")


class TestGCS(StorageContract):
    @pytest.fixture
    def backend(self, gcs_bucket: StoreBucket) -> Iterator[StorageBackend]:
        # With retries, as in pgstow: fake-gcs-server sometimes drops the connection after it refused a range.
        backend = RetryingBackend(GCSBackend(gcs_bucket.bucket, gcs_bucket.prefix, endpoint=gcs_bucket.endpoint))
        yield backend
        backend.close()

    @pytest.fixture
    def raw(self, gcs_bucket: StoreBucket) -> Raw:
        return RawGCS(gcs_bucket)

    def test_no_bucket(self, gcs_bucket: StoreBucket) -> None:
        backend = GCSBackend("no-such-bucket", endpoint=gcs_bucket.endpoint)
        with pytest.raises(BucketNotFound, match="no-such-bucket"):
            put(backend, "key")
        with pytest.raises(BucketNotFound, match="no-such-bucket"):
            list(backend.list())
        backend.close()


class Flaky(MemoryBackend):
    """Each put, get and head fails once before its work, and each put once more after its work. A list fails on its way."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, object]] = set()

    def put(self, key: str, body: bytes | bytearray | memoryview, *, sha256: bytes) -> ObjectInfo:
        if key not in self._objects:
            self._fail_once("put", (key, sha256, threading.get_ident()))
        info = super().put(key, body, sha256=sha256)
        self._fail_once("put after", (key, sha256, threading.get_ident()))
        return info

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        self._fail_once("get", (key, offset, length))
        return super().get(key, offset=offset, length=length, at_most=at_most)

    def head(self, key: str) -> ObjectInfo:
        self._fail_once("head", key)
        return super().head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for number, info in enumerate(super().list(prefix)):
            if number % 400 == 1:
                self._fail_once("list", (prefix, number))
            yield info

    def _fail_once(self, method: str, what: object) -> None:
        if (method, what) not in self._seen:
            self._seen.add((method, what))
            raise TransientStorageError(f"{method} of {what} failed")


class TestRetrying(StorageContract):
    @pytest.fixture
    def flaky(self) -> Flaky:
        return Flaky()

    @pytest.fixture
    def backend(self, flaky: Flaky) -> StorageBackend:
        return RetryingBackend(flaky, sleep=lambda seconds: None)

    @pytest.fixture
    def raw(self, flaky: Flaky) -> Raw:
        return RawMemory(flaky)


class TestLimited(StorageContract):
    @pytest.fixture
    def inner(self) -> MemoryBackend:
        return MemoryBackend()

    @pytest.fixture
    def backend(self, inner: MemoryBackend) -> StorageBackend:
        return LimitedBackend(inner, 1024 * 1024, sleep=lambda seconds: None)

    @pytest.fixture
    def raw(self, inner: MemoryBackend) -> Raw:
        return RawMemory(inner)


class TestLazy(StorageContract):
    @pytest.fixture
    def inner(self) -> MemoryBackend:
        return MemoryBackend()

    @pytest.fixture
    def backend(self, inner: MemoryBackend) -> StorageBackend:
        return LazyBackend(inner.url, inner.retained_until, lambda: inner)

    @pytest.fixture
    def raw(self, inner: MemoryBackend) -> Raw:
        return RawMemory(inner)
