"""Feed the chosen content from the store to pg_restore or psql."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalog.manifest import TOC_NAME, Manifest
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.events import Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.fast_sessions import fast_sessions
from pipeline.postgres.loading import has_types_of_money, with_dump_settings
from pipeline.postgres.locks import LockWatch
from pipeline.postgres.pg_restore import IgnoredError, PgRestore
from pipeline.postgres.psql import Psql
from pipeline.postgres.restricted_mode import RestrictedMode
from pipeline.postgres.server import Server
from pipeline.postgres.workspace import Workspace
from pipeline.restore.content import Content
from pipeline.restore.request import RestoreRequest
from pipeline.restore.steps import plan_steps
from pipeline.restore.supervise import Watch, supervise
from pipeline.restore.target import OpenDatabase
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed, Stream
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class Loaded:
    """How the program ended, and what it was fed from the store."""

    session: Conninfo
    """The connection of the program's sessions, with settings under which the dump's text means the same as at the source."""
    jobs: int
    """The number of parallel jobs that were used."""
    errors: Sequence[IgnoredError]
    """Errors after which pg_restore went on, as it was told to."""
    replaced: Sequence[str]
    """A sentence for each overwritten or deleted object whose stored version was read instead."""
    fetched: int
    """Bytes read from the store."""


def load(
    content: Content,
    request: RestoreRequest,
    database: OpenDatabase,
    store: StorageBackend,
    workers: Workers,
    notify: Notify,
) -> Loaded:
    """Run ``database.program`` to its end, feed it the content, and set ``database.is_loaded``.

    Raises RestoreFailed if the program fails or doesn't read everything, and ConnectionFailed if the server goes away. Raises InvalidRequest
    if the memory is too small for the objects. Also raises BackupDamaged, LocalResourceExhausted or StorageError.
    """
    archive, limits, server, program = content.archive, request.limits, database.server, database.program
    manifest = archive.manifest
    money = archive.uses_money(content.chosen) or (manifest.dump.partial and has_types_of_money(server))
    session = with_dump_settings(database.conninfo, manifest.source, money=money)
    reader = ObjectReader(store, manifest.objects, content.files, workers, limits)
    jobs = 1 if archive.is_stream or request.options.single_transaction else limits.jobs
    notify(Started(f"Restoring into {server.name} with {program.path.name} {program.version}, {counted(jobs, 'job')}"))
    locks = LockWatch(server, _session_name(manifest), request.lock_wait_timeout)
    watch = Watch(server, reader, content.size, workers, notify, locks)
    load_it = _load_script if archive.format == "plain" else _load_file if archive.is_stream else _load_directory
    with nullcontext(session) if request.server_settings else fast_sessions(session, server, jobs) as fast:
        errors = load_it(content, request, database, fast, watch)
        database.is_loaded = True  # at once: a single transaction is committed, even if it can't be made durable
    return Loaded(session, jobs, errors, reader.replaced, reader.fetched)


def _load_directory(
    content: Content, request: RestoreRequest, database: OpenDatabase, session: Conninfo, watch: Watch
) -> list[IgnoredError]:
    """Restore an archive of the directory format, step by step. Return the errors after which pg_restore went on."""
    errors, done = list[IgnoredError](), 0
    truncate = _unlogged_from(database.server) if request.create and not request.options.keep_going else None
    limits = request.limits
    split = "never" if request.options.keep_going else limits.split_tables
    for step in plan_steps(
        content.archive, content.chosen, request.options, jobs=limits.jobs, truncate=truncate, split=split
    ):
        streams = [run.stream for run in step if run.jobs == 1]
        with _prepared(streams, content, request, session, watch) as (workspace, connection, feed):
            programs = list[PgRestore]()
            for number, run in enumerate(step):
                with feed.pipe(number) if streams else _folder(workspace, run.stream) as (path, inherit):
                    programs.append(
                        PgRestore.into_database(
                            database.program,
                            connection,
                            workspace,
                            path,
                            "custom" if streams else "directory",
                            jobs=run.jobs,
                            dump_ids=run.dump_ids,
                            options=run.options,
                            unset=session.overrides,
                            inherit=inherit,
                        )
                    )
            del step, run  # a folder's table of contents is large, and no longer needed in memory
            supervise(programs, feed, watch, done=done)
            errors += [error for program in programs for error in program.ignored_errors()]
            done += feed.fed
    return errors


def _unlogged_from(server: Server) -> int | None:
    """Return the size from which the server leaves a table's rows out of the write-ahead log, in bytes; None if it logs all rows.

    The size counts only if the transaction that loads the rows has truncated the table.
    """
    [(level, threshold)] = server.fetch(
        "SELECT pg_catalog.current_setting('wal_level'), pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_skip_threshold'))"
    )
    return int(threshold) if level == "minimal" else None


def _load_file(
    content: Content, request: RestoreRequest, database: OpenDatabase, session: Conninfo, watch: Watch
) -> list[IgnoredError]:
    """Restore an archive that is a single file. Return the errors after which pg_restore went on."""
    stream = Stream(tuple(content.files), may_be_left=True)
    with _prepared([stream], content, request, session, watch) as (workspace, connection, feed):
        with feed.pipe(0) as (path, inherit):
            program = PgRestore.into_database(
                database.program,
                connection,
                workspace,
                path,
                content.archive.format,
                dump_ids=content.chosen,
                options=request.options,
                unset=session.overrides,
                inherit=inherit,
            )
        supervise([program], feed, watch)
        return program.ignored_errors()


def _load_script(
    content: Content, request: RestoreRequest, database: OpenDatabase, session: Conninfo, watch: Watch
) -> list[IgnoredError]:
    """Run a plain script. Return no errors, since psql ends at the first error."""
    restricted = RestrictedMode()
    streams = [Stream(tuple(content.files))]
    with _prepared(streams, content, request, session, watch, through=restricted.of) as (workspace, connection, feed):
        with feed.pipe(0) as (path, inherit):
            program = Psql(
                database.program,
                connection,
                workspace,
                path,
                restricted,
                single_transaction=database.is_atomic,
                unset=session.overrides,
                inherit=inherit,
            )
        supervise([program], feed, watch)
    return []


@contextmanager
def _prepared(
    streams: Sequence[Stream],
    content: Content,
    request: RestoreRequest,
    session: Conninfo,
    watch: Watch,
    through: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
) -> Iterator[tuple[Workspace, str, Feed]]:
    """Yield a workspace, the connection for programs in it, and a feed of ``streams``.

    However the block ends, the programs stop before the pipes are closed: a program would take a closed pipe for the end of a table.
    """
    feed = Feed(streams, watch.reader, watch.workers, check_files=request.check_files, through=through)
    with closing(feed), Workspace(request.limits.spool_parent) as workspace:
        yield workspace, session.for_program(workspace, _session_name(content.archive.manifest)), feed


def _session_name(manifest: Manifest) -> str:
    """Return the application name of the programs' sessions."""
    return f"pgstow {manifest.backup_id}"


@contextmanager
def _folder(workspace: Workspace, stream: Stream) -> Iterator[tuple[Path, Sequence[int]]]:
    """Yield the path of an archive that has only a table of contents, and no descriptors to inherit."""
    folder = workspace.path / "archive"
    folder.mkdir(mode=0o700)
    (folder / TOC_NAME).write_bytes(stream.toc or b"")
    yield folder, ()
