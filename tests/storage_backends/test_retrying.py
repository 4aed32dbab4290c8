import hashlib
import math
from collections.abc import Iterator

import pytest

from storage_backends import Body, ObjectAlreadyExists, ObjectInfo, StorageError, TransientStorageError
from storage_backends.lazy import LazyBackend
from storage_backends.memory import MemoryBackend
from storage_backends.retrying import RetryingBackend, with_patience

EMPTY = hashlib.sha256(b"").digest()


class Failing(MemoryBackend):
    """A store whose first calls fail. Each of these calls raises the next of ``errors``."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.calls = 0

    def head(self, key: str) -> ObjectInfo:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return super().head(key)


def test_waits_grow_and_are_bounded() -> None:
    waits: list[float] = []
    inner = Failing(*(TransientStorageError("busy") for _ in range(50)))
    inner.put("key", b"", sha256=EMPTY)
    RetryingBackend(inner, sleep=waits.append).head("key")
    assert len(waits) == 50
    assert waits[0] <= 0.5
    assert all(0 <= wait <= 20 for wait in waits)
    assert max(waits) > 1


def test_the_last_error_is_raised_with_the_count_of_attempts() -> None:
    error = TransientStorageError("s3://bucket/key: the store failed")
    with pytest.raises(
        TransientStorageError, match=r"^s3://bucket/key: the store failed \(gave up after 1 attempt in 0 s\)$"
    ) as caught:
        RetryingBackend(Failing(error), give_up_after=0).head("key")
    assert caught.value.__cause__ is error


def test_the_whole_time_is_used_before_it_gives_up() -> None:
    """A random wait that would end too late is cut short. So the last attempt comes at the end of the time."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    inner = Failing(*(TransientStorageError("busy") for _ in range(1000)))
    with pytest.raises(TransientStorageError, match="in 60 s"):
        RetryingBackend(inner, give_up_after=60, sleep=sleep, clock=lambda: now).head("key")
    assert now == pytest.approx(60)


def test_a_store_that_is_opened_later_loses_its_patience_too() -> None:
    inner = Failing(*(TransientStorageError("busy") for _ in range(9)))
    store = LazyBackend("memory:", None, lambda: RetryingBackend(inner, sleep=lambda _: None))
    with pytest.raises(TransientStorageError):
        with_patience(store, 0).head("key")
    assert inner.calls == 1
    assert with_patience(inner, 0) is inner


def test_patience_counts_failing_and_not_sending() -> None:
    """If an upload fails after an hour, it is repeated. If the upload always fails, the backend gives up."""

    class Slow(MemoryBackend):
        failures = 0.0
        now = 0.0

        def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
            self.now += 3600
            if self.failures:
                self.failures -= 1
                raise TransientStorageError("s3://bucket/key: the connection was reset")
            return super().put(key, body, sha256=sha256)

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    slow = Slow()
    store = RetryingBackend(slow, give_up_after=30, sleep=slow.sleep, clock=lambda: slow.now)
    slow.failures = 1
    store.put("key", b"", sha256=EMPTY)
    assert slow.now >= 7200
    slow.failures = math.inf
    with pytest.raises(TransientStorageError, match=r"gave up after 2 attempts in 72\d\d s"):
        store.put("other", b"", sha256=EMPTY)
    patient = RetryingBackend(slow, give_up_after=300, sleep=slow.sleep, clock=lambda: slow.now)
    begun = slow.now
    with pytest.raises(TransientStorageError, match=r"gave up after [4-6] attempts in"):
        patient.put("other", b"", sha256=EMPTY)
    assert slow.now - begun < 6 * 3600 + 300


def test_other_errors_are_not_repeated() -> None:
    inner = Failing(StorageError("no"))
    with pytest.raises(StorageError, match=r"^no$"):
        RetryingBackend(inner).head("key")
    assert inner.calls == 1


def test_a_wait_can_be_cut_short() -> None:
    class Cancelled(Exception):
        pass

    def cancel(seconds: float) -> None:
        raise Cancelled

    inner = Failing(TransientStorageError("busy"))
    with pytest.raises(Cancelled):
        RetryingBackend(inner, sleep=cancel).head("key")
    assert inner.calls == 1


def test_a_first_put_on_a_taken_key_is_an_error_even_with_the_same_bytes() -> None:
    inner = MemoryBackend()
    inner.put("key", b"", sha256=EMPTY)
    with pytest.raises(ObjectAlreadyExists):
        RetryingBackend(inner).put("key", b"", sha256=EMPTY)


def test_a_listing_is_lazy_and_resumes_without_gaps_or_repeats() -> None:
    class Breaking(MemoryBackend):
        listings = 0

        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            self.listings += 1
            for number, info in enumerate(super().list(prefix)):
                if number == self.listings * 700:
                    raise TransientStorageError("the listing broke")
                yield info

    inner = Breaking()
    keys = [f"{number:05}" for number in range(3000)]
    for key in keys:
        inner.put(key, b"", sha256=EMPTY)
    listing = RetryingBackend(inner, sleep=lambda seconds: None).list()
    assert inner.listings == 0
    assert [info.key for info in listing] == keys
    assert inner.listings == 5
