"""Back up one database."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pipeline.archive.destinations import BackupResults, Destinations
from pipeline.archive.stream import STREAM_NAMES, describe_stream, pass_on, read_contents
from pipeline.archive.writer import ArchivedFile, ArchiveWriter
from pipeline.backup.commit import BackupInProgress, check_server_clock, commit, default_cluster, describe_source
from pipeline.backup.large_objects import LargeObjectCheck
from pipeline.backup.progress import BackupProgress
from pipeline.catalog.keys import check_name
from pipeline.catalog.manifest import TOC_NAME, DumpOptions, File, FileKind, Format, TableData
from pipeline.concurrency import Workers
from pipeline.config import Labels, Limits, Selection
from pipeline.errors import DumpFailed
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dump import COPY_END, DirectoryDump, DumpCall, StreamDump
from pipeline.postgres.locks import backup_lock
from pipeline.postgres.programs import find_program
from pipeline.postgres.script import ScriptReader, tables_with_data
from pipeline.postgres.server import Server
from pipeline.postgres.statement_timeout import StatementTimeout
from pipeline.postgres.toc import Toc, TocEntry, read_toc
from pipeline.postgres.unlogged import describe_left_out, unlogged_left_out
from pipeline.postgres.workspace import Workspace
from pipeline.stages.compress import DEFAULT_LEVEL, Compressor
from pipeline.stages.spool import Spool
from pipeline.stages.stream_validator import StreamValidator
from storage_backends import StorageBackend

_TICK = 0.02  # seconds between looks at the spool; at 1 GB/s pg_dump writes 20 MB meanwhile


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """One database to back up."""

    source: Conninfo
    cluster: str | None = None
    """The name to file it under; None for the server's host."""
    selection: Selection = field(default_factory=Selection)
    format: Format = "directory"
    """pg_dump's; in the others it has a single job."""
    level: int = DEFAULT_LEVEL
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""
    lock_wait_timeout: int = 300
    """Seconds that pg_dump may wait for another session's lock on a table; 0 for ever."""
    statement_timeout: int = 0
    """Seconds that a statement of pg_dump may run; 0 for ever."""
    labels: Labels = field(default_factory=Labels)
    password_file: Path | None = None
    """The file that the source's password was read from, where it was."""

    def __post_init__(self) -> None:
        self.limits.check_memory(self.limits.object_size)


