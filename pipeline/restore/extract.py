"""Writes a backup's archive into a folder as it was dumped, so that users can run pg_restore themselves."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pipeline.archive.reader import open_archive
from pipeline.archive.selection import EntrySelection, tell_lost
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.key_objects import tell_unneeded
from pipeline.catalog.manifest import TOC_NAME, File, Manifest
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.counting import counted
from pipeline.errors import InvalidRequest, LocalResourceExhausted
from pipeline.events import Notify, Progress, Started
from pipeline.postgres.partitions import attachments_left_out, tell_alone
from pipeline.postgres.use_list import format_list
from pipeline.stages.download import ObjectReader, tell_replaced
from pipeline.trust.seal import Keys
from storage_backends import StorageBackend

LIST_NAME = "pgstow.list"
"""The name of the list of chosen entries, for ``pg_restore --use-list``. It is written only if entries were chosen."""


@dataclass(frozen=True, slots=True)
class ExtractRequest:
    """A backup to extract, and the folder to write."""

    wanted: BackupSelector
    folder: Path
    """The folder must not exist, or must be empty."""
    choice: EntrySelection = field(default_factory=EntrySelection)
    limits: Limits = field(default_factory=Limits)
    keys: Keys = field(default_factory=Keys)
    """The keys that open sealed backups."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The files that were written."""

    manifest: Manifest
    folder: Path
    """The folder's absolute path."""
    files: int
    """The number of the archive's files that were written, without the list of entries."""
    size: int
    """Bytes of the archive's files that were written."""


def extract(request: ExtractRequest, store: StorageBackend, notify: Notify) -> Extracted:
    """Write the archive's files into the folder, and check the size, SHA-256 and rows of each.

    ``toc.dat`` is written last, so that pg_restore can't read an unfinished folder. After a failure, the files are removed, and also the
    folder if it was new.

    Raises InvalidRequest if the folder isn't empty, LocalResourceExhausted if it can't be written, another PipelineError, or StorageError.
    """
    folder = request.folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} exists and is not an empty folder; name another folder.")
    manifest = find_backup(store, request.wanted, notify)
    tell_unneeded(manifest, request.keys, notify)
    with _filling(folder, manifest), Workers() as workers:
        archive = open_archive(store, manifest, request.keys, workers, request.limits)
        chosen = archive.choose(request.choice)
        tell_alone(attachments_left_out(archive.toc, chosen or ()), notify)
        tell_lost(request.choice.lost(archive.toc), notify)
        files = sorted(archive.files_of(chosen, lists=True), key=where_it_lies)
        last = [] if archive.is_stream else [archive.files[TOC_NAME]]
        reader = ObjectReader(store, manifest.objects, [*files, *last], workers, request.limits, archive.seal)
        notify(Started(f"Writing {counted(len(files) + len(last), 'file')} to {folder}"))
        if chosen is not None:
            with _new_file(folder / LIST_NAME) as stream:
                stream.write(format_list(chosen).encode())
        _write_files(folder, files, reader, workers, request.limits, notify)
        _write_files(folder, last, reader, workers, request.limits, notify)
    return Extracted(manifest, folder, len(files) + len(last), sum(file.size for file in (*files, *last)))


def where_it_lies(file: File) -> list[tuple[int, int]]:
    """Return a sort key. If files are read in this order, each object has to be fetched only once."""
    return [(part.object, part.offset) for part in file.segments[:1]]


@contextmanager
def _filling(folder: Path, manifest: Manifest) -> Iterator[None]:
    """Make the folder if it doesn't exist. If the block fails, remove the archive's files, and also the folder if this function made it.

    Raises LocalResourceExhausted instead of OSError.
    """
    made = not folder.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except BaseException as exc:
        for name in (LIST_NAME, *(file.path for file in manifest.files)):
            for path in (folder / name, _unfinished(folder / name)):
                path.unlink(missing_ok=True)
        if made and folder.is_dir():
            folder.rmdir()
        if not isinstance(exc, OSError):
            raise
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise LocalResourceExhausted(
                f"The disk at {folder} is full; the archive takes {manifest.totals.size} bytes."
            ) from exc
        raise LocalResourceExhausted(f"Cannot write to {folder}: {exc.strerror}.") from exc


def _write_files(
    folder: Path, files: Sequence[File], reader: ObjectReader, workers: Workers, limits: Limits, notify: Notify
) -> None:
    done, total = 0, sum(file.size for file in files)

    def report() -> None:
        notify(Progress(done, total, reader.fetched))

    write = partial(_write_file, folder, reader)
    for file, _ in workers.map(write, files, threads=limits.jobs, name="write", tick=report):
        done += file.size
    tell_replaced(reader.replaced, notify)


def _write_file(folder: Path, reader: ObjectReader, file: File) -> None:
    path = _unfinished(folder / file.path)
    with _new_file(path) as stream:
        for part in reader.read_checked(file):
            stream.write(part)
    path.rename(folder / file.path)


def _new_file(path: Path) -> BinaryIO:
    """Create a file of mode 0600. Raises OSError if a file or link exists, because another user may have made it to redirect the data."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
