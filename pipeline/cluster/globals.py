"""Backs up and restores a cluster's globals: roles, their memberships and settings, and tablespaces."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from pipeline.archive.destinations import BackupResults
from pipeline.archive.reader import single_file
from pipeline.archive.single_file import describe_stream
from pipeline.backup.in_progress import BackupInProgress, ManifestDraft
from pipeline.backup.retry import with_retries
from pipeline.backup.source import describe_source, find_dumper
from pipeline.catalog.key_objects import open_seal, tell_unneeded
from pipeline.catalog.keys import GLOBALS
from pipeline.catalog.manifest import Manifest
from pipeline.catalog.origin import DumpOptions
from pipeline.cluster.dumpall import decide_passwords, dump_all
from pipeline.cluster.request import GlobalsRequest, ServerTarget
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import RestoreFailed
from pipeline.events import Notify, Started
from pipeline.postgres.maintenance import any_database
from pipeline.postgres.psql import run_script
from pipeline.postgres.restricted_mode import find_psql
from pipeline.postgres.server import Server
from pipeline.postgres.workspace import Workspace
from pipeline.stages.download import ObjectReader, read_whole
from storage_backends import StorageBackend

_SCRIPT_NAME = "globals.sql"


def back_up_globals(request: GlobalsRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    """Dump roles and tablespaces into all stores, and commit the backup in each. Return each store's result.

    If a store fails, the backup continues in the other stores. Raises PipelineError, or StorageError if all stores fail.
    """
    return with_retries(partial(_back_up_globals, request, stores, notify), notify, retries=request.retries)


def _back_up_globals(request: GlobalsRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    how = replace(request.backup, source=any_database(request.backup.source))
    with Server(how.source) as server:
        program = find_dumper("pg_dumpall", server, how)
        backup = BackupInProgress.begin(how, server, GLOBALS, stores, notify)
        role_passwords = decide_passwords(server, notify, wanted=request.role_passwords)
        source, taken_at = describe_source(server, program, None), datetime.now(UTC)
        notify(Started(f"Dumping {request.only or 'roles and tablespaces'} with pg_dumpall {program.version}"))
        with backup.dump_context(server, program) as context:
            arguments = [f"--{request.only or 'globals'}-only", *how.selection.arguments_of_cluster()]
            dump_all(_SCRIPT_NAME, arguments, context, role_passwords=role_passwords)
            backup.ended("dump")
            files = describe_stream(context.writer.finish())
    backup.ended("upload_after_dump")
    options = DumpOptions(
        format="script",
        jobs=1,
        only=request.only,
        options=list(map(str, how.selection.of_cluster())),
        role_passwords=role_passwords,
    )
    return backup.commit(ManifestDraft("globals", taken_at, source, options, files))


def restore_globals(manifest: Manifest, target: ServerTarget, store: StorageBackend, notify: Notify) -> None:
    """Run the script of globals with psql. It makes roles and tablespaces, and gives existing ones their backed-up properties.

    psql continues after errors, and no change is undone. Raises RestoreFailed if the server refused a statement. If the role or tablespace
    to make exists already, this is no error. Also raises ProgramMissing, BackupDamaged, ConnectionFailed or StorageError.
    """
    limits = target.limits
    tell_unneeded(manifest, target.keys, notify)
    with Workers() as workers, Workspace(limits.spool_parent) as workspace, Server(target.server) as server:
        program = find_psql(at_least_major=server.major, search=target.programs)
        notify(Started(f"Restoring roles and tablespaces with psql {program.version}"))
        seal = open_seal(store, manifest, target.keys)
        reader = ObjectReader(store, manifest.objects, manifest.files, workers, limits, seal)
        script = read_whole(single_file(manifest), reader)
        with server.blamed():
            refused = run_script(program, target.server, workspace, script, f"pgstow {manifest.backup_id}")
    failed = [error for error in refused if not error.is_presence]
    if failed:
        raise RestoreFailed(
            f"{counted(len(failed), 'statement')} on roles and tablespaces failed. The first error: {failed[0].sentence}"
        )
