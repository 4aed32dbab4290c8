"""Feeds an archive to pg_restore, or a script to psql, without a full copy on disk. Each data file is a pipe, filled while it is read.

pg_restore opens each data file once and reads it from start to end (``pg_backup_directory.c``), so a FIFO is enough.

With several jobs, pg_restore begins with the largest files. But all FIFOs have size 0, and pg_restore sorts files of equal size by dump ID
(``TocEntrySizeCompare``). So pgstow gives pg_restore a copy of ``toc.dat`` with new dump IDs, in the order of the real sizes. For several
jobs, the copy also has dependencies that pg_dump left out (:mod:`pipeline.postgres.load_order`).
"""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import RawIOBase
from pathlib import Path

from pipeline.catalog.manifest import TOC_NAME, File
from pipeline.concurrency import Workers
from pipeline.postgres.load_order import missing_dependencies, outside_tables
from pipeline.postgres.toc import Toc
from pipeline.postgres.toc_format import renumber
from pipeline.stages.download import ObjectReader, check_content

_PIPE_SIZE = 1024 * 1024  # bytes; the most that an unprivileged process may ask for (pipe(7))


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """The files that pg_restore will read, in the order in which it will ask for them."""

    toc: bytes | None
    """The table of contents, with dump IDs that make pg_restore keep this order; None for a single file, which needs no folder."""
    new_ids: Mapping[int, int]
    """The new dump IDs in ``toc``, by the dump IDs in the archive."""
    small: tuple[File, ...]
    """Files that are written to the folder as regular files: the lists of large objects."""
    sequences: tuple[tuple[tuple[File, ...], ...], ...]
    """Sequences of groups of files that are pipes. One job of pg_restore opens the files of a group one after another. The groups of a sequence
    begin in their order. Several sequences run at the same time."""
    self_terminated: bool = False
    """True if pg_restore knows where the wanted part of a file ends, and may leave the rest unread."""


def plan_feed(
    toc_data: bytes,
    toc: Toc,
    files: Mapping[str, File],
    lists: Mapping[str, Sequence[str]],
    *,
    jobs: int,
    triggers_fire: bool = True,
) -> FeedPlan:
    """Return the plan for a pg_restore with ``jobs`` jobs. A single job follows the order of ``files``; several jobs begin with the largest.

    ``files`` has the files to feed, by path. ``lists`` has the paths in each list of large objects. ``triggers_fire`` is true if the server
    checks foreign keys while it loads data into tables that already have them.

    Raises InvalidRequest if the archive has too many dependencies for several jobs.
    """
    by_filename = {entry.filename: entry for entry in toc.data_entries}
    entries = [by_filename[path] for path in files if path in by_filename]
    tables = [entry for entry in entries if entry.filename not in lists]
    large_objects = [entry for entry in entries if entry.filename in lists]
    new_ids: dict[int, int] = {}
    missing: Mapping[int, Sequence[int]] = {}
    in_turn: list[str] = []
    if jobs > 1:
        missing = missing_dependencies(toc, triggers_fire=triggers_fire)
        if triggers_fire:
            in_turn = [entry.filename for entry in outside_tables(toc) if entry.filename in files]
        tables.sort(key=lambda entry: _turn(files[entry.filename]))
        dump_ids = [entry.dump_id for entry in tables]
        new_ids = dict(zip(dump_ids, sorted(dump_ids), strict=True))
        # Up to PostgreSQL 16 there is one list, which goes first. From 17 on, each list waits for the entry that makes its objects.
        large_objects.sort(key=lambda entry: entry.dump_id)
    outside = frozenset(in_turn)
    return FeedPlan(
        toc=renumber(toc_data, new_ids, missing),
        new_ids=new_ids,
        small=tuple(files[entry.filename] for entry in large_objects),
        sequences=(
            tuple((files[entry.filename],) for entry in tables if entry.filename not in outside),
            tuple((files[filename],) for filename in in_turn),  # each table waits for the table before it
            tuple(
                tuple(files[path] for path in lists[entry.filename]) for entry in large_objects if lists[entry.filename]
            ),
        ),
    )


def plan_stream(files: Sequence[File], *, self_terminated: bool) -> FeedPlan:
    """Return the plan for an archive or a script that is a single file."""
    return FeedPlan(toc=None, new_ids={}, small=(), sequences=((tuple(files),),), self_terminated=self_terminated)


def _turn(file: File) -> tuple[int, int, int]:
    """Return a sort key: files outside packs come first, from the largest to the smallest, then the files in packs, pack by pack.

    pgstow fetches a pack as a whole. In another order, it would fetch packs repeatedly if memory has no room for all packs.
    """
    first = next(iter(file.segments), None)
    if first is None or first.offset == 0:
        return (0, -file.size, 0)
    return (1, first.object, first.offset)


