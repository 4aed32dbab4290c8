"""Restore a database, or part of one, from a store."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.archive.reader import Archive, EntrySelection, open_archive
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import TOC_NAME, File, Manifest
from pipeline.concurrency import Workers
from pipeline.config import Limits, RestoreOptions
from pipeline.errors import ConnectionFailed, InvalidRequest, PipelineError, RestoreFailed
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.loading import as_dumped, has_types_of_money
from pipeline.postgres.maintenance import drop_database, maintenance_database
from pipeline.postgres.partitions import attach, attachable, attachments_left_out, tell_alone
from pipeline.postgres.patterns import belongs_elsewhere
from pipeline.postgres.pg_restore import IgnoredError, PgRestore
from pipeline.postgres.programs import Program
from pipeline.postgres.psql import Psql
from pipeline.postgres.restricted_mode import RestrictedMode
from pipeline.postgres.server import Server
from pipeline.postgres.workspace import Workspace
from pipeline.restore.properties import apply_rest, apply_settings, read_as_dumped, refresh_views
from pipeline.restore.relocation import relocate
from pipeline.restore.relocation_plan import Relocation
from pipeline.restore.rows import Counts, Table, check_rows
from pipeline.restore.supervise import supervise
from pipeline.restore.target import check_empty, check_free, count_rows_before, find_restorer, refuse_older
from pipeline.stages.download import ObjectReader, tell_replaced
from pipeline.stages.feed import Feed
from storage_backends import StorageBackend, StorageError


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """Which backup to restore, where to, what of it and how. Raises InvalidRequest where that contradicts itself."""

    wanted: BackupSelector
    target: Conninfo
    create: bool = False
    """Make the target database with the encoding, locale, tablespace and settings of the backed-up one. From a whole backup, add its owner
    and grants."""
    database_tablespace: bool = True
    """With ``create``: use that tablespace, unless ``options`` leave out tablespaces."""
    properties: bool = False
    """Give the target what the backed-up database had as a whole, even where this doesn't make it."""
    choice: EntrySelection = field(default_factory=EntrySelection)
    relocation: Relocation | None = None
    """Restore what patterns choose into another schema, or under another name."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    roles: Mapping[str, str] = field(default_factory=dict)
    """New roles, by the ones that the backup names as owners, in grants, policies and the like."""
    allow_nonempty: bool = False
    """Restore even where something is there; what collides with it still fails."""
    allow_older: bool = False
    """Try it even where the server is of an older major version than the one that was backed up."""
    allowed_errors: Sequence[str] = ()
    """With ``options.keep_going``: regular expressions for the errors of pg_restore that are no failure."""
    check_files: bool = False
    """Check each file against its own SHA-256 and rows, and not only the objects that it lies in."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""

    def __post_init__(self) -> None:
        if self.create and self.options.clean:
            raise InvalidRequest(
                "--create makes a new database, and pgstow drops none that is there: leave out --clean."
            )
        if self.create and not self.options.makes_tables:
            raise InvalidRequest("--create makes an empty database, which lacks the tables that this restore needs.")
        if self.relocation and not self.choice.by_pattern:
            raise InvalidRequest("--to-schema and --as are about what you choose with -t or -n.")
        if self.options.single_transaction and self.limits.jobs > 1:
            raise InvalidRequest("--single-transaction is for a single job: say --jobs 1.")
        if self.allowed_errors and not self.options.keep_going:
            raise InvalidRequest("--allow-error is about errors after which --keep-going goes on: say both.")
        for pattern in self.allowed_errors:
            try:
                re.compile(pattern)
            except re.error as exc:
                raise InvalidRequest(f"{pattern!r} is not a regular expression: {exc}.") from exc


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
    replaced: tuple[str, ...]
    """A sentence for each overwritten or deleted object whose stored version was restored instead."""
    fetched: int
    """Bytes read from the store."""
    allowed_errors: int
    """Errors that pg_restore went on after, as it was allowed to."""


def restore(request: RestoreRequest, store: StorageBackend, notify: Notify) -> Restored:
    """Restore into the target, and count its rows against the manifest's.

    A database that this made is dropped again if anything fails, except for errors that pg_restore was to go on after.

    Raises PipelineError or StorageError.
    """
    return restore_manifest(find_backup(store, request.wanted, notify), request, store, notify)


