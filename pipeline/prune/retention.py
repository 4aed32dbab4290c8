"""Plan which backups to keep, from facts about the backups alone.

Backups with the same database, kind, selection and job of pgstow.toml form a series. The rules count within a series, newest first. A backup
stays if any rule keeps it. Days, weeks and so on are in UTC, and a backup belongs to the day of its snapshot. The rules are those of
`restic forget`_: a daily rule keeps the newest backup of each of the last N days that have a backup. A duration is counted back from the
newest backup, not from now, so that a series that has ended isn't removed bit by bit.

.. _restic forget: https://restic.readthedocs.io/en/stable/060_forget.html
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline.catalog.attestation import Level
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.catalog.manifest import DumpOptions, Kind
from pipeline.errors import InvalidRequest

_BUCKETS: dict[str, Callable[[datetime], str]] = {
    "hourly": lambda moment: f"{moment:%Y-%m-%d %H}h",
    "daily": lambda moment: f"{moment:%Y-%m-%d}",
    "weekly": lambda moment: f"{moment:%G-W%V}",
    "monthly": lambda moment: f"{moment:%Y-%m}",
    "yearly": lambda moment: f"{moment:%Y}",
}
"""For each rule, a function from a moment in UTC to the name of its span of time. Weeks are those of ISO 8601."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep. A policy without any rule keeps everything. Raises InvalidRequest if a number or the duration is below 0."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta = timedelta()
    """Keep the backups of this time, counted back from the newest good backup of the series."""
    keep_tagged: frozenset[str] = frozenset()
    """Keep the backups with one of these tags."""
    only_verified: Level | None = None
    """Rules count a backup only if its latest attestation says that the backup is good, at this level or above; None to count any."""

    def __post_init__(self) -> None:
        if min(self.keep_last, *(self.spans(rule) for rule in _BUCKETS)) < 0 or self.keep_within < timedelta():
            raise InvalidRequest("A number of backups to keep, and a duration, can't be below 0.")

    @property
    def is_empty(self) -> bool:
        """True if the policy has no rule."""
        return not (self.keep_last or any(map(self.spans, _BUCKETS)) or self.keep_within or self.keep_tagged)

    def spans(self, rule: str) -> int:
        """Return the number of spans of which to keep one backup. ``rule`` is ``hourly``, ``daily``, ``weekly``, ``monthly`` or ``yearly``."""
        number: int = getattr(self, f"keep_{rule}")
        return number


@dataclass(frozen=True, slots=True)
class Backup:
    """The facts about a backup that decide if it is kept."""

    ref: BackupRef
    kind: Kind
    snapshot_at: datetime
    """The time of the backup's snapshot, in UTC."""
    selection: tuple[object, ...] = ()
    """What was selected from the database or the cluster. All backups of a series have the same selection."""
    partial: bool = False
    """True if the selection leaves something out."""
    tags: frozenset[str] = frozenset()
    job: str | None = None
    """The name of the backup's job in pgstow.toml; None if it has none."""
    members: tuple[BackupRef, ...] = ()
    """The members that a cluster manifest names; empty for other backups."""
    uses: frozenset[BackupRef] = frozenset()
    """The other backups that stored some of this backup's objects."""
    verified: Level | None = None
    """The level of the attestation that counts, if it found no damage; else None."""
    damaged: bool = False
    """True if the attestation that counts found damage, or if a member has another manifest than the cluster manifest says."""
    unread_at: datetime | None = None
    """The time of the attestation that found parts of the backup unreadable as stored. None if everything was read, or something is damaged."""
    retained_until: datetime | None = None
    """The time until which the backup's manifest is locked, in UTC; None if no lock is known."""
    held: bool = False
    """True if a legal hold is known to be on the backup's manifest."""
    lock_needs: tuple[str, ...] = ()
    """The permissions that are missing to tell if the backup's manifest is locked."""
    doubt: str | None = None
    """Why the backup isn't believed, in one sentence; None if it is. A backup that isn't believed stays, and counts for no rule."""

    @property
    def series(self) -> tuple[object, ...]:
        """A value that identifies the backup's series. Backups of the same database, kind, selection and job form a series."""
        return self.ref.cluster, self.ref.database, self.kind, self.selection, self.job


