"""Restore a database, or part of one, from a store."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.archive_reader import Archive, Choice, open_archive
from pipeline.catalog import Wanted, find_backup
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import ConnectionFailed, PipelineError, ProgramMissing, RestoreFailed, TargetNotEmpty
from pipeline.events import Notice, Notify, Progress, Started
from pipeline.manifest import File, Manifest
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.patterns import belongs_elsewhere
from pipeline.postgres.programs import Program, find_program, major_of, speaks_to
from pipeline.postgres.restoration import Restoration
from pipeline.postgres.server import Server
from pipeline.postgres.toc import TOC_NAME, database_statements
from pipeline.postgres.workspace import Workspace
from pipeline.row_check import check_rows
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed, plan_feed
from storage_backends import StorageBackend, StorageError

_TICK = 0.05  # seconds between looks at pg_restore
_INTERVAL = 0.2  # seconds between reports of progress
_REPORT_TIMEOUT = 10.0  # seconds for a thread to say that it has fed all, after pg_restore has read it
_LOOK_INTERVAL = 2.0  # seconds between looks at the server, and for a pipe that pg_restore opened out of turn


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """Which backup to restore, where to, and what of it."""

    wanted: Wanted
    target: Conninfo
    create: bool = False
    """Make the target database, with the encoding and the locale that the backed-up one had; of a whole backup also its owner, settings and
    grants."""
    choice: Choice = field(default_factory=Choice)
    allow_nonempty: bool = False
    """Restore even where something is there; what collides with it still fails."""
    tablespaces: bool = True
    """Put tables into the tablespaces that they were in, which must be there; otherwise into the database's own."""
    check_files: bool = False
    """Check each file against its own SHA-256 and rows, and not only the objects that it lies in."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore brought back."""

    manifest: Manifest
    program: Program
    """The pg_restore that did it."""
    server_version: str
    database: str
    files: Sequence[File]
    """Those of the archive that were restored; its table of contents too."""
    tables: int
    rows: int
    size: int
    """Bytes of the archive that were restored, uncompressed."""
    fetched: int
    """Bytes read from the store."""


def restore(request: RestoreRequest, store: StorageBackend, notify: Notify) -> Restored:
    """Restore into the target, and count its rows against the manifest's.

    A database that this made is dropped again if anything fails. Raises PipelineError or StorageError.
    """
    limits = request.limits
    manifest = find_backup(store, request.wanted)
    target = request.target.with_database(request.target.database or manifest.database)
    with Workers() as workers:
        archive = open_archive(store, manifest, workers, limits)
        chosen = archive.choose(request.choice)
        files = archive.files_of(chosen)
        with _target_database(target, archive, chosen, request, notify) as (server, program):
            if chosen is not None:
                chosen = archive.with_schemas(chosen, present=server.schemas())
            reader = ObjectReader(store, manifest.objects, files, workers, limits)
            by_path = {file.path: file for file in files}
            plan = plan_feed(archive.toc_data, archive.toc, by_path, archive.lists, jobs=limits.jobs)
            notify(Started(f"Restoring into {target.database} with pg_restore {program.version}, {limits.jobs} jobs"))
            with Workspace(limits.spool_parent) as workspace:
                feed = Feed(
                    workspace.path / "archive", plan, reader, workers, limits.jobs, check_files=request.check_files
                )
                restoration = Restoration(
                    program,
                    target,
                    workspace,
                    workspace.path / "archive",
                    jobs=limits.jobs,
                    name=f"pgstow {manifest.backup_id}",
                    dump_ids=None
                    if chosen is None
                    else [plan.new_ids.get(id_, id_) for id_ in archive.in_order(chosen)],
                    tablespaces=request.tablespaces,
                )
                _follow(restoration, feed, reader, server, sum(file.size for file in files), workers, notify)
            notify(Started("Counting rows"))
            check_rows(target, files, workers, limits.jobs, notify)
            if request.create and chosen is None:
                _restore_properties(server, archive)
    if chosen is not None:
        _tell_what_is_left_out(archive, chosen, notify)
    tables = [file for file in files if file.kind == "table"]
    return Restored(
        manifest=manifest,
        program=program,
        server_version=server.version,
        database=target.database or manifest.database,
        files=[archive.files[TOC_NAME], *files],
        tables=len(tables),
        rows=sum(file.rows or 0 for file in tables),
        size=sum(file.size for file in files),
        fetched=archive.fetched + reader.fetched,
    )