class Feed:
    """A new folder for pg_restore, and the threads that fill its pipes.

    Each sequence has two more threads than pg_restore has jobs, which fetch the next files ahead. pg_restore takes data in the plan's order,
    so its jobs wait for the first groups that aren't done. If a job waits for another group, :meth:`serve_out_of_order` feeds that group.

    With ``check_files``, the SHA-256 of each file is checked, in addition to its objects. If a file can't be fetched or is damaged,
    ``workers.collect`` raises the error. The file's pipe then stays open until :meth:`close`, so that pg_restore can't mistake a part of
    the file for the whole file. ``through`` may change the content, after the check.

    Raises BackupDamaged or StorageError if a list of large objects can't be read.
    """

    def __init__(
        self,
        folder: Path,
        plan: FeedPlan,
        reader: ObjectReader,
        workers: Workers,
        jobs: int,
        *,
        check_files: bool = False,
        through: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
    ) -> None:
        self._folder = folder
        self._self_terminated = plan.self_terminated
        self._check_files = check_files
        self._through = through
        self._reader = reader
        self._workers = workers
        self._closed = threading.Event()
        self._waiting: dict[int, Path] = {}
        """The pipes that wait for pg_restore to open them, by descriptor: a path of the pipe that stays valid if its name is removed."""
        self._opened: set[Path] = set()
        self._unclaimed = {folder / group[0].path: group for groups in plan.sequences for group in groups}
        self._broken: list[int] = []
        self.fed = 0
        """Bytes handed to pg_restore, to show progress."""
        self.unfinished = len(self._unclaimed)
        """Groups of files that pg_restore has not read to their end."""
        self.current: list[str] = []
        """Files being read."""
        self.path = folder if plan.toc is not None else next(iter(self._unclaimed))
        """The path of the archive for pg_restore, or of the script for psql."""
        folder.mkdir(mode=0o700)
        if plan.toc is not None:
            _write_private(folder / TOC_NAME, [plan.toc])
        for file in plan.small:
            _write_private(folder / file.path, self._read(file))
        for group in self._unclaimed.values():
            for file in group:
                os.mkfifo(folder / file.path, 0o600)
        for groups in plan.sequences:
            feeders = workers.pool(min(jobs + 2, len(groups)), "feed")
            for group in groups:
                feeders.submit(partial(self._feed_group, folder / group[0].path), self._count)

    def serve_out_of_order(self) -> None:
        """Feed the groups that pg_restore asks for before their turn. Call this method regularly."""
        for first in list(self._unclaimed):
            try:
                held = os.open(first, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue  # ENXIO: pg_restore doesn't have the pipe open
            self._workers.run_apart(partial(self._feed_group, first, held), self._count, "stray")

    def close(self) -> None:
        """Release the threads that still wait for pg_restore to open a pipe. Call this after pg_restore has ended."""
        self._closed.set()
        while self._waiting:
            for path in list(self._waiting.values()):
                with suppress(OSError):
                    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            time.sleep(0.001)
        while self._broken:
            os.close(self._broken.pop())

    def _count(self, finished: bool) -> None:
        self.unfinished -= finished

    def _feed_group(self, first: Path, held: int | None = None) -> bool:
        """Feed a group by its first pipe. Return True if pg_restore took all of the group from this thread.

        ``held`` is a descriptor that keeps the first pipe open until this thread opens the pipe.
        """
        group = self._unclaimed.pop(first, None)
        if group is not None:
            return self._feed(group[0], held) and all(self._feed(file) for file in group[1:])
        # Another thread has claimed the group and may not have opened the pipe yet. Without a writer, pg_restore would see an empty file.
        while first not in self._opened and not self._closed.is_set():
            time.sleep(0.001)
        _close_held(held)
        return False

    def _feed(self, file: File, held: int | None = None) -> bool:
        """Feed a file. Return True if pg_restore took all that it wants of the file.

        If the result is False, pg_restore has ended, and its messages say why.
        """
        path = self._folder / file.path
        self._reader.fetch_ahead(segment.object for segment in file.segments[:1])
        pipe = self._open(path, held)
        if pipe is None:
            return False
        self.current.append(file.path)
        try:
            with pipe:
                self._fill(pipe.fileno(), file)
        except BrokenPipeError:
            return self._self_terminated
        finally:
            self.current.remove(file.path)
        path.unlink(missing_ok=True)
        return True

    def _read(self, file: File) -> Iterator[bytes]:
        parts = self._reader.read(file)
        return self._through(check_content(file, parts) if self._check_files else parts)

    def _open(self, path: Path, held: int | None) -> RawIOBase | None:
        """Return the writing end of the pipe, once pg_restore has opened the other end; None if pg_restore has ended. Closes ``held``."""
        # The pipe's name may be removed while this thread waits. Then close() can open the other end only by a path in /proc.
        waiting = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        lasting = Path(f"/proc/self/fd/{waiting}")
        self._waiting[waiting] = lasting if lasting.exists() else path
        try:
            if self._closed.is_set():
                return None
            pipe = self._waiting[waiting].open("wb", buffering=0)
            if self._closed.is_set():  # close() opened the other end, not pg_restore
                pipe.close()
                return None
            self._opened.add(path)
            return pipe
        finally:
            del self._waiting[waiting]
            os.close(waiting)
            _close_held(held)

    def _fill(self, pipe: int, file: File) -> None:
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        parts = self._read(file)
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[os.write(pipe, view) :]
                self.fed += len(part)
        except BrokenPipeError:
            if self._check_files and self._self_terminated:
                deque(parts, maxlen=0)
            raise
        except BaseException:
            self._broken.append(os.dup(pipe))
            raise


def _write_private(path: Path, parts: Iterable[bytes]) -> None:
    path.touch(mode=0o600)
    with path.open("wb") as stream:
        stream.writelines(parts)


def _close_held(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
