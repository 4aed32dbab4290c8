"""Prune a store: decide which backups to keep, and remove the others, manifests first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from pipeline.catalog.attestation import Attestation, Level, latest_attestations
from pipeline.catalog.find import CatalogEntry, list_manifests, read_catalog, tell_odd
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import Manifest
from pipeline.concurrency import Workers
from pipeline.events import Notify, Started
from pipeline.prune.deletion import Deleted, remove
from pipeline.prune.hold import manifest_lock
from pipeline.prune.retention import Backup, Decision, Policy, plan_prune, selection_of
from storage_backends import AccessDenied, ObjectLocked, StorageBackend

_ASKERS = 8  # manifests asked for their locks at once


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """What to prune, and by which rules."""

    policy: Policy
    cluster: str | None = None
    database: str | None = None
    """Of whose backups alone; the members of a cluster's backup go with its record, ``@cluster``."""
    job: str | None = None
    """Of this job of pgstow.toml alone."""


@dataclass(slots=True)
class Pruned:
    """What pruning came to."""

    backups: list[BackupRef] = field(default_factory=list)
    """Those that are gone."""
    spared: list[BackupRef] = field(default_factory=list)
    """Those that were to go, and stay: for a lock, or for what was committed or locked meanwhile."""
    doubtful: list[BackupRef] = field(default_factory=list)
    """The backups that stay since their manifests can't be read or believed."""
    removed: Deleted = field(default_factory=Deleted)


def plan(request: PruneRequest, store: StorageBackend, notify: Notify, now: datetime) -> list[Decision]:
    """What pruning would do, of the databases that are asked for; nothing is changed.

    Raises StorageError where anything that this needs can't be listed or read.
    """
    return _plan(request, store, notify, now)[0]


def prune(
    request: PruneRequest, approved: Sequence[Decision] | None, store: StorageBackend, notify: Notify, now: datetime
) -> Pruned:
    """Remove the backups that ``approved`` drops, and that a new plan drops too: other backups may have been committed meanwhile.

    Without ``approved``, what that plan drops.

    Manifests go first, then what was stored for the backups. If this ends before it is done, do it again: what has no manifest any more is
    left to :mod:`pipeline.prune.gc`. Raises as :func:`plan`, and StorageError where deleting fails.
    """
    fresh, backups = _plan(request, store, notify, now)
    approved = fresh if approved is None else approved
    doomed = _doomed(approved, fresh)
    pruned = Pruned(
        spared=[one.ref for one in approved if not one.keep and one.ref not in doomed],
        doubtful=[one.ref for one in fresh if one.doubtful],
    )
    notify(Started(f"Removing {len(doomed)} {'backup' if len(doomed) == 1 else 'backups'}"))
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
    # Of which job a manifest is that can't be read, nobody can tell.
    return named and (request.job is None or head not in jobs or jobs[head] == request.job)


def _describe(store: StorageBackend, entries: Sequence[CatalogEntry], notify: Notify) -> list[Backup]:
    digests = {entry.ref: entry.sha256 for entry in entries}
    proven = latest_attestations(store, digests, None, None, notify)
    if proven is None:
        raise AccessDenied(
            "Nothing is pruned, since attestations can't be read, which may say that a backup is damaged."
        )
    return [_describe_one(entry, entry.manifest, proven.get(entry.ref), digests) for entry in entries if entry.manifest]


def _describe_one(
    entry: CatalogEntry, manifest: Manifest, attestation: Attestation | None, digests: dict[BackupRef, str | None]
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
    """The backups with what the store says of the manifests' locks, which is asked only for some."""
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
    """What both plans drop, with all that shares its fate.

    A cluster's record comes after its members: those that an interruption left without their record would pass for backups of their own, and
    the newest of each database would stay for ever. A record that lacks a member is good for nothing, and goes the next time.
    """
    agreed = {one.ref for one in approved if not one.keep} & {one.ref for one in fresh if not one.keep}
    spared = {one.head for one in fresh if one.ref not in agreed}
    doomed = [one for one in fresh if one.ref in agreed and one.head not in spared]
    return [one.ref for one in sorted(doomed, key=lambda one: (one.head.manifest_key, one.ref == one.head))]


def _remove_manifest(store: StorageBackend, ref: BackupRef, doomed: Sequence[BackupRef], pruned: Pruned) -> bool:
    """Whether it is gone."""
    try:
        store.delete([ref.manifest_key])
    except ObjectLocked as exc:
        pruned.removed.locked |= exc.objects
        return False
    return True
