"""Facts about backups, as an audit reads them from a store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.audit.facts import BackupFacts, DatabaseFacts, ManifestFacts, StoredObject, TableFacts
from pipeline.catalog.attestation import Attestation
from pipeline.catalog.keys import BackupRef

STORE = "s3://my-backups/postgres"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LAST_NIGHT = datetime(2026, 11, 23, 2, tzinfo=UTC)


def backup(
    days_ago: float = 0,
    *,
    tables: dict[str, int] | None = None,
    attestations: Sequence[Attestation] = (),
    of_backup: dict[str, Any] | None = None,
    database: str = "shop",
    **of_manifest: Any,
) -> BackupFacts:
    """Return a good backup of last night, or of ``days_ago`` days before. ``tables`` has the rows of each table ``SCHEMA.NAME``.

    ``of_backup`` and ``of_manifest`` are fields of the facts that differ.
    """
    begun = (LAST_NIGHT - timedelta(days=days_ago)).replace(microsecond=0)
    ref = BackupRef("prod", database, f"{begun:%Y%m%dT%H%M%SZ}-aaaaaa")
    rows = {"public.order": 1000} if tables is None else tables
    fields: dict[str, Any] = {
        "sha256": "0" * 64,
        "job": "shop",
        "kind": "database",
        "partial": False,
        "started_at": begun,
        "finished_at": begun + timedelta(minutes=10),
        "snapshot_at": begun,
        "size": 10_000_000,
        "stored_size": 1_000_000,
        "rows": sum(rows.values()),
        "tables": [TableFacts(*name.split("."), number, number * 100, None) for name, number in sorted(rows.items())],
        "objects": [(f"{ref.data_prefix}0001.zst", 1_000_000, "md5:aa")],
        "members": (),
        "system_identifier": "7",
        "server_version": "18.1",
        "recipients": (),
        "retained_until": None,
    }
    facts = BackupFacts(
        ref, begun + timedelta(minutes=10), ManifestFacts(**fields | of_manifest), None, None, None, attestations
    )
    return replace(facts, **of_backup or {})


def nights(*days_ago: float, **fields: Any) -> list[BackupFacts]:
    """Return a good backup of each of these nights, the oldest first."""
    return [backup(days, **fields) for days in sorted(days_ago, reverse=True)]


def stored(one: BackupFacts, **fields: Any) -> list[StoredObject]:
    """Return the objects of a backup, as a listing shows them. ``fields`` are those that differ."""
    objects = one.manifest.objects if one.manifest else ()
    return [
        replace(StoredObject(key, size, one.stored_at, checksum, None), **fields) for key, size, checksum in objects
    ]


def database(backups: Sequence[BackupFacts], **fields: Any) -> DatabaseFacts:
    """Return what a store has of the database of these backups: all of their objects. ``fields`` are those that differ."""
    name = backups[0].ref.database if backups else "shop"
    objects = [one for each in backups for one in stored(each)]
    known: dict[str, Any] = {"store": STORE, "removed": (), "odd_tombstones": (), "objects": objects}
    return DatabaseFacts(cluster="prod", database=name, backups=backups, **known | fields)


def attestation(
    one: BackupFacts, level: str = "restore", *, days_ago: float = 0, minutes: float = 30, **fields: Any
) -> Attestation:
    """Return the result of a verification, which ended an hour before :data:`NOW` or ``days_ago`` days before and took some minutes."""
    finished = NOW - timedelta(hours=1, days=days_ago)
    known: dict[str, Any] = {
        "cluster": one.ref.cluster,
        "database": one.ref.database,
        "backup_id": one.ref.backup_id,
        "manifest_sha256": "0" * 64,
        "level": level,
        "good": True,
        "problems": [],
        "objects": 1,
        "objects_without_checksum": 0,
        "files": 1,
        "restore": None,
        "started_at": finished - timedelta(minutes=minutes),
        "finished_at": finished,
    }
    return Attestation(**known | fields)
