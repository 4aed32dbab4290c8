"""The backups that a cluster manifest names."""

import hashlib

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import Manifest, ManifestSummary, Member, load_manifest
from pipeline.catalog.reader import StoredManifest, read_manifest_bytes
from pipeline.catalog.summary import LoadedDetails, load_details
from pipeline.errors import BackupDamaged, BackupNotFound, ManifestInvalid
from storage_backends import StorageBackend


def read_member(store: StorageBackend, cluster_manifest: Manifest, member: Member) -> StoredManifest:
    """Return the manifest of a member of ``cluster_manifest``.

    The bytes are read once: pgstow parses the same bytes whose SHA-256 it compares with the cluster manifest.

    Raises BackupDamaged if the member's manifest is missing or has another SHA-256, ManifestInvalid if this pgstow can't parse it, or
    StorageError.
    """
    data, key = _read(store, cluster_manifest, member)
    return StoredManifest(load_manifest(data, key), member.sha256)


def read_member_details(store: StorageBackend, cluster_manifest: ManifestSummary, member: Member) -> LoadedDetails:
    """Return what the manifest of a member says, without a model for each file. Raises as :func:`read_member` does."""
    return load_details(*_read(store, cluster_manifest, member))


def _read(store: StorageBackend, cluster_manifest: ManifestSummary, member: Member) -> tuple[bytes, str]:
    """Return the bytes of the member's manifest, and its key."""
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
    return data, ref.manifest_key