def back_up(request: BackupRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    """Dump the database once, into each of the stores, and commit it there.

    The backup exists once this returns, and not before: its manifest is put last. A store that fails keeps no other from it. Raises
    PipelineError (BackupRunning where the database is being backed up already), or StorageError where all stores fail.
    """
    with Server(request.source) as server:
        run = BackupInProgress.begin(
            request.cluster or default_cluster(server), check_name(server.name), request.labels
        )
        with backup_lock(server, run.session_name):
            return _back_up_alone(request, run, server, Destinations(stores, server.name, notify), notify)


def _back_up_alone(
    request: BackupRequest, run: BackupInProgress, server: Server, destinations: Destinations, notify: Notify
) -> BackupResults:
    limits = request.limits
    with Workers() as workers, Workspace(limits.spool_parent) as workspace:
        program = find_program("pg_dump", at_least_major=server.major, search=request.programs)
        snapshot = server.export_snapshot()
        check_server_clock(snapshot.taken_at)
        source = describe_source(server, program, snapshot.wal_lsn, for_script=request.format == "plain")
        dump = _describe_dump(request, unlogged_left_out(server, request.selection))
        if dump.unlogged_left_out:
            notify(Notice(describe_left_out(dump.unlogged_left_out)))
        notify(Started(f"Dumping {server.name} with pg_dump {program.version}, {dump.jobs} jobs"))
        reached = request.source.at(server.host, server.hostaddr, server.port)
        call = DumpCall(program, reached, workspace, server, run.session_name, request.lock_wait_timeout)
        writer = ArchiveWriter(destinations, run.ref.data_prefix, workers, limits, Compressor(request.level))
        watch = StatementTimeout(server, run.session_name, request.statement_timeout, workers)
        if request.format == "directory":
            directory = DirectoryDump(call, request.selection, snapshot=snapshot.name, jobs=limits.jobs)
            toc = _drain(directory, watch, server, writer, workers, limits, notify)
            run.ended("dump")
            files, tables = _describe_files(writer.finish(), toc), list[TableData]()
        else:
            script = ScriptReader()
            tables = _pass_stream(call, request, snapshot.name, script, watch, writer, workers, notify)
            if request.format == "plain":
                dump = dump.model_copy(update={"encoding": script.encoding, "large_objects": script.large_objects})
            run.ended("dump")
            files = describe_stream(writer.finish())
    run.ended("upload_after_dump")
    return commit(
        run,
        destinations,
        notify,
        kind="database",
        snapshot_at=snapshot.taken_at,
        source=source,
        dump=dump,
        level=request.level,
        files=files,
        tables=tables,
    )


def _drain(
    dump: DirectoryDump,
    watch: StatementTimeout,
    server: Server,
    writer: ArchiveWriter,
    workers: Workers,
    limits: Limits,
    notify: Notify,
) -> Toc:
    """Move all that pg_dump writes into the writer while it writes; pg_dump is stopped whenever the spool is full."""
    spool = Spool(dump.folder, limit=limits.spool, piece_size=limits.piece_size, open_files=dump.open_files)
    if not spool.punches_holes:
        notify(
            Notice(
                "The spool's file system can't punch holes, so a table's whole file stays on disk until it is dumped."
            )
        )
    toc_data = bytearray()
    progress, large_objects = BackupProgress(notify, workers), LargeObjectCheck(server, workers)
    ended, next_look = False, 0.0
    while not (ended and not spool.files):
        if time.monotonic() >= next_look:
            ended = dump.has_ended()
            spool.finish() if ended else spool.look()
            dump.pause_if(spool.full)
            next_look = math.inf if ended else time.monotonic() + _TICK
            if not ended:
                watch.look()
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
        workers.collect(timeout=min(_TICK, max(0.0, next_look - time.monotonic())))
        progress.report(writer, spool)
    toc = read_toc(bytes(toc_data))
    large_objects.finish(toc)
    while progress.asking or watch.asking or large_objects.asking:
        workers.collect(timeout=_TICK)
    server.release_snapshot()  # no worker of pg_dump has it still to take
    for line in dump.warnings():
        notify(Notice(line))
    return toc


def _pass_stream(
    call: DumpCall,
    request: BackupRequest,
    snapshot: str,
    script: ScriptReader,
    watch: StatementTimeout,
    writer: ArchiveWriter,
    workers: Workers,
    notify: Notify,
) -> list[TableData]:
    """Move all that pg_dump writes to its pipe into the writer, and what it means into ``script``; the tables whose rows passed."""
    format_, server = request.format, call.server
    reading = partial(StreamValidator, script, call.workspace)
    if format_ != "plain":
        pg_restore = find_program("pg_restore", at_least_major=call.program.major, search=request.programs)
        reading = partial(reading, format_, pg_restore)
    else:
        with Workspace(request.limits.spool_parent) as aside:
            first = replace(call, workspace=aside)
            archive = StreamDump.of_database(first, request.selection, snapshot=snapshot, format_="custom")
            with closing(archive):
                contents = read_contents(archive, server, call.name, watch, workers)
        script.expect(tables_with_data(contents), large_objects=contents.has_large_objects)
    expected = server.estimated_size() if request.selection.is_all_tables else 0
    with (
        closing(StreamDump.of_database(call, request.selection, snapshot=snapshot, format_=format_)) as dump,
        reading() as along,
    ):
        size = request.limits.piece_size
        tables = pass_on(
            dump, STREAM_NAMES[format_], along, watch, writer, workers, notify, piece_size=size, expected=expected
        )
    server.release_snapshot()
    return tables


def _describe_files(archived: Sequence[ArchivedFile], toc: Toc) -> list[File]:
    """The archive's files as the manifest has them. Raises DumpFailed unless they are the whole archive."""
    entries = {entry.filename: entry for entry in toc.data_entries}
    passed = {file.path for file in archived}
    if missing := sorted(entries.keys() - passed):
        raise DumpFailed(f"pg_dump ended well, but left no {missing[0]} ({len(missing)} of its files are missing).")
    listed = sum(file.lines for file in archived if _kind(file, entries) == "large_object_toc")
    present = sum(1 for file in archived if _kind(file, entries) == "large_object")
    if listed != present:
        raise DumpFailed(f"pg_dump ended well, but left {present} of {listed} large objects.")
    return [_describe_file(file, entries) for file in archived]


def _describe_file(file: ArchivedFile, entries: Mapping[str, TocEntry]) -> File:
    kind = _kind(file, entries)
    described = File(path=file.path, kind=kind, size=file.size, checksum=file.checksum, segments=file.segments)
    entry = entries.get(file.path)
    if entry is None:
        return described
    if kind == "large_object_toc":
        return described.model_copy(update={"dump_id": entry.dump_id})
    # The mark must be a whole line: a value may end with \\. too, and empty lines may follow it.
    if file.tail.removeprefix(b"\n") != COPY_END:
        raise DumpFailed(f"pg_dump ended well, but the data of {entry.namespace}.{entry.tag} is cut short.")
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
        unlogged_left_out=unlogged_left_out,
    )