def selection_of(dump: DumpOptions) -> tuple[object, ...]:
    """Return the selection of a dump in a form that can be compared. A single script has another selection than separate backups."""
    patterns = (
        dump.tables,
        dump.exclude_tables,
        dump.schemas,
        dump.exclude_schemas,
        dump.exclude_table_data,
        dump.exclude_databases,
    )
    return (dump.only, dump.format == "script", *map(tuple, map(sorted, patterns)))


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision to keep or drop a backup, and why."""

    ref: BackupRef
    keep: bool
    reasons: tuple[str, ...]
    """Why the backup is kept or dropped, in a few words each."""
    head: BackupRef
    """The cluster's backup of which the backup is a member, so that both are kept or dropped together. For no member, the backup itself."""
    snapshot_at: datetime | None = None
    """The time of the backup's snapshot, in UTC; None if its manifest can't be read."""
    partial: bool = False
    """True if the backup leaves something out."""
    doubtful: bool = False
    """True if the backup's manifest can't be read, or isn't believed."""


def plan_prune(
    backups: Sequence[Backup], policy: Policy, now: datetime, unreadable: Sequence[BackupRef] = ()
) -> list[Decision]:
    """Return a decision for each of ``backups`` and each of ``unreadable``, sorted by cluster, database and ID.

    ``unreadable`` are backups whose manifest can't be read. The plan always keeps the newest good backup of a series, and a backup from the
    future, by ``now``. It keeps a backup that is locked, that isn't believed, or whose manifest can't be read. It keeps a backup that a kept
    backup needs, or that a backup with an unreadable manifest might need.

    A backup that isn't believed never makes the plan drop more. A cluster's backup and its members are kept or dropped together, and count
    as one backup.
    """
    plan = _Plan(backups, policy, unreadable)
    for series in plan.series():
        plan.reasons |= _judge(series, policy, now, plan.flaws, plan.unproven)
    plan.keep_what_is_locked(now)
    plan.keep_what_the_unreadable_may_need()
    plan.keep_what_the_kept_use()
    return plan.decisions()


def _judge(
    series: Sequence[Backup], policy: Policy, now: datetime, flaws: Mapping[BackupRef, str], unproven: Set[BackupRef]
) -> dict[BackupRef, list[str]]:
    """Return the reasons to keep each backup of a series. A backup that no rule keeps has no reasons.

    A backup in ``unproven`` has a flaw, and replaces no good backup. But it stays if a rule would keep it without its flaw.
    """
    reasons: dict[BackupRef, list[str]] = {backup.ref: [] for backup in series}
    if policy.is_empty:
        return {ref: ["there is no rule"] for ref in reasons}
    newest_first = sorted(series, key=lambda backup: (backup.snapshot_at, backup.ref.backup_id), reverse=True)
    past = [backup for backup in newest_first if backup.snapshot_at <= now]
    good = [backup for backup in past if backup.ref not in flaws]
    for backup in newest_first:
        if backup.snapshot_at > now:
            reasons[backup.ref].append("of the future, by this machine's clock")
        if named := sorted(backup.tags & policy.keep_tagged):
            reasons[backup.ref].append(f"tagged {', '.join(named)}")
    for backup in past:
        if not good:
            reasons[backup.ref].append("no good one yet")
        elif backup.ref in flaws and backup.snapshot_at > good[0].snapshot_at:
            reasons[backup.ref].append("newer than the newest good")
    if good:
        reasons[good[0].ref].append("newest good")
    for ref, reason in _apply_rules(good, policy):
        reasons[ref].append(reason)
    for ref, reason in _apply_rules([one for one in past if one.ref not in flaws or one.ref in unproven], policy):
        if ref in unproven:
            reasons[ref].append(f"{reason}, though {flaws[ref]}")
    return reasons


