"""Prunes a store: decides which backups to keep, and removes the others, manifests first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline.catalog.keys import BackupRef
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.events import Notice, Notify, Started
from pipeline.prune.deletion import Deleted, remove_backups, remove_manifests
from pipeline.prune.facts import ANY, Facts, Known, Signatures, gather
from pipeline.prune.hold import manifest_lock
from pipeline.prune.policy import Policy
from pipeline.prune.retention import Backup, Decision, plan_prune
from pipeline.prune.tombstones import put_tombstones
from storage_backends import StorageBackend
from storage_backends.holds import may_lock

if TYPE_CHECKING:
    from pipeline.trust.envelope import Signer

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
    signatures: Signatures = ANY
    """The signatures that count. With trusted keys, a backup that none of them signed stays."""
    signer: "Signer | None" = None
    """The key that signs tombstones; None for no tombstones. It needs trusted keys."""


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


def plan(
    request: PruneRequest, store: StorageBackend, notify: Notify, now: datetime, known: Known | None = None
) -> list[Decision]:
    """Return a decision for each backup that the request covers. Nothing is changed.

    ``known`` has what earlier calls read from the store, and gets what this call reads. Raises StorageError if manifests, attestations or
    locks can't be listed or read.
    """
    decisions, facts = _look(request, store, notify, now, known)
    _tell_gaps(request, decisions, facts, notify)
    return decisions


def prune(
    request: PruneRequest,
    approved: Sequence[Decision] | None,
    store: StorageBackend,
    notify: Notify,
    now: datetime,
    known: Known | None = None,
) -> Pruned:
    """Make a new plan, and remove the backups that both ``approved`` and the new plan drop. Return the result.

    The new plan accounts for backups that were committed after ``approved``. If ``approved`` is None, remove all backups that the new plan
    drops. If there is a signer, tombstones are put first. Manifests are removed next, then the objects of the backups.

    If the call fails, repeat it. Repeating doesn't remove objects that no longer have a manifest: :mod:`pipeline.prune.gc` does. ``known`` is
    as for :func:`plan`.

    Raises StorageError as :func:`plan` does, or if the store fails to delete. Raises Untrusted if a tombstone's key is taken.
    """
    fresh, facts = _look(request, store, notify, now, known)
    if approved is None:
        approved = fresh
        _tell_gaps(request, fresh, facts, notify)
    doomed = _doomed(approved, fresh)
    pruned = Pruned(doubtful=[one.ref for one in fresh if one.doubtful])
    if doomed:
        notify(Started(f"Removing {counted(len(doomed), 'backup')}"))
    if request.signer and request.signatures.trust:
        put_tombstones(store, [one.ref for one in doomed], request.signer, request.signatures.trust)
    gone = _remove_manifests(store, doomed, pruned.removed)
    pruned.backups = [one.ref for one in doomed if one.ref in gone]
    pruned.spared = [one.ref for one in approved if not one.keep and one.ref not in gone]
    used = {ref for backup in facts.backups if backup.ref not in gone for ref in backup.uses}
    sealed = {backup.ref for backup in facts.backups if backup.sealed}
    remove_backups(store, [ref for ref in pruned.backups if ref not in used], sealed, facts.objects, pruned.removed)
    return pruned


def _look(
    request: PruneRequest, store: StorageBackend, notify: Notify, now: datetime, known: Known | None
) -> tuple[list[Decision], Facts]:
    """Return the decisions on the backups that the request covers, and the facts behind the decisions. Raises StorageError."""
    facts = gather(
        store, request.cluster, request.database, Known() if known is None else known, notify, now, request.signatures
    )
    decide = partial(plan_prune, policy=request.policy, now=now, unreadable=facts.unreadable, staying=facts.staying)
    jobs = {backup.ref: backup.job for backup in facts.backups}
    # Only the store knows the locks: the manifest of a copy names the lock that the original has in another store.
    unlocked = [replace(backup, retained_until=None) for backup in facts.backups]
    decisions = [one for one in decide(unlocked) if _is_asked_for(request, one, jobs)]
    dropped = [one.ref for one in decisions if not one.keep]
    if dropped and may_lock(store):
        backups = _with_locks(store, facts.backups, dropped)
        decisions = [one for one in decide(backups) if _is_asked_for(request, one, jobs)]
    return decisions, facts


def _tell_gaps(request: PruneRequest, decisions: Sequence[Decision], facts: Facts, notify: Notify) -> None:
    """Report signed backups that the plan drops without tombstones. Each of them becomes a gap in its chain."""
    gaps = sum(not one.keep and one.ref in facts.signed for one in decisions)
    if gaps and request.signer is None:
        are = "is" if gaps == 1 else "are"
        notify(
            Notice(
                f"{counted(gaps, 'signed backup')} {are} to be removed without a tombstone, so pgstow chain will report a gap. "
                "To prevent gaps, use --trusted-key and --sign-with, or [trust] and [signing] in pgstow.toml."
            )
        )


def _is_asked_for(request: PruneRequest, decision: Decision, jobs: Mapping[BackupRef, str | None]) -> bool:
    head = decision.head
    named = request.cluster in (None, head.cluster) and request.database in (None, head.database)
    # If a manifest can't be read, its job is unknown.
    return named and (request.job is None or head not in jobs or jobs[head] == request.job)


def _with_locks(store: StorageBackend, backups: Sequence[Backup], which: Sequence[BackupRef]) -> list[Backup]:
    """Return all backups, with the locks that the store reports for the backups in ``which``. Raises StorageError.

    If the credentials may not read a lock, the manifest's word counts, too.
    """
    with Workers() as workers:
        found = dict(workers.map(partial(manifest_lock, store), which, threads=_ASKERS, name="lock"))
    return [
        replace(
            backup,
            held=bool(lock.held),
            retained_until=max(
                filter(None, (lock.retained_until, backup.retained_until if lock.needs else None)), default=None
            ),
            lock_needs=lock.needs,
        )
        if (lock := found.get(backup.ref))
        else backup
        for backup in backups
    ]


def _doomed(approved: Sequence[Decision], fresh: Sequence[Decision]) -> list[Decision]:
    """Return the decisions of the backups that both plans drop, in the order of their heads.

    A cluster's backup and its members are returned only if both plans drop all of them.
    """
    agreed = {one.ref for one in approved if not one.keep} & {one.ref for one in fresh if not one.keep}
    spared = {one.head for one in fresh if one.ref not in agreed}
    doomed = [one for one in fresh if one.ref in agreed and one.head not in spared]
    return sorted(doomed, key=lambda one: (one.head.manifest_key, one.ref == one.head))


def _remove_manifests(store: StorageBackend, doomed: Sequence[Decision], removed: Deleted) -> set[BackupRef]:
    """Delete the manifests of the backups. Return the backups whose manifests are gone. Raises StorageError.

    Members go before their cluster manifest. If an interrupted run had removed the cluster manifest first, its members would count as
    separate backups. The newest member of each database would then stay forever. But if a cluster manifest lacks a member, it is useless,
    and the next run removes it. If a member is locked and stays, its cluster
    manifest stays, too.
    """
    members = [one for one in doomed if one.ref != one.head]
    heads = {one.head for one in members}
    first = [one.ref for one in doomed if one.ref not in heads]
    stay = remove_manifests(store, first, removed)
    held_up = {one.head for one in members if one.ref in stay}
    stay |= remove_manifests(store, heads - held_up, removed) | held_up
    return {one.ref for one in doomed} - stay
