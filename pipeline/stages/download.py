"""Reads objects from a store. Checks a whole object before it hands on any byte of the object."""

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from pipeline.catalog.manifest import File, StoredObject
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.counting import counted
from pipeline.errors import BackupDamaged
from pipeline.events import Notice, Notify
from pipeline.postgres.dump import COPY_END
from pipeline.stages.pack import unpack
from storage_backends import AccessDenied, ObjectNotFound, ObjectTooLarge, StorageBackend, StorageError
from storage_backends.versions import get_version

_NAMED = 3  # replaced objects that get a notice each
_LOOK_INTERVAL = 0.5  # seconds between checks that the fetching threads still run
LARGEST_WHOLE = 512 * 1024 * 1024
"""The largest file that pgstow reads into memory as a whole, in bytes. Such a file is a table of contents, or the script of roles and
tablespaces."""


def check_content(file: File, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of the file. Then raise BackupDamaged unless its size, SHA-256 and number of rows match the manifest."""
    digest, size, lines = hashlib.sha256(), 0, 0
    for part in parts:
        digest.update(part)
        size += len(part)
        lines += part.count(b"\n")
        yield part
    if size != file.size or digest.hexdigest() != file.checksum:
        raise BackupDamaged(f"{file.path} is not what was dumped: its size or SHA-256 differs from the manifest's.")
    if file.rows is not None and lines - COPY_END.count(b"\n") != file.rows:
        raise BackupDamaged(f"{file.path} doesn't have the number of rows that the manifest says ({file.rows}).")


def read_whole(file: File, reader: "ObjectReader") -> bytes:
    """Return the content of a file, after a check.

    Raises BackupDamaged if the file is damaged or larger than :data:`LARGEST_WHOLE`, and StorageError if the store fails.
    """
    if file.size > LARGEST_WHOLE:
        raise BackupDamaged(
            f"{file.path} has {file.size} bytes, more than the {LARGEST_WHOLE} bytes that pgstow reads into memory at once."
        )
    return b"".join(check_content(file, reader.read(file)))


def download(store: StorageBackend, stored: StoredObject, replaced: list[str]) -> bytes:
    """Return the content of an object. Raises BackupDamaged, naming the object, if it is missing or differs from the manifest.

    If somebody overwrote or deleted the object, and the store keeps versions, return the version that the manifest names. In this case, add
    a sentence about the object to ``replaced``. Raises StorageError if the store fails.
    """
    try:
        return _checked(store, stored, lambda: store.get(stored.key, at_most=stored.size))
    except BackupDamaged as exc:
        version = stored.version
        if version is None:
            raise
        try:
            body = _checked(store, stored, lambda: get_version(store, stored.key, version, at_most=stored.size))
        except BackupDamaged:
            raise exc from None
        except AccessDenied:
            needs = f"These credentials may not read version {version}, which the manifest names."
            raise BackupDamaged(f"{exc} {needs}") from exc
        replaced.append(
            f"{stored.key} was overwritten or deleted. The backup's version of it ({version}) is still there and undamaged."
        )
        return body


def _checked(store: StorageBackend, stored: StoredObject, get: Callable[[], bytes]) -> bytes:
    try:
        body = get()
    except ObjectNotFound as exc:
        raise BackupDamaged(f"{stored.key} is missing from {store.url}.") from exc
    except ObjectTooLarge as exc:
        raise BackupDamaged(f"{stored.key} has more than the {stored.size} bytes that the manifest says.") from exc
    if len(body) != stored.size:
        raise BackupDamaged(f"{stored.key} has {len(body)} bytes where the manifest says {stored.size}.")
    if hashlib.sha256(body).hexdigest() != stored.sha256:
        raise BackupDamaged(f"{stored.key} is not what was stored: its SHA-256 differs from the manifest's.")
    return body


def tell_replaced(replaced: Iterable[str], notify: Notify) -> None:
    """Notify of objects that were overwritten or deleted, and whose stored versions were read instead.

    ``replaced`` has a sentence for each object.
    """
    sentences = sorted(set(replaced))
    for sentence in sentences[:_NAMED]:
        notify(Notice(sentence))
    if (more := len(sentences) - _NAMED) > 0:
        notify(
            Notice(
                f"{counted(more, 'more object')} {'was' if more == 1 else 'were'} overwritten or deleted: pgstow verify names them all."
            )
        )


def objects_at_once(objects: Iterable[StoredObject], limits: Limits) -> int:
    """Return how many objects of the largest object's size fit into ``limits.memory``. Raises InvalidRequest if fewer than two fit."""
    largest = max((stored.size for stored in objects), default=1)
    limits.check_memory(largest)
    return limits.memory // max(1, largest)


class ObjectReader:
    """Fetches and checks the objects of a backup, and lets many threads read files from them, in bounded memory.

    Holds at most ``limits.memory`` bytes of objects, and fetches at most ``limits.transfers`` objects at once. An object stays in memory
    until all of ``files`` in it have been read. If memory is short, the reader drops an object that no thread is reading, and fetches it
    again if needed.

    Raises InvalidRequest if two of the objects don't fit into the memory limit.
    """

    def __init__(
        self,
        store: StorageBackend,
        objects: Sequence[StoredObject],
        files: Iterable[File],
        workers: Workers,
        limits: Limits,
    ) -> None:
        self._store = store
        self._objects = objects
        self._uses = Counter(segment.object for file in files for segment in file.segments)
        self._slots = objects_at_once([objects[index] for index in self._uses], limits)
        self._fetching = workers.pool(limits.transfers, "download")
        self._transfers = threading.Semaphore(limits.transfers)
        self._changed = threading.Condition()
        self._bodies: OrderedDict[int, bytes | None] = OrderedDict()
        """The objects in memory, by index, the least recently used first; None while an object is being fetched."""
        self._readers: Counter[int] = Counter()
        self.damaged: dict[int, str] = {}
        """A sentence for each damaged object, by index. A damaged object is not fetched again."""
        self.checked: set[int] = set()
        """Indexes of the objects whose content matches the manifest."""
        self.replaced: list[str] = []
        """A sentence for each overwritten or deleted object whose original version was read instead."""
        self.fetched = 0
        """Bytes of the objects that were fetched and passed the check."""

    def read(self, file: File, *, ahead: int = 1) -> Iterator[bytes]:
        """Yield the file's content in parts of at most 1 MiB. Raises BackupDamaged if an object is damaged, and StorageError.

        This checks the objects, but not the file. :func:`check_content` checks the file. While an object is read, up to ``ahead`` objects are
        fetched.
        """
        indexes = [segment.object for segment in file.segments]
        for position, segment in enumerate(file.segments):
            self.fetch_ahead(indexes[position + 1 : position + 1 + ahead])
            with self._body(segment.object) as body:
                yield from unpack(body, segment, f"{file.path} in {self._objects[segment.object].key}")
                del body  # frees the memory before the next object is fetched

    def fetch_ahead(self, indexes: Iterable[int]) -> None:
        """Begin to fetch objects that are needed soon, as far as memory allows. :meth:`read` raises the errors."""
        for index in indexes:
            with self._changed:
                if index in self._bodies or self._uses[index] <= 0 or not self._make_room(leave=1):
                    continue
                self._bodies[index] = None
            self._fetching.submit(partial(self._fetch_quietly, index), lambda _: None)

    @contextmanager
    def _body(self, index: int) -> Iterator[bytes]:
        with self._changed:
            self._readers[index] += 1
        try:
            yield self._wait_for(index)
        finally:
            with self._changed:
                self._readers[index] -= 1
                self._uses[index] -= 1
                if self._uses[index] <= 0:
                    self._bodies.pop(index, None)
                self._changed.notify_all()

    def _wait_for(self, index: int) -> bytes:
        with self._changed:
            while (body := self._bodies.get(index)) is None:
                if index in self.damaged:
                    raise BackupDamaged(self.damaged[index])
                if index not in self._bodies and self._make_room(leave=0):
                    self._bodies[index] = None
                    self._changed.release()
                    try:
                        self._fetch(index)
                    finally:
                        self._changed.acquire()
                else:
                    self._changed.wait(_LOOK_INTERVAL)
                    if not self._fetching.lives:
                        raise RuntimeError("the threads that fetch objects have ended")
            self._bodies.move_to_end(index)
            return body

    def _fetch_quietly(self, index: int) -> None:
        """Fetch an object, and ignore errors: the thread that reads the object raises them, because it knows the file."""
        with suppress(BackupDamaged, StorageError):
            self._fetch(index)

    def _fetch(self, index: int) -> None:
        try:
            with self._transfers:
                body = download(self._store, self._objects[index], self.replaced)
        except BaseException as exc:
            with self._changed:
                self._bodies.pop(index, None)
                if isinstance(exc, BackupDamaged):
                    self.damaged[index] = str(exc)
                self._changed.notify_all()
            raise
        with self._changed:
            self.fetched += len(body)
            self.checked.add(index)
            self._bodies[index] = body
            del body
            self._changed.notify_all()

    def _make_room(self, *, leave: int) -> bool:
        """True if there is room for one more object, and for ``leave`` objects besides. If ``leave`` is 0, an object that no thread reads may
        be dropped to make room.
        """
        if len(self._bodies) + leave < self._slots:
            return True
        if leave:
            return False
        for index, body in self._bodies.items():
            if body is not None and not self._readers[index]:
                del self._bodies[index]
                return True
        return False
