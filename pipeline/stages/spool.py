"""The spool: a folder that pg_dump fills while the pipeline reads it.

The pipeline reads files while they grow. It punches a hole where it has read, which frees the disk space. It removes a file that it has
read to the end.

A file is whole once the program that writes the archive has closed it: pg_dump writes each file once, from start to end
(``pg_backup_directory.c``). The kernel's table of open files tells which files are open. Unlike a queue of notifications, the table can't
miss an event, however late it is read.

A file's name appears in the folder a moment before the file appears in the table. So a file that is missing from the table counts as
closed in only two cases: an earlier look saw the file open, or the file had bytes before the table was read. (The program that wrote the
bytes had the file open.) The spool trusts the table only after the table has named a file of the folder. The program may run on another
machine, which has its own table.
"""

import ctypes
import errno
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalog.manifest import TOC_NAME
from pipeline.errors import LocalResourceExhausted

_LIBC = ctypes.CDLL(None, use_errno=True)
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_HIGH_WATER = 1 / 2
"""The share of the limit at which the program must be paused. The program continues to write until pgstow looks and pauses it."""
_MOST_FILES = 1024
"""The most files that may wait to be read. If more wait, the program must be paused. A file system can hold only a limited number of files,
and each look lists all of them. pg_dump writes some 10,000 small files a second, so the reader never runs out of files."""


@dataclass(slots=True)
class SpoolFile:
    """A file in the spool."""

    name: str
    """The file's name in the archive."""
    size: int = 0
    """Bytes of the file at the last look, read or not."""
    taken: int = 0
    """Bytes read."""
    pieces: int = 0
    """Pieces read."""
    opened: bool = False
    """True if a look saw that the file was open."""
    whole: bool = False
    """True if ``size`` is final."""
    room: int = 0
    """Bytes of the disk that reading the file would free, as of the last look."""

    @property
    def unread(self) -> int:
        """Bytes that can be read."""
        return self.size - self.taken


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file of the archive. Each piece becomes one zstd frame."""

    name: str
    """The file's name in the archive."""
    index: int
    """The piece's number in the file, from 0."""
    data: bytes
    last: bool
    """True for the file's last piece."""