@contextmanager
def _target_database(
    target: Conninfo, archive: Archive, chosen: frozenset[int] | None, request: RestoreRequest, notify: Notify
) -> Iterator[tuple[Server, Program]]:
    """A session on the database to restore into, which is new and empty, or free of what will come; and the pg_restore for it."""
    if not request.create:
        with Server(target) as server:
            program = _find_pg_restore(server, archive, request)
            if not request.allow_nonempty:
                _check_free(server, archive, chosen)
            try:
                yield server, program
            except (PipelineError, StorageError) as exc:
                raise type(exc)(f"{exc} The database {server.name} may hold a part of the backup now.") from exc
        return
    name = target.database or archive.manifest.database
    maintenance = target.with_database("postgres")
    with Server(maintenance) as server:
        program = _find_pg_restore(server, archive, request)
        server.create_database(name, archive.manifest.source)
    try:
        with Server(target) as server:
            yield server, program
    except BaseException:
        try:
            with Server(maintenance) as server:
                server.drop_database(name)
        except ConnectionFailed as exc:
            notify(Notice(f"The new database {name} is not whole and could not be dropped. {exc}"))
        raise


def _find_pg_restore(server: Server, archive: Archive, request: RestoreRequest) -> Program:
    """Raises ProgramMissing where there is none for this archive and this server."""
    dumped_by = archive.manifest.source.pg_dump_version
    program = find_program("pg_restore", at_least_major=max(server.major, major_of(dumped_by)), search=request.programs)
    if not speaks_to(program.major, server.major):
        raise ProgramMissing(
            f"pg_restore {program.version} can't restore into a server older than 17, which this one is ({server.version}): install "
            f"PostgreSQL {server.major}'s, which reads archives that were made by a pg_dump up to its own version (this one: {dumped_by})."
        )
    return program


def _check_free(server: Server, archive: Archive, chosen: frozenset[int] | None) -> None:
    """Raises TargetNotEmpty where something is in the way."""
    if chosen is None:
        if count := server.count_objects():
            raise TargetNotEmpty(
                f"The database {server.name} is not empty: it holds {count} tables, functions or other objects. Restore into a new one "
                "with --create, or say --allow-nonempty."
            )
        return
    there = server.relations()
    names = dict.fromkeys((entry.namespace, entry.tag) for entry in archive.toc.entries if entry.dump_id in chosen)
    if taken := [f"{schema}.{name}" for schema, name in names if (schema, name) in there]:
        raise TargetNotEmpty(
            f"The database {server.name} has {', '.join(taken[:5])}{', …' if len(taken) > 5 else ''} already. Drop or rename it first, "
            "or restore into another database."
        )


def _follow(
    restoration: Restoration,
    feed: Feed,
    reader: ObjectReader,
    server: Server,
    total: int,
    workers: Workers,
    notify: Notify,
) -> None:
    """See pg_restore to its end; a failure to fetch or to check what it is fed ends it at once.

    So does the end of our own session: while pg_restore waits for data, it doesn't hear that the server is gone.
    """
    reported = 0.0
    looked = time.monotonic()
    try:
        while not restoration.has_ended():
            workers.collect(timeout=_TICK)
            if time.monotonic() - looked > _LOOK_INTERVAL:
                looked = time.monotonic()
                server.execute("SELECT")
                feed.serve_strays()
            if time.monotonic() - reported > _INTERVAL:
                reported = time.monotonic()
                notify(Progress(feed.fed, max(total, feed.fed), reader.fetched, tuple(feed.current)))
    finally:
        restoration.stop()
        feed.close()
    ended = time.monotonic()
    while feed.unfinished and time.monotonic() - ended < _REPORT_TIMEOUT:
        workers.collect(timeout=_TICK)
    if feed.unfinished:
        raise RestoreFailed(
            f"pg_restore ended well, but did not read {feed.unfinished} of the archive's files to their end."
        )


def _restore_properties(server: Server, archive: Archive) -> None:
    """What pg_restore leaves out, since it names the database: owner, settings, comment, grants."""
    try:
        for statement in database_statements(archive.toc_data, server.name):
            server.execute(statement)
    except ConnectionFailed as exc:
        raise RestoreFailed(f"The database's owner, settings and grants could not be restored. {exc}") from exc


def _tell_what_is_left_out(archive: Archive, chosen: frozenset[int], notify: Notify) -> None:
    """Foreign keys of other tables that point at a restored one, and its publications, went with it when it was dropped."""
    for entry in archive.toc.entries:
        if belongs_elsewhere(entry) and entry.dump_id not in chosen and not chosen.isdisjoint(entry.dependencies):
            kind = "foreign key" if entry.description == "FK CONSTRAINT" else entry.description.lower()
            notify(Notice(f"Not restored, since it isn't the table's alone: {kind} {entry.namespace}.{entry.tag}."))
