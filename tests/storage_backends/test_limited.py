import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage_backends import ObjectInfo, StorageBackend, TransientStorageError, open_backend
from storage_backends.limited import LimitedBackend
from storage_backends.memory import MemoryBackend
from storage_backends.retrying import RetryingBackend


class Clock:
    """A clock that moves only if somebody sleeps, or if a test sets ``now``."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self.now += seconds


def put(backend: StorageBackend, key: str, size: int) -> None:
    body = bytes(size)
    backend.put(key, body, sha256=hashlib.sha256(body).digest())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limited(clock: Clock) -> LimitedBackend:
    return LimitedBackend(MemoryBackend(), 1000, clock=clock, sleep=clock.sleep)


def test_each_transfer_takes_the_time_of_its_bytes(limited: LimitedBackend, clock: Clock) -> None:
    put(limited, "a", 500)
    put(limited, "b", 2000)
    assert clock.sleeps == pytest.approx([0.5, 2.0])
    assert len(limited.get("b", offset=500, length=250)) == 250
    assert clock.sleeps == pytest.approx([0.5, 2.0, 0.25])


def test_what_carries_no_body_takes_none(limited: LimitedBackend, clock: Clock) -> None:
    put(limited, "a", 0)
    limited.head("a")
    list(limited.list())
    limited.delete(["a"])
    assert clock.sleeps == []


def test_time_that_passed_anyway_is_not_waited_for_again(limited: LimitedBackend, clock: Clock) -> None:
    class Slow(MemoryBackend):
        def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
            clock.now += 0.75
            return super().get(key, offset=offset, length=length, at_most=at_most)

    inner = Slow()
    put(inner, "a", 1000)
    LimitedBackend(inner, 1000, clock=clock, sleep=clock.sleep).get("a")
    assert clock.sleeps == pytest.approx([0.25])


def test_idle_time_is_not_saved_up(limited: LimitedBackend, clock: Clock) -> None:
    clock.now += 3600
    put(limited, "a", 1000)
    assert clock.sleeps == pytest.approx([1.0])


def test_all_threads_share_one_rate(clock: Clock) -> None:
    limited = LimitedBackend(MemoryBackend(), 1000, clock=lambda: 0.0, sleep=clock.sleep)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: put(limited, f"key {number}", 1000), range(4)))
    assert sorted(clock.sleeps) == pytest.approx([1.0, 2.0, 3.0, 4.0])


def test_a_failed_attempt_counts_but_does_not_wait(clock: Clock) -> None:
    class FailingOnce(MemoryBackend):
        failed = False

        def put(self, key: str, body: bytes | bytearray | memoryview, *, sha256: bytes) -> ObjectInfo:
            if not self.failed:
                self.failed = True
                raise TransientStorageError("busy")
            return super().put(key, body, sha256=sha256)

    retried: list[float] = []
    limited = LimitedBackend(FailingOnce(), 1000, clock=clock, sleep=clock.sleep)
    put(RetryingBackend(limited, sleep=retried.append), "a", 1000)
    assert len(retried) == 1
    assert clock.sleeps == pytest.approx([2.0])


def test_a_store_is_opened_with_a_limit(tmp_path: object) -> None:
    sleeps: list[float] = []
    backend = open_backend(str(tmp_path), rate=1, sleep=sleeps.append)
    put(backend, "a", 1000)
    assert len(sleeps) == 1
    assert 900 < sleeps[0] <= 1000
