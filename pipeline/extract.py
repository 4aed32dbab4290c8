"""Bring a backup back as a directory-format archive, for pg_restore by hand."""

import errno
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from pipeline.archive_reader import Choice, open_archive
from pipeline.catalog import Wanted, find_backup
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import InvalidRequest, LocalResourceExhausted
from pipeline.events import Notify, Progress, Started
from pipeline.manifest import File, Manifest
from pipeline.postgres.toc import TOC_NAME
from pipeline.stages.download import ObjectReader, check_content
from storage_backends import StorageBackend

LIST_NAME = "pgstow.list"
"""For ``pg_restore --use-list``: the entries that were chosen, where not all were."""


@dataclass(frozen=True, slots=True)
class ExtractRequest:
    """Which backup to bring back, what of it, and where to."""

    wanted: Wanted
    folder: Path
    """Absent or empty."""
    choice: Choice = field(default_factory=Choice)
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
    """Write the archive, every file of it checked; the folder is there under its name once it is whole.

    Raises PipelineError or StorageError.
    """
    folder = request.folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(f"{folder} is there and is not an empty folder; name another one.")
    manifest = find_backup(store, request.wanted)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial_folder = Path(mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
    except OSError as exc:
        raise LocalResourceExhausted(f"Cannot write to {folder}: {exc.strerror}.") from exc
    try:
        with Workers() as workers:
            archive = open_archive(store, manifest, workers, request.limits)
            chosen = archive.choose(request.choice)
            files = [archive.files[TOC_NAME], *archive.files_of(chosen)]
            if chosen is not None:
                (partial_folder / LIST_NAME).write_text(
                    "".join(f"{dump_id};\n" for dump_id in archive.in_order(chosen))
                )
            notify(Started(f"Writing {len(files)} files to {folder}"))
            reader = ObjectReader(store, manifest.objects, files, workers, request.limits)
            _write_files(partial_folder, files, reader, workers, request.limits, notify)
        partial_folder.rename(folder)
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise LocalResourceExhausted(
                f"The disk at {folder.parent} is full; the archive takes {manifest.totals.size} bytes."
            ) from exc
        raise LocalResourceExhausted(f"Cannot write to {folder}: {exc.strerror}.") from exc
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return Extracted(manifest, folder, len(files), sum(file.size for file in files))


def _write_files(
    folder: Path, files: Iterable[File], reader: ObjectReader, workers: Workers, limits: Limits, notify: Notify
) -> None:
    writing = workers.pool(limits.jobs, "write")
    total = done = 0

    def take(size: int) -> None:
        nonlocal done
        done += size

    for file in files:
        total += file.size
        writing.submit(partial(_write_file, folder, file, reader), take)
    while writing.pending:
        workers.collect(timeout=0.2)
        notify(Progress(done, total, reader.fetched, ()))


def _write_file(folder: Path, file: File, reader: ObjectReader) -> int:
    path = folder / file.path
    path.touch(mode=0o600)
    with path.open("wb") as stream:
        for part in check_content(file, reader.read(file)):
            stream.write(part)
    return file.size
