"""Count the requests to a store."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from storage_backends import ObjectInfo, StorageBackend
from storage_backends.backend import Body
from storage_backends.holds import ObjectLock, lock_of, may_lock, set_hold

_PAGE = 1000
"""The number of objects that S3 lists or deletes in a request."""


class CountingStore:
    """``inner``, with its requests counted as S3 would count them. ``page`` is the number of objects in a request that lists or deletes."""

    def __init__(self, inner: StorageBackend, *, page: int = _PAGE) -> None:
        self._inner = inner
        self._page = page
        self.requests: list[tuple[str, str]] = []
        """The kind and the key of each request so far. A list's append is safe in threads."""

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def retained_until(self) -> datetime | None:
        return self._inner.retained_until

    def count(self, kind: str | None = None, prefix: str = "") -> int:
        """Return the number of requests of a kind, or of any kind, whose key begins with ``prefix``."""
        return sum(kind in (None, one) and key.startswith(prefix) for one, key in self.requests)

    def most_repeated(self, kind: str) -> int:
        """Return how often the most repeated request of a kind was sent."""
        return max(Counter(key for one, key in self.requests if one == kind).values(), default=0)

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        self.requests.append(("PUT", key))
        return self._inner.put(key, body, sha256=sha256)

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        self.requests.append(("GET", key))
        return self._inner.get(key, offset=offset, length=length, at_most=at_most)

    def head(self, key: str) -> ObjectInfo:
        self.requests.append(("HEAD", key))
        return self._inner.head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.requests.append(("LIST", prefix))
        for number, info in enumerate(self._inner.list(prefix)):
            if number and number % self._page == 0:
                self.requests.append(("LIST", prefix))
            yield info

    def delete(self, keys: Iterable[str]) -> bool:
        named = tuple(keys)
        for start in range(0, len(named), self._page):
            self.requests.append(("DELETE", named[start]))
        return self._inner.delete(named)

    def set_hold(self, key: str, *, held: bool) -> None:
        self.requests.append(("HOLD", key))
        set_hold(self._inner, key, held=held)

    def may_lock(self) -> bool:
        self.requests.append(("MAY LOCK", ""))
        return may_lock(self._inner)

    def lock_of(self, key: str) -> ObjectLock:
        self.requests.append(("LOCK", key))
        return lock_of(self._inner, key)

    def close(self) -> None:
        self._inner.close()
