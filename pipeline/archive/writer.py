"""Hashes, compresses, packs and seals pieces of an archive's files, and uploads them as objects to the stores, in bounded memory."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline.archive.destinations import Destination, Destinations
from pipeline.catalog.manifest import TOC_NAME, Segment, StoredObject
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.events import Notify, Progress
from pipeline.stages.compress import Compressed, Compressor
from pipeline.stages.digest import OrderedDigest
from pipeline.stages.level import LevelChooser, Uploads
from pipeline.stages.pack import Draft, Packer
from pipeline.stages.spool import Piece
from pipeline.stages.upload import upload
from pipeline.trust.seal import Seal
from storage_backends import StorageError

_TICK = 0.2  # seconds
_FIRST_OBJECTS = 2
"""With this number of objects on their way, the link is busy until the first upload ends and shows the link's speed."""
_TELLING = 16
"""The most that ``object_size`` may be larger than an object whose upload shows the link's speed."""
_TAIL = 6  # bytes: the end of COPY's data, and the end of the line before it


@dataclass(slots=True)
class ArchivedFile:
    """A file of the archive, as the writer received it."""

    path: str
    size: int = 0
    """Bytes."""
    lines: int = 0
    """Newlines in the file."""
    tail: bytes = b""
    """The file's last bytes, 6 at most."""
    checksum: str = ""
    """The digest in hexadecimal; empty before the last piece."""
    segments: list[Segment] = field(default_factory=list)


@dataclass(slots=True)
class _Passing:
    file: ArchivedFile
    digest: OrderedDigest
    frames: dict[int, tuple[bytes, int, bool]] = field(default_factory=dict)
    """Frames that are ready before an earlier frame, by index: the frame, its uncompressed size in bytes, and True if it is the last."""
    next_frame: int = 0


@dataclass(slots=True)
class _OnItsWay:
    draft: Draft
    """The object. The uploads to all stores share its memory."""
    copies: int
    """The number of stores to which the object is still being sent."""


