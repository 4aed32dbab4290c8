"""Feeds the chosen content from the store to pg_restore or psql."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.events import Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.loading import has_types_of_money, with_dump_settings
from pipeline.postgres.pg_restore import IgnoredError, PgRestore
from pipeline.postgres.psql import Psql
from pipeline.postgres.restricted_mode import RestrictedMode
from pipeline.postgres.workspace import Workspace
from pipeline.restore.content import Content
from pipeline.restore.request import RestoreRequest
from pipeline.restore.supervise import supervise
from pipeline.restore.target import OpenDatabase
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a load."""

    session: Conninfo
    """The connection of the program's sessions. Its settings make the server read the dump's text as the source wrote it."""
    jobs: int
    """The number of parallel jobs that were used."""
    errors: Sequence[IgnoredError]
    """Errors after which pg_restore continued, because the options allowed it."""
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
    """Run ``database.program``, feed it the content, wait for its end, and set ``database.is_loaded``.

    Raises RestoreFailed if the program fails or doesn't read everything, and ConnectionFailed if the server goes away. Raises InvalidRequest
    if the objects don't fit into the memory limit. Also raises BackupDamaged, LocalResourceExhausted or StorageError.
    """
    archive, limits, server, program = content.archive, request.limits, database.server, database.program
    manifest = archive.manifest
    money = archive.uses_money(content.chosen) or (manifest.dump.partial and has_types_of_money(server))
    session = with_dump_settings(database.conninfo, manifest.source, money=money)
    reader = ObjectReader(store, manifest.objects, content.files, workers, limits)
    plan = archive.plan_feed(content.files, jobs=limits.jobs, triggers_fire=not request.options.disable_triggers)
    jobs = 1 if archive.is_stream else limits.jobs
    notify(Started(f"Restoring into {server.name} with {program.path.name} {program.version}, {counted(jobs, 'job')}"))
    restricted = RestrictedMode() if archive.format == "plain" else None
    with Workspace(limits.spool_parent) as workspace:
        feed = Feed(
            workspace.path / "archive",
            plan,
            reader,
            workers,
            jobs,
            check_files=request.check_files,
            through=restricted.of if restricted else iter,
        )
        if restricted:
            running: PgRestore | Psql = Psql(
                program,
                session,
                workspace,
                feed.path,
                restricted,
                name=f"pgstow {manifest.backup_id}",
                single_transaction=database.is_atomic,
            )
        else:
            running = PgRestore.into_database(
                program,
                session,
                workspace,
                feed.path,
                archive.format,
                jobs=limits.jobs,
                name=f"pgstow {manifest.backup_id}",
                dump_ids=_renumbered(content.chosen, plan.new_ids),
                options=request.options,
            )
        supervise(running, feed, reader, server, content.size, workers, notify)
        database.is_loaded = True
        return Loaded(session, jobs, running.ignored_errors(), reader.replaced, reader.fetched)


def _renumbered(chosen: Sequence[int] | None, new_ids: Mapping[int, int]) -> Sequence[int] | None:
    return None if chosen is None else [new_ids.get(dump_id, dump_id) for dump_id in chosen]
