"""Finds what looks like silent loss: a backup that is good, but holds much less than the backups before it."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from statistics import median

from pipeline.audit.checks.subject import Subject
from pipeline.audit.facts import ManifestFacts
from pipeline.audit.policy import Expectations
from pipeline.audit.report import AuditedBackup, AuditFinding, TableGrowth
from pipeline.audit.stats import table_growth
from pipeline.catalog.canonical_json import brief
from pipeline.counting import counted

_BEFORE = 7
"""How many earlier backups a backup is compared with."""
_FOR_MEDIAN = 3
"""The fewest earlier backups from which the usual size and duration are computed."""
_LEAST_SIZE = 1024 * 1024
"""Bytes. The sizes of smaller databases vary much."""
_LEAST_DURATION = 60
"""Seconds. The durations of shorter backups vary much."""
_NAMED = 3
_MOST_GROWTH = 20

Compared = tuple[AuditedBackup, ManifestFacts]
_Table = tuple[str, str, str]
"""The database of the table, if it isn't the backup's own; the schema; and the table's name."""


def check_loss(
    subject: Subject, backups: Sequence[Compared], expected: Expectations, since: datetime
) -> Iterator[AuditFinding]:
    """Yield a finding for each loss that a backup since ``since`` shows. ``backups`` are good backups of one database, the oldest first.

    Only backups of the same kind, by the same job, are compared. A partial backup without a job may be of anything, so it isn't compared.
    """
    series = dict[tuple[str | None, str, bool], deque[tuple[AuditedBackup, ManifestFacts, Mapping[_Table, int]]]]()
    recent = _with_predecessors(backups, since)
    for backup, facts in recent:
        if backup.partial and backup.job is None:
            continue
        before = series.setdefault((backup.job, backup.kind, backup.partial), deque(maxlen=_BEFORE))
        rows = {(table.database or "", table.schema, table.relation): table.rows for table in facts.tables}
        if before and backup.snapshot_at >= since:
            yield from _check_tables(subject, backup, rows, [each for _, _, each in before], expected)
            yield from _check_usual(subject, backup, [each for each, _, _ in before], expected)
            yield from _check_source(subject, backup, facts, before[-1][1])
        before.append((backup, facts, rows))


def _with_predecessors(backups: Sequence[Compared], since: datetime) -> Sequence[Compared]:
    first = next((place for place, (backup, _) in enumerate(backups) if backup.snapshot_at >= since), len(backups))
    return backups[max(first - _BEFORE, 0) :]


def _check_tables(
    subject: Subject,
    backup: AuditedBackup,
    rows: Mapping[_Table, int],
    before: Sequence[Mapping[_Table, int]],
    expected: Expectations,
) -> Iterator[AuditFinding]:
    """Compare the rows of each table with the fewest rows in the backups before. So a table that is often empty is no finding."""
    vanished, fallen = list[str](), list[str]()
    for table, rows_before in before[-1].items():
        now = rows.get(table)
        if now is not None and not _fell(rows_before, now, expected):
            continue
        _, schema, relation = table
        if expected.is_volatile(schema, relation):
            continue
        if now is None:
            vanished.append(_shown(table))
        elif _fell(fewest := min(each[table] for each in before if table in each), now, expected):
            fallen.append(f"{_shown(table)} ({fewest:,} to {now:,})")
    where = f"in the backup {backup.backup_id} of {subject.name}"
    if vanished:
        number, are = counted(len(vanished), "table"), "is" if len(vanished) == 1 else "are"
        words = f"{number} of the backup before {are} not {where}: {_listed(vanished)}."
        yield subject.finding("table-vanished", words, backup.backup_id)
    if fallen:
        words = f"{counted(len(fallen), 'table')} lost at least {expected.rows_fall:g}% of the rows {where}: {_listed(fallen)}."
        yield subject.finding("rows-fell", words, backup.backup_id)


def _fell(before: int, now: int, expected: Expectations) -> bool:
    return now < before and (before - now) * 100 >= before * expected.rows_fall


def _check_usual(
    subject: Subject, backup: AuditedBackup, before: Sequence[AuditedBackup], expected: Expectations
) -> Iterator[AuditFinding]:
    if len(before) < _FOR_MEDIAN:
        return
    size, duration = median(one.size for one in before), median(one.duration for one in before)
    if size >= _LEAST_SIZE and backup.size < size * expected.size_share / 100:
        words = (
            f"The backup {backup.backup_id} of {subject.name} has {backup.size:,} bytes, "
            f"but {_usual(len(before))} usually had {size:,.0f}."
        )
        yield subject.finding("shrunk", words, backup.backup_id)
    if duration >= _LEAST_DURATION and backup.duration < duration * expected.duration_share / 100:
        words = (
            f"The backup {backup.backup_id} of {subject.name} took {backup.duration:,.0f} s, "
            f"but {_usual(len(before))} usually took {duration:,.0f} s."
        )
        yield subject.finding("fast", words, backup.backup_id)


def _check_source(
    subject: Subject, backup: AuditedBackup, facts: ManifestFacts, before: ManifestFacts
) -> Iterator[AuditFinding]:
    """Yield a finding if an unsigned backup is of another PostgreSQL cluster. For signed backups, the check of the chain finds this."""
    system, earlier = facts.system_identifier, before.system_identifier
    if not backup.signed and system and earlier and system != earlier:
        words = (
            f"The backup {backup.backup_id} of {subject.name} is of the PostgreSQL cluster {brief(system)}, "
            f"but the backup before is of {brief(earlier)}."
        )
        yield subject.finding("other-system", words, backup.backup_id)


def growth_of(backups: Sequence[Compared]) -> Sequence[TableGrowth]:
    """Return the tables whose size changed most between the first and the last of these backups of one kind, the largest change first."""
    if len(backups) < 2:
        return ()
    (_, first), (_, last) = backups[0], backups[-1]
    grown = table_growth(first.tables, last.tables)[:_MOST_GROWTH]
    return [replace(one, schema=brief(one.schema), relation=brief(one.relation)) for one in grown]


def _usual(number: int) -> str:
    return f"the {counted(number, 'backup')} before"


def _shown(table: _Table) -> str:
    return ".".join(brief(name) for name in table if name)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
