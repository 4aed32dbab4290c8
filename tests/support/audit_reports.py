"""Reports of audits, as large as a test asks: databases that grow, with incidents at known places. The same size gives the same report."""

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from pipeline.audit.report import (
    AuditedBackup,
    AuditFinding,
    AuditReport,
    ChainHead,
    DatabaseAudit,
    NightState,
    Severity,
    StoreAudit,
    TableGrowth,
)

MADE_AT = datetime(2026, 11, 30, 6, tzinfo=UTC)
STORE = "s3://example-backups/postgresql"
_NAMES = ("shop", "billing", "customers", "warehouse", "analytics", "mail", "wiki", "sessions")


def finding(name: str, severity: Severity, database: str | None, sentence: str, cluster: str = "main") -> AuditFinding:
    return AuditFinding(name, severity, STORE, cluster if database else None, database, None, sentence)


def audit_report(databases: int, days: int) -> AuditReport:
    """Return a report about the databases over the days until the 29th of November 2026."""
    audits = sorted(
        (_database(number, days) for number in range(databases)), key=lambda one: (one.cluster, one.database)
    )
    findings = [found for one in audits for found in one.findings]
    findings.append(finding("orphans", Severity.NOTE, None, f"3 objects (1.2 GiB) in {STORE} belong to no backup."))
    order = list(Severity)
    findings.sort(key=lambda found: order.index(found.severity))
    heads = [
        ChainHead(STORE, one.cluster, one.database, "writer-1", one.backups[-1].backup_id, _hash(one.database))
        for one in audits
    ]
    backups = [backup for one in audits for backup in one.backups]
    stored = sum(backup.stored_size for backup in backups)
    return AuditReport(
        MADE_AT,
        MADE_AT.date() - timedelta(days=days),
        MADE_AT.date() - timedelta(days=1),
        "audit.toml",
        ["ed25519:" + _hash("key")[:32]],
        [StoreAudit(STORE, len(backups), 3 * len(backups) + 3, stored, heads, 3, 1_300_000_000)],
        audits,
        findings,
        "pgstow 0.1.0",
    )


def _database(number: int, days: int) -> DatabaseAudit:
    database = _NAMES[number] if number < len(_NAMES) else f"tenant_{number:04d}"
    cluster = "main" if number < len(_NAMES) else f"fleet-{number % 4 + 1}"
    ends, doubts, outage = number % 29 == 2, number % 13 == 1, days // 3
    size = 2.0 ** (21 + number * 7 % 16)
    backups, nights = list[AuditedBackup](), list[tuple[date, NightState]]()
    for day in range(days):
        when = MADE_AT.date() - timedelta(days=days - day)
        since_end = days - day
        if number % 11 == 5 and when.weekday() > 4:
            nights.append((when, NightState.NOT_EXPECTED))
            continue
        if (ends and since_end <= 4) or (number % 3 == 0 and day in (outage, outage + 1)):
            nights.append((when, NightState.MISSING))
            continue
        doubted = doubts and since_end in (9, 40)
        proven = not doubted and (day + number) % 7 == 0 and number % 17 != 16
        growth = 1 + 0.9 * day / days * (number % 5) / 2 + 0.02 * math.sin(day / 5 + number)
        bytes_now = int(size * growth * (0.03 if doubted else 1))
        backups.append(_backup(cluster, database, when, bytes_now, doubted, proven, number))
        state = NightState.DOUBTED if doubted else NightState.PROVEN if proven else NightState.GOOD
        nights.append((when, state))
    good = [backup for backup in backups if backup.doubt is None]
    proofs = [backup for backup in good if backup.proven_at]
    name = f"{cluster}/{database}"
    findings = list[AuditFinding]()
    if ends:
        sentence = f"The last backup of {name} is 4 days old. The policy allows 30 hours."
        findings.append(finding("overdue", Severity.CRITICAL, database, sentence, cluster))
    if doubts:
        sentence = f"The backup of {name} on 2026-11-21 has 97% fewer bytes than the backup before it."
        findings.append(finding("shrunk", Severity.WARNING, database, sentence, cluster))
    if not proofs:
        findings.append(
            finding("unproven", Severity.WARNING, database, f"No restore proved a backup of {name}.", cluster)
        )
    if number % 3 == 0:
        sentence = f"{name} has no backup of two nights in a row."
        findings.append(finding("gap", Severity.WARNING, database, sentence, cluster))
    return DatabaseAudit(
        cluster,
        database,
        timedelta(hours=80 if number % 11 == 5 else 30),
        good[-1] if good else None,
        proofs[-1] if proofs else None,
        backups,
        nights,
        _growth(int(size), number) if number % 2 == 0 else [],
        findings,
    )


def _backup(
    cluster: str, database: str, when: date, size: int, doubted: bool, proven: bool, number: int
) -> AuditedBackup:
    snapshot = datetime.combine(when, time(1, number % 60), UTC)
    seconds = size / 50e6 + 4 + when.day % 5
    return AuditedBackup(
        STORE,
        cluster,
        database,
        f"{snapshot:%Y%m%dT%H%M%SZ}-{_hash(database)[:6]}",
        "nightly",
        "database",
        False,
        snapshot,
        seconds,
        size,
        size // 4,
        40,
        size // 120,
        number % 2 == 0,
        not doubted,
        snapshot + timedelta(days=90),
        "restore" if proven else None,
        snapshot + timedelta(hours=3) if proven else None,
        seconds * 2.2 if proven else None,
        "The dump has 97% fewer bytes than the dump before it." if doubted else None,
    )


def _growth(size: int, number: int) -> Sequence[TableGrowth]:
    tables = ("orders", "order_lines", "events", "customers", "audit_log")
    return [
        TableGrowth(
            "public", table, size // 800, size // 500 + number, size // (3 + i), size // (2 + i) if i < 4 else 0
        )
        for i, table in enumerate(tables)
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