def restore_manifest(manifest: Manifest, request: RestoreRequest, store: StorageBackend, notify: Notify) -> Restored:
    """Do as :func:`restore` with a manifest that was read already. It is the backup that ``request.wanted`` means."""
    limits, options = request.limits, request.options
    target = request.target.with_database(request.target.database or manifest.database).acting_as(options.role)
    with Workers() as workers:
        archive = open_archive(store, manifest, workers, limits).with_roles(request.roles)
        if archive.format == "plain":
            _refuse_options(request, manifest)
        choice = request.choice
        alone = attachments_left_out(archive.toc, archive.choose(choice) or ()) if options.makes_tables else []
        if request.relocation is not None:
            archive, choice = relocate(
                archive,
                choice,
                request.relocation,
                target,
                options,
                limits,
                request.programs,
                notify,
                allow_older=request.allow_older,
            )
        chosen = archive.choose(choice)
        files = archive.files_of(chosen) if options.loads_data or archive.is_stream else []
        tables = archive.tables_of(chosen) if options.loads_data else []
        with _target_database(target, archive, chosen, tables, request, workers, notify) as (server, program, before):
            read_as_dumped(server, archive)
            if request.choice.by_pattern and chosen is not None:
                chosen = archive.with_schemas(chosen, present=server.schemas())
            to_attach = attachable(server, alone) if _attaches(request) else []
            reader = ObjectReader(store, manifest.objects, files, workers, limits)
            refused = apply_settings(server, archive, options) if request.create or request.properties else []
            money = archive.uses_money(chosen) or (manifest.dump.partial and has_types_of_money(server))
            loading = as_dumped(target, manifest.source, money=money)
            plan = archive.plan_feed(files, jobs=limits.jobs, triggers_fire=not options.disable_triggers)
            jobs = 1 if archive.is_stream else limits.jobs
            notify(Started(f"Restoring into {target.database} with {program.path.name} {program.version}, {jobs} jobs"))
            with Workspace(limits.spool_parent) as workspace:
                restricted = RestrictedMode() if archive.format == "plain" else None
                feed = Feed(
                    workspace.path / "archive",
                    plan,
                    reader,
                    workers,
                    jobs,
                    check_files=request.check_files,
                    through=restricted.of if restricted else iter,
                )
                restoration = _start(
                    archive, program, loading, workspace, feed, restricted, plan.new_ids, chosen, request
                )
                supervise(restoration, feed, reader, server, sum(file.size for file in files), workers, notify)
                allowed_errors = _check_errors([*refused, *restoration.ignored_errors()], request, notify)
            if (request.create or request.properties) and jobs == 1:
                refresh_views(loading, archive, chosen, options)
            if tables:
                notify(Started("Counting rows"))
                _check_rows(target, tables, archive, request, workers, notify, before)
            attach(server, to_attach)
            if request.create or request.properties:
                apply_rest(server, archive, options, whole=chosen is None)
    replaced = (*archive.replaced, *reader.replaced)
    tell_replaced(replaced, notify)
    tell_alone([one for one in alone if one not in to_attach], notify)
    if request.choice.by_pattern and chosen is not None and options.makes_tables:
        _tell_what_is_left_out(archive, frozenset(chosen), notify)
    return Restored(
        manifest=manifest,
        program=program,
        server_version=server.version,
        database=target.database or manifest.database,
        files=files if archive.is_stream else [archive.files[TOC_NAME], *files],
        tables=len(tables),
        rows=sum(table.rows or 0 for table in tables),
        size=sum(file.size for file in files),
        replaced=replaced,
        fetched=archive.fetched + reader.fetched,
        allowed_errors=allowed_errors,
    )


@contextmanager
def _target_database(
    target: Conninfo,
    archive: Archive,
    chosen: Sequence[int] | None,
    tables: Sequence[Table],
    request: RestoreRequest,
    workers: Workers,
    notify: Notify,
) -> Iterator[tuple[Server, Program, Counts]]:
    """A session on the database to restore into, which is new and empty, or fit for what will come; the program for it; and the rows that
    are there in tables that get more of them."""
    source, options = archive.manifest.source, request.options
    if not request.create:
        with Server(target) as server:
            if not request.allow_older:
                refuse_older(server, source)
            program = find_restorer(server, archive, request.programs)
            if not request.allow_nonempty:
                check_free(server, archive, chosen, options)
            before = count_rows_before(server, target, archive, chosen, tables, options, workers, request.limits)
            if not request.allow_nonempty:
                check_empty(server, before)
            try:
                yield server, program, before
            except (PipelineError, StorageError) as exc:
                if _is_atomic(request, archive):
                    raise
                raise type(exc)(f"{exc} {_may_be_part(server.name)}") from exc
        return
    name = target.database or archive.manifest.database
    maintenance = maintenance_database(target)
    with Server(maintenance) as server:
        if not request.allow_older:
            refuse_older(server, source)
        program = find_restorer(server, archive, request.programs)
        in_tablespace = request.database_tablespace and not options.no_tablespaces
        server.create_database(name, source, in_tablespace=in_tablespace)
    try:
        with Server(target) as server:
            yield server, program, {}
    except BaseException as exc:
        if options.keep_going and isinstance(exc, RestoreFailed):
            raise RestoreFailed(f"{exc} {_may_be_part(name)}") from exc
        try:
            drop_database(maintenance, name)
        except ConnectionFailed as failure:
            notify(Notice(f"The new database {name} is not whole and could not be dropped. {failure}"))
        raise


