"""Backs up in the directory format. pgstow reads pg_dump's files while pg_dump writes them."""

import math
import time
from collections.abc import Mapping, Sequence

from pipeline.archive.dump_context import TICK, DumpContext
from pipeline.archive.writer import ArchivedFile
from pipeline.backup.large_objects import LargeObjectCheck
from pipeline.backup.progress import BackupProgress
from pipeline.backup.request import BackupRequest
from pipeline.catalog.manifest import TOC_NAME, File, FileKind
from pipeline.counting import counted
from pipeline.errors import DumpFailed
from pipeline.events import Notice
from pipeline.postgres.dump import COPY_END, DirectoryDump
from pipeline.postgres.toc import Toc, TocEntry
from pipeline.postgres.toc_format import read_toc
from pipeline.stages.spool import Spool


def dump_directory(request: BackupRequest, snapshot: str, context: DumpContext) -> Toc:
    """Run pg_dump, and move its files into the writer while pg_dump writes them. Return the archive's table of contents.

    pgstow pauses pg_dump whenever the spool is full. Raises DumpFailed, ConnectionFailed, LocalResourceExhausted or StorageError.
    """
    limits, server, workers, writer = request.limits, context.call.server, context.workers, context.writer
    dump = DirectoryDump(context.call, request.selection, snapshot=snapshot, jobs=limits.jobs)
    spool = Spool(dump.folder, limit=limits.spool, piece_size=limits.piece_size, open_files=dump.open_files)
    if not spool.punches_holes:
        context.notify(
            Notice(
                "The spool's file system can't punch holes, so a table's file stays on disk until the whole table is dumped."
            )
        )
    toc_data = bytearray()
    progress, large_objects = BackupProgress(workers), LargeObjectCheck(server, workers)
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
            if not writer.has_room(min(limits.piece_size, file.unread)) or time.monotonic() >= next_look:
                break
            piece = spool.read(file)
            if piece.name == TOC_NAME:
                toc_data += piece.data
                if piece.last:
                    progress.expect(bytes(toc_data), server)
            if piece.last:
                large_objects.passed(piece.name, file.taken)
            writer.write(piece)
        dump.pause_if(spool.full)
        workers.collect(timeout=min(TICK, max(0.0, next_look - time.monotonic())))
        progress.report(writer, spool)
    toc = read_toc(bytes(toc_data))
    large_objects.finish(toc)
    while progress.asking or context.statement_timeout.asking or large_objects.asking:
        workers.collect(timeout=TICK)
    server.release_snapshot()  # pg_dump's workers have ended, so they no longer need the snapshot
    for line in dump.warnings():
        context.notify(Notice(line))
    return toc


def describe_files(archived: Sequence[ArchivedFile], toc: Toc) -> list[File]:
    """Return the manifest's descriptions of the archive's files.

    Raises DumpFailed if a file that the table of contents names, a large object, or the end of a table's data is missing.
    """
    entries = {entry.filename: entry for entry in toc.data_entries}
    passed = {file.path for file in archived}
    if missing := sorted(entries.keys() - passed):
        raise DumpFailed(
            f"pg_dump reported success but did not write {missing[0]} ({counted(len(missing), 'file')} missing in all)."
        )
    listed = sum(file.lines for file in archived if _kind(file, entries) == "large_object_toc")
    present = sum(1 for file in archived if _kind(file, entries) == "large_object")
    if listed != present:
        raise DumpFailed(f"pg_dump reported success but wrote {present} of {counted(listed, 'large object')}.")
    return [_describe_file(file, entries) for file in archived]


def _describe_file(file: ArchivedFile, entries: Mapping[str, TocEntry]) -> File:
    kind = _kind(file, entries)
    described = File(path=file.path, kind=kind, size=file.size, checksum=file.checksum, segments=file.segments)
    entry = entries.get(file.path)
    if entry is None:
        return described
    if kind == "large_object_toc":
        return described.model_copy(update={"dump_id": entry.dump_id})
    # The end mark must be a line by itself. A value that ends with \. is written as \\. in the file. After such a value, rows of empty text
    # look like the empty lines of the end mark.
    if file.tail.removeprefix(b"\n") != COPY_END:
        raise DumpFailed(f"pg_dump reported success, but the data of {entry.namespace}.{entry.tag} is cut short.")
    return described.model_copy(
        update={
            "dump_id": entry.dump_id,
            "schema_name": entry.namespace,
            "relation": entry.tag,
            "rows": file.lines - COPY_END.count(b"\n"),
        }
    )


def _kind(file: ArchivedFile, entries: Mapping[str, TocEntry]) -> FileKind:
    entry = entries.get(file.path)
    if file.path == TOC_NAME:
        return "toc"
    if entry is None:
        return "large_object"
    return "table" if entry.description == "TABLE DATA" else "large_object_toc"
