"""The formats custom, tar and plain: pg_dump writes one stream."""

from contextlib import closing
from dataclasses import replace
from functools import partial

from pipeline.archive.dumping import Dumping
from pipeline.archive.stream import STREAM_NAMES, pass_on, read_contents
from pipeline.backup.request import BackupRequest
from pipeline.catalog.manifest import TableData
from pipeline.postgres.dump import StreamDump
from pipeline.postgres.programs import find_program
from pipeline.postgres.script import ScriptReader, tables_with_data
from pipeline.postgres.workspace import Workspace
from pipeline.stages.stream_validator import StreamValidator


def dump_stream(request: BackupRequest, snapshot: str, dumping: Dumping) -> tuple[ScriptReader, list[TableData]]:
    """Run pg_dump, move its output into the writer, and validate it on the way. Return the script's reader, and the tables whose rows passed.

    pg_restore turns an archive into a script for the reader. Raises DumpFailed, ConnectionFailed, ProgramMissing, LocalResourceExhausted or
    StorageError.
    """
    call, format_ = dumping.call, request.format
    script = ScriptReader()
    validating = partial(StreamValidator, script, call.workspace)
    if format_ != "plain":
        pg_restore = find_program("pg_restore", at_least_major=call.program.major, search=request.programs)
        validating = partial(validating, format_, pg_restore)
    else:
        _expect_tables(script, request, snapshot, dumping)
    expected = call.server.estimated_size() if request.selection.is_all_tables else 0
    with (
        closing(StreamDump.of_database(call, request.selection, snapshot=snapshot, format_=format_)) as dump,
        validating() as validator,
    ):
        tables = pass_on(dump, STREAM_NAMES[format_], validator, dumping, expected=expected)
    call.server.release_snapshot()
    return script, tables


def _expect_tables(script: ScriptReader, request: BackupRequest, snapshot: str, dumping: Dumping) -> None:
    """Tell the reader which tables must come. The script itself doesn't list them, and a text in it may look like a table's rows."""
    with Workspace(request.limits.spool_parent) as aside:
        call = replace(dumping.call, workspace=aside)
        with closing(StreamDump.of_database(call, request.selection, snapshot=snapshot, format_="custom")) as archive:
            contents = read_contents(archive, dumping)
    script.expect(tables_with_data(contents), large_objects=contents.has_large_objects)
