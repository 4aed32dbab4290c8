"""Feed the chosen content from the store to pg_restore or psql."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.concurrency import Workers
from pipeline.events import Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.pg_restore import IgnoredError, PgRestore
from pipeline.postgres.psql import Psql
from pipeline.postgres.restricted_mode import RestrictedMode
from pipeline.postgres.server import Server
from pipeline.postgres.workspace import Workspace
from pipeline.restore.content import Content
from pipeline.restore.request import RestoreRequest
from pipeline.restore.supervise import supervise
from pipeline.restore.target import TargetDatabase
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class Loaded:
    """How the program ended, and what it was fed from the store."""

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
    database: TargetDatabase,
    session: Conninfo,
    server: Server,
    store: StorageBackend,
    workers: Workers,
    notify: Notify,
) -> Loaded:
    """Run ``database.program`` to its end, in sessions with the settings of ``session``, and feed it the content.

    ``server`` is pgstow's own session on the same database. Raises RestoreFailed if the program fails or doesn't read everything, and
    ConnectionFailed if the server goes away. Raises InvalidRequest if the memory is too small for the objects. Also raises BackupDamaged,
    LocalResourceExhausted or StorageError.
    """
    archive, limits, program = content.archive, request.limits, database.program
    reader = ObjectReader(store, archive.manifest.objects, content.files, workers, limits)
    plan = archive.plan_feed(content.files, jobs=limits.jobs, triggers_fire=not request.options.disable_triggers)
    jobs = 1 if archive.is_stream else limits.jobs
    notify(Started(f"Restoring into {database.name} with {program.path.name} {program.version}, {jobs} jobs"))
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
                name=f"pgstow {archive.manifest.backup_id}",
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
                name=f"pgstow {archive.manifest.backup_id}",
                dump_ids=_renumbered(content.chosen, plan.new_ids),
                options=request.options,
            )
        supervise(running, feed, reader, server, content.size, workers, notify)
        return Loaded(jobs, running.ignored_errors(), reader.replaced, reader.fetched)


def _renumbered(chosen: Sequence[int] | None, new_ids: Mapping[int, int]) -> Sequence[int] | None:
    return None if chosen is None else [new_ids.get(dump_id, dump_id) for dump_id in chosen]
