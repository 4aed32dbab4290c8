"""Back up and restore what belongs to a cluster as a whole: roles, their memberships and settings, and tablespaces."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline.archive.destinations import BackupResults, Destinations
from pipeline.archive.reader import single_file
from pipeline.archive.writer import ArchiveWriter
from pipeline.backup.commit import BackupInProgress, commit, default_cluster, describe_source
from pipeline.catalog.keys import GLOBALS
from pipeline.catalog.manifest import DumpOptions, File, Manifest
from pipeline.concurrency import Workers
from pipeline.config import Labels, Limits
from pipeline.errors import RestoreFailed
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dumpall import SCRIPT_NAME, OnlyGlobals, dump_globals
from pipeline.postgres.maintenance import any_database
from pipeline.postgres.programs import find_program
from pipeline.postgres.psql import run_script
from pipeline.postgres.restricted_mode import find_psql
from pipeline.postgres.script import ScriptReader
from pipeline.postgres.server import Server
from pipeline.postgres.workspace import Workspace
from pipeline.stages.compress import DEFAULT_LEVEL, Compressor
from pipeline.stages.download import ObjectReader, read_whole
from pipeline.stages.spool import Piece
from storage_backends import StorageBackend


@dataclass(frozen=True, slots=True)
class GlobalsRequest:
    """The globals of one cluster to back up."""

    source: Conninfo
    cluster: str | None = None
    """The name to file them under; None for the server's host."""
    only: OnlyGlobals | None = None
    role_passwords: bool = True
    """Take the hashes of roles' passwords along, where the session's role may read them."""
    level: int = DEFAULT_LEVEL
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""
    labels: Labels = field(default_factory=Labels)


def back_up_globals(request: GlobalsRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    """Dump roles and tablespaces into the stores and commit them. Raises PipelineError or StorageError."""
    limits, compressor, destinations = request.limits, Compressor(request.level), Destinations(stores, GLOBALS, notify)
    source_database = any_database(request.source)
    with Workers() as workers, Workspace(limits.spool_parent) as workspace, Server(source_database) as server:
        program = find_program("pg_dumpall", at_least_major=server.major, search=request.programs)
        run = BackupInProgress.begin(request.cluster or default_cluster(server), GLOBALS, request.labels)
        role_passwords = takes_passwords(server, notify, wanted=request.role_passwords)
        source, taken_at = describe_source(server, program, None), datetime.now(UTC)
        notify(Started(f"Dumping {request.only or 'roles and tablespaces'} with pg_dumpall {program.version}"))
        script = dump_globals(
            program,
            source_database.at(server.host, server.hostaddr, server.port),
            workspace,
            database=server.name,
            only=request.only,
            role_passwords=role_passwords,
            name=run.session_name,
        )
        reader = ScriptReader(of_cluster=True)
        reader.write(script)
        reader.finish()
        run.ended("dump")
        writer = ArchiveWriter(destinations, run.ref.data_prefix, workers, limits, compressor)
        for start in range(0, len(script), limits.piece_size):
            piece = script[start : start + limits.piece_size]
            while not writer.has_room(len(piece)):
                workers.collect(timeout=1.0)
            writer.write(Piece(SCRIPT_NAME, start // limits.piece_size, piece, start + len(piece) == len(script)))
        [file] = writer.finish()
    run.ended("upload_after_dump")
    return commit(
        run,
        destinations,
        notify,
        kind="globals",
        snapshot_at=taken_at,
        source=source,
        dump=DumpOptions(
            format="script",
            jobs=1,
            only=request.only,
            role_passwords=role_passwords,
        ),
        level=request.level,
        files=[File(path=file.path, kind="script", size=file.size, checksum=file.checksum, segments=file.segments)],
    )


def takes_passwords(server: Server, notify: Notify, *, wanted: bool) -> bool:
    """Whether roles are taken with the hashes of their passwords, if that is ``wanted``."""
    if wanted and not server.may_read_passwords():
        notify(Notice("Roles are taken without their passwords, which this role may not read."))
        return False
    return wanted


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """The server to restore onto."""

    server: Conninfo
    """Any database of it."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""
    allow_older: bool = False
    """Try a cluster's restore even where the server is of an older major version than the one that was backed up."""


def restore_globals(manifest: Manifest, target: ServerTarget, store: StorageBackend, notify: Notify) -> None:
    """Make roles and tablespaces by psql, or change those of the same names to what they were.

    Raises RestoreFailed where the server refused any statement but the creation of what is there; what came before stays.
    """
    limits = target.limits
    with Workers() as workers, Workspace(limits.spool_parent) as workspace, Server(target.server) as server:
        program = find_psql(at_least_major=server.major, search=target.programs)
        notify(Started(f"Restoring roles and tablespaces with psql {program.version}"))
        reader = ObjectReader(store, manifest.objects, manifest.files, workers, limits)
        script = read_whole(single_file(manifest), reader)
        refused = run_script(program, target.server, workspace, script, f"pgstow {manifest.backup_id}")
    failed = [error for error in refused if not error.is_presence]
    if failed:
        raise RestoreFailed(
            f"{len(failed)} statements on roles and tablespaces failed, the first of them with: {failed[0].message.rstrip('.')}."
        )
