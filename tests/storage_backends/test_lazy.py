import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from support.object_stores import StoreBucket

from storage_backends import InvalidStorageURL, StorageBackend, open_backend, open_now
from storage_backends.lazy import LazyBackend
from storage_backends.memory import MemoryBackend


def put(store: StorageBackend) -> None:
    store.put("a", b"body", sha256=hashlib.sha256(b"body").digest())


def test_many_threads_open_it_once() -> None:
    opened: list[StorageBackend] = []
    all_wait = threading.Barrier(8)

    def open_it() -> StorageBackend:
        opened.append(MemoryBackend())
        return opened[-1]

    store = LazyBackend("memory:", None, open_it)

    def ask(number: int) -> list[str]:
        all_wait.wait()
        return [info.key for info in store.list()]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[]] * 8
    assert len(opened) == 1


def test_an_error_comes_with_each_call_until_it_opens() -> None:
    answers: list[StorageBackend | Exception] = [InvalidStorageURL("no such profile")] * 2 + [MemoryBackend()]

    def open_it() -> StorageBackend:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    store = LazyBackend("memory:", None, open_it)
    with pytest.raises(InvalidStorageURL, match="no such profile"):
        open_now(store)
    with pytest.raises(InvalidStorageURL, match="no such profile"):
        put(store)
    put(store)
    open_now(store)
    assert store.get("a") == b"body"
    assert answers == []


def test_what_is_known_of_it_does_not_open_it() -> None:
    store = open_backend("s3://bucket/prefix?profile=no-such-profile&retain_until=2027-01-02T00:00:00Z", lazily=True)
    assert store.url == "s3://bucket/prefix"
    assert store.retained_until == datetime(2027, 1, 2, tzinfo=UTC)
    store.close()
    with pytest.raises(InvalidStorageURL, match="no-such-profile"):
        open_now(store)


def test_a_mistyped_url_is_told_of_at_once() -> None:
    with pytest.raises(InvalidStorageURL, match="no option"):
        open_backend("s3://bucket?colour=blue", lazily=True)


def test_it_is_the_backend_that_is_opened_at_once(s3_bucket: StoreBucket, gcs_bucket: StoreBucket) -> None:
    for bucket in (s3_bucket, gcs_bucket):
        at_once, lazy = open_backend(bucket.url), open_backend(bucket.url, lazily=True)
        put(lazy)
        assert (lazy.url, lazy.retained_until) == (at_once.url, at_once.retained_until)
        assert at_once.get("a") == b"body"
        lazy.close()
        at_once.close()


def test_no_sdk_is_imported_before_it_is_opened() -> None:
    program = (
        "import sys; from storage_backends import open_backend, open_now\n"
        "store = open_backend('s3://bucket?region=eu-west-1', lazily=True); print('boto3' in sys.modules)\n"
        "open_now(store); print('boto3' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]
