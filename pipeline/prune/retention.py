"""Which backups to keep: a plan, made of what is known of the backups and of nothing else.

Backups of the same database and kind form a series, those of a part of it (by what was selected) another, and so do those of each job
of pgstow.toml. The rules count within a series, newest first, and a backup stays that any of them keeps. Days, weeks and so on are UTC's,
and a backup belongs to that of its snapshot. As in `restic forget`_, of each of the last N days that have a backup, the newest one stays;
and a duration is counted back from the newest backup, not from now, so that a series which ended is not worn away.

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
"""By rule, the name of the span of time that a moment (in UTC) is in; weeks are ISO 8601's."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep; a policy without any rule keeps everything."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta = timedelta()
    """Back from the newest backup of the series."""
    keep_tagged: frozenset[str] = frozenset()
    only_verified: Level | None = None
    """Rules count, and rely on, a backup only if its latest attestation says that it is good, at this level at least."""

    def __post_init__(self) -> None:
        if min(self.keep_last, *(self.spans(rule) for rule in _BUCKETS)) < 0 or self.keep_within < timedelta():
            raise InvalidRequest("A number of backups to keep, and a duration, can't be below 0.")

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule."""
        return not (self.keep_last or any(map(self.spans, _BUCKETS)) or self.keep_within or self.keep_tagged)

    def spans(self, rule: str) -> int:
        """Of how many hours, days and so on to keep one backup."""
        number: int = getattr(self, f"keep_{rule}")
        return number


@dataclass(frozen=True, slots=True)
class Backup:
    """What is known of a backup, as far as it matters for how long to keep it."""

    ref: BackupRef
    kind: Kind
    snapshot_at: datetime
    """In UTC."""
    selection: tuple[object, ...] = ()
    """What was taken of the database, or of the cluster; the same for all of a series."""
    partial: bool = False
    """Whether that isn't all of it."""
    tags: frozenset[str] = frozenset()
    job: str | None = None
    """The name in pgstow.toml of what it was made for."""
    members: tuple[BackupRef, ...] = ()
    """Of a cluster's record."""
    uses: frozenset[BackupRef] = frozenset()
    """The backups, other than this one, that its objects lie under."""
    verified: Level | None = None
    """The level of the attestation that counts, if it found nothing wrong."""
    damaged: bool = False
    """Its latest attestation says that it isn't, or a member is another than was recorded."""
    unread_at: datetime | None = None
    """When the latest attestation found that not all of the backup could be read as it was stored. None if it was all read, or is damaged."""
    retained_until: datetime | None = None
    """Until when its manifest is locked."""
    held: bool = False
    """True if a legal hold is known to be on its manifest."""
    lock_needs: tuple[str, ...] = ()
    """The permissions that are missing to tell whether its manifest is locked."""
    doubt: str | None = None
    """Why the backup isn't believed: one sentence. Such a backup stays, and counts for no rule."""

    @property
    def series(self) -> tuple[object, ...]:
        """Those of the same database, kind, selection and job have the same."""
        return self.ref.cluster, self.ref.database, self.kind, self.selection, self.job


def selection_of(dump: DumpOptions) -> tuple[object, ...]:
    """What tells the series of a database, or of a cluster, apart: the selection, and whether it is one script."""
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
    """What becomes of a backup, and why."""

    ref: BackupRef
    keep: bool
    reasons: tuple[str, ...]
    head: BackupRef
    """The cluster's record whose fate it shares; itself, where it is no member of one."""
    snapshot_at: datetime | None = None
    """None where its manifest can't be read."""
    partial: bool = False
    doubtful: bool = False
    """True if the backup's manifest can't be read, or isn't believed."""


def plan_prune(
    backups: Sequence[Backup], policy: Policy, now: datetime, unreadable: Sequence[BackupRef] = ()
) -> list[Decision]:
    """Whether to keep each of the backups, and each of those whose manifest can't be read, in the order of their references.

    Never drops the newest good backup of a series, what lies in the future, what is locked, what isn't believed, what a kept backup needs,
    nor, while a manifest can't be read, what that might need. A backup that isn't believed never makes the plan drop more.
    A cluster's record and its members are kept or dropped together, and count as one.
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
    """Return the reasons to keep each backup of a series; a backup that no rule keeps has none.

    An ``unproven`` backup has a flaw, and takes no good one's place. But it stays if a rule would keep it as a good one.
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
    """Yield each of these backups that a rule keeps, with the rule."""
    for backup in newest_first[: policy.keep_last]:
        yield backup.ref, f"last {policy.keep_last}"
    for rule, span_of in _BUCKETS.items():
        for span, backup in _newest_of_each(newest_first, span_of)[: policy.spans(rule)]:
            yield backup.ref, f"{rule} {span}"
    for backup in newest_first:
        if policy.keep_within and backup.snapshot_at > newest_first[0].snapshot_at - policy.keep_within:
            yield backup.ref, f"within {_describe(policy.keep_within)}"


def _flaw(backup: Backup, policy: Policy, backups: Mapping[BackupRef, Backup]) -> str | None:
    """Why a backup counts for nothing; None for a good one."""
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
    if backup.kind != "database":  # roles, tablespaces and scripts of a server are verified no further
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
    """The reasons to keep backups, by what shares its fate: a cluster's record with its members, any other backup by itself."""

    def __init__(self, backups: Sequence[Backup], policy: Policy, unreadable: Sequence[BackupRef]) -> None:
        in_order = sorted(backups, key=lambda backup: backup.ref.manifest_key)
        self.doubted = [backup for backup in in_order if backup.doubt]
        self.backups = {backup.ref: backup for backup in in_order if not backup.doubt}
        self.unreadable = list(unreadable)
        self.head = {ref: ref for ref in self.backups}
        for record in self.backups.values():
            for member in record.members:
                if member in self.backups and not self.backups[member].members:
                    self.head[member] = record.ref
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
        """What that is nobody can tell: objects of the same database, or, of a cluster's record, any backup of the cluster."""
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
