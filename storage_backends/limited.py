"""A limit on the rate of transfers, for any backend."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from storage_backends.backend import Body, ObjectInfo, StorageBackend
from storage_backends.holds import ObjectLock, lock_of, may_lock, set_hold
from storage_backends.overwriting import overwrite
from storage_backends.versions import get_version


class LimitedBackend:
    """``inner``, with a limit of ``rate`` bytes a second for all puts and gets together, on average over all threads.

    At ``rate``, each call's bytes have a share of time, which follows the shares of earlier calls. A call runs at full speed, but
    returns no earlier than the end of its share. So the network carries each object as one burst. At the start, each thread sends a
    burst at once.

    Every put counts with its whole body, even if it fails, and every get with the bytes that it brought. RetryingBackend goes around this
    backend, so each attempt counts. A failed attempt returns at once, and later calls wait for its share: if the attempt waited, it
    would use up the time in which RetryingBackend tries again.

    The other calls don't count: they carry no bodies, or (``overwrite``) a few bytes.

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
        """The inner backend's URL."""
        return self._inner.url

    @property
    def retained_until(self) -> datetime | None:
        """The inner backend's; see :attr:`StorageBackend.retained_until`."""
        return self._inner.retained_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object. Return its metadata; see :meth:`StorageBackend.put`."""
        until = self._use(memoryview(body).nbytes, since=self._clock())
        info = self._inner.put(key, body, sha256=sha256)
        self._wait(until)
        return info

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes; see :meth:`StorageBackend.get`."""
        begun = self._clock()
        data = self._inner.get(key, offset=offset, length=length, at_most=at_most)
        self._wait(self._use(len(data), since=begun))
        return data

    def get_version(self, key: str, version: str, *, at_most: int) -> bytes:
        """Return the bytes of a version; see :meth:`VersionedBackend.get_version`."""
        begun = self._clock()
        data = get_version(self._inner, key, version, at_most=at_most)
        self._wait(self._use(len(data), since=begun))
        return data

    def head(self, key: str) -> ObjectInfo:
        """Return the object's metadata; see :meth:`StorageBackend.head`."""
        return self._inner.head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order; see :meth:`StorageBackend.list`."""
        return self._inner.list(prefix)

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects; see :meth:`StorageBackend.delete`."""
        return self._inner.delete(keys)

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off; see :meth:`HoldingBackend.set_hold`."""
        set_hold(self._inner, key, held=held)

    def overwrite(self, key: str, body: bytes) -> None:
        """Put without a condition; see :meth:`OverwritingBackend.overwrite`."""
        overwrite(self._inner, key, body)

    def may_lock(self) -> bool:
        """Return False if the inner backend surely has no locks; see :meth:`HoldingBackend.may_lock`."""
        return may_lock(self._inner)

    def lock_of(self, key: str) -> ObjectLock:
        """Return the locks on the object; see :meth:`HoldingBackend.lock_of`."""
        return lock_of(self._inner, key)

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()

    def _use(self, size: int, *, since: float) -> float:
        """Reserve the time that ``size`` bytes may take. Return the end of that time, by the clock in seconds."""
        with self._lock:
            self._used_until = max(self._used_until, since) + size / self._rate
            return self._used_until

    def _wait(self, until: float) -> None:
        if (left := until - self._clock()) > 0:
            self._sleep(left)
