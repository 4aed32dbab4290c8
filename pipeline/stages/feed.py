"""Feeds archives to pg_restore, or a script to psql, through pipes. The data is never whole on disk.

An archive of the directory format is fed as a tar archive. Both formats have the same table of contents and the same files: "The
directory is compatible with 'tar'" (``pg_backup_directory.c``). pg_restore reads a tar archive from a pipe, from its beginning to its
end. So the archive's files must come in the order of the table of contents (``pg_backup_tar.c``). From the minor releases of
November 2026 on, pg_restore refuses pipes inside an archive's directory.
"""

import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from tarfile import BLOCKSIZE

from pipeline.catalog.manifest import TOC_NAME, File
from pipeline.concurrency import Workers
from pipeline.stages.download import ObjectReader, check_content
from pipeline.stages.pack import tar_header

_PIPE_SIZE = 1024 * 1024  # bytes; what an unprivileged process may ask for (pipe(7))
_ENOUGH = 64 * 1024  # bytes to write at once
_OBJECTS_AHEAD = 2
"""Objects that are fetched ahead for each stream."""
_TAR_END = bytes(3 * BLOCKSIZE)
"""Enough zeros for what must follow the last file: the rest of its block, and two empty blocks."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one program reads, from the beginning to the end."""

    files: tuple[File, ...]
    toc: bytes | None = None
    """The table of contents of a tar archive that has ``files`` as its members, in this order. None if ``files`` are passed on as they are."""
    may_be_left: bool = False
    """True if the program knows where the wanted part of the files ends, and may leave the rest unread."""


class Feed:
    """Pipes from which programs read ``streams``, and a thread for each pipe that fills it.

    With ``check_files``, each file is checked against its own SHA-256, and not only its objects. If a file can't be fetched or is damaged,
    ``workers.collect`` raises the error. The pipe stays open until :meth:`close`: a program must not take a part for the whole.
    ``through`` may change the content, after the check.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        reader: ObjectReader,
        workers: Workers,
        *,
        check_files: bool = False,
        through: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
    ) -> None:
        self._check_files = check_files
        self._through = through
        self._reader = reader
        self._ends: list[FileIO] = []
        """The ends of the pipes that programs read."""
        self._lock = threading.Lock()
        self._closed = False
        self._idle: set[FileIO] = set()
        """The write ends of pipes that no thread fills: the pipe's thread hasn't started, or could not fetch the content."""
        self.fed = 0
        """Bytes of the files that were handed to the programs, to show progress."""
        self.unfinished = len(streams)
        """Streams that a program has not read as far as it must."""
        self.current: list[str] = []
        """Files being read."""
        feeders = workers.pool(max(1, len(streams)), "feed")
        for stream in streams:
            end, pipe = os.pipe()
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            self._ends.append(FileIO(end, "r"))
            self._idle.add(ours := FileIO(pipe, "w"))
            feeders.submit(partial(self._feed, ours, stream), self._count)

    @contextmanager
    def pipe(self, number: int) -> Iterator[tuple[Path, Sequence[int]]]:
        """Yield the path from which a program can read a stream, and the descriptors that the program must inherit.

        Afterwards only the program has this end of the pipe. If the program ends, the thread that fills the pipe ends, too.
        """
        with self._ends[number] as end:
            yield Path(f"/dev/fd/{end.fileno()}"), [end.fileno()]

    def close(self) -> None:
        """Close the pipes, and so release the threads that fill them. Call this after the programs have ended."""
        for end in self._ends:
            end.close()
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    def _count(self, finished: bool) -> None:
        self.unfinished -= finished

    def _feed(self, pipe: FileIO, stream: Stream) -> bool:
        """True if the program took all that it must. If not, the program has ended, and its own messages say why."""
        with self._lock:
            if self._closed:
                return False
            self._idle.discard(pipe)
        parts = _joined(self._archive(stream) if stream.toc is not None else self._files(stream))
        try:
            for part in parts:
                _write(pipe, part)
        except BrokenPipeError:
            pipe.close()
            if self._check_files and stream.may_be_left:
                deque(parts, maxlen=0)
            return stream.may_be_left
        except BaseException:
            self._set_aside(pipe)
            raise
        if stream.toc is not None:
            with suppress(BrokenPipeError):  # the program needs no more, and may have ended
                _write(pipe, _TAR_END)
        pipe.close()
        return True

    def _set_aside(self, pipe: FileIO) -> None:
        """Keep the pipe open until :meth:`close`."""
        with self._lock:
            if self._closed:
                pipe.close()
            else:
                self._idle.add(pipe)

    def _archive(self, stream: Stream) -> Iterator[bytes]:
        """Yield a tar archive up to the content of its last file."""
        toc = stream.toc or b""
        yield tar_header(TOC_NAME, len(toc))
        yield toc
        size = len(toc)
        for file, parts in self._contents(stream.files):
            yield bytes(-size % BLOCKSIZE) + tar_header(file.path, file.size)
            yield from parts
            size = file.size

    def _files(self, stream: Stream) -> Iterator[bytes]:
        for _, parts in self._contents(stream.files):
            yield from parts

    def _contents(self, files: Sequence[File]) -> Iterator[tuple[File, Iterator[bytes]]]:
        """Yield each file with its content. While a file is read, the next objects are fetched."""
        order = list(dict.fromkeys(segment.object for file in files for segment in file.segments))
        place = {index: number for number, index in enumerate(order)}
        last = None
        for file in files:
            if file.segments and file.segments[-1].object != last:
                last = file.segments[-1].object
                following = order[place[last] + 1 : place[last] + 1 + _OBJECTS_AHEAD]
                self._reader.fetch_ahead([file.segments[0].object, *following])
            yield file, self._content(file)

    def _content(self, file: File) -> Iterator[bytes]:
        parts = self._reader.read(file)
        self.current.append(file.path)
        try:
            for part in self._through(check_content(file, parts) if self._check_files else parts):
                yield part
                self.fed += len(part)
        finally:
            self.current.remove(file.path)


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts joined to at least ``_ENOUGH`` bytes. A small file has a few bytes: a system call takes longer than joining them."""
    joined = bytearray()
    for part in parts:
        if not joined and len(part) >= _ENOUGH:
            yield part
            continue
        joined += part
        if len(joined) >= _ENOUGH:
            yield bytes(joined)
            joined.clear()
    yield bytes(joined)


def _write(pipe: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) or 0 :]
