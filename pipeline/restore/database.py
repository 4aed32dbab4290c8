"""Restores a database, or a part of it, from a store."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.archive.reader import Archive, open_archive
from pipeline.catalog.find import find_backup
from pipeline.catalog.key_objects import tell_unneeded
from pipeline.catalog.manifest import TOC_NAME, File, Manifest
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import RestoreFailed
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.partitions import attach, attachable, tell_alone
from pipeline.postgres.pg_restore import IgnoredError
from pipeline.postgres.programs import Program
from pipeline.restore.content import choose_content, tell_what_is_left_out
from pipeline.restore.load import load
from pipeline.restore.properties import apply_rest, apply_settings, refresh_views, set_literal_syntax
from pipeline.restore.request import RestoreRequest
from pipeline.restore.target import ExistingDatabase, NewDatabase
from pipeline.stages.download import tell_replaced
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore."""

    manifest: Manifest
    """The manifest of the restored backup."""
    program: Program
    """The pg_restore or psql that restored the backup."""
    server_version: str
    database: str
    """The name of the database that got the content."""
    files: Sequence[File]
    """The archive's files that were restored, and its table of contents."""
    tables: int
    """The number of tables that got rows."""
    rows: int
    """The number of rows of all restored tables, as the manifest says."""
    size: int
    """Bytes of the restored files without the table of contents, uncompressed."""
    replaced: tuple[str, ...]
    """A sentence for each overwritten or deleted object whose stored version was restored instead."""
    fetched: int
    """Bytes read from the store."""
    allowed_errors: int
    """The number of errors that the request allows, and after which pg_restore continued."""


def restore(request: RestoreRequest, store: StorageBackend, notify: Notify) -> Restored:
    """Restore the backup into the target, and check that the tables have the rows in the manifest.

    After a failure, drop the database if the restore made it. But with ``options.keep_going``, keep the database after RestoreFailed and
    after the server went away.

    Raises:
        BackupNotFound, ManifestInvalid: there is no such backup, or its manifest is damaged.
        InvalidRequest: the request doesn't fit the backup or the server.
        TargetNotEmpty: objects or rows in the target are in the way.
        BackupDamaged: an object or a file doesn't match the manifest.
        RestoreFailed: pg_restore or psql failed, or a table has a wrong number of rows.
        PipelineError: another failure, of the server or this machine.
        StorageError: the store failed.
    """
    return restore_manifest(find_backup(store, request.wanted, notify), request, store, notify)


def restore_manifest(manifest: Manifest, request: RestoreRequest, store: StorageBackend, notify: Notify) -> Restored:
    """Restore as :func:`restore` does, from a manifest that was already read. ``request.wanted`` is ignored."""
    tell_unneeded(manifest, request.keys, notify)
    with Workers() as workers:
        archive = open_archive(store, manifest, request.keys, workers, request.limits)
    return restore_archive(archive, request, store, notify)


def restore_archive(archive: Archive, request: RestoreRequest, store: StorageBackend, notify: Notify) -> Restored:
    """Restore as :func:`restore` does, from an archive that was already opened. ``request.wanted`` is ignored."""
    options, manifest = request.options, archive.manifest
    target = request.target.with_database(request.target.database or manifest.database).acting_as(options.role)
    with Workers() as workers:
        content = choose_content(archive, request, target, notify)
        archive = content.archive
        database = (NewDatabase if request.create else ExistingDatabase)(target, content, request)
        with database.opened(workers, notify) as opened:
            server = opened.server
            server.execute(f"SET lock_timeout = '{request.lock_wait_timeout}s'")  # for ATTACH PARTITION and the like
            set_literal_syntax(server, archive)
            to_load = content.with_schemas(server) if request.choice.by_pattern else content
            to_attach = attachable(server, content.alone) if _attaches(request) else []
            refused = apply_settings(server, archive, options) if request.sets_properties else []
            loaded = load(to_load, request, opened, store, workers, notify)
            allowed_errors = _check_errors([*refused, *loaded.errors], request, notify)
            if request.sets_properties and loaded.jobs == 1:
                refresh_views(loaded.session, archive, to_load.chosen, options)
            if content.tables:
                notify(Started("Counting rows"))
                database.check_rows(workers, notify)
            attach(server, to_attach)
            if request.sets_properties:
                apply_rest(server, archive, options, whole=request.choice.is_whole)
    replaced = (*archive.replaced, *loaded.replaced)
    tell_replaced(replaced, notify)
    tell_alone([one for one in content.alone if one not in to_attach], notify)
    if options.makes_tables:
        tell_what_is_left_out(to_load, request.choice, notify)
    return Restored(
        manifest=manifest,
        program=opened.program,
        server_version=server.version,
        database=database.name,
        files=content.files if archive.is_stream else [archive.files[TOC_NAME], *content.files],
        tables=len(content.tables),
        rows=sum(table.rows or 0 for table in content.tables),
        size=content.size,
        replaced=replaced,
        fetched=archive.fetched + loaded.fetched,
        allowed_errors=allowed_errors,
    )


def _attaches(request: RestoreRequest) -> bool:
    """True if the restore attaches chosen partitions to their partitioned table in the target.

    That happens if names or patterns choose the entries, and the entries keep their names.
    """
    sections = request.options.sections
    return request.choice.by_pattern and request.relocation is None and (not sections or "post-data" in sections)


def _check_errors(errors: Sequence[IgnoredError], request: RestoreRequest, notify: Notify) -> int:
    """Notify of each error after which the restore continued. Return the number of errors. Raises RestoreFailed if one isn't allowed."""
    allowed = 0
    for error in errors:
        is_allowed = any(re.search(pattern, error.message) for pattern in request.allowed_errors)
        allowed += is_allowed
        notify(Notice(f"{'Allowed' if is_allowed else 'Not allowed'}: {error}"))
    if allowed < len(errors):
        raise RestoreFailed(
            f"pg_restore continued after {counted(len(errors), 'error')}, of which --allow-error allows {allowed}."
        )
    return len(errors)
