"""Backs up one database."""

from collections.abc import Sequence

from pipeline.archive.destinations import BackupResults
from pipeline.archive.single_file import describe_stream
from pipeline.backup.directory import dump_directory
from pipeline.backup.in_progress import BackupInProgress, ManifestDraft
from pipeline.backup.request import BackupRequest
from pipeline.backup.source import check_server_clock, describe_source, find_dumper
from pipeline.backup.stream import dump_stream
from pipeline.catalog.keys import check_name
from pipeline.catalog.manifest import TableData
from pipeline.catalog.origin import DumpOptions
from pipeline.counting import counted
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.locks import backup_lock
from pipeline.postgres.server import Server
from pipeline.postgres.unlogged import describe_left_out, unlogged_left_out
from storage_backends import StorageBackend


def back_up(request: BackupRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    """Dump the database once into all stores, and commit the backup in each. Return each store's result.

    The manifest is put last, so the backup exists once this function returns. If a store fails, the backup continues in the other stores.

    Raises BackupRunning if another backup of the database is running, another PipelineError if the dump fails, or StorageError if all
    stores fail.
    """
    with Server(request.source) as server:
        backup = BackupInProgress.begin(request, server, check_name(server.name), stores, notify)
        with backup_lock(server, backup.session_name):
            return _back_up_alone(backup, server)


def _back_up_alone(backup: BackupInProgress, server: Server) -> BackupResults:
    request, notify = backup.request, backup.notify
    program = find_dumper("pg_dump", server, request)
    snapshot = server.export_snapshot(serializable=request.selection.has("--serializable-deferrable"))
    check_server_clock(snapshot.taken_at)
    source = describe_source(server, program, snapshot.wal_lsn, request.selection, for_script=request.format == "plain")
    options = _describe_dump(request, unlogged_left_out(server, request.selection))
    if options.unlogged_left_out:
        notify(Notice(describe_left_out(options.unlogged_left_out)))
    notify(Started(f"Dumping {server.name} with pg_dump {program.version}, {counted(options.jobs, 'job')}"))
    tables: list[TableData] = []
    with backup.dump_context(server, program) as context:
        if request.format == "directory":
            contents = dump_directory(request, snapshot.name, context)
            backup.ended("dump")
            contents.describe(context.writer.finish())
            files = contents.finish()
        else:
            script, tables = dump_stream(request, snapshot.name, context)
            backup.ended("dump")
            files = describe_stream(context.writer.finish())
            if request.format == "plain":
                found = {"encoding": script.encoding, "large_objects": script.large_objects}
                options = options.model_copy(update=found)
    backup.ended("upload_after_dump")
    return backup.commit(ManifestDraft("database", snapshot.taken_at, source, options, files, tables))


def _describe_dump(request: BackupRequest, unlogged_left_out: list[str]) -> DumpOptions:
    chosen = request.selection
    return DumpOptions(
        format=request.format,
        jobs=request.limits.jobs if request.format == "directory" else 1,
        only=chosen.only,
        tables=list(chosen.tables),
        exclude_tables=list(chosen.exclude_tables),
        schemas=list(chosen.schemas),
        exclude_schemas=list(chosen.exclude_schemas),
        exclude_table_data=list(chosen.exclude_table_data),
        options=list(map(str, chosen.options)),
        unlogged_left_out=unlogged_left_out,
    )
