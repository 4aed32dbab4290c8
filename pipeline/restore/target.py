"""The database to restore into: a new database that the restore makes, or an existing database that the restore first checks."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pipeline.archive.reader import Archive
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import (
    ConnectionFailed,
    InvalidRequest,
    PipelineError,
    RestoreFailed,
    TargetNotEmpty,
)
from pipeline.events import Notice, Notify
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.diagnosis import is_missing_database
from pipeline.postgres.maintenance import drop_database, maintenance_database
from pipeline.postgres.patterns import RELATIONS, compile_name_pattern, parts_made
from pipeline.postgres.programs import TAKES_STATISTICS, Program
from pipeline.postgres.renaming import named_objects
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.server import Server
from pipeline.postgres.toc import TocEntry
from pipeline.restore.compatibility import check_server, find_restorer
from pipeline.restore.content import Content
from pipeline.restore.request import RestoreRequest
from pipeline.restore.rows import Counts, check_rows, count_rows, name_of
from storage_backends import StorageError


@dataclass(slots=True)
class OpenDatabase:
    """A database that is ready for the content."""

    conninfo: Conninfo
    server: Server
    """A session of pgstow on the database."""
    program: Program
    """The pg_restore or the psql that fits the server and the backup."""
    is_atomic: bool
    """True if the program runs everything in a single transaction."""
    is_loaded: bool = False
    """True once the program has succeeded. The restore sets it."""


class TargetDatabase(Protocol):
    """The database that gets the content."""

    name: str

    def opened(self, workers: Workers, notify: Notify) -> AbstractContextManager[OpenDatabase]:
        """Return a context manager. Its block gets the database, ready for the content.

        Raises InvalidRequest if the server is too old, ProgramMissing if no program fits, ConnectionFailed, or another PipelineError.
        """

    def check_rows(self, workers: Workers, notify: Notify) -> None:
        """Raise RestoreFailed unless the content's tables have as many rows as the manifest says. Also raises ConnectionFailed."""


class NewDatabase:
    """A database that the restore makes, and drops again if anything fails."""

    def __init__(self, target: Conninfo, content: Content, request: RestoreRequest) -> None:
        self.name = target.database or content.archive.manifest.database
        self._target, self._content, self._request = target, content, request

    @contextmanager
    def opened(self, workers: Workers, notify: Notify) -> Iterator[OpenDatabase]:
        """Make the database and yield it. If the block fails, drop the database.

        Use a single transaction only on request, since it may need too many locks. With ``options.keep_going``, keep the database after
        RestoreFailed, or if the server went away. Raises as :meth:`TargetDatabase.opened` does.
        """
        request, source = self._request, self._content.archive.manifest.source
        maintenance = maintenance_database(self._target)
        with Server(maintenance) as server:
            program = _fitting_program(server, self._content.archive, request)
            in_tablespace = request.database_tablespace and not request.options.no_tablespaces
            server.create_database(self.name, source, in_tablespace=in_tablespace)
        try:
            with Server(self._target) as server:
                if _makes_public(self._content):
                    server.execute("DROP SCHEMA public")
                yield OpenDatabase(self._target, server, program, request.options.single_transaction)
        except BaseException as exc:
            if request.options.keep_going and isinstance(exc, RestoreFailed | ConnectionFailed):
                raise type(exc)(f"{exc} {_may_be_part(self.name)}") from exc
            try:
                drop_database(maintenance, self.name)
            except ConnectionFailed as failure:
                notify(Notice(f"The new database {self.name} is incomplete and could not be dropped. {failure}"))
            raise

    def check_rows(self, workers: Workers, notify: Notify) -> None:
        """Raise RestoreFailed unless the content's tables have as many rows as the manifest says. Also raises ConnectionFailed."""
        check_rows(self._target, self._content.tables, workers, self._request.limits.jobs, notify)


class ExistingDatabase:
    """A database that exists. It must not hold objects that the restore makes, unless the request allows them."""

    def __init__(self, target: Conninfo, content: Content, request: RestoreRequest) -> None:
        self.name = target.database or content.archive.manifest.database
        self._target, self._content, self._request = target, content, request
        self._rows_before: Counts = {}

    @contextmanager
    def opened(self, workers: Workers, notify: Notify) -> Iterator[OpenDatabase]:
        """Check the database and yield it. If the block fails, the error says whether the database may hold a part of the backup.

        Raises TargetNotEmpty if objects or rows are in the way, and as :meth:`TargetDatabase.opened` does.
        """
        request, content = self._request, self._content
        with _connected(self._target) as server:
            database = OpenDatabase(
                self._target,
                server,
                program=_fitting_program(server, content.archive, request),
                is_atomic=request.options.single_transaction or _fits_a_transaction(content.archive),
            )
            if not request.allow_nonempty:
                _check_free(server, content, request)
            self._rows_before = _count_rows_before(server, self._target, content, request, workers)
            if not request.allow_nonempty:
                _check_empty(server, self._rows_before)
            try:
                yield database
            except (PipelineError, StorageError) as exc:
                if database.is_atomic and not database.is_loaded:
                    raise
                raise type(exc)(f"{exc} {_may_be_part(self.name)}") from exc

    def check_rows(self, workers: Workers, notify: Notify) -> None:
        """Raise RestoreFailed unless the content's tables have gained as many rows as the manifest says. Also raises ConnectionFailed."""
        jobs, before = self._request.limits.jobs, self._rows_before
        check_rows(self._target, self._content.tables, workers, jobs, notify, before=before)


