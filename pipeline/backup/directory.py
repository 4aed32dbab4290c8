"""Backs up in the directory format. pgstow reads pg_dump's files while pg_dump writes them."""

import time
from contextlib import closing
from functools import partial
from itertools import chain

from pipeline.archive.dump_context import TICK, DumpContext
from pipeline.backup.contents import Contents
from pipeline.backup.dump_shares import plan_shares
from pipeline.backup.large_objects import LargeObjectCheck
from pipeline.backup.progress import BackupProgress
from pipeline.backup.request import BackupRequest
from pipeline.backup.split_tables import SplitTables
from pipeline.catalog.manifest import TOC_NAME
from pipeline.events import Notice
from pipeline.postgres.dump import DirectoryDump
from pipeline.postgres.toc_format import TocCutShort
from pipeline.stages.spool import Spool


def dump_directory(request: BackupRequest, snapshot: str, context: DumpContext) -> Contents:
    """Run pg_dump, and move its files into the writer while pg_dump writes them. Return the archive's contents.

    pgstow pauses pg_dump whenever the spool is full. Raises DumpFailed, ConnectionFailed, LocalResourceExhausted or StorageError.
    """
    piece_size = request.limits.piece_size
    limits, server, workers, writer = request.limits, context.call.server, context.workers, context.writer
    shares = plan_shares(request, server)
    without_data = [table.pattern for table in shares.tables]
    dump = DirectoryDump(
        context.call, request.selection, snapshot=snapshot, jobs=shares.of_pg_dump, without_data=without_data
    )
    context.open_stores()
    spool = Spool(dump.folder, limit=limits.spool, piece_size=piece_size, open_files=dump.open_files)
    if not spool.punches_holes:
        context.notify(
            Notice(
                "The spool's file system can't punch holes, so a table's file stays on disk until the whole table is dumped."
            )
        )
    progress, large_objects = BackupProgress(workers), LargeObjectCheck(server, workers)
    contents = Contents(partial(progress.expect, server=server))
    ended, next_look = False, 0.0
    with closing(SplitTables(shares, dump, snapshot, context, limits)) as split:
        while spool.files or contents.reading or split.unfinished or not ended:
            if time.monotonic() >= next_look:
                if not ended:
                    ended = dump.has_ended()
                    spool.finish() if ended else spool.look()
                    dump.pause_if(spool.full)
                split.look(pg_dump_ended=ended)
                if split.unfinished or not ended:
                    context.statement_timeout.look()
                next_look = time.monotonic() + TICK
            for piece in split.pieces():
                progress.passed(piece.name, piece.index * piece_size + len(piece.data), last=piece.last)
                writer.write(piece)
            for file in spool.ready():
                if not writer.has_room(min(piece_size, file.unread)) or time.monotonic() >= next_look:
                    break
                read = spool.read(file)
                if read.last:
                    large_objects.passed(read.name, file.taken)
                progress.passed(read.name, file.taken, last=read.last)
                for piece in split.completed(read):
                    if piece.name == TOC_NAME:
                        contents.take(piece)
                    writer.write(piece)
            contents.read(TICK)
            if contents.known:
                contents.describe(writer.completed())
            dump.pause_if(spool.full)
            workers.collect(timeout=0 if contents.reading else min(TICK, max(0.0, next_look - time.monotonic())))
            progress.report(writer, chain(split.current, (file.name for file in spool.growing)))
    if not contents.known:
        raise TocCutShort(f"pg_dump reported success but wrote no {TOC_NAME}.")
    large_objects.finish(any_dumped=contents.has_large_objects)
    while progress.asking or context.statement_timeout.asking or large_objects.asking:
        workers.collect(timeout=TICK)
    server.release_snapshot()  # all sessions of the dump have ended, so they no longer need the snapshot
    for line in dump.warnings():
        context.notify(Notice(line))
    return contents
