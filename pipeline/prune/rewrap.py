"""Gives sealed backups to other recipients: adds key objects, and touches no data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.key_objects import open_seal
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import list_manifests, tell_odd
from pipeline.catalog.manifest import ManifestSummary
from pipeline.catalog.members import read_member
from pipeline.catalog.reader import read_catalog
from pipeline.counting import counted
from pipeline.errors import InvalidRequest, PipelineError
from pipeline.events import Notice, Notify, Started
from pipeline.stages.upload import upload
from pipeline.trust.age import Recipients
from pipeline.trust.seal import Epoch, Keys
from storage_backends import StorageBackend


@dataclass(slots=True)
class Rewrapped:
    """The result of giving backups to other recipients."""

    keys: dict[BackupRef, str] = field(default_factory=dict)
    """The key of the new key object of each backup."""
    failed: dict[BackupRef, PipelineError] = field(default_factory=dict)
    """The error of each backup that the identities don't open, or whose key objects are damaged."""


def rewrap(
    manifests: Sequence[ManifestSummary], recipients: Recipients, keys: Keys, store: StorageBackend, notify: Notify
) -> Rewrapped:
    """Add a key object for the recipients to each of the backups. ``keys`` must open the backups. Return the result.

    If a backup fails, the others still get their key objects. Earlier recipients can still open the backups.

    Raises InvalidRequest if no backup is sealed, and StorageError.
    """
    sealed = [manifest for manifest in manifests if manifest.encryption]
    if not sealed:
        raise InvalidRequest("None of the backups is sealed, so there is no key to give to other recipients.")
    notify(Started(f"Giving {counted(len(sealed), 'backup')} to {counted(len(recipients.texts), 'recipient')}"))
    done = Rewrapped()
    for manifest in sealed:
        ref = BackupRef(manifest.cluster, manifest.database, manifest.backup_id)
        try:
            epoch = open_seal(store, manifest, keys)
        except PipelineError as exc:
            done.failed[ref] = exc
            continue
        if isinstance(epoch, Epoch) and manifest.encryption:
            of_epoch = BackupRef(ref.cluster, ref.database, manifest.encryption.epoch)
            key = of_epoch.key_object_key(datetime.now(UTC))
            done.keys[ref] = upload(store, key, recipients.seal(epoch.key_file)).key
    return done


def find_one(wanted: BackupSelector, store: StorageBackend, notify: Notify) -> list[ManifestSummary]:
    """Return the backup that ``wanted`` selects; for a cluster's backup, also its members. Raises as ``find_backup`` and ``read_member`` do."""
    found = find_backup(store, wanted, notify)
    return [found, *(read_member(store, found, member).manifest for member in found.members)]


def find_all(
    store: StorageBackend, cluster: str | None, database: str | None, notify: Notify, now: datetime
) -> list[ManifestSummary]:
    """Return all backups of a cluster, a database or the whole store. Notify of manifests that can't be read. Raises StorageError."""
    listing = list_manifests(store, cluster, database)
    tell_odd(listing, notify)
    found = list[ManifestSummary]()
    for entry in read_catalog(store, listing.manifests, now):
        if entry.problem:
            notify(Notice(entry.problem))
        if entry.manifest:
            found.append(entry.manifest)
    return found
