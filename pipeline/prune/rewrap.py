"""Gives sealed backups to other recipients: adds key objects, and touches no data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.key_objects import open_seal
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.catalog.listing import list_manifests, tell_odd
from pipeline.catalog.manifest import ManifestSummary
from pipeline.catalog.members import read_member
from pipeline.catalog.reader import read_catalog
from pipeline.counting import counted
from pipeline.errors import InvalidRequest, PipelineError, Untrusted
from pipeline.events import Notice, Notify, Started
from pipeline.prune.hold import manifest_lock
from pipeline.stages.upload import upload
from pipeline.trust.age import Recipients
from pipeline.trust.seal import Epoch, Keys
from storage_backends import StorageBackend
from storage_backends.holds import ObjectLock, may_lock, set_hold

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust

PutLocked = Callable[[str, bytes | bytearray, datetime], object]
"""Creates the object with a key and a content, locked until a time. Raises StorageError."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The backups to give to other recipients."""

    manifests: list[ManifestSummary] = field(default_factory=list)
    untrusted: dict[BackupRef, PipelineError] = field(default_factory=dict)
    """The sealed backups that no trusted key signed. pgstow doesn't give them to anybody."""


@dataclass(slots=True)
class Rewrapped:
    """The result of giving backups to other recipients."""

    keys: dict[BackupRef, str] = field(default_factory=dict)
    """The key of the new key object of each backup."""
    failed: dict[BackupRef, PipelineError] = field(default_factory=dict)
    """The error of each backup that isn't trusted, that the identities don't open, or whose key objects are damaged."""


def rewrap(
    selected: Selected,
    recipients: Recipients,
    keys: Keys,
    store: StorageBackend,
    put_locked: PutLocked,
    notify: Notify,
) -> Rewrapped:
    """Add a key object for the recipients to each of the backups. ``keys`` must open the backups. Return the result.

    A new key object is locked as long as its backup's manifest, unless ``store`` itself locks each new object. It gets a legal hold if the
    manifest has a legal hold. If a backup fails, the others still get their key objects. Earlier recipients can still open the backups.

    Raises InvalidRequest if no backup is sealed, and StorageError.
    """
    sealed = [manifest for manifest in selected.manifests if manifest.encryption]
    if not (sealed or selected.untrusted):
        raise InvalidRequest("None of the backups is sealed, so there is no key to give to other recipients.")
    notify(Started(f"Giving {counted(len(sealed), 'backup')} to {counted(len(recipients.texts), 'recipient')}"))
    done, locks, needs = Rewrapped(failed=dict(selected.untrusted)), may_lock(store), dict[str, None]()
    for manifest in sealed:
        ref = BackupRef(manifest.cluster, manifest.database, manifest.backup_id)
        try:
            epoch = open_seal(store, manifest, keys)
        except PipelineError as exc:
            done.failed[ref] = exc
            continue
        if isinstance(epoch, Epoch) and manifest.encryption:
            key = BackupRef(ref.cluster, ref.database, manifest.encryption.epoch).key_object_key(datetime.now(UTC))
            lock = manifest_lock(store, ref) if locks else ObjectLock()
            _put(store, key, recipients.seal(epoch.key_file), lock, put_locked)
            done.keys[ref] = key
            needs |= dict.fromkeys(lock.needs)
    if needs:
        notify(
            Notice(
                "pgstow can't read all locks and legal holds of the backups, so the new key objects may lack them: "
                f"the credentials need {' and '.join(needs)}."
            )
        )
    return done


def _put(store: StorageBackend, key: str, body: bytes | bytearray, lock: ObjectLock, put_locked: PutLocked) -> None:
    """Create a key object with the locks of its backup. Raises StorageError."""
    until = None if store.retained_until else lock.retained_until
    if until and until > datetime.now(UTC):
        put_locked(key, body, until)
    else:
        upload(store, key, body)
    if lock.held:
        set_hold(store, key, held=True)


def find_one(wanted: BackupSelector, store: StorageBackend, notify: Notify) -> Selected:
    """Return the backup that ``wanted`` selects; for a cluster's backup, also its members. Raises as ``find_backup`` and ``read_member`` do."""
    found = find_backup(store, wanted, notify)
    return Selected([found, *(read_member(store, found, member).manifest for member in found.members)])


def find_all(
    store: StorageBackend,
    cluster: str | None,
    database: str | None,
    notify: Notify,
    now: datetime,
    trust: "Trust | None" = None,
) -> Selected:
    """Return all backups of a cluster, a database or the whole store. Notify of manifests that can't be read. Raises StorageError.

    The signature of a cluster manifest covers its members.
    """
    listing = list_manifests(store, cluster, database)
    tell_odd(listing, notify)
    entries = list(read_catalog(store, listing.manifests, now, trust))
    covered = {
        (BackupRef(entry.ref.cluster, member.database, member.backup_id), member.sha256)
        for entry in entries
        if entry.manifest and entry.fault is None and entry.ref.database == CLUSTER
        for member in entry.manifest.members
    }
    selected = Selected()
    for entry in entries:
        if entry.manifest is None:
            notify(Notice(entry.problem or ""))
        elif entry.fault is None or (entry.ref, entry.sha256) in covered:
            if entry.problem and entry.fault is None:
                notify(Notice(entry.problem))
            selected.manifests.append(entry.manifest)
        elif entry.manifest.encryption:
            selected.untrusted[entry.ref] = Untrusted(entry.fault, entry.problem or "")
    return selected
