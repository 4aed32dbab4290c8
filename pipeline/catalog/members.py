"""The backups that a cluster manifest names."""

import hashlib

from pipeline.catalog.find import StoredManifest, read_manifest_bytes
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import Manifest, Member, load_manifest
from pipeline.errors import BackupDamaged, BackupNotFound, ManifestInvalid
from storage_backends import StorageBackend


def read_member(store: StorageBackend, record: Manifest, member: Member) -> StoredManifest:
    """Return the manifest of a member of a cluster's backup. Raises BackupDamaged if it is missing, or isn't the one that the record names.

    The manifest is read once, so the returned manifest is the one whose hash was compared with the record's.
    """
    ref = BackupRef(record.cluster, member.database, member.backup_id)
    try:
        data = read_manifest_bytes(store, ref)
    except BackupNotFound as exc:
        raise BackupDamaged(f"{ref.manifest_key} is missing, of which {record.backup_id} is made.") from exc
    except ManifestInvalid as exc:
        raise BackupDamaged(str(exc)) from exc
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise BackupDamaged(f"{ref.manifest_key} is not the manifest that {record.backup_id} is made of.")
    return StoredManifest(load_manifest(data, ref.manifest_key), member.sha256)