class ArchiveWriter:
    """Writes the objects of one backup under ``prefix``, to each destination. Only the thread that made ``workers`` may call it.

    ``seal`` closes each object once, for all destinations.

    If the caller calls :meth:`write` only after :meth:`has_room` returned True, the bytes in memory stay under ``limits.memory``. These are
    pieces to compress, frames that wait until an object is full, objects that are being uploaded, and the copy of an object that is being
    sealed. More destinations need no more memory: the slowest destination sets the pace.

    If a destination fails, the writer drops it. If all destinations fail, ``workers.collect`` raises the last StorageError.
    """

    def __init__(
        self,
        destinations: Destinations,
        prefix: str,
        workers: Workers,
        limits: Limits,
        compressor: Compressor,
        seal: Seal,
        notify: Notify,
    ) -> None:
        self._destinations = destinations
        self._seal = seal
        self._notify = notify
        self._workers = workers
        self._prefix = prefix
        self._memory = limits.memory - seal.copies * limits.object_size
        """The most bytes of data in memory."""
        # zstd's own memory grows with its level. Several threads together use at most limits.memory for zstd, besides the data's memory.
        threads = max(1, min(limits.threads, limits.memory // compressor.context_size(limits.piece_size)))
        self._longest_queue = 2 * threads * limits.piece_size
        self._compressor = compressor
        self._packer = Packer(compressor, limits.object_size)
        self._levels = LevelChooser(compressor.threads(threads))
        self._is_auto = self._levels.highest > compressor.level
        self._compressing = workers.pool(threads, "compress")
        # One thread is enough to seal, since pyrage holds the interpreter's lock. With one thread, only one object is in memory twice.
        self._sealing = workers.pool(1, "seal")
        self._uploading = {place: workers.pool(limits.transfers, "upload") for place in destinations.open}
        self._telling = limits.object_size // _TELLING
        self._uploads = {place: Uploads(limits.transfers, self._telling) for place in destinations.open}
        self._untried = set(destinations.open)
        """The destinations to which no upload has ended that shows the link's speed."""
        self._passing: dict[str, _Passing] = {}
        self._completed: list[ArchivedFile] = []
        self._on_their_way: dict[int, _OnItsWay] = {}
        self._raw = self._waiting = self._sending = 0
        self.read = self.done = self.stored = 0
        """``read`` has the bytes received. ``done`` has the bytes whose objects are in every store. ``stored`` has the bytes of the objects in
        all stores together."""

    def reserve(self, size: int) -> None:
        """Leave ``size`` bytes of the memory to the caller, for data that it hasn't written yet."""
        self._memory -= size

    def has_room(self, size: int) -> bool:
        """True if the writer can take a piece of ``size`` bytes now. If not, call ``workers.collect``, then ask again."""
        queue_is_long = self._raw > self._longest_queue
        in_flight = 2 * self._raw + self._waiting + self._packer.held + self._sending
        if self._is_auto and self._on_their_way and self._should_wait(size):
            return False
        if not queue_is_long and in_flight + 2 * size <= self._memory - self._compressor.held:
            return True
        idle = not self._compressing.pending and not self._sends
        if idle and (draft := self._packer.cut_largest()):
            self._send(draft)
        return False

    def write(self, piece: Piece) -> None:
        """Take a file's next piece. The pieces of one file come in order, and pieces of other files may come between them."""
        data, size = piece.data, len(piece.data)
        self.read += size
        if piece.last and not piece.index and self._compressor.is_quick(size):
            checksum = self._seal.digest(data).hexdigest()
            file = ArchivedFile(piece.name, size, data.count(b"\n"), data[-_TAIL:], checksum)
            self._send_all(self._packer.add(file.path, self._compressor.frame(data), size))
            self._complete(file)
            return
        passing = self._passing.get(piece.name)
        if passing is None:
            digest = OrderedDigest(self._seal.digest())
            passing = self._passing[piece.name] = _Passing(ArchivedFile(piece.name), digest)
        file = passing.file
        file.size += size
        file.tail = (file.tail + data[-_TAIL:])[-_TAIL:]
        self._raw += size
        level = self._levels.choose(size, object_size=self._packer.full_size, seconds_left=self._seconds_left())
        self._levels.begin(size, level)
        work = partial(_hash_and_compress, passing.digest, self._compressor, piece, level)
        self._compressing.submit(work, partial(self._take_frame, piece, level))

    def report(self, to_come: int = 0, current: Sequence[str] = ()) -> None:
        """Notify of the progress. ``to_come`` is the number of bytes still expected, and ``current`` names the tables in progress."""
        self._notify(Progress(self.done, self.read + to_come, self.stored, tuple(current)))

    def completed(self) -> Sequence[ArchivedFile]:
        """Return the files that were completed since the last call, in the order of their completion."""
        files, self._completed = self._completed, []
        return files

    def finish(self) -> Sequence[ArchivedFile]:
        """Wait until each destination has all objects, or is dropped. Return the files as :meth:`completed` does.

        Call :meth:`write` no more. Raises StorageError if all destinations fail.
        """
        while self._compressing.pending:
            self._collect()
        while draft := self._packer.cut_largest():
            self._send(draft)
        while self._sends:
            self._collect()
        return self.completed()

    def _collect(self) -> None:
        self._workers.collect(timeout=_TICK)
        self.report()

    @property
    def _sends(self) -> bool:
        """True if an object is being sealed, or an open destination is still being sent an object. Dropped destinations don't count."""
        uploading = (self._uploading[destination].pending for destination in self._destinations.open)
        return bool(self._sealing.pending) or any(uploading)

    def _should_wait(self, size: int) -> bool:
        """For the level auto: True if the next piece should wait, while objects keep the link busy."""
        if len(self._on_their_way) >= _FIRST_OBJECTS and not self._untried.isdisjoint(self._destinations.open):
            return True
        return self._levels.should_wait(size, object_size=self._packer.full_size, seconds_left=self._seconds_left())

    def _seconds_left(self) -> float:
        """Return how long the objects will keep the slowest link busy."""
        now = time.monotonic()
        return max(self._uploads[destination].seconds_left(now) for destination in self._destinations.open)

    def _take_frame(self, piece: Piece, level: int, done: Compressed) -> None:
        size, frame = len(piece.data), done.frame
        self._levels.end(size, level, done)
        self._raw -= size
        self._waiting += len(frame)
        passing = self._passing[piece.name]
        passing.frames[piece.index] = frame, size, piece.last
        while (ready := passing.frames.pop(passing.next_frame, None)) is not None:
            self._pack(passing, *ready)

    def _pack(self, passing: _Passing, frame: bytes, size: int, last: bool) -> None:
        passing.next_frame += 1
        self._waiting -= len(frame)
        path = passing.file.path
        self._send_all(self._packer.add(path, frame, size))
        if last:
            passing.file.checksum, passing.file.lines = passing.digest.hexdigest(), passing.digest.lines
            self._complete(passing.file)
            del self._passing[path]

    def _complete(self, file: ArchivedFile) -> None:
        """Take the end of a file, after all of its frames."""
        file.segments, drafts = self._packer.finish(file.path, end_pack=file.path == TOC_NAME)
        self._send_all(drafts)
        self._completed.append(file)

    def _send_all(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            self._send(draft)

    def _send(self, draft: Draft) -> None:
        self._sending += len(draft.body)
        if self._seal.copies:
            self._sealing.submit(partial(self._seal.close, draft.body), partial(self._take_sealed, draft))
        else:
            self._upload(draft)

    def _take_sealed(self, draft: Draft, body: bytearray) -> None:
        self._sending += len(body) - len(draft.body)
        self._upload(replace(draft, body=body))

    def _upload(self, draft: Draft) -> None:
        key, destinations = self._prefix + draft.name + self._seal.suffix, self._destinations.open
        self._on_their_way[draft.number] = _OnItsWay(draft, len(destinations))
        for destination in destinations:
            self._uploads[destination].add(draft.number, len(draft.body), time.monotonic())
            self._uploading[destination].submit(
                partial(_upload, destination, key, draft.body), partial(self._sent, draft.number, destination)
            )

    def _sent(self, number: int, destination: Destination, result: StoredObject | StorageError | None) -> None:
        self._uploads[destination].end(number, time.monotonic())
        on_its_way = self._on_their_way[number]
        if len(on_its_way.draft.body) >= self._telling:
            self._untried.discard(destination)
        on_its_way.copies -= 1
        if not on_its_way.copies:
            self._sending -= len(on_its_way.draft.body)
            self.done += on_its_way.draft.content
            del self._on_their_way[number]
        if isinstance(result, StoredObject):
            self.stored += result.size
            destination.objects[number] = result
        elif result is not None and destination.outcome is None:
            self._destinations.drop(destination, result)


def _hash_and_compress(digest: OrderedDigest, compressor: Compressor, piece: Piece, level: int) -> Compressed:
    """Add the piece to its file's checksum. Return the piece's frame."""
    digest.add(piece.index, piece.data)
    return compressor.compress(piece.data, level)


def _upload(destination: Destination, key: str, body: bytearray) -> StoredObject | StorageError | None:
    """Upload an object. Return the stored object or the error. Return None if the destination was dropped before the upload began."""
    if destination.outcome is not None:
        return None
    try:
        return upload(destination.store, key, body)
    except StorageError as exc:
        return exc