def _connected(target: Conninfo) -> Server:
    """Return a session on the database. Raises ConnectionFailed; if there is no such database, the error says how to make it."""
    try:
        return Server(target)
    except ConnectionFailed as exc:
        if not is_missing_database(str(exc)):
            raise
        raise type(exc)(f"{exc} Restore with --create to make the database.") from exc


def _fitting_program(server: Server, archive: Archive, request: RestoreRequest) -> Program:
    source, format_, keep_going = archive.manifest.source, archive.format, request.options.keep_going
    check_server(server, source, format_, allow_older=request.allow_older, keep_going=keep_going)
    if (
        server.major < TAKES_STATISTICS
        and archive.toc.has_statistics
        and request.options.restores_statistics
        and not keep_going
    ):
        raise InvalidRequest(
            f"The backup has the planner's statistics, which need PostgreSQL {TAKES_STATISTICS} or newer, but this server has "
            f"{server.version}: give --no-statistics, and run ANALYZE afterwards."
        )
    return find_restorer(server, source, format_, request.options, request.programs)


def _makes_public(content: Content) -> bool:
    """True if the content makes the schema public, which every new database has. It does if pg_dump was told to dump this schema.

    A script has no table of contents, so for a script this follows the logic of ``selectDumpableNamespace`` in pg_dump.c.
    """
    archive, chosen = content.archive, content.chosen
    if archive.format == "plain":
        dump = archive.manifest.dump
        takes_tables = dump.tables or any(option.startswith("--table-and-children=") for option in dump.options)
        if takes_tables or dump.only == "data":
            return False
        taken, left_out = (
            any(compile_name_pattern(pattern).fullmatch("public") for pattern in patterns)
            for patterns in (dump.schemas, dump.exclude_schemas)
        )
        return taken and not left_out
    schemas = [entry for entry in archive.toc.entries if (entry.description, entry.tag) == ("SCHEMA", "public")]
    made = [entry for entry in schemas if entry.definition.startswith("CREATE SCHEMA")]
    return any(chosen is None or entry.dump_id in chosen for entry in made)


def _fits_a_transaction(archive: Archive) -> bool:
    """True for a script without large objects. It can run in one transaction, so that a failure leaves nothing behind."""
    return archive.format == "plain" and not archive.manifest.dump.large_objects


def _may_be_part(database: str) -> str:
    return f"The database {database} may hold a part of the backup now."


def _check_free(server: Server, content: Content, request: RestoreRequest) -> None:
    """Raise TargetNotEmpty if the database isn't empty. For a part of a backup, raise it only if an object to restore exists already."""
    options = request.options
    if options.clean or not options.makes_tables:
        return
    if request.choice.is_whole:
        if count := server.count_objects():
            raise TargetNotEmpty(
                f"The database {server.name} is not empty: it holds {counted(count, 'table, function', 'tables, functions')} "
                f"or {'another object' if count == 1 else 'other objects'}. Restore into a new database with --create, drop "
                "existing objects with --clean, or give --allow-nonempty."
            )
        return
    there = named_objects(server)
    tables = [("TABLE", entry.namespace, entry.tag) for entry in _made(content, options)]
    taken = [name for name in tables if name in there] or [
        name for name in parts_made(content.archive.toc, content.chosen or ()) if name in there
    ]
    if taken:
        names = [f"{schema}.{name}" for _, schema, name in taken]
        raise TargetNotEmpty(
            f"The database {server.name} already has {_some(names)}. Drop or rename {'them' if len(names) > 1 else 'it'} first, give "
            "--clean, or restore into another database."
        )


def _count_rows_before(
    server: Server, target: Conninfo, content: Content, request: RestoreRequest, workers: Workers
) -> Counts:
    """Return the number of rows in each table that gets data but that the restore doesn't make. Raises RestoreFailed if one is missing."""
    archive, tables = content.archive, content.tables
    made = {(entry.namespace, entry.tag) for entry in _made(content, request.options)}
    if archive.manifest.dump.only == "data":  # the archive has only rows, and no entries for its tables
        there = {name_of(table) for table in tables} - server.extension_tables()
    else:  # a table without an entry belongs to an extension, which makes it
        there = {(entry.namespace, entry.tag) for entry in archive.toc.entries if entry.description in RELATIONS} - made
    return count_rows(target, [table for table in tables if name_of(table) in there], workers, request.limits.jobs)


def _check_empty(server: Server, before: Counts) -> None:
    """Raise TargetNotEmpty if a table holds rows already."""
    if filled := [".".join(name) for name, rows in before.items() if rows]:
        raise TargetNotEmpty(
            f"In the database {server.name}, {_some(filled)} already {'hold' if len(filled) > 1 else 'holds'} rows. Empty "
            f"{'these tables' if len(filled) > 1 else 'this table'} first, or give --allow-nonempty to add rows."
        )


def _made(content: Content, options: RestoreOptions) -> list[TocEntry]:
    """Return the entries that make tables, views and other relations."""
    if not options.makes_tables:
        return []
    wanted = None if content.chosen is None else frozenset(content.chosen)
    return [
        entry
        for entry in content.archive.toc.entries
        if entry.description in RELATIONS and (wanted is None or entry.dump_id in wanted)
    ]


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
