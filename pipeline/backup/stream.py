"""Backs up in the formats custom, tar and plain, which pg_dump writes as one stream."""

import time
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from pipeline.archive.dump_context import TICK, DumpContext
from pipeline.archive.single_file import STREAM_NAMES, pass_on
from pipeline.backup.request import BackupRequest
from pipeline.catalog.manifest import TableData
from pipeline.errors import DumpFailed
from pipeline.postgres.activity import count_sessions
from pipeline.postgres.dump import StreamDump
from pipeline.postgres.programs import find_program
from pipeline.postgres.script import ScriptReader, tables_with_data
from pipeline.postgres.toc import Toc
from pipeline.postgres.toc_format import TocCutShort
from pipeline.postgres.toc_head import parse_head
from pipeline.postgres.workspace import Workspace
from pipeline.stages.stream_validator import StreamValidator

_HEAD_PART = 64 * 1024  # bytes
_SESSION_END_TIMEOUT = 10.0  # seconds for the server to end a session after its client has ended


def dump_stream(request: BackupRequest, snapshot: str, context: DumpContext) -> tuple[ScriptReader, list[TableData]]:
    """Run pg_dump, and move its output into the writer while validating it.

    Return the script's reader, and the tables whose rows are in the output. If the output is an archive, pg_restore turns it into a script
    for the reader.

    Raises DumpFailed, ConnectionFailed, ProgramMissing, LocalResourceExhausted or StorageError.
    """
    call, format_ = context.call, request.format
    script = ScriptReader(context.seal)
    validating = partial(StreamValidator, script, call.workspace)
    if format_ != "plain":
        pg_restore = find_program("pg_restore", at_least_major=call.program.major, search=request.programs)
        validating = partial(validating, format_, pg_restore)
    else:
        _expect_tables(script, request, snapshot, context)
    expected = call.server.estimated_size() if request.selection.is_all_tables else 0
    with (
        closing(StreamDump.of_database(call, request.selection, snapshot=snapshot, format_=format_)) as dump,
        validating() as validator,
    ):
        tables = pass_on(dump, STREAM_NAMES[format_], validator, context, expected=expected)
    call.server.release_snapshot()
    return script, tables


def _expect_tables(script: ScriptReader, request: BackupRequest, snapshot: str, context: DumpContext) -> None:
    """Tell the reader which tables the script must have. The script has no list of tables, and a text in it may look like a table's rows."""
    with Workspace(request.limits.spool_parent) as aside:
        call = replace(context.call, workspace=aside)
        with closing(StreamDump.of_database(call, request.selection, snapshot=snapshot, format_="custom")) as archive:
            contents = _read_contents(archive, context)
    script.expect(tables_with_data(contents), large_objects=contents.has_large_objects)


def _read_contents(dump: StreamDump, context: DumpContext) -> Toc:
    """Return the table of contents of an archive in the custom format, and end pg_dump before it dumps data.

    Waits up to 10 seconds for pg_dump's sessions to end. Raises DumpFailed if pg_dump fails or ends too early, ConnectionFailed, and the
    errors of ``workers.collect``.
    """
    workers = context.workers
    head, tried, ended = bytearray(), 0, False
    while True:
        context.statement_timeout.look()
        workers.collect(timeout=0)
        if (read := dump.read(_HEAD_PART, timeout=TICK)) is None:
            continue
        head += read[0]
        if ended := read[1]:
            context.await_end(dump)
        if not ended and len(head) < 2 * tried:  # so that a long table of contents isn't parsed after each part
            continue
        tried = len(head)
        with suppress(TocCutShort):
            _, toc = parse_head(bytes(head), "custom")
            break
        if ended:
            raise DumpFailed(
                "pg_dump ended before it wrote the table of contents, so pgstow can't know which tables the script must have."
            )
    dump.stop()
    deadline = time.monotonic() + _SESSION_END_TIMEOUT
    while count_sessions(context.call.server, context.call.name) and time.monotonic() < deadline:
        workers.collect(timeout=TICK)
    return toc
