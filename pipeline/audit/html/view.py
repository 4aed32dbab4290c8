"""What the page says of an audit's report, in the shape in which the page shows it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from itertools import groupby

from pipeline.audit.html.plots import Plot, Point, draw
from pipeline.audit.report import AuditedBackup, AuditFinding, AuditReport, DatabaseAudit, NightState, Severity
from pipeline.counting import counted
from pipeline.words import format_duration, format_size

_POINTS = 180
"""Points of a line at most: more can't be told apart in a plot."""
_SPARKS = 40
"""Points of the small line in the overview at most."""
_DOUBTS = 60
"""Rings of a plot at most."""
LISTED = 10
"""Backups and proofs that a table lists at most."""
_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """The findings of one name and severity."""

    name: str
    severity: Severity
    findings: Sequence[AuditFinding]

    @property
    def databases(self) -> int:
        """The number of databases that the findings are about."""
        return len({(found.cluster, found.database) for found in self.findings if found.database is not None})


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that matters, with its meaning."""

    number: str
    words: str
    good: bool | None
    """None if the number is neither good nor bad."""


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """One database of the page."""

    anchor: str
    audit: DatabaseAudit
    worst: Severity | None
    """The severity of the worst finding; None without findings."""
    rpo_met: bool | None
    """None if the policy says nothing."""
    growth: float | None
    """Change of the size from the first to the last counted backup, as a share of the first; None if there is no change to tell."""
    counted: Sequence[AuditedBackup]
    """The whole backups that count, once each, the oldest first."""

    @property
    def rank(self) -> int:
        """The place of the worst finding: 0 is critical."""
        return len(_RANKS) if self.worst is None else _RANKS[self.worst]

    @property
    def spark(self) -> str:
        """The sizes as points of a polyline in a box of 80 by 20 units; empty if there are fewer than two."""
        sizes = [backup.size for backup in _thinned(self.counted, _SPARKS)]
        if len(sizes) < 2:
            return ""
        low, high = min(sizes), max(sizes)
        span = max(high - low, high / 5, 1)  # a change of a few percent must not look like a mountain
        heights = [18 - 16 * (size - low) / span for size in sizes]
        return " ".join(f"{80 * index / (len(sizes) - 1):.1f},{height:.1f}" for index, height in enumerate(heights))

    @property
    def latest(self) -> Sequence[AuditedBackup]:
        """The last backups, the newest first."""
        return self.audit.backups[: -LISTED - 1 : -1]

    @property
    def proofs(self) -> Sequence[AuditedBackup]:
        """The backups that were proven last, the newest proof first."""
        return _proven(self.audit)[:LISTED]


def view_of(database: DatabaseAudit, number: int, made_at: datetime) -> DatabaseView:
    """Return the view of the database with this number in the report."""
    whole = {
        backup.backup_id: backup for backup in reversed(database.backups) if not backup.doubt and not backup.partial
    }
    line = list(whole.values())[::-1]
    growth = line[-1].size / line[0].size - 1 if len(line) > 1 and line[0].size else None
    met = None
    if database.rpo is not None:
        met = database.last_good is not None and made_at - database.last_good.snapshot_at <= database.rpo
    worst = min((found.severity for found in database.findings), key=_RANKS.__getitem__, default=None)
    return DatabaseView(f"database-{number}", database, worst, met, growth, line)


def finding_groups(findings: Sequence[AuditFinding]) -> Iterator[tuple[Severity, Sequence[FindingGroup]]]:
    """Yield the groups of each severity, critical ones first. In a severity, the name with the most findings is first."""
    held: dict[tuple[Severity, str], list[AuditFinding]] = {}
    for found in findings:
        held.setdefault((found.severity, found.name), []).append(found)
    groups = [FindingGroup(name, severity, of_name) for (severity, name), of_name in held.items()]
    groups.sort(key=lambda group: (_RANKS[group.severity], -len(group.findings), group.name))
    for severity, of_severity in groupby(groups, key=lambda group: group.severity):
        yield severity, list(of_severity)


def verdict(report: AuditReport) -> str:
    """Return the result of the audit in one sentence."""
    counts = {severity: sum(found.severity is severity for found in report.findings) for severity in Severity}
    critical, warnings = counts[Severity.CRITICAL], counts[Severity.WARNING]
    if critical:
        also = f" and {counted(warnings, 'warning')}" if warnings else ""
        return f"{counted(critical, 'critical finding')}{also}"
    return f"{counted(warnings, 'warning')}, nothing critical" if warnings else "No critical finding and no warning"


def tiles(report: AuditReport, views: Sequence[DatabaseView]) -> Iterator[Tile]:
    """Yield the numbers at the top of the page."""
    total = len(views)
    if ruled := [view for view in views if view.rpo_met is not None]:
        met = sum(view.rpo_met is True for view in ruled)
        yield Tile(
            f"{met:,} of {len(ruled):,}", "databases have a backup as new as the policy asks (RPO)", met == len(ruled)
        )
    else:
        backed = sum(view.audit.last_good is not None for view in views)
        yield Tile(f"{backed:,} of {total:,}", "databases have a good backup", backed == total)
    proven = [view.audit.last_proof for view in views if view.audit.last_proof is not None]
    yield Tile(f"{len(proven):,} of {total:,}", "databases were proven by a restore", len(proven) == total)
    seconds = [proof.restore_seconds for proof in proven if proof.restore_seconds is not None]
    if seconds:
        yield Tile(format_duration(max(seconds)), "is the longest duration among the last restores (RTO)", None)
    states = [state for view in views for _, state in view.audit.nights]
    missing = states.count(NightState.MISSING)
    yield Tile(f"{missing:,}", "expected backups are missing", missing == 0)
    backups = [backup for view in views for backup in view.audit.backups]
    doubted = sum(backup.doubt is not None for backup in backups)
    yield Tile(f"{len(backups):,}", f"backups are in the stores; {doubted:,} of them in doubt", doubted == 0)
    yield Tile(
        format_size(sum(store.stored_size for store in report.stores)), "are stored in all stores together", None
    )
    if report.trusted_keys:
        signed = sum(backup.signed for backup in backups)
        yield Tile(_share(signed, len(backups)), "of the backups are signed by a trusted key", signed == len(backups))
    yield Tile(_share(sum(backup.sealed for backup in backups), len(backups)), "of the backups are sealed", None)
    locked = sum(backup.retained_until is not None and backup.retained_until > report.made_at for backup in backups)
    yield Tile(_share(locked, len(backups)), "of the backups are locked against deletion", None)


def _share(part: int, whole: int) -> str:
    """Return a share in percent. It is 100% only if nothing is missing."""
    return f"{100 * part // whole}%" if whole else "none"


def plots(view: DatabaseView, report: AuditReport) -> Iterator[Plot]:
    """Yield the plots of size, rows and duration, if the database has backups in the audited time."""
    since = datetime.combine(report.since, time.min, UTC)
    until = datetime.combine(report.until, time.max, UTC)

    def inside(moment: datetime | None) -> bool:
        return moment is not None and since <= moment <= until

    line = _thinned([backup for backup in view.counted if inside(backup.snapshot_at)], _POINTS)
    if not line:
        return
    doubted = [one for one in view.audit.backups if one.doubt and inside(one.snapshot_at)][-_DOUBTS:]
    proofs = [
        Point(one.proven_at, one.restore_seconds, "proof")
        for one in _proven(view.audit)
        if one.proven_at is not None and one.restore_seconds is not None and inside(one.proven_at)
    ]
    first, last = line[0], line[-1]

    def points(value: Callable[[AuditedBackup], float]) -> list[Point]:
        return [Point(one.snapshot_at, value(one), "doubt" if one.doubt else "backup") for one in [*line, *doubted]]

    words = f"{format_size(first.size)} at first, {format_size(last.size)} at last"
    yield draw("Size before compression", words, points(lambda one: one.size), since, until, "bytes")
    words = f"{first.rows:,} at first, {last.rows:,} at last"
    yield draw("Rows", words, points(lambda one: one.rows), since, until, "number")
    words = f"the last backup took {format_duration(last.duration)}"
    if view.audit.last_proof is not None and view.audit.last_proof.restore_seconds is not None:
        words += f", the last restore {format_duration(view.audit.last_proof.restore_seconds)}"
    yield draw("Duration", words, points(lambda one: one.duration) + proofs[:_POINTS], since, until, "seconds")


def _proven(database: DatabaseAudit) -> Sequence[AuditedBackup]:
    """Return the backups that count and were proven, once each, the newest proof first."""
    proven = {one.backup_id: (one.proven_at, one) for one in database.backups if one.proven_at and not one.doubt}
    return [one for _, one in sorted(proven.values(), key=lambda pair: pair[0], reverse=True)]


def _thinned(backups: Sequence[AuditedBackup], most: int) -> Sequence[AuditedBackup]:
    """Return at most ``most`` of the backups, evenly chosen, the newest included."""
    step = -(-len(backups) // most) or 1
    return backups[::-step][::-1]