def _refuse_options(request: RestoreRequest, manifest: Manifest) -> None:
    """Raises InvalidRequest where more is asked for than to run a plain script as it is."""
    options = request.options
    if options != RestoreOptions(single_transaction=options.single_transaction):
        raise InvalidRequest(
            "The backup is a plain script, which psql runs as it is: leave out what would change that, or change what pgstow export writes."
        )
    if options.single_transaction and manifest.dump.large_objects:
        raise InvalidRequest(
            "The script has large objects, for which it begins and ends transactions itself: leave out --single-transaction."
        )


def _is_atomic(request: RestoreRequest, archive: Archive) -> bool:
    """Whether a failure leaves nothing of it in a database that was there before. A new one is dropped then, and the lock table spared."""
    script = archive.format == "plain" and not request.create and not archive.manifest.dump.large_objects
    return request.options.single_transaction or script


def _attaches(request: RestoreRequest) -> bool:
    """True if partitions are attached to a table that exists: not under other names, and not if a list says what to restore."""
    sections = request.options.sections
    return request.choice.by_pattern and request.relocation is None and (not sections or "post-data" in sections)


def _may_be_part(database: str) -> str:
    return f"The database {database} may hold a part of the backup now."


def _start(
    archive: Archive,
    program: Program,
    target: Conninfo,
    workspace: Workspace,
    feed: Feed,
    restricted: RestrictedMode | None,
    new_ids: Mapping[int, int],
    chosen: Sequence[int] | None,
    request: RestoreRequest,
) -> PgRestore | Psql:
    name = f"pgstow {archive.manifest.backup_id}"
    if restricted:
        atomic = _is_atomic(request, archive)
        return Psql(program, target, workspace, feed.path, restricted, name=name, single_transaction=atomic)
    return PgRestore.into_database(
        program,
        target,
        workspace,
        feed.path,
        archive.format,
        jobs=request.limits.jobs,
        name=name,
        dump_ids=None if chosen is None else [new_ids.get(dump_id, dump_id) for dump_id in chosen],
        options=request.options,
    )


def _check_errors(errors: Sequence[IgnoredError], request: RestoreRequest, notify: Notify) -> int:
    """Tell each error after which the restore went on, and return their number. Raises RestoreFailed if one isn't allowed."""
    others = [
        error for error in errors if not any(re.search(allowed, error.message) for allowed in request.allowed_errors)
    ]
    for error in errors:
        notify(Notice(f"{'Not allowed' if error in others else 'Allowed'}: {error}"))
    if others:
        allowed = len(errors) - len(others)
        raise RestoreFailed(f"pg_restore went on after errors: {len(errors)}, of which --allow-error allows {allowed}.")
    return len(errors)


def _check_rows(
    target: Conninfo,
    tables: Sequence[Table],
    archive: Archive,
    request: RestoreRequest,
    workers: Workers,
    notify: Notify,
    before: Counts,
) -> None:
    try:
        check_rows(target, tables, workers, request.limits.jobs, notify, before=before)
    except RestoreFailed as exc:
        if request.create or not _is_atomic(request, archive):
            raise
        raise RestoreFailed(
            f"{exc} {_may_be_part(target.database or archive.manifest.database)}"
        ) from exc  # it was committed


def _tell_what_is_left_out(archive: Archive, chosen: frozenset[int], notify: Notify) -> None:
    """Foreign keys of other tables that point at a restored one, and its publications, went with it when it was dropped."""
    for entry in archive.toc.entries:
        if belongs_elsewhere(entry) and entry.dump_id not in chosen and not chosen.isdisjoint(entry.dependencies):
            kind = "foreign key" if entry.description == "FK CONSTRAINT" else entry.description.lower()
            notify(Notice(f"Not restored, since it isn't the table's alone: {kind} {entry.namespace}.{entry.tag}."))
