"""Compares two backups by their manifests: their tables, their servers, their options, and to whom they are sealed. No data is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pipeline.catalog.find import LATEST, BackupSelector, find_details
from pipeline.catalog.keys import CLUSTER
from pipeline.catalog.manifest import ManifestSummary
from pipeline.catalog.members import read_member_details
from pipeline.catalog.origin import DumpOptions, Source
from pipeline.catalog.summary import ListedTable, LoadedDetails
from pipeline.events import Notify
from storage_backends import StorageBackend

PREVIOUS = "previous"
"""In place of a backup ID: the latest backup whose data is older than that of the other backup."""
_AN_INSTANT = timedelta(microseconds=1)
"""The smallest difference between two times in manifests."""
_LEFT_OUT = {"wal_lsn", "extensions", "jobs"}
"""A difference in ``wal_lsn`` or ``jobs`` means nothing. Extensions are compared apart, by their names."""


class TableChange(StrEnum):
    """What happened to a table between two backups."""

    WENT = "went"
    """Only the earlier backup has the table."""
    CAME = "came"
    """Only the later backup has the table."""
    CHANGED = "changed"
    """Both backups have the table, with different numbers of rows or bytes."""
    CONTENT = "content"
    """Both backups have the table, with the same numbers of rows and bytes, but with different checksums."""


@dataclass(frozen=True, slots=True)
class TableDiff:
    """A table that differs. A table that a backup lacks has no rows and no bytes there."""

    database: str | None
    """For a whole server's script: the table's database."""
    schema: str
    relation: str
    change: TableChange
    rows_before: int
    rows_after: int
    size_before: int
    size_after: int
    """Bytes before compression."""


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """A field of the manifests that differs, such as ``source.server_version``. A field that is a list has an entry for each item."""

    field: str
    before: str | None
    """None if the earlier backup lacks the value or the item."""
    after: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two backups."""

    store: str
    """The URL of the store."""
    cluster: str
    database: str
    backup_id: str
    manifest_sha256: str
    snapshot_at: datetime
    tables: int
    rows: int
    size: int
    """Bytes of the dump before compression."""
    stored_size: int
    """Bytes of all objects."""


@dataclass(frozen=True, slots=True)
class BackupDiff:
    """How two backups differ."""

    before: Side
    after: Side
    fields: Sequence[FieldDiff]
    tables: Sequence[TableDiff]
    """The tables that differ: in the order of :class:`TableChange`, and then the largest change of size first."""
    same: int
    """The number of tables with the same rows, the same bytes and the same checksum."""
    same_size: int
    """The number of tables with the same rows and bytes, whose checksums are under different keys and say nothing."""
    members: "Sequence[BackupDiff]"
    """For backups of whole servers: the differences of each database that both backups have."""

    @property
    def differs(self) -> bool:
        """True if a difference was found. False doesn't mean the same content if :attr:`same_size` isn't 0."""
        return bool(self.fields or self.tables) or any(member.differs for member in self.members)


def diff_backups(
    store: StorageBackend,
    before: BackupSelector,
    other: StorageBackend,
    after: BackupSelector,
    notify: Notify,
) -> BackupDiff:
    """Return how the backup that ``before`` selects in ``store`` differs from the one that ``after`` selects in ``other``.

    ``before`` may also select the backup :data:`PREVIOUS`. If it names no cluster or no database, that of the other backup is meant.

    Raises as :func:`pipeline.catalog.find.find_stored` does, or BackupDamaged if the backup of a whole server lacks a member.
    """
    later = find_details(other, after, notify)
    if before.backup == PREVIOUS:
        found = later.summary.manifest
        cluster, database = before.cluster or found.cluster, before.database or found.database
        at = found.snapshot_at - _AN_INSTANT
        before = replace(before, backup=LATEST, cluster=cluster, database=database, at=at)
    return _diff(store, find_details(store, before, notify), other, later)


def _diff(store: StorageBackend, before: LoadedDetails, other: StorageBackend, after: LoadedDetails) -> BackupDiff:
    old, new = before.summary.manifest, after.summary.manifest
    by_checksum = _have_one_key(old, new)
    tables, same = _compare_tables(before.tables, after.tables, by_checksum=by_checksum)
    return BackupDiff(
        before=_side(store, before),
        after=_side(other, after),
        fields=list(_compare_fields(old, new)),
        tables=tables,
        same=same if by_checksum else 0,
        same_size=0 if by_checksum else same,
        members=list(_diff_members(store, old, other, new)),
    )


