"""Pieces of an archive's files in, objects in a store out: hash, compress, pack and upload, overlapped within a bound on memory."""

import hashlib
from dataclasses import dataclass, field
from functools import partial

from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.manifest import Segment, StoredObject
from pipeline.postgres.toc import TOC_NAME
from pipeline.stages.compress import Compressor
from pipeline.stages.pack import Draft, Packer
from pipeline.stages.spool import Piece
from pipeline.stages.upload import upload
from storage_backends import StorageBackend

_TAIL = 5  # bytes; as long as the end of COPY's data


@dataclass(slots=True)
class ArchivedFile:
    """A file of the archive, as it passed."""

    path: str
    size: int = 0
    """Bytes."""
    lines: int = 0
    """Newlines in it."""
    tail: bytes = b""
    """Its last few bytes."""
    checksum: str = ""
    """SHA-256 in hexadecimal."""
    segments: list[Segment] = field(default_factory=list)


@dataclass(slots=True)
class _Passing:
    file: ArchivedFile
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    frames: dict[int, tuple[bytes, int, bool]] = field(default_factory=dict)
    """Those that came back before an earlier one: bytes, uncompressed size, whether it is the last."""
    next_frame: int = 0


class ArchiveWriter:
    """Writes the objects of one backup under ``prefix``. All calls are from the thread that owns ``workers``.

    Bytes in flight (pieces to be compressed, frames that wait for an object to be full, objects on their way) stay under
    ``limits.memory``. Any StorageError comes out of ``workers.collect``.
    """

    def __init__(
        self, store: StorageBackend, prefix: str, workers: Workers, limits: Limits, compressor: Compressor
    ) -> None:
        self._store = store
        self._workers = workers
        self._prefix = prefix
        self._memory = limits.memory
        # zstd's own memory, which grows with its level, stays under the limit too, on top of the data's.
        threads = max(1, min(limits.threads, limits.memory // compressor.context_size(limits.piece_size)))
        self._longest_queue = 2 * threads * limits.piece_size
        self._compressor = compressor
        self._packer = Packer(compressor, limits.object_size)
        self._compressing = workers.pool(threads, "compress")
        self._uploading = workers.pool(limits.transfers, "upload")
        self._passing: dict[str, _Passing] = {}
        self._files: dict[str, ArchivedFile] = {}
        self._objects: dict[int, StoredObject] = {}
        self._raw = self._waiting = self._sending = 0
        self.read = self.stored = 0
        """Bytes that came in, and bytes that are stored."""

    def has_seen(self, path: str) -> bool:
        """Whether a piece of this file came in."""
        return path in self._files or path in self._passing

    def has_room(self, size: int) -> bool:
        """Whether a piece of ``size`` bytes can be taken now. If not, it can after some ``workers.collect``."""
        queue_is_long = self._raw > self._longest_queue
        in_flight = 2 * self._raw + self._waiting + self._packer.held + self._sending
        if not queue_is_long and in_flight + 2 * size <= self._memory:
            return True
        idle = not self._compressing.pending and not self._uploading.pending
        if idle and (draft := self._packer.cut_largest()):
            self._send(draft)
        return False

    def write(self, piece: Piece) -> None:
        """Take a file's next piece. Pieces of one file come in order; those of several may alternate."""
        passing = self._passing.setdefault(piece.name, _Passing(ArchivedFile(piece.name)))
        file = passing.file
        passing.digest.update(piece.data)
        file.size += len(piece.data)
        file.lines += piece.data.count(b"\n")
        file.tail = (file.tail + piece.data[-_TAIL:])[-_TAIL:]
        if piece.last:
            file.checksum = passing.digest.hexdigest()
        self.read += len(piece.data)
        self._raw += len(piece.data)
        self._compressing.submit(partial(self._compressor.frame, piece.data), partial(self._take_frame, piece))

    def finish(self) -> tuple[list[ArchivedFile], list[StoredObject]]:
        """No more pieces: wait until all is stored. The files in the order in which they became whole, and the objects by index."""
        while self._compressing.pending:
            self._workers.collect(timeout=1.0)
        while draft := self._packer.cut_largest():
            self._send(draft)
        while self._uploading.pending:
            self._workers.collect(timeout=1.0)
        return list(self._files.values()), [self._objects[number] for number in sorted(self._objects)]

    def _take_frame(self, piece: Piece, frame: bytes) -> None:
        size = len(piece.data)
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
        for draft in self._packer.add(path, frame, size):
            self._send(draft)
        if last:
            passing.file.segments, drafts = self._packer.finish(path, end_pack=path == TOC_NAME)
            for draft in drafts:
                self._send(draft)
            self._files[path] = passing.file
            del self._passing[path]

    def _send(self, draft: Draft) -> None:
        self._sending += len(draft.body)
        key = self._prefix + draft.name
        self._uploading.submit(partial(upload, self._store, key, draft.body), partial(self._stored, draft.number))

    def _stored(self, number: int, stored: StoredObject) -> None:
        self._sending -= stored.size
        self.stored += stored.size
        self._objects[number] = stored
