"""Computes how databases and tables grew from backup to backup, and where this leads if it goes on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, linear_regression

from pipeline.audit.facts import BackupFacts, DatabaseFacts, ManifestFacts, TableFacts
from pipeline.audit.report import TableGrowth

LEAST_NIGHTS = 7
"""The fewest days with a backup from which a forecast is made."""
_DAY = timedelta(days=1)
_LIKELY = 2.0
"""The half of a forecast's range, in standard errors. About 95 of 100 values are within it, if the growth is even."""


@dataclass(frozen=True, slots=True)
class Night:
    """What one backup cost."""

    backup_id: str
    snapshot_at: datetime
    duration: float
    """Seconds."""
    size: int
    """Bytes of the dump before compression."""
    stored_size: int
    """Bytes of all objects that the backup needs."""
    transferred: int
    """Bytes of the objects that the backup itself stored."""
    tables: int
    rows: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The size at a later time, if it grows on as before."""

    at: datetime
    expected: int
    """Bytes."""
    low: int
    high: int
    """Bytes: the range in which the size likely is."""
    nights: int
    """The number of days with a backup from which the forecast was made."""
    per_day: float
    """Growth in bytes a day; negative if the database shrinks."""


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """How one database grew."""

    store: str
    cluster: str
    database: str
    nights: Sequence[Night]
    """The backups that count, the oldest first."""
    left_out: int
    """The number of backups that don't count: partial ones, and those that can't be read or believed."""
    stored_size: int
    """Bytes of the objects that all readable backups of the database stored, whole or partial, at any time."""
    growth: Sequence[TableGrowth]
    """The tables whose size changed between the first and the last backup that counts, the largest change first."""
    forecast: Forecast | None
    """The size of the dump before compression; None if there are too few nights."""
    transfer_forecast: Forecast | None
    """The bytes that one backup stores; None if there are too few nights."""


def summarize_database(facts: DatabaseFacts, since: datetime, horizon: timedelta) -> DatabaseStats:
    """Return how a database grew since a time, and a forecast for the time that is ``horizon`` after its last backup.

    Only whole backups count, and only those without a problem. The times are the times of the snapshots.
    """
    stored = {one.ref: _transferred(one) for one in facts.backups}
    counting = [(one, manifest) for one in facts.backups if (manifest := _counting(one, since))]
    counting.sort(key=lambda pair: (pair[1].snapshot_at, pair[0].ref.backup_id))
    nights = [_night(one.ref.backup_id, manifest, stored[one.ref]) for one, manifest in counting]
    lately = [one for one in facts.backups if one.manifest is None or one.manifest.snapshot_at >= since]
    return DatabaseStats(
        store=facts.store,
        cluster=facts.cluster,
        database=facts.database,
        nights=nights,
        left_out=len(lately) - len(nights),
        stored_size=sum(stored.values()),
        growth=table_growth(counting[0][1].tables, counting[-1][1].tables) if counting else (),
        forecast=forecast([(night.snapshot_at, night.size) for night in nights], horizon),
        transfer_forecast=forecast([(night.snapshot_at, night.transferred) for night in nights], horizon),
    )


def table_growth(first: Sequence[TableFacts], last: Sequence[TableFacts]) -> Sequence[TableGrowth]:
    """Return how the tables grew from one backup to another, the largest change of size first. Tables that are the same size are left out.

    A table that isn't in one of the backups has no rows and no bytes there.
    """
    before, after = ({_name(table): table for table in tables} for tables in (first, last))
    return sorted(
        (_growth(name, before, after) for name in before.keys() | after.keys() if _differs(name, before, after)),
        key=lambda growth: (-abs(growth.last_size - growth.first_size), growth.schema, growth.relation),
    )


def forecast(sizes: Sequence[tuple[datetime, int]], horizon: timedelta) -> Forecast | None:
    """Return the size expected ``horizon`` after the last time; None for too few days. A straight line is fitted to each day's last size.

    ``sizes`` has times and bytes, the oldest first. The range is that of a prediction by linear regression: it widens with the distance, and
    with the spread of the sizes around the line. No line knows of a new customer or of a clean-up.
    """
    daily = {moment.date(): (moment, size) for moment, size in sizes}
    if len(daily) < LEAST_NIGHTS:
        return None
    moments, values = zip(*daily.values(), strict=True)
    days = [(moment - moments[0]) / _DAY for moment in moments]
    slope, intercept = linear_regression(days, values)
    ahead = days[-1] + horizon / _DAY
    left = sum((value - intercept - slope * day) ** 2 for day, value in zip(days, values, strict=True))
    spread = sum((day - fmean(days)) ** 2 for day in days)
    error = math.sqrt(left / (len(days) - 2) * (1 + 1 / len(days) + (ahead - fmean(days)) ** 2 / spread))
    expected = intercept + slope * ahead
    low, middle, high = (
        max(0, round(value)) for value in (expected - _LIKELY * error, expected, expected + _LIKELY * error)
    )
    return Forecast(moments[-1] + horizon, middle, low, high, len(daily), slope)


def _counting(backup: BackupFacts, since: datetime) -> ManifestFacts | None:
    manifest = backup.manifest
    if manifest is None or backup.problem or manifest.partial or manifest.snapshot_at < since:
        return None
    return manifest


def _night(backup_id: str, manifest: ManifestFacts, transferred: int) -> Night:
    return Night(
        backup_id=backup_id,
        snapshot_at=manifest.snapshot_at,
        duration=(manifest.finished_at - manifest.started_at).total_seconds(),
        size=manifest.size,
        stored_size=manifest.stored_size,
        transferred=transferred,
        tables=len(manifest.tables),
        rows=manifest.rows,
    )


def _transferred(backup: BackupFacts) -> int:
    """Return the bytes of the objects that the backup itself stored; 0 if its manifest can't be read."""
    own = (backup.ref.data_prefix, backup.ref.keys_prefix)
    return sum(size for key, size, _ in backup.manifest.objects if key.startswith(own)) if backup.manifest else 0


_Name = tuple[str, str, str | None]
_Tables = Mapping[_Name, TableFacts]


def _name(table: TableFacts) -> _Name:
    """Return what tells tables apart. In a cluster's script, several databases may have tables of the same name."""
    return table.schema, table.relation, table.database


def _differs(name: _Name, before: _Tables, after: _Tables) -> bool:
    return name not in before or name not in after or before[name].size != after[name].size


def _growth(name: _Name, before: _Tables, after: _Tables) -> TableGrowth:
    first, last = before.get(name), after.get(name)
    return TableGrowth(
        *name[:2],
        first_rows=first.rows if first else 0,
        last_rows=last.rows if last else 0,
        first_size=first.size if first else 0,
        last_size=last.size if last else 0,
    )
