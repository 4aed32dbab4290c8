"""A limit on the rate of transfers, for any backend."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from storage_backends.backend import Body, ObjectInfo, StorageBackend
from storage_backends.holds import ObjectLock, lock_of, set_hold
from storage_backends.overwriting import overwrite
from storage_backends.versions import get_version


class LimitedBackend:
    """``inner``, with no more than ``rate`` bytes a second put and got, by all threads together and on average.

    A call goes through at full speed and returns once the time is up that its bytes may take, after those of the calls before it. So
    what goes over the network comes in bursts of an object, at first one for each thread.

    Every put counts with its whole body, also one that fails, and every get with what it brought. So with RetryingBackend around it, as
    ``open_backend`` has it, each attempt counts, though one that fails returns at once and leaves its time to the next that doesn't:
    else waiting would use up the time in which RetryingBackend tries again. ``head``, ``list`` and ``delete`` carry no bodies and don't count.

    ``clock`` and ``sleep`` count in seconds.
    """

    def __init__(
        self,
        inner: StorageBackend,
        rate: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner = inner
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._used_until = clock()

    @property
    def url(self) -> str:
        """The inner backend's."""
        return self._inner.url

    @property
    def retained_until(self) -> datetime | None:
        """The inner backend's."""
        return self._inner.retained_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object; see :meth:`StorageBackend.put`."""
        until = self._use(memoryview(body).nbytes, since=self._clock())
        info = self._inner.put(key, body, sha256=sha256)
        self._wait(until)
        return info

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """The object's bytes; see :meth:`StorageBackend.get`."""
        begun = self._clock()
        data = self._inner.get(key, offset=offset, length=length, at_most=at_most)
        self._wait(self._use(len(data), since=begun))
        return data

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """The bytes of a version; see :meth:`VersionedBackend.get_version`."""
        begun = self._clock()
        data = get_version(self._inner, key, version, at_most=at_most)
        self._wait(self._use(len(data), since=begun))
        return data

    def head(self, key: str) -> ObjectInfo:
        """What is known of the object; see :meth:`StorageBackend.head`."""
        return self._inner.head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under ``prefix`` in key order; see :meth:`StorageBackend.list`."""
        return self._inner.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; see :meth:`StorageBackend.delete`."""
        self._inner.delete(keys)

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off; see :meth:`HoldingBackend.set_hold`."""
        set_hold(self._inner, key, held=held)

    def overwrite(self, key: str, body: bytes) -> None:
        """Put without a condition; see :meth:`OverwritingBackend.overwrite`."""
        overwrite(self._inner, key, body)

    def lock_of(self, key: str) -> ObjectLock:
        """Return what locks the object; see :meth:`HoldingBackend.lock_of`."""
        return lock_of(self._inner, key)

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()

    def _use(self, size: int, *, since: float) -> float:
        """Take the time that so many bytes need from what is left; until when that is."""
        with self._lock:
            self._used_until = max(self._used_until, since) + size / self._rate
            return self._used_until

    def _wait(self, until: float) -> None:
        if (left := until - self._clock()) > 0:
            self._sleep(left)
