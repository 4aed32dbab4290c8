"""Restores a whole server: its globals, and every database."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.keys import CLUSTER, GLOBALS
from pipeline.catalog.manifest import Manifest
from pipeline.catalog.members import read_member
from pipeline.cluster.globals import restore_globals
from pipeline.cluster.request import ServerTarget
from pipeline.cluster.script import ON_EVERY_SERVER, restore_cluster_script
from pipeline.errors import BackupDamaged, TargetNotEmpty
from pipeline.events import Notify
from pipeline.postgres.maintenance import maintenance_database
from pipeline.postgres.server import Server
from pipeline.restore.compatibility import check_server
from pipeline.restore.database import restore_manifest
from pipeline.restore.request import RestoreRequest
from storage_backends import StorageBackend


def restore_cluster(wanted: BackupSelector, target: ServerTarget, store: StorageBackend, notify: Notify) -> Manifest:
    """Restore roles and tablespaces, then each database with its properties and content. Return the cluster manifest.

    First raise TargetNotEmpty, with nothing changed, if the server already has a database of the backup. ``postgres`` and ``template1`` are
    on every server, so they may exist but must be empty. After a failure, the restored databases stay.

    Raises BackupNotFound or ManifestInvalid if there is no such backup, BackupDamaged if a member is missing or was replaced, another
    PipelineError, or StorageError.
    """
    cluster_manifest = find_backup(store, replace(wanted, database=CLUSTER), notify)
    maintenance = maintenance_database(target.server)
    target = replace(target, server=maintenance.maintained_in(maintenance.database))
    is_script = bool(cluster_manifest.files)
    if is_script:
        _check_new_server(cluster_manifest, cluster_manifest.dump.databases, target)
        restore_cluster_script(cluster_manifest, target, store, notify)
        return cluster_manifest
    globals_, databases = _read_members(store, cluster_manifest)
    there = _check_new_server(cluster_manifest, [manifest.database for manifest in databases], target)
    _restore_globals(globals_, target, store, notify)
    for manifest in databases:
        restore_manifest(
            manifest,
            RestoreRequest(
                wanted=BackupSelector(manifest.backup_id, manifest.cluster, manifest.database),
                target=target.server.with_database(manifest.database),
                create=manifest.database not in there,
                properties=True,
                allow_older=target.allow_older,
                server_settings=target.server_settings,
                lock_wait_timeout=target.lock_wait_timeout,
                limits=target.limits,
                programs=target.programs,
            ),
            store,
            notify,
        )
    return cluster_manifest


def _check_new_server(cluster_manifest: Manifest, databases: Sequence[str], target: ServerTarget) -> set[str]:
    """Return the databases that the server has.

    Raises TargetNotEmpty if it has a database to restore. It may have ``postgres`` and ``template1``, if they are empty.
    Raises InvalidRequest if the server is too old.
    """
    with Server(target.server) as server:
        check_server(
            server,
            cluster_manifest.source,
            "plain" if cluster_manifest.files else "directory",
            allow_older=target.allow_older,
        )
        there = set(server.databases())
    if taken := [name for name in databases if name in there - ON_EVERY_SERVER]:
        raise TargetNotEmpty(
            f"The server already has a database {taken[0]}: a whole server can be restored only onto a new server."
        )
    for name in sorted(ON_EVERY_SERVER & there & set(databases)):
        with Server(target.server.with_database(name)) as server:
            if server.count_objects():
                raise TargetNotEmpty(
                    f"The database {name} is not empty: a whole server can be restored only onto a new server."
                )
    return there


def restore_latest_globals(
    wanted: BackupSelector, target: ServerTarget, store: StorageBackend, notify: Notify
) -> Manifest:
    """Restore only roles and tablespaces, from the backup of globals that ``wanted`` selects. Return its manifest.

    Raises BackupNotFound or ManifestInvalid if there is no such backup, another error as :func:`restore_globals` does, or StorageError.
    """
    manifest = find_backup(store, replace(wanted, database=GLOBALS), notify)
    _restore_globals(manifest, target, store, notify)
    return manifest


def _restore_globals(manifest: Manifest, target: ServerTarget, store: StorageBackend, notify: Notify) -> None:
    restore_globals(manifest, replace(target, server=maintenance_database(target.server)), store, notify)


def _read_members(store: StorageBackend, cluster_manifest: Manifest) -> tuple[Manifest, list[Manifest]]:
    """Return the manifests of the cluster's globals and of its databases.

    Raises BackupDamaged if the cluster manifest names no globals, and the errors of :func:`read_member`.
    """
    manifests = {
        member.database: read_member(store, cluster_manifest, member).manifest for member in cluster_manifest.members
    }
    if GLOBALS not in manifests:
        raise BackupDamaged(f"The cluster manifest {cluster_manifest.backup_id} names no globals.")
    return manifests.pop(GLOBALS), list(manifests.values())
