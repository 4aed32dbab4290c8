"""Prunes a store: decides which backups to keep, and removes the others, manifests first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from pipeline.catalog.attestation import Attestation, Level, latest_attestations
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import list_manifests, tell_odd
from pipeline.catalog.manifest import ManifestSummary
from pipeline.catalog.reader import CatalogEntry, read_catalog
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.events import Notify, Started
from pipeline.prune.deletion import Deleted, remove
from pipeline.prune.hold import manifest_lock
from pipeline.prune.policy import Policy
from pipeline.prune.retention import Backup, Decision, plan_prune, selection_of
from storage_backends import AccessDenied, ObjectLocked, StorageBackend

_ASKERS = 8  # concurrent requests for manifests' locks


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """The backups to prune, and the rules."""

    policy: Policy
    cluster: str | None = None
    """Prune only backups of this cluster; None for any cluster."""
    database: str | None = None
    """Prune only backups of databases with this name; None for any database. ``@cluster`` stands for a cluster's backup and its members."""
    job: str | None = None
    """Prune only backups of this job in pgstow.toml, and backups whose manifest can't be read; None for any job."""


@dataclass(slots=True)
class Pruned:
    """The result of pruning."""

    backups: list[BackupRef] = field(default_factory=list)
    """The backups that were removed."""
    spared: list[BackupRef] = field(default_factory=list)
    """The backups that were approved for removal but stay, because they are locked or the new plan keeps them."""
    doubtful: list[BackupRef] = field(default_factory=list)
    """The backups that stay because their manifests can't be read or believed."""
    removed: Deleted = field(default_factory=Deleted)
    """The objects that were deleted, not counting manifests, and the objects that are locked."""


def plan(request: PruneRequest, store: StorageBackend, notify: Notify, now: datetime) -> list[Decision]:
    """Return a decision for each backup that the request covers. Nothing is changed.

    Raises StorageError if manifests, attestations or locks can't be listed or read.
    """
    return _plan(request, store, notify, now)[0]


def prune(
    request: PruneRequest, approved: Sequence[Decision] | None, store: StorageBackend, notify: Notify, now: datetime
) -> Pruned:
    """Make a new plan, and remove the backups that both ``approved`` and the new plan drop. Return the result.

    The new plan accounts for backups that were committed after ``approved``. If ``approved`` is None, remove all backups that the new plan
    drops. Manifests are removed first, then the objects of the backups. If the call fails, repeat it. Repeating doesn't remove objects
    that no longer have a manifest: :mod:`pipeline.prune.gc` does.

    Raises StorageError as :func:`plan` does, or if the store fails to delete.
    """
    fresh, backups = _plan(request, store, notify, now)
    approved = fresh if approved is None else approved
    doomed = _doomed(approved, fresh)
    pruned = Pruned(
        spared=[one.ref for one in approved if not one.keep and one.ref not in doomed],
        doubtful=[one.ref for one in fresh if one.doubtful],
    )
    if doomed:
        notify(Started(f"Removing {counted(len(doomed), 'backup')}"))
    for ref in doomed:
        (pruned.backups if _remove_manifest(store, ref, doomed, pruned) else pruned.spared).append(ref)
    staying = [backup for backup in backups if backup.ref not in pruned.backups]
    used = {ref for backup in staying for ref in backup.uses}
    for ref in pruned.backups:
        if ref not in used:
            remove(store, (info for prefix in ref.prefixes for info in store.list(prefix)), pruned.removed)
    return pruned


def _plan(
    request: PruneRequest, store: StorageBackend, notify: Notify, now: datetime
) -> tuple[list[Decision], list[Backup]]:
    notify(Started("Reading manifests"))
    listing = list_manifests(store)
    tell_odd(listing, notify)
    entries = read_catalog(store, listing.manifests, now)
    backups = _describe(store, entries, notify)
    unreadable = [entry.ref for entry in entries if entry.manifest is None]
    decide = partial(plan_prune, policy=request.policy, now=now, unreadable=unreadable)
    jobs = {backup.ref: backup.job for backup in backups}
    dropped = {one.ref for one in decide(backups) if not one.keep and _is_asked_for(request, one, jobs)}
    backups = _with_locks(store, backups, dropped)
    return [one for one in decide(backups) if _is_asked_for(request, one, jobs)], backups


