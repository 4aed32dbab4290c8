"""Plans which backups to keep. The plan depends only on facts about the backups; nothing is read or deleted here.

Backups with the same database, kind, selection and job of pgstow.toml form a series. The rules of :mod:`pipeline.prune.policy` count within
a series. A backup belongs to the day of its snapshot.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.catalog.attestation import Level
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.catalog.manifest import Kind
from pipeline.catalog.origin import DumpOptions
from pipeline.prune.policy import Policy


@dataclass(frozen=True, slots=True)
class Backup:
    """The facts about a backup that decide whether it is kept."""

    ref: BackupRef
    kind: Kind
    snapshot_at: datetime
    """The time of the backup's snapshot, in UTC."""
    selection: tuple[object, ...] = ()
    """The selection from the database or the cluster. All backups of a series have the same selection."""
    partial: bool = False
    """True if the selection leaves something out."""
    tags: frozenset[str] = frozenset()
    job: str | None = None
    """The name of the backup's job in pgstow.toml; None if it has no job."""
    members: tuple[BackupRef, ...] = ()
    """The members that a cluster manifest names; empty for other backups."""
    uses: frozenset[BackupRef] = frozenset()
    """The other backups that stored some of this backup's objects."""
    verified: Level | None = None
    """The level of the latest attestation, if it found no damage; else None."""
    damaged: bool = False
    """True if the latest attestation found damage, or if a member's manifest is not the manifest that the cluster manifest names."""
    unread_at: datetime | None = None
    """The time of the latest attestation, if parts of the backup could not be read as stored and nothing was damaged; else None."""
    retained_until: datetime | None = None
    """The time until which the backup's manifest is locked, in UTC; None if no lock is known."""
    held: bool = False
    """True if a legal hold is known to be on the backup's manifest."""
    lock_needs: tuple[str, ...] = ()
    """The missing permissions, if the credentials may not see whether the backup's manifest is locked."""
    unsigned: bool = False
    """True if the backup has no signature, there are trusted keys, and the user lets the rules count such backups."""
    doubt: str | None = None
    """One sentence on why the backup isn't believed; None if it is believed. If a backup isn't believed, it stays, and no rule counts it."""

    @property
    def series(self) -> tuple[object, ...]:
        """A value that identifies the backup's series. Backups of the same database, kind, selection and job form a series.

        Unsigned backups are a series of their own, so that a forged backup never takes the place of a signed one.
        """
        return self.ref.cluster, self.ref.database, self.kind, self.selection, self.job, self.unsigned


def selection_of(dump: DumpOptions) -> tuple[object, ...]:
    """Return the selection of a dump in a form that can be compared.

    A script of a whole cluster and a cluster manifest with members have different selections.
    """
    return (dump.only, dump.format == "script", *map(tuple, map(sorted, dump.choices)))


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision to keep or drop a backup, and why."""

    ref: BackupRef
    keep: bool
    reasons: tuple[str, ...]
    """The reasons, in a few words each."""
    head: BackupRef
    """The cluster's backup, if the backup is a member: both are kept or dropped together. For other backups, the backup itself."""
    snapshot_at: datetime | None = None
    """The time of the backup's snapshot, in UTC; None if its manifest can't be read."""
    partial: bool = False
    """True if the backup's selection leaves something out."""
    doubtful: bool = False
    """True if the backup's manifest can't be read or isn't believed."""


def plan_prune(
    backups: Sequence[Backup],
    policy: Policy,
    now: datetime,
    unreadable: Sequence[BackupRef] = (),
    staying: Set[BackupRef] = frozenset(),
) -> list[Decision]:
    """Return a decision for each of ``backups`` and each of ``unreadable``, sorted by cluster, database and ID.

    ``unreadable`` has the backups whose manifest can't be read. ``staying`` has backups that nobody asks to drop. Whatever the policy
    says, the plan keeps:

    - the newest good backup of each series
    - backups from the future, by ``now``
    - backups in ``staying``
    - backups that are locked, that aren't believed, or whose manifest can't be read
    - backups that a kept backup needs, or that a backup with an unreadable manifest may need

    A backup that isn't believed never makes the plan drop another backup. A cluster's backup and its members are kept or dropped together,
    and count as one backup.
    """
    plan = _Plan(backups, policy, unreadable)
    for series in plan.series():
        plan.reasons |= _judge(series, policy, now, plan.flaws, plan.unproven)
    plan.keep(staying)
    plan.keep_what_is_locked(now)
    plan.keep_what_the_unreadable_may_need()
    plan.keep_what_the_kept_use()
    return plan.decisions()


