"""The results of an audit. Every output of ``pgstow audit`` is made from these alone: text, JSON, CSV and HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config

_documented = with_config(ConfigDict(use_attribute_docstrings=True))
"""Puts the descriptions of the fields into the JSON Schema."""


class Severity(StrEnum):
    """How much a finding matters."""

    CRITICAL = "critical"
    """Data may be lost, or a record can't be believed."""
    WARNING = "warning"
    """The policy is not met, or something looks unusual. Somebody should look."""
    NOTE = "note"
    """Worth knowing. A note doesn't change the exit code."""


@_documented
@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing that the audit found."""

    name: str
    """The finding's name, such as ``overdue`` or ``gap``. docs/audit.md explains each name."""
    severity: Severity
    store: str | None
    """The URL of the store; None if the finding is about all stores together."""
    cluster: str | None
    database: str | None
    backup_id: str | None
    sentence: str
    """One sentence for people, which names what was found and where."""


class NightState(StrEnum):
    """What is known of one day of a database. The later states count more, if several apply."""

    NOT_EXPECTED = "not-expected"
    """No backup was made, and none was expected."""
    GOOD = "good"
    """A good backup was made."""
    PROVEN = "proven"
    """A good backup was made, and a restore proved it."""
    DOUBTED = "doubted"
    """A backup was made, but a finding is about it, or it can't be believed."""
    MISSING = "missing"
    """No backup was made, though the policy expects one."""


@_documented
@dataclass(frozen=True, slots=True)
class AuditedBackup:
    """What the records of one backup say. A backup that is in several stores is in the report once for each store."""

    store: str
    cluster: str
    database: str
    backup_id: str
    job: str | None
    kind: str
    """``database``, ``globals`` or ``cluster``."""
    partial: bool
    snapshot_at: datetime
    duration: float
    """Seconds from the backup's beginning until its last object was stored."""
    size: int
    """Bytes of the dump before compression."""
    stored_size: int
    """Bytes of all objects together."""
    tables: int
    rows: int
    sealed: bool
    signed: bool
    """True if a trusted key signed the backup. Without trusted keys, always False."""
    retained_until: datetime | None
    """The end of the lock on the objects: as the store reports it, or else as the manifest says. None if there is no lock."""
    verified: str | None
    """The deepest level of the good verifications that the audit believes: see :class:`pipeline.catalog.attestation.Level`."""
    proven_at: datetime | None
    """The time of the last restore that proved the backup; None if there is none."""
    restore_seconds: float | None
    """Duration of that restore in seconds."""
    doubt: str | None
    """Why the backup doesn't count, as a sentence; None if it counts."""


@_documented
@dataclass(frozen=True, slots=True)
class TableGrowth:
    """How one table grew between the first and the last counted backup."""

    schema: str
    relation: str
    first_rows: int
    last_rows: int
    first_size: int
    last_size: int
    """Bytes before compression."""


@_documented
@dataclass(frozen=True, slots=True)
class DatabaseAudit:
    """What the audit found about one database, in all stores together."""

    cluster: str
    database: str
    rpo: timedelta | None
    """The longest time without a new backup that the policy allows; None if the policy says nothing."""
    last_good: AuditedBackup | None
    """The newest backup that counts."""
    last_proof: AuditedBackup | None
    """The backup that was proven last by a restore."""
    backups: Sequence[AuditedBackup]
    """All backups, the oldest first."""
    nights: Sequence[tuple[date, NightState]]
    """Each day of the audited time, in UTC, the oldest first."""
    growth: Sequence[TableGrowth]
    """The tables whose size changed most, the largest change first; at most 20."""
    findings: Sequence[AuditFinding]


@_documented
@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last statement of a chain. Keep a copy elsewhere: then nobody can remove the newest backups unnoticed."""

    store: str
    cluster: str
    database: str
    writer: str
    backup_id: str
    statement_sha256: str


@_documented
@dataclass(frozen=True, slots=True)
class StoreAudit:
    """What the audit found in one store."""

    url: str
    backups: int
    objects: int
    stored_size: int
    """Bytes of all objects of all backups."""
    heads: Sequence[ChainHead]
    orphans: int
    """Objects that no backup names, and that no running backup can be writing."""
    orphans_size: int
    """Bytes."""


@_documented
@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of an audit."""

    made_at: datetime
    since: date
    """The first audited day, in UTC."""
    until: date
    """The last audited day, in UTC."""
    policy: str | None
    """The name of the policy file; None if there is none."""
    trusted_keys: Sequence[str]
    """The IDs of the trusted keys."""
    stores: Sequence[StoreAudit]
    databases: Sequence[DatabaseAudit]
    """Sorted by cluster and database."""
    findings: Sequence[AuditFinding]
    """All findings, also those of the databases: critical ones first."""
    tool: str
    """Name and version of the program."""


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the report, as published in docs/audit-report.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **TypeAdapter(AuditReport).json_schema(mode="serialization"),
        "title": "The report of pgstow audit",
    }
