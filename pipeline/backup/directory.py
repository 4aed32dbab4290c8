"""Backs up in the directory format. pgstow reads pg_dump's files while pg_dump writes them."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from pipeline.archive.dump_context import TICK, DumpContext
from pipeline.archive.writer import ArchivedFile
from pipeline.backup.contents import Contents
from pipeline.backup.large_objects import LargeObjectCheck
from pipeline.backup.progress import BackupProgress
from pipeline.backup.request import BackupRequest
from pipeline.catalog.manifest import TOC_NAME, File, FileKind
from pipeline.counting import counted
from pipeline.errors import DumpFailed
from pipeline.events import Notice
from pipeline.postgres.dump import COPY_END, DirectoryDump
from pipeline.postgres.toc import DataEntry
from pipeline.postgres.toc_format import TocCutShort
from pipeline.stages.spool import Spool


def dump_directory(request: BackupRequest, snapshot: str, context: DumpContext) -> Sequence[DataEntry]:
    """Run pg_dump, and move its files into the writer while pg_dump writes them. Return the archive's entries that have files.

    pgstow pauses pg_dump whenever the spool is full. Raises DumpFailed, ConnectionFailed, LocalResourceExhausted or StorageError.
    """
    piece_size = request.limits.piece_size
    limits, server, workers, writer = request.limits, context.call.server, context.workers, context.writer
    dump = DirectoryDump(context.call, request.selection, snapshot=snapshot, jobs=limits.jobs)
    spool = Spool(dump.folder, limit=limits.spool, piece_size=piece_size, open_files=dump.open_files)
    if not spool.punches_holes:
        context.notify(
            Notice(
                "The spool's file system can't punch holes, so a table's file stays on disk until the whole table is dumped."
            )
        )
    progress, large_objects = BackupProgress(workers), LargeObjectCheck(server, workers)
    contents = Contents(workers, partial(progress.expect, server=server))
    ended, next_look = False, 0.0
    while not (ended and not spool.files):
        if time.monotonic() >= next_look:
            ended = dump.has_ended()
            spool.finish() if ended else spool.look()
            dump.pause_if(spool.full)
            next_look = math.inf if ended else time.monotonic() + TICK
            if not ended:
                context.statement_timeout.look()
        for file in spool.ready():
            if not writer.has_room(min(piece_size, file.unread)) or time.monotonic() >= next_look:
                break
            piece = spool.read(file)
            if piece.name == TOC_NAME:
                contents.take(piece)
            if piece.last:
                large_objects.passed(piece.name, file.taken)
            progress.passed(file, last=piece.last)
            writer.write(piece)
        dump.pause_if(spool.full)
        workers.collect(timeout=min(TICK, max(0.0, next_look - time.monotonic())))
        progress.report(writer, spool)
    while contents.entries is None:
        if not contents.reading:
            raise TocCutShort(f"pg_dump reported success but wrote no {TOC_NAME}.")
        workers.collect(timeout=TICK)
    large_objects.finish(contents.entries)
    while progress.asking or context.statement_timeout.asking or large_objects.asking:
        workers.collect(timeout=TICK)
    server.release_snapshot()  # pg_dump's workers have ended, so they no longer need the snapshot
    for line in dump.warnings():
        context.notify(Notice(line))
    return contents.entries


def describe_files(archived: Iterable[ArchivedFile], entries: Sequence[DataEntry]) -> Iterator[File]:
    """Yield the manifest's descriptions of the archive's files.

    Raises DumpFailed if a file that the table of contents names, a large object, or the end of a table's data is missing.
    """
    missing = {entry.filename: entry for entry in entries}
    listed = present = 0
    for file in archived:
        described = _describe_file(file, missing.pop(file.path, None))
        listed += file.lines if described.kind == "large_object_toc" else 0
        present += described.kind == "large_object"
        yield described
    if missing:
        raise DumpFailed(
            f"pg_dump reported success but did not write {min(missing)} ({counted(len(missing), 'file')} missing in all)."
        )
    if listed != present:
        raise DumpFailed(f"pg_dump reported success but wrote {present} of {counted(listed, 'large object')}.")


def _describe_file(file: ArchivedFile, entry: DataEntry | None) -> File:
    if entry is None:
        kind: FileKind = "toc" if file.path == TOC_NAME else "large_object"
        return File(path=file.path, kind=kind, size=file.size, checksum=file.checksum, segments=tuple(file.segments))
    is_table = entry.description == "TABLE DATA"
    # The end mark must be a line by itself. A value that ends with \. is written as \\. in the file. After such a value, rows of empty text
    # look like the empty lines of the end mark.
    if is_table and file.tail.removeprefix(b"\n") != COPY_END:
        raise DumpFailed(f"pg_dump reported success, but the data of {entry.namespace}.{entry.tag} is cut short.")
    return File(
        path=file.path,
        kind="table" if is_table else "large_object_toc",
        size=file.size,
        checksum=file.checksum,
        segments=tuple(file.segments),
        dump_id=entry.dump_id,
        schema_name=entry.namespace if is_table else None,
        relation=entry.tag if is_table else None,
        rows=file.lines - COPY_END.count(b"\n") if is_table else None,
    )