class Spool:
    """Reads the folder that a program fills.

    ``open_files`` returns the names of the files that the program has open, or None if nobody can tell. No file becomes whole before
    :meth:`finish` as long as ``open_files`` returns None or has not yet named a file.

    ``limit`` bounds the bytes on disk, in whole blocks, if the caller pauses the program while :attr:`full` is true. In addition, one block
    stays on disk for each open file whose bytes have all been read.

    Raises LocalResourceExhausted if nothing can be written beside the folder.
    """

    def __init__(self, folder: Path, *, limit: int, piece_size: int, open_files: Callable[[], set[str] | None]) -> None:
        self._folder = str(folder)
        self._limit = limit
        self._piece_size = piece_size
        self._open_files = open_files
        self._block = os.statvfs(folder).f_bsize
        self._files: dict[str, SpoolFile] = {}
        self._growing: dict[str, SpoolFile] = {}
        """The files that aren't whole yet."""
        self._whole: deque[SpoolFile] = deque()
        """The files that are whole. The first file is read first."""
        self._room = 0
        """Bytes of the disk that reading all files would free."""
        self._waiting = 0
        """The number of files that have bytes to read, or that can be removed."""
        self._quiet = False
        """True if a look began while the program was paused. There is nothing new to see until the program continues."""
        self._named_one = False
        """True if ``open_files`` has named a file."""
        self._finished = False
        self.punches_holes = can_punch_holes(folder.parent / "hole")

    @property
    def full(self) -> bool:
        """True if the program that fills the folder should be paused. Reading the waiting files makes it false again."""
        return self._room > self._limit * _HIGH_WATER or self._waiting > _MOST_FILES

    @property
    def files(self) -> Collection[SpoolFile]:
        """The files that are not read to their end."""
        return self._files.values()

    @property
    def growing(self) -> Collection[SpoolFile]:
        """The files that aren't whole yet."""
        return self._growing.values()

    def look(self) -> None:
        """Look for new files and bytes. Once :attr:`full` is true, the program is paused: only the next look sees anything new.

        Raises LocalResourceExhausted if a file became shorter.
        """
        if self._quiet and self.full and not self._finished:
            return
        self._quiet = self.full
        # For each small file, a Path would take longer than the system's call.
        for name in sorted(set(os.listdir(self._folder)) - self._files.keys()):  # noqa: PTH208
            self._files[name] = self._growing[name] = SpoolFile(name)
        for file in self._growing.values():
            file.opened = file.opened or self._size(file) > 0
        still_open = set() if self._finished else self._open_files()
        self._named_one = self._named_one or self._finished or bool(still_open)
        for file in list(self._growing.values()):
            # The order matters: if the file is closed before its size is read, the size is final.
            file.opened = file.opened or self._finished or (still_open is not None and file.name in still_open)
            file.whole = self._named_one and file.opened and still_open is not None and file.name not in still_open
            size = self._size(file)
            if size < file.size:
                raise self._shrunk(file)
            file.size = size
            self._count(file)
            if file.whole:
                del self._growing[file.name]
                self._whole.append(file)

    def finish(self) -> None:
        """Look for the last time. The program has ended, so all files are whole."""
        self._finished = True
        self.look()

    def ready(self) -> Iterator[SpoolFile]:
        """Yield each growing file that has a full piece to read, and each whole file. The caller reads a piece before it takes the next file.

        If the spool is then still :attr:`full`, yield growing files with smaller pieces, the largest piece first. The table of contents comes
        before all others: without it, no session can dump ranges of large tables.
        """
        while self._whole and self._whole[0].name == TOC_NAME:
            yield self._whole[0]
        for file in list(self._growing.values()):
            while file.unread >= self._piece_size:
                yield file
        while self._whole:
            yield self._whole[0]
        # If all files are open, and their unread bytes fill no piece, only smaller pieces free space.
        for file in sorted(self._growing.values() if self.full else (), key=lambda file: file.unread, reverse=True):
            if not self.full:
                return
            yield file

    def read(self, file: SpoolFile) -> Piece:
        """Return the file's next piece, and free its bytes on disk. Raises LocalResourceExhausted if the file shrank."""
        size = min(self._piece_size, file.unread)
        last = file.whole and file.unread == size
        punches = self.punches_holes and not last
        path = self._path(file)
        descriptor = os.open(path, os.O_RDWR if punches else os.O_RDONLY)
        try:
            data = os.pread(descriptor, size, file.taken)
            if len(data) != size:
                raise self._shrunk(file)
            if punches:
                _punch_hole(descriptor, file.taken, size)
        finally:
            os.close(descriptor)
        if last:
            os.unlink(path)  # noqa: PTH108
            del self._files[file.name]
            self._whole.popleft()
        piece = Piece(file.name, file.pieces, data, last)
        file.taken += size
        file.pieces += 1
        self._count(file, gone=last)
        return piece

    def _path(self, file: SpoolFile) -> str:
        return f"{self._folder}/{file.name}"

    def _size(self, file: SpoolFile) -> int:
        return os.stat(self._path(file)).st_size  # noqa: PTH116

    def _shrunk(self, file: SpoolFile) -> LocalResourceExhausted:
        return LocalResourceExhausted(
            f"{self._path(file)} became shorter while it was read; is something else writing there?"
        )

    def _count(self, file: SpoolFile, *, gone: bool = False) -> None:
        """Count the bytes that reading the file would free: whole blocks, and at least one block for a file that can be removed."""
        begun = file.taken % self._block
        blocks = -(-(file.unread + begun) // self._block) if file.unread else int(file.whole)
        before, file.room = file.room, 0 if gone else blocks * self._block
        self._room += file.room - before
        self._waiting += bool(file.room) - bool(before)


def can_punch_holes(probe: Path) -> bool:
    """True if the file system can free a part of a file. This is tried on a new file at ``probe``, which is then removed.

    Raises LocalResourceExhausted if the new file can't be written.
    """
    try:
        with probe.open("w+b", buffering=0) as stream:
            stream.write(bytes(8192))
            _punch_hole(stream.fileno(), 0, 4096)
    except OSError as exc:
        if exc.errno in {errno.EOPNOTSUPP, errno.ENOSYS}:
            return False
        raise LocalResourceExhausted(f"Cannot write to the spool in {probe.parent}: {exc.strerror}.") from exc
    finally:
        probe.unlink(missing_ok=True)
    return True


def _punch_hole(descriptor: int, offset: int, size: int) -> None:
    """Free a part of a file by fallocate(2). Python's os module doesn't offer this mode. Raises OSError."""
    fallocate = getattr(_LIBC, "fallocate", None)
    if fallocate is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if fallocate(
        descriptor, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(size)
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
