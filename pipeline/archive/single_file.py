"""Writes and reads a backup that is a single file: an archive in the custom or the tar format, or a script."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.archive.dump_context import TICK, DumpContext
from pipeline.archive.file_list import FileList
from pipeline.archive.reader import dump_format, single_file
from pipeline.archive.writer import ArchivedFile
from pipeline.catalog.manifest import File, Manifest, TableData
from pipeline.catalog.origin import Format
from pipeline.config import Limits
from pipeline.errors import DumpFailed, RestoreFailed
from pipeline.events import Notice
from pipeline.postgres.dump import StreamDump
from pipeline.postgres.programs import find_program, major_of
from pipeline.postgres.script import ScriptReader, Take
from pipeline.postgres.workspace import Workspace
from pipeline.stages.download import ObjectReader, check_content
from pipeline.stages.spool import Piece
from pipeline.stages.stream_validator import StreamValidator

STREAM_NAMES: dict[Format, str] = {"custom": "archive.dump", "tar": "archive.tar", "plain": "script.sql"}
"""The name of the file, by format. Each of these formats has a single file."""

_INTERVAL = 0.2  # seconds between reports of progress


def pass_on(
    dump: StreamDump, name: str, validator: StreamValidator, context: DumpContext, *, expected: int
) -> list[TableData]:
    """Move all output of the program into the writer, as the file ``name``. Return the tables whose rows passed.

    While the writer has no room, the output waits in the pipe. ``expected`` is the estimated number of bytes, for progress.

    Raises DumpFailed if the program fails or its output isn't whole, LocalResourceExhausted if a disk is full, and the errors of
    ``workers.collect``.
    """
    writer, workers, piece_size, notify = context.writer, context.workers, context.piece_size, context.notify
    context.open_stores()
    index, reported, ended = 0, 0.0, False
    while not ended:
        context.statement_timeout.look()
        workers.collect(timeout=0 if writer.has_room(piece_size) else TICK)
        if not writer.has_room(piece_size) or (read := dump.read(piece_size, timeout=TICK)) is None:
            continue
        data, ended = read
        if ended:
            context.await_end(dump)  # if the program failed, raise this error before any error in its output
        writer.write(Piece(name, index, data, last=ended))
        index += 1
        try:
            validator.write(data)
        except RestoreFailed as exc:
            raise _unreadable(exc) from exc
        if time.monotonic() - reported > _INTERVAL:
            reported = time.monotonic()
            current = (validator.current,) if validator.current else ()
            writer.report(max(0, expected - writer.read), current)
    while context.statement_timeout.asking:
        workers.collect(timeout=TICK)
    for line in dump.warnings():
        notify(Notice(line))
    try:
        return validator.finish()
    except RestoreFailed as exc:
        raise _unreadable(exc) from exc


def read_stream(
    manifest: Manifest, reader: ObjectReader, limits: Limits, programs: Sequence[Path], take: Take | None = None
) -> list[TableData]:
    """Read all of an archive or a script that is a single file, and check it. Return the tables whose rows are in the file.

    ``take`` gets the rows.

    Raises:
        BackupDamaged: the file isn't what was dumped.
        DumpFailed: the file is not a whole archive or script.
        RestoreFailed: pg_restore can't read the file.
        ProgramMissing: there is no pg_restore that fits.
        LocalResourceExhausted: the workspace can't be made.
        StorageError: the store fails.
    """
    file = single_file(manifest)
    format_ = dump_format(manifest)
    major = major_of(manifest.source.pg_dump_version)
    pg_restore = find_program("pg_restore", at_least_major=major, search=programs) if format_ != "plain" else None
    script = ScriptReader(of_cluster=manifest.kind == "cluster", take=take)
    if pg_restore is None:
        script.expect([(table.database, table.schema_name, table.relation) for table in manifest.tables])
    with (
        Workspace(limits.spool_parent) as workspace,
        StreamValidator(script, workspace, format_, pg_restore) as validator,
    ):
        for part in check_content(file, reader.read(file)):
            validator.write(part)
        return validator.finish()


def describe_stream(archived: Iterable[ArchivedFile]) -> FileList:
    """Return the manifest's list of files."""
    return FileList(
        File(
            path=file.path,
            kind="script" if file.path.endswith(".sql") else "archive",
            size=file.size,
            checksum=file.checksum,
            segments=tuple(file.segments),
        )
        for file in archived
    )


def _unreadable(error: RestoreFailed) -> DumpFailed:
    return DumpFailed(f"pg_restore can't read pg_dump's output, so no backup was made. {error}")