def _apply_rules(newest_first: Sequence[Backup], policy: Policy) -> Iterator[tuple[BackupRef, str]]:
    """Yield each backup that a rule keeps, with the rule's name."""
    for backup in newest_first[: policy.keep_last]:
        yield backup.ref, f"last {policy.keep_last}"
    for rule, span_of in _BUCKETS.items():
        for span, backup in _newest_of_each(newest_first, span_of)[: policy.spans(rule)]:
            yield backup.ref, f"{rule} {span}"
    for backup in newest_first:
        if policy.keep_within and backup.snapshot_at > newest_first[0].snapshot_at - policy.keep_within:
            yield backup.ref, f"within {_describe(policy.keep_within)}"


def _flaw(backup: Backup, policy: Policy, backups: Mapping[BackupRef, Backup]) -> str | None:
    """Return why no rule counts the backup; None if it is good."""
    if backup.damaged:
        return "damaged"
    if backup.members:
        members = [backups.get(ref) for ref in backup.members]
        if None in members:
            return "a member is missing"
        if flaw := next((flaw for member in members if member and (flaw := _flaw(member, policy, {}))), None):
            return flaw
    if backup.unread_at:
        return f"not all of it could be read as it was stored on {backup.unread_at:%Y-%m-%d}"
    if backup.members:
        return None
    if (wanted := policy.only_verified) is None:
        return None
    if backup.kind != "database":  # scripts of globals or of a server can't be verified beyond level archive
        wanted = min(wanted, Level.ARCHIVE, key=_rank)
    return None if backup.verified and _rank(backup.verified) >= _rank(wanted) else f"not verified by level {wanted}"


def _rank(level: Level) -> int:
    return list(Level).index(level)


def _newest_of_each(newest_first: Iterable[Backup], span_of: Callable[[datetime], str]) -> list[tuple[str, Backup]]:
    newest: dict[str, Backup] = {}
    for backup in newest_first:
        newest.setdefault(span_of(backup.snapshot_at), backup)
    return list(newest.items())


def _describe(duration: timedelta) -> str:
    hours = duration // timedelta(hours=1)
    return f"{hours // 24} days" if hours % 24 == 0 else f"{hours} hours"


class _Plan:
    """The reasons to keep backups. A cluster's backup and its members have the same reasons, any other backup has its own."""

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

    def keep_what_is_locked(self, now: datetime) -> None:
        for ref, backup in self.backups.items():
            if backup.held:
                self._add(ref, "legal hold")
            if backup.retained_until is not None and backup.retained_until > now:
                self._add(ref, f"locked until {backup.retained_until:%Y-%m-%d %H:%M:%SZ}")

    def keep_what_the_unreadable_may_need(self) -> None:
        """Keep each backup of the same database as an unreadable manifest, and each backup of the cluster if it is a cluster manifest."""
        for damaged in self.unreadable:
            for ref, backup in self.backups.items():
                same = ref.cluster == damaged.cluster and damaged.database in (ref.database, CLUSTER)
                if same or damaged in backup.members:
                    self._add(ref, f"perhaps used by {damaged.backup_id}, whose manifest can't be read")

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
                reasons += (f"whether it is locked can't be told: needs {' and '.join(backup.lock_needs)}",)
            decided.append(Decision(ref, keep, reasons, head, backup.snapshot_at, backup.partial))
        return sorted(
            decided, key=lambda decision: (decision.ref.cluster, decision.ref.database, decision.ref.backup_id)
        )

    def _add(self, ref: BackupRef, reason: str) -> None:
        reasons = self.reasons[self.head[ref]]
        if reason not in reasons:
            reasons.append(reason)