def _judge(
    series: Sequence[Backup], policy: Policy, now: datetime, flaws: Mapping[BackupRef, str], unproven: Set[BackupRef]
) -> dict[BackupRef, list[str]]:
    """Return the reasons to keep each backup of a series. If no rule keeps a backup, its list is empty.

    A backup in ``unproven`` has a flaw, so it can't replace a good backup. But it stays if a rule would keep it without its flaw.
    """
    reasons: dict[BackupRef, list[str]] = {backup.ref: [] for backup in series}
    if policy.is_empty:
        return {ref: ["there is no rule"] for ref in reasons}
    newest_first = sorted(series, key=lambda backup: (backup.snapshot_at, backup.ref.backup_id), reverse=True)
    past = [backup for backup in newest_first if backup.snapshot_at <= now]
    good = [backup for backup in past if backup.ref not in flaws]
    for backup in newest_first:
        if backup.snapshot_at > now:
            reasons[backup.ref].append("from the future, by this machine's clock")
        if named := sorted(backup.tags & policy.keep_tagged):
            reasons[backup.ref].append(f"tagged {', '.join(named)}")
    for backup in past:
        if not good:
            reasons[backup.ref].append("no good backup yet")
        elif backup.ref in flaws and backup.snapshot_at > good[0].snapshot_at:
            reasons[backup.ref].append("newer than the newest good backup")
    if good:
        reasons[good[0].ref].append("newest good backup")
    for place, rule in policy.apply([backup.snapshot_at for backup in good]):
        reasons[good[place].ref].append(rule)
    counted = [backup for backup in past if backup.ref not in flaws or backup.ref in unproven]
    for place, rule in policy.apply([backup.snapshot_at for backup in counted]):
        if (ref := counted[place].ref) in unproven:
            reasons[ref].append(f"{rule}, though {flaws[ref]}")
    return reasons


def _flaw(backup: Backup, policy: Policy, backups: Mapping[BackupRef, Backup]) -> str | None:
    """Return the reason why rules don't count the backup; None if it is good."""
    if backup.damaged:
        return "damaged"
    if backup.members:
        members = [backups.get(ref) for ref in backup.members]
        if None in members:
            return "a member is missing"
        if flaw := next((flaw for member in members if member and (flaw := _flaw(member, policy, {}))), None):
            return flaw
    if backup.unread_at:
        return f"on {backup.unread_at:%Y-%m-%d}, a part could not be read as it was stored"
    if backup.members:
        return None
    if (wanted := policy.only_verified) is None:
        return None
    if backup.kind != "database":  # scripts of globals or of a server can't be verified beyond level archive
        wanted = min(wanted, Level.ARCHIVE, key=_rank)
    return (
        None
        if backup.verified and _rank(backup.verified) >= _rank(wanted)
        else f"not verified at level {wanted} or higher"
    )


def _rank(level: Level) -> int:
    return list(Level).index(level)


def _perhaps_used(users: Sequence[BackupRef]) -> str:
    first = users[0].backup_id
    if len(users) == 1:
        return f"perhaps used by {first}, whose manifest can't be read"
    return f"perhaps used by {first} and {len(users) - 1:,} more, whose manifests can't be read"


