"""A store in this process's memory: for tests, and for embedding pgstow's pipeline."""

import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from storage_backends.backend import Body, ObjectInfo
from storage_backends.checks import check_body, check_range, check_size, is_locked, locked_until
from storage_backends.errors import ObjectAlreadyExists, ObjectLocked, ObjectNotFound
from storage_backends.holds import ObjectLock
from storage_backends.keys import check_key, check_prefix

_serial = itertools.count(1)


class MemoryBackend:
    """Objects in a dict, locked until ``retain_until`` if given. The store's checksum is SHA-256. It keeps no versions.

    ``objects`` has what the store holds already: metadata and bytes, by key. The store keeps its objects there.
    """

    def __init__(
        self, *, retain_until: datetime | None = None, objects: dict[str, tuple[ObjectInfo, bytes]] | None = None
    ) -> None:
        self._retain_until = retain_until
        self._url = f"memory://{next(_serial)}"
        self._objects = {} if objects is None else objects
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """``memory://`` and a number of this backend's own. No function opens such a URL."""
        return self._url

    @property
    def retained_until(self) -> datetime | None:
        """See :attr:`StorageBackend.retained_until`."""
        return self._retain_until

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object. Return its metadata; see :meth:`StorageBackend.put`."""
        check_key(key)
        check_body(f"{self._url}/{key}", body, sha256)
        data = bytes(body)
        info = ObjectInfo(
            key,
            len(data),
            datetime.now(UTC),
            checksum=f"sha256:{hashlib.sha256(data).hexdigest()}",
            version=None,
            retained_until=self._retain_until,
            held=False,
        )
        with self._lock:
            if key in self._objects:
                raise ObjectAlreadyExists(f"{self._url}/{key} exists already")
            self._objects[key] = info, data
        return info

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes; see :meth:`StorageBackend.get`."""
        _, data = self._find(key)
        check_size(f"{self._url}/{key}", len(data), at_most)
        end = check_range(f"{self._url}/{key}", len(data), offset, length)
        return data[offset:end]

    def head(self, key: str) -> ObjectInfo:
        """Return the object's metadata; see :meth:`StorageBackend.head`."""
        info, _ = self._find(key)
        return info

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order; see :meth:`StorageBackend.list`."""
        check_prefix(prefix)
        with self._lock:
            infos = [info for key, (info, _) in self._objects.items() if key.startswith(prefix)]
        yield from sorted(infos, key=lambda info: info.key.encode(errors="surrogatepass"))

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects. Return False; see :meth:`StorageBackend.delete`."""
        locked: dict[str, datetime | None] = {}
        for key in keys:
            check_key(key)
            with self._lock:
                info, _ = self._objects.get(key, (None, b""))
                if info is not None and is_locked(info):
                    locked[key] = locked_until(info)
                else:
                    self._objects.pop(key, None)
        if locked:
            raise ObjectLocked(self._url, locked, hidden=False)
        return False

    def set_hold(self, key: str, *, held: bool) -> None:
        """Put a legal hold on the object, or take it off; see :meth:`HoldingBackend.set_hold`."""
        info, data = self._find(key)
        with self._lock:
            self._objects[key] = replace(info, held=held), data

    def may_lock(self) -> bool:
        """Return True: each object may be locked."""
        return True

    def lock_of(self, key: str) -> ObjectLock:
        """Return the locks on the object; see :meth:`HoldingBackend.lock_of`."""
        info = self.head(key)
        return ObjectLock(info.retained_until, bool(info.held))

    def close(self) -> None:
        """Do nothing: the objects stay, as they do in any store."""

    def _find(self, key: str) -> tuple[ObjectInfo, bytes]:
        check_key(key)
        with self._lock:
            try:
                return self._objects[key]
            except KeyError:
                raise ObjectNotFound(f"{self._url}/{key} does not exist") from None
