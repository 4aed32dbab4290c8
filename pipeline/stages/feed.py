"""Feeds archives to pg_restore, or a script to psql, through pipes. The data is never whole on disk.

An archive of the directory format is fed as an archive of the custom format. pg_restore reads such an archive from a pipe, from its beginning
to its end. So the archive's data must come in the order of the table of contents. From the minor releases of November 2026 on, pg_restore
refuses pipes inside an archive's directory.
"""

import fcntl
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from itertools import groupby
from pathlib import Path

from pipeline.catalog.manifest import File
from pipeline.concurrency import Workers
from pipeline.postgres.custom_archive import large_objects_block, rows_block
from pipeline.postgres.large_objects import oid_of
from pipeline.stages.download import ObjectReader, check_content
from pipeline.stages.shared_rows import SharedRows

_PIPE_SIZE = 1024 * 1024  # bytes; what an unprivileged process may ask for (pipe(7))
_ENOUGH = 64 * 1024  # bytes to write at once
_OBJECTS_AHEAD = 2
"""Objects that are fetched ahead for each stream."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one program reads, from the beginning to the end."""

    files: tuple[File, ...]
    toc: bytes | None = None
    """The beginning of an archive of the custom format, before the content of ``files``. None if ``files`` are passed on as they are."""
    dump_ids: tuple[int, ...] = ()
    """With ``toc``: the dump ID of each file's entry. An entry has the file of one table, or the files of its large objects."""
    may_be_left: bool = False
    """True if the program knows where the wanted part of the files ends, and may leave the rest unread."""


class Feed:
    """Pipes from which programs read ``streams``, and a thread for each pipe that fills it.

    With ``check_files``, each file is checked against its own SHA-256, and not only its objects. If a file can't be fetched or is damaged,
    ``workers.collect`` raises the error. The pipe stays open until :meth:`close`: a program must not take a part for the whole.
    ``through`` may change the content, after the check.

    If several archives have the same table's file, each program gets a part of the rows; see :class:`SharedRows`.
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
        takers = Counter(file.path for stream in streams if stream.toc is not None for file in stream.files)
        files = {file.path: file for stream in streams for file in stream.files if takers[file.path] > 1}
        self._shared = {path: SharedRows(file, self._content(file, ahead=takers[path])) for path, file in files.items()}
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
        with closing(_joined(self._archive(stream) if stream.toc is not None else self._files(stream))) as parts:
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
        """Yield an archive of the custom format."""
        yield stream.toc or b""
        contents = zip(stream.dump_ids, self._contents(stream.files), strict=True)
        for (dump_id, kind), entry in groupby(contents, lambda item: (item[0], item[1][0].kind)):
            if kind == "large_object":
                objects = ((oid_of(file.path), parts) for _, (file, parts) in entry)
                yield from large_objects_block(dump_id, objects)
            else:
                for _, (_, parts) in entry:
                    yield from rows_block(dump_id, parts)

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
            shared = self._shared.get(file.path)
            yield file, self._content(file) if shared is None else shared.take()

    def _content(self, file: File, ahead: int = 1) -> Iterator[bytes]:
        parts = self._reader.read(file, ahead=ahead)
        self.current.append(file.path)
        try:
            for part in self._through(check_content(file, parts) if self._check_files else parts):
                yield part
                self.fed += len(part)
        finally:
            self.current.remove(file.path)


def _joined(parts: Iterable[bytes]) -> Generator[bytes]:
    """Yield the parts, but join small parts. A small file has a few bytes: a system call takes longer than joining them."""
    joined = bytearray()
    for part in parts:
        if len(joined) + len(part) < _ENOUGH:
            joined += part
            continue
        yield bytes(joined)
        yield part
        joined.clear()
    yield bytes(joined)


def _write(pipe: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) or 0 :]
