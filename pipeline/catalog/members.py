"""The backups that a cluster manifest names."""

import hashlib

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import Manifest, Member, load_manifest
from pipeline.catalog.reader import StoredManifest, read_manifest_bytes
from pipeline.errors import BackupDamaged, BackupNotFound, ManifestInvalid
from storage_backends import StorageBackend


def read_member(store: StorageBackend, cluster_manifest: Manifest, member: Member) -> StoredManifest:
    """Return the manifest of a member of ``cluster_manifest``.

    The bytes are read once: pgstow parses the same bytes whose SHA-256 it compares with the cluster manifest.

    Raises BackupDamaged if the member's manifest is missing or has another SHA-256, ManifestInvalid if this pgstow can't parse it, or
    StorageError.
    """
    ref = BackupRef(cluster_manifest.cluster, member.database, member.backup_id)
    try:
        data = read_manifest_bytes(store, ref)
    except BackupNotFound as exc:
        raise BackupDamaged(
            f"{ref.manifest_key} is missing, but the cluster manifest {cluster_manifest.backup_id} names it."
        ) from exc
    except ManifestInvalid as exc:
        raise BackupDamaged(str(exc)) from exc
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise BackupDamaged(
            f"{ref.manifest_key} is not the manifest that the cluster manifest {cluster_manifest.backup_id} names."
        )
    return StoredManifest(load_manifest(data, ref.manifest_key), member.sha256)
