"""A backend that is opened later. A vendor's SDK takes a while to import, and other work can go on meanwhile."""

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from storage_backends.backend import Body, ObjectInfo, StorageBackend


class LazyBackend:
    """The backend that ``open_it`` returns. The first call of a method opens it, in the thread of the call, and other calls wait.

    So every method may also raise the errors of ``open_it``. After an error, the next call tries again.

    ``url`` and ``retained_until`` are the backend's own, and known before it is open. The backend has only the contract's methods: neither
    holds nor versions.
    """

    def __init__(self, url: str, retained_until: datetime | None, open_it: Callable[[], StorageBackend]) -> None:
        self._url = url
        self._retained_until = retained_until
        self._open_it = open_it
        self._lock = threading.Lock()
        self._inner: StorageBackend | None = None

    def opened(self) -> StorageBackend:
        """Return the backend, open. Raises the errors of ``open_it``."""
        with self._lock:
            if self._inner is None:
                self._inner = self._open_it()
            return self._inner

    @property
    def url(self) -> str:
        """The backend's URL; see :attr:`StorageBackend.url`."""
        return self._url

    @property
    def retained_until(self) -> datetime | None:
        """The end of the backend's locks; see :attr:`StorageBackend.retained_until`."""
        return self._retained_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object. Return its metadata; see :meth:`StorageBackend.put`."""
        return self.opened().put(key, body, sha256=sha256)

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes; see :meth:`StorageBackend.get`."""
        return self.opened().get(key, offset=offset, length=length, at_most=at_most)

    def head(self, key: str) -> ObjectInfo:
        """Return the object's metadata; see :meth:`StorageBackend.head`."""
        return self.opened().head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order; see :meth:`StorageBackend.list`."""
        return self.opened().list(prefix)

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects; see :meth:`StorageBackend.delete`."""
        return self.opened().delete(keys)

    def close(self) -> None:
        """Close the backend if it is open. Doesn't wait for another thread that is opening it."""
        if self._inner is not None:
            self._inner.close()


def open_now(store: StorageBackend) -> None:
    """Open a store that would otherwise be opened by its first call. Raises the errors of :func:`open_backend`."""
    if isinstance(store, LazyBackend):
        store.opened()