class _Plan:
    """The reasons to keep backups. A cluster's backup and its members share their reasons."""

    def __init__(self, backups: Sequence[Backup], policy: Policy, unreadable: Sequence[BackupRef]) -> None:
        in_order = sorted(backups, key=lambda backup: backup.ref.manifest_key)
        self.doubted = [backup for backup in in_order if backup.doubt]
        self.backups = {backup.ref: backup for backup in in_order if not backup.doubt}
        self.unreadable = list(unreadable)
        self.head = {ref: ref for ref in self.backups}
        for cluster_manifest in self.backups.values():
            for member in cluster_manifest.members:
                if member in self.backups and not self.backups[member].members:
                    self.head[member] = cluster_manifest.ref
        self.units: dict[BackupRef, list[BackupRef]] = defaultdict(list)
        for ref, head in self.head.items():
            self.units[head].append(ref)
        flaws = {ref: _flaw(backup, policy, self.backups) for ref, backup in self.backups.items()}
        self.flaws = {ref: flaw for ref, flaw in flaws.items() if flaw}
        read = {ref: replace(backup, unread_at=None) for ref, backup in self.backups.items()}
        self.unproven = {ref for ref in self.flaws if _flaw(read[ref], policy, read) is None}
        self.reasons: dict[BackupRef, list[str]] = {head: [] for head in self.units}

    def series(self) -> Iterable[Sequence[Backup]]:
        found: dict[object, list[Backup]] = defaultdict(list)
        for ref in self.reasons:
            backup = self.backups[ref]
            found[backup.series].append(backup)
        return found.values()

    def keep(self, staying: Set[BackupRef]) -> None:
        for ref in self.backups:
            if ref in staying:
                self._add(ref, "not asked for")

    def keep_what_is_locked(self, now: datetime) -> None:
        for ref, backup in self.backups.items():
            if backup.held:
                self._add(ref, "legal hold")
            if backup.retained_until is not None and backup.retained_until > now:
                self._add(ref, f"locked until {backup.retained_until:%Y-%m-%d %H:%M:%SZ}")

    def keep_what_the_unreadable_may_need(self) -> None:
        """Keep the backups that a backup with an unreadable manifest may need.

        These are all backups of the same database. If the unreadable manifest is a cluster manifest, they are all backups of the cluster.
        """
        found = defaultdict[tuple[str, str], list[BackupRef]](list)
        for damaged in self.unreadable:
            found[damaged.cluster, damaged.database].append(damaged)
        unreadable = set(self.unreadable)
        for ref, backup in self.backups.items():
            for users in (
                found.get((ref.cluster, ref.database)),
                found.get((ref.cluster, CLUSTER)),
                [member for member in backup.members if member in unreadable],
            ):
                if users:
                    self._add(ref, _perhaps_used(users))

    def keep_what_the_kept_use(self) -> None:
        to_look_at = [self.backups[ref] for head, unit in self.units.items() if self.reasons[head] for ref in unit]
        to_look_at += self.doubted
        while to_look_at:
            user = to_look_at.pop()
            needed = user.uses.union(user.members) & self.backups.keys()
            for ref in sorted(needed, key=lambda ref: ref.manifest_key):
                if not self.reasons[self.head[ref]]:
                    to_look_at += [self.backups[other] for other in self.units[self.head[ref]]]
                    self._add(ref, f"objects used by {user.ref.backup_id}")

    def decisions(self) -> list[Decision]:
        decided = [Decision(ref, True, ("its manifest can't be read",), ref, doubtful=True) for ref in self.unreadable]
        decided += [
            Decision(one.ref, True, (one.doubt or "",), one.ref, one.snapshot_at, one.partial, doubtful=True)
            for one in self.doubted
        ]
        for ref, backup in self.backups.items():
            head = self.head[ref]
            keep = bool(self.reasons[head])
            if head != ref:
                reasons: tuple[str, ...] = (
                    f"member of the {'kept' if keep else 'dropped'} cluster backup {head.backup_id}",
                )
            else:
                reasons = tuple(self.reasons[ref]) or (self.flaws.get(ref, "no rule keeps it"),)
            if not keep and backup.lock_needs:
                reasons += (f"its locks can't be read: the credentials need {' and '.join(backup.lock_needs)}",)
            decided.append(Decision(ref, keep, reasons, head, backup.snapshot_at, backup.partial))
        return sorted(
            decided, key=lambda decision: (decision.ref.cluster, decision.ref.database, decision.ref.backup_id)
        )

    def _add(self, ref: BackupRef, reason: str) -> None:
        reasons = self.reasons[self.head[ref]]
        if reason not in reasons:
            reasons.append(reason)
