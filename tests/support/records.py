"""Make facts about backups, without a store."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.audit.facts import BackupFacts, DatabaseFacts, ManifestFacts, TableFacts
from pipeline.catalog.keys import BackupRef


def at(day: float) -> datetime:
    """Return a time, in days after the beginning of November 2026."""
    return datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=day)


def table(name: str, rows: int, *, schema: str = "public", size: int | None = None) -> TableFacts:
    """Return a table. Each row has ten bytes, unless ``size`` says otherwise."""
    return TableFacts(schema, name, rows, 10 * rows if size is None else size, None)


def backup(
    moment: datetime,
    *,
    tables: Sequence[TableFacts] = (),
    stored: int = 100,
    problem: str | None = None,
    readable: bool = True,
    **fields: Any,
) -> BackupFacts:
    """Return a backup with data of this time, whose only object has ``stored`` bytes. ``fields`` are other fields of its manifest."""
    ref = BackupRef("prod", "shop", f"{moment:%Y%m%dT%H%M%SZ}-aaaaaa")
    manifest = ManifestFacts(
        **{
            "sha256": "0" * 64,
            "job": None,
            "kind": "database",
            "partial": False,
            "started_at": moment,
            "finished_at": moment + timedelta(seconds=90),
            "snapshot_at": moment,
            "size": sum(one.size for one in tables),
            "stored_size": stored,
            "rows": sum(one.rows for one in tables),
            "tables": tables,
            "objects": [(f"{ref.data_prefix}toc.dat.zst", stored, None)],
            "members": (),
            "system_identifier": None,
            "server_version": "17.5",
            "recipients": (),
            "retained_until": None,
        }
        | fields
    )
    return BackupFacts(ref, moment, manifest if readable else None, problem, None, None, ())


def database(backups: Sequence[BackupFacts], name: str = "shop") -> DatabaseFacts:
    """Return the facts about a database that has only these backups."""
    moved = [
        BackupFacts(
            BackupRef("prod", name, one.ref.backup_id),
            one.stored_at,
            one.manifest,
            one.problem,
            one.fault,
            one.node,
            one.attestations,
        )
        for one in backups
    ]
    return DatabaseFacts("file:///store", "prod", name, moved, (), (), ())
