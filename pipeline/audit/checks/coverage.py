"""Checks that backups were made as often as the policy wants, and are in as many stores."""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from pipeline.audit.checks.subject import Subject, moment_in_words, span_in_words
from pipeline.audit.policy import WEEKDAYS, Expectations
from pipeline.audit.report import AuditedBackup, AuditFinding, NightState
from pipeline.counting import counted

_DAY = timedelta(days=1)
Period = tuple[date, date]
"""The first and the last day, in UTC, of a time in which the policy wants a backup."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """When backups of a database were made, in all stores together."""

    subject: Subject
    expected: Expectations
    since: date
    """The first audited day, in UTC."""
    now: datetime
    good: Sequence[AuditedBackup]
    """The backups that count, the oldest first; one of each, even if several stores have a copy."""
    removed: Sequence[datetime]
    """The times of the signed backups that were removed."""
    begun: date | None
    """The day of the first backup of which anything is known; None if there is none."""

    @property
    def expected_since(self) -> date:
        """The first day for which a backup can be expected."""
        days = [self.since]
        if self.begun:
            days.append(self.begun)
        if self.expected.kept_for is not None:
            days.append((self.now - self.expected.kept_for).date() + _DAY)
        return max(days)

    @property
    def made(self) -> Sequence[datetime]:
        """The times of all good backups, also of removed ones, the oldest first."""
        return sorted([*(one.snapshot_at for one in self.good), *self.removed])

    def missed(self) -> Sequence[Period]:
        """Return the periods without a backup, though the policy wants one. Today isn't over, so it doesn't count."""
        days = {moment.date() for moment in self.made}
        periods = _periods(self.expected.schedule, self.expected_since, self.now.date() - _DAY)
        return [period for period in periods if days.isdisjoint(_days(*period))]


def check_presence(
    subject: Subject, backups: Sequence[AuditedBackup], good: Sequence[AuditedBackup], *, required: bool
) -> Iterator[AuditFinding]:
    """Yield a finding if no backup counts. ``required`` is true if the policy names the database."""
    if good:
        return
    if not backups:
        name, words = (
            "no-backups-left",
            f"There is no backup of {subject.name}, but the stores have other objects of it.",
        )
        if required:
            name, words = "no-backup", f"There is no backup of {subject.name}, which the policy names."
        yield subject.finding(name, words)
    elif partial := [one for one in backups if one.doubt is None]:
        words = (
            f"{subject.name} has only partial backups, such as {partial[-1].backup_id}; "
            "if you back up only a part of it, write partial = true into the policy."
        )
        yield subject.finding("only-partial", words)
    else:
        words = f"{subject.name} has no good backup. Of {counted(len(backups), 'backup')}, the newest doesn't count: {backups[-1].doubt}"
        yield subject.finding("no-backup", words)


def check_coverage(
    coverage: Coverage, missed: Sequence[Period], copies: Sequence[tuple[AuditedBackup, int]]
) -> Iterator[AuditFinding]:
    """Yield a finding for each gap, and for too few copies. There is a good backup.

    ``copies`` has the number of good copies of each good backup, the oldest first.
    """
    subject, last, rpo = coverage.subject, coverage.good[-1], coverage.expected.longest_gap
    age = coverage.now - last.snapshot_at
    if rpo is not None and age > rpo:
        words = (
            f"The last good backup of {subject.name} is of {moment_in_words(last.snapshot_at)}, {span_in_words(age)} ago, "
            f"but the policy allows {span_in_words(rpo)}."
        )
        yield subject.finding("overdue", words)
    for first, until in _joined(missed):
        days = (until - first).days + 1
        when = f"of {first}" if days == 1 else f"from {first} to {until} ({counted(days, 'day')})"
        yield subject.finding("missed", f"{subject.name} has no good backup {when}.")
    if rpo is not None:
        yield from _gaps(coverage, missed, rpo)
    yield from _check_copies(coverage, copies)


def _gaps(coverage: Coverage, missed: Sequence[Period], rpo: timedelta) -> Iterator[AuditFinding]:
    subject, since = coverage.subject, coverage.expected_since
    told = {day for period in missed for day in _days(*period)}
    for before, after in pairwise(coverage.made):
        if after - before > rpo and before.date() >= since and told.isdisjoint(_days(before.date(), after.date())):
            words = (
                f"{subject.name} had no good backup between {moment_in_words(before)} and {moment_in_words(after)}, "
                f"which is {span_in_words(after - before)}; the policy allows {span_in_words(rpo)}."
            )
            yield subject.finding("rpo-missed", words)


def _check_copies(coverage: Coverage, copies: Sequence[tuple[AuditedBackup, int]]) -> Iterator[AuditFinding]:
    """Yield a finding unless a recent backup is in as many stores as the policy wants. A second copy may lag behind as far as the RPO."""
    wanted, subject, rpo = coverage.expected.stores, coverage.subject, coverage.expected.longest_gap
    newest = next((backup for backup, number in reversed(copies) if number >= wanted), None)
    if newest is None:
        most = max((number for _, number in copies), default=0)
        words = f"No good backup of {subject.name} is in {counted(wanted, 'store')}: the audit found at most {counted(most, 'copy', 'copies')}."
        yield subject.finding("few-copies", words)
    elif newest.backup_id != copies[-1][0].backup_id and (rpo is None or coverage.now - newest.snapshot_at > rpo):
        words = f"The newest backup of {subject.name} that is in {counted(wanted, 'store')} is of {moment_in_words(newest.snapshot_at)}."
        yield subject.finding("few-copies", words, newest.backup_id)


def nights(
    coverage: Coverage, missed: Sequence[Period], backups: Iterable[AuditedBackup], suspects: AbstractSet[str]
) -> Sequence[tuple[date, NightState]]:
    """Return what is known of each audited day. ``suspects`` are the IDs of the backups that a finding is about."""
    found = dict.fromkeys(_days(coverage.since, coverage.now.date()), NightState.NOT_EXPECTED)
    states = list(NightState)

    def note(day: date, state: NightState) -> None:
        if day in found and states.index(state) > states.index(found[day]):
            found[day] = state

    for moment in coverage.removed:
        note(moment.date(), NightState.GOOD)
    for one in backups:
        day = one.snapshot_at.astimezone(UTC).date()
        if one.doubt or one.backup_id in suspects:
            note(day, NightState.DOUBTED)
        else:
            note(day, NightState.PROVEN if one.proven_at else NightState.GOOD)
    for _, last in missed:
        if found.get(last) is NightState.NOT_EXPECTED:
            found[last] = NightState.MISSING
    return list(found.items())


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + number * _DAY


def _periods(schedule: str | Sequence[str] | None, first: date, last: date) -> Iterator[Period]:
    """Yield the periods from ``first`` to ``last``, both whole days, in each of which the schedule wants a backup."""
    match schedule:
        case None:
            return
        case "weekly":
            starts = [day for day in _days(first, last) if day.weekday() == 0]
            ends = [day + 6 * _DAY for day in starts]
        case "monthly":
            starts = [day for day in _days(first, last) if day.day == 1]
            ends = [(day + 31 * _DAY).replace(day=1) - _DAY for day in starts]
        case "hourly" | "daily":
            starts = ends = list(_days(first, last))
        case _:
            starts = ends = [day for day in _days(first, last) if WEEKDAYS[day.weekday()] in schedule]
    yield from ((start, end) for start, end in zip(starts, ends, strict=True) if end <= last)


def _joined(periods: Sequence[Period]) -> Iterator[Period]:
    """Yield the periods, with those that follow one another joined."""
    whole: Period | None = None
    for first, last in periods:
        if whole and first - whole[1] == _DAY:
            whole = (whole[0], last)
            continue
        if whole:
            yield whole
        whole = (first, last)
    if whole:
        yield whole
