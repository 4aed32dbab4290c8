"""Bring a backup's archive back as it was dumped, for pg_restore by hand: a directory, or its single file in one."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pipeline.archive.reader import EntrySelection, open_archive
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import TOC_NAME, File, Manifest
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import InvalidRequest, LocalResourceExhausted
from pipeline.events import Notify, Progress, Started
from pipeline.postgres.partitions import attachments_left_out, tell_alone
from pipeline.postgres.use_list import format_list
from pipeline.stages.download import ObjectReader, check_content, tell_replaced
from storage_backends import StorageBackend

LIST_NAME = "pgstow.list"
"""For ``pg_restore --use-list``: the entries that were chosen, where not all were."""


@dataclass(frozen=True, slots=True)
class ExtractRequest:
    """Which backup to bring back, what of it, and where to."""

    wanted: BackupSelector
    folder: Path
    """Absent or empty."""
    choice: EntrySelection = field(default_factory=EntrySelection)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written."""

    manifest: Manifest
    folder: Path
    files: int
    size: int
    """Bytes."""


def extract(request: ExtractRequest, store: StorageBackend, notify: Notify) -> Extracted:
    """Write the archive, every file of it checked. ``toc.dat``, without which a directory is none, comes last; after a failure nothing is left.

    Raises PipelineError or StorageError.
    """
    folder = request.folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} is there and is not an empty folder; name another one.")
    manifest = find_backup(store, request.wanted, notify)
    with _filling(folder, manifest), Workers() as workers:
        archive = open_archive(store, manifest, workers, request.limits)
        chosen = archive.choose(request.choice)
        tell_alone(attachments_left_out(archive.toc, chosen or ()), notify)
        files = sorted(archive.files_of(chosen), key=where_it_lies)
        last = [] if archive.is_stream else [archive.files[TOC_NAME]]
        reader = ObjectReader(store, manifest.objects, [*files, *last], workers, request.limits)
        notify(Started(f"Writing {len(files) + len(last)} files to {folder}"))
        if chosen is not None:
            with _new_file(folder / LIST_NAME) as stream:
                stream.write(format_list(chosen).encode())
        _write_files(folder, files, reader, workers, request.limits, notify)
        _write_files(folder, last, reader, workers, request.limits, notify)
    return Extracted(manifest, folder, len(files) + len(last), sum(file.size for file in (*files, *last)))


def where_it_lies(file: File) -> list[tuple[int, int]]:
    """To sort files by, so that each object is fetched once."""
    return [(part.object, part.offset) for part in file.segments[:1]]


@contextmanager
def _filling(folder: Path, manifest: Manifest) -> Iterator[None]:
    """The empty folder, made where it isn't there; and as it was after a failure."""
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
        notify(Progress(done, total, reader.fetched, ()))

    write = partial(_write_file, folder, reader)
    for file, _ in workers.map(write, files, threads=limits.jobs, name="write", tick=report):
        done += file.size
    tell_replaced(reader.replaced, notify)


def _write_file(folder: Path, reader: ObjectReader, file: File) -> None:
    path = _unfinished(folder / file.path)
    with _new_file(path) as stream:
        for part in check_content(file, reader.read(file)):
            stream.write(part)
    path.rename(folder / file.path)


def _new_file(path: Path) -> BinaryIO:
    """Create a file of mode 0600. A file or link that exists is refused: another user may have made it, to have pgstow write elsewhere."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