def _is_asked_for(request: PruneRequest, decision: Decision, jobs: Mapping[BackupRef, str | None]) -> bool:
    head = decision.head
    named = request.cluster in (None, head.cluster) and request.database in (None, head.database)
    # If a manifest can't be read, its job is unknown.
    return named and (request.job is None or head not in jobs or jobs[head] == request.job)


def _describe(store: StorageBackend, entries: Sequence[CatalogEntry], notify: Notify) -> list[Backup]:
    digests = {entry.ref: entry.sha256 for entry in entries}
    proven = latest_attestations(store, digests, None, None, notify)
    if proven is None:
        raise AccessDenied(
            "Nothing is pruned, because attestations can't be read, and an attestation may say that a backup is damaged."
        )
    return [_describe_one(entry, entry.manifest, proven.get(entry.ref), digests) for entry in entries if entry.manifest]


def _describe_one(
    entry: CatalogEntry,
    manifest: ManifestSummary,
    attestation: Attestation | None,
    digests: dict[BackupRef, str | None],
) -> Backup:
    members = {
        BackupRef(manifest.cluster, member.database, member.backup_id): member.sha256 for member in manifest.members
    }
    return Backup(
        ref=entry.ref,
        kind=manifest.kind,
        snapshot_at=manifest.snapshot_at,
        selection=selection_of(manifest.dump),
        partial=manifest.dump.partial,
        tags=frozenset(manifest.tags),
        job=manifest.job,
        members=tuple(members),
        uses=entry.uses,
        verified=Level(attestation.level) if attestation and (attestation.good or attestation.unproven) else None,
        damaged=(attestation is not None and not attestation.good and not attestation.unproven)
        or any(digests.get(ref, sha256) != sha256 for ref, sha256 in members.items()),
        unread_at=attestation.finished_at if attestation and attestation.unproven else None,
        retained_until=manifest.retained_until,
        doubt=entry.problem,
    )


def _with_locks(store: StorageBackend, backups: Sequence[Backup], which: Collection[BackupRef]) -> list[Backup]:
    """Return all backups, with the locks that the store reports for the backups in ``which``."""
    with Workers() as workers:
        found = dict(workers.map(partial(manifest_lock, store), which, threads=_ASKERS, name="lock"))
    return [
        replace(
            backup,
            held=bool(lock.held),
            retained_until=max(filter(None, (backup.retained_until, lock.retained_until)), default=None),
            lock_needs=lock.needs,
        )
        if (lock := found.get(backup.ref))
        else backup
        for backup in backups
    ]


def _doomed(approved: Sequence[Decision], fresh: Sequence[Decision]) -> list[BackupRef]:
    """Return the backups that both plans drop. A cluster's backup and its members are returned only if both plans drop all of them.

    Members come before their cluster manifest. If an interrupted run had removed the cluster manifest first, its members would count as
    separate backups. The newest member of each database would then stay forever. But if a cluster manifest lacks a member, it is useless,
    and the next run removes it.
    """
    agreed = {one.ref for one in approved if not one.keep} & {one.ref for one in fresh if not one.keep}
    spared = {one.head for one in fresh if one.ref not in agreed}
    doomed = [one for one in fresh if one.ref in agreed and one.head not in spared]
    return [one.ref for one in sorted(doomed, key=lambda one: (one.head.manifest_key, one.ref == one.head))]


def _remove_manifest(store: StorageBackend, ref: BackupRef, doomed: Sequence[BackupRef], pruned: Pruned) -> bool:
    """True if the manifest was deleted, False if it is locked. Raises StorageError."""
    try:
        pruned.removed.hidden |= store.delete([ref.manifest_key])
    except ObjectLocked as exc:
        pruned.removed.locked |= exc.objects
        return False
    return True