def _side(store: StorageBackend, details: LoadedDetails) -> Side:
    manifest = details.summary.manifest
    return Side(
        store=store.url,
        cluster=manifest.cluster,
        database=manifest.database,
        backup_id=manifest.backup_id,
        manifest_sha256=details.summary.sha256,
        snapshot_at=manifest.snapshot_at,
        tables=manifest.totals.tables,
        rows=manifest.totals.rows,
        size=manifest.totals.size,
        stored_size=manifest.totals.stored_size,
    )


def _have_one_key(before: ManifestSummary, after: ManifestSummary) -> bool:
    """True if the checksums of both backups are under the same key, or under none."""
    keys = [
        one.encryption and (one.encryption.epoch, one.encryption.recipient, one.cluster, one.database)
        for one in (before, after)
    ]
    return keys[0] == keys[1]


def _compare_tables(
    before: Sequence[ListedTable], after: Sequence[ListedTable], *, by_checksum: bool
) -> tuple[list[TableDiff], int]:
    """Return the tables that differ, and the number of those in which no difference was found."""
    old, same, found = {_name(table): table for table in before}, 0, list[TableDiff]()
    for name, table in {_name(table): table for table in after}.items():
        earlier = old.pop(name, None)
        if earlier is None:
            found.append(TableDiff(*name, TableChange.CAME, 0, table.rows, 0, table.size))
            continue
        numbers = (earlier.rows, table.rows, earlier.size, table.size)
        if (earlier.rows, earlier.size) != (table.rows, table.size):
            found.append(TableDiff(*name, TableChange.CHANGED, *numbers))
        elif by_checksum and earlier.checksum != table.checksum:
            found.append(TableDiff(*name, TableChange.CONTENT, *numbers))
        else:
            same += 1
    found += [TableDiff(*name, TableChange.WENT, table.rows, 0, table.size, 0) for name, table in old.items()]
    order = list(TableChange)
    found.sort(
        key=lambda one: (
            order.index(one.change),
            -abs(one.size_after - one.size_before),
            one.database or "",
            one.schema,
            one.relation,
        )
    )
    return found, same


def _name(table: ListedTable) -> tuple[str | None, str, str]:
    return table.database, table.schema_name, table.relation


def _compare_fields(before: ManifestSummary, after: ManifestSummary) -> Iterator[FieldDiff]:
    for name in ("kind", "tool"):
        yield from _compare(name, getattr(before, name), getattr(after, name))
    yield from _compare("dump.partial", before.dump.partial, after.dump.partial)
    for part, fields in (("dump", DumpOptions.model_fields), ("source", Source.model_fields)):
        for name in (name for name in fields if name not in _LEFT_OUT):
            yield from _compare(
                f"{part}.{name}", getattr(getattr(before, part), name), getattr(getattr(after, part), name)
            )
    versions = [{each.name: each.version for each in one.source.extensions} for one in (before, after)]
    for name in sorted(versions[0].keys() | versions[1].keys()):
        yield from _compare(f"source.extensions.{name}", versions[0].get(name), versions[1].get(name))
    yield from _compare("sealed", before.encryption is not None, after.encryption is not None)
    recipients = [one.encryption.recipients if one.encryption else [] for one in (before, after)]
    yield from _compare("encryption.recipients", *recipients)
    databases = [[member.database for member in one.members] for one in (before, after)]
    yield from _compare("members", *databases)


def _compare(name: str, before: Any, after: Any) -> Iterator[FieldDiff]:
    """Yield the difference of two values. Of lists, yield each item that only one list has."""
    if isinstance(before, list) and isinstance(after, list):
        yield from (FieldDiff(name, item, None) for item in sorted(set(before) - set(after)))
        yield from (FieldDiff(name, None, item) for item in sorted(set(after) - set(before)))
    elif before != after:
        yield FieldDiff(name, *(None if value is None else _words(value) for value in (before, after)))


def _words(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _diff_members(
    store: StorageBackend, before: ManifestSummary, other: StorageBackend, after: ManifestSummary
) -> Iterator[BackupDiff]:
    """Yield the differences of each member that both backups have, in the order of their names.

    pgstow writes members only into cluster manifests. Elsewhere they are forged, and may name each other without end.
    """
    if not before.database == after.database == CLUSTER:
        return
    old = {member.database: member for member in before.members}
    for member in sorted(after.members, key=lambda one: one.database):
        if earlier := old.get(member.database):
            yield _diff(
                store, read_member_details(store, before, earlier), other, read_member_details(other, after, member)
            )
