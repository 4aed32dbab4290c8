"""Examines one database in all stores: makes its part of the report from the facts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from sys import intern

from pipeline.audit.checks.conformity import check_conformity
from pipeline.audit.checks.coverage import Coverage, check_coverage, check_presence, nights
from pipeline.audit.checks.loss import Compared, check_loss, growth_of
from pipeline.audit.checks.members import check_members
from pipeline.audit.checks.objects import StoredBackup, check_objects, find_orphans, look_at_objects
from pipeline.audit.checks.records import check_chain, check_records
from pipeline.audit.checks.subject import Subject
from pipeline.audit.checks.verifications import check_proofs, check_verifications, combine
from pipeline.audit.facts import BackupFacts, DatabaseFacts, ManifestFacts
from pipeline.audit.policy import Expectations, Policy
from pipeline.audit.report import AuditedBackup, AuditFinding, ChainHead, DatabaseAudit, Severity
from pipeline.catalog.canonical_json import brief
from pipeline.catalog.keys import CLUSTER, GLOBALS, BackupRef, begun_at
from pipeline.counting import counted

_DISQUALIFYING = frozenset({"object-missing", "object-altered", "member-missing", "damaged"})
"""The findings after which a believed backup doesn't count."""
_MOST_OF_A_KIND = 10


@dataclass(frozen=True, slots=True)
class Window:
    """The audited time."""

    since: date
    """The first audited day, in UTC."""
    now: datetime

    @property
    def start(self) -> datetime:
        """The beginning of the first day."""
        return datetime.combine(self.since, time(), UTC)


@dataclass(frozen=True, slots=True)
class StoredDatabase:
    """What the audit found about a database in one store."""

    store: str
    backups: Sequence[AuditedBackup]
    """The oldest first."""
    manifests: Sequence[ManifestFacts | None]
    """The manifest of each backup; None if it can't be read."""
    findings: Sequence[AuditFinding]
    heads: Sequence[ChainHead]
    objects: int
    """The number of objects, without orphans."""
    stored_size: int
    """Bytes of these objects."""
    orphans: int
    orphans_size: int
    """Bytes."""

    @property
    def good(self) -> Iterator[BackupRef]:
        """The backups that count."""
        return (BackupRef(one.cluster, one.database, one.backup_id) for one in self.backups if one.doubt is None)


def examine_copy(
    facts: DatabaseFacts, expected: Expectations, window: Window, members: AbstractSet[BackupRef] | None
) -> StoredDatabase:
    """Return what is found about the database in one store.

    ``members`` are the good backups of the cluster's databases in the store; None if they aren't known.
    """
    stored = look_at_objects(facts)
    heads, chain_findings = check_chain(facts)
    orphans, orphans_finding = find_orphans(facts, stored, window.now)
    findings = [
        *check_records(facts),
        *chain_findings,
        *check_objects(facts, stored),
        *(() if members is None else check_members(facts, members)),
        *check_verifications(facts),
        *check_conformity(facts, stored, expected, window.start),
        *([orphans_finding] if orphans_finding else []),
    ]
    doubts = {one.backup_id: one.sentence for one in reversed(findings) if one.name in _DISQUALIFYING}
    backups = [
        _describe(facts, one, stored.get(one.ref.backup_id), one.problem or doubts.get(one.ref.backup_id))
        for one in facts.backups
    ]
    size = sum(one.size for one in orphans)
    if facts.objects:
        objects, stored_size = len(facts.objects) - len(orphans), sum(one.size for one in facts.objects) - size
    else:
        objects, stored_size = sum(one.objects for one in stored.values()), sum(one.stored_size for one in backups)
    manifests = [one.manifest for one in facts.backups]
    return StoredDatabase(
        facts.store, backups, manifests, _shortened(findings), heads, objects, stored_size, len(orphans), size
    )


def _describe(facts: DatabaseFacts, one: BackupFacts, stored: StoredBackup | None, doubt: str | None) -> AuditedBackup:
    ref, manifest = one.ref, one.manifest
    verified = combine(one.attestations)
    proof = verified.proof
    if manifest is None:
        kind = {CLUSTER: "cluster", GLOBALS: "globals"}.get(ref.database, "database")
        snapshot_at, duration = begun_at(ref.backup_id), 0.0
    else:
        kind, snapshot_at = manifest.kind, manifest.snapshot_at
        duration = (manifest.finished_at - manifest.started_at).total_seconds()
    return AuditedBackup(
        store=facts.store,
        cluster=facts.cluster,  # all backups share this text; each reference has a copy
        database=facts.database,
        backup_id=ref.backup_id,
        job=None if manifest is None or manifest.job is None else brief(manifest.job),
        kind=intern(kind),
        partial=manifest.partial if manifest else False,
        snapshot_at=snapshot_at,
        duration=duration,
        size=manifest.size if manifest else 0,
        stored_size=manifest.stored_size if manifest else 0,
        tables=len(manifest.tables) if manifest else 0,
        rows=manifest.rows if manifest else 0,
        sealed=bool(manifest and manifest.recipients),
        signed=one.node is not None,
        retained_until=stored.retained_until if stored else None,
        verified=verified.level,
        proven_at=proof.finished_at if proof else None,
        restore_seconds=(proof.finished_at - proof.started_at).total_seconds() if proof else None,
        doubt=doubt,
    )


def examine_database(
    cluster: str,
    database: str,
    copies: Sequence[StoredDatabase],
    removed: Sequence[datetime],
    policy: Policy,
    window: Window,
) -> DatabaseAudit:
    """Return what is found about the database in all stores together. ``removed`` are the times of the signed backups that were removed."""
    subject, expected = Subject(cluster=cluster, database=database), policy.expectations(cluster, database)
    backups = sorted((one for copy in copies for one in copy.backups), key=lambda one: (one.snapshot_at, one.backup_id))
    compared = _good_backups(copies, expected)
    good = [backup for backup, _ in compared]
    counted_from = [one for one in backups if one.doubt is None] or backups  # a forged manifest may have any time
    begun = min([*(one.snapshot_at for one in counted_from), *removed], default=None)
    coverage = Coverage(subject, expected, window.since, window.now, good, removed, begun.date() if begun else None)
    required = (cluster, database) in policy.required
    missed = coverage.missed() if backups or required else ()
    proven = max(
        (one for one in backups if one.proven_at and not one.doubt),
        key=lambda one: one.proven_at or one.snapshot_at,
        default=None,
    )
    findings = [
        *(each for copy in copies for each in copy.findings),
        *check_presence(subject, backups, good, required=required),
    ]
    if good:
        numbers = Counter(ref.backup_id for copy in copies for ref in copy.good)
        findings += _shortened(
            [
                *check_coverage(coverage, missed, [(one, numbers[one.backup_id]) for one in good]),
                *check_proofs(subject, proven, expected, window.now),
                *check_loss(subject, compared, expected, window.start),
            ]
        )
    findings = [accepted(each, policy, window.now.date()) for each in findings]
    suspects = {each.backup_id for each in findings if each.backup_id and each.severity is not Severity.NOTE}
    recent = [one for one in compared if one[0].snapshot_at >= window.start]
    return DatabaseAudit(
        cluster=cluster,
        database=database,
        rpo=expected.longest_gap,
        last_good=good[-1] if good else None,
        last_proof=proven,
        backups=backups,
        nights=nights(coverage, missed, backups, suspects),
        growth=growth_of([one for one in recent if _is_alike(one[0], recent[-1][0])]),
        findings=findings,
    )


def _good_backups(copies: Sequence[StoredDatabase], expected: Expectations) -> Sequence[Compared]:
    """Return each backup that counts, with its manifest, the oldest first. Of several copies, the first store's one is taken."""
    found = dict[str, Compared]()
    for copy in copies:
        for backup, manifest in zip(copy.backups, copy.manifests, strict=True):
            if manifest and backup.doubt is None and (expected.partial or not backup.partial):
                found.setdefault(backup.backup_id, (backup, manifest))
    return sorted(found.values(), key=lambda one: (one[0].snapshot_at, one[0].backup_id))


def _is_alike(backup: AuditedBackup, other: AuditedBackup) -> bool:
    return (backup.job, backup.kind, backup.partial) == (other.job, other.kind, other.partial)


def accepted(finding: AuditFinding, policy: Policy, today: date) -> AuditFinding:
    """Return the finding. If the policy accepts the finding, return it as a note with the reason."""
    entry = policy.ignoring(finding.name, finding.cluster, finding.database, finding.backup_id, today)
    if entry is None:
        return finding
    sentence = f"{finding.sentence} The policy accepts this finding: {entry.reason}"
    return replace(finding, severity=Severity.NOTE, sentence=sentence)


def _shortened(findings: Sequence[AuditFinding]) -> Sequence[AuditFinding]:
    """Return at most ten findings of each name, and one that counts the others: a store may be full of forged records."""
    numbers, kept = Counter[str](), list[AuditFinding]()
    for one in findings:
        numbers[one.name] += 1
        if numbers[one.name] <= _MOST_OF_A_KIND:
            kept.append(one)
    for name, number in numbers.items():
        if (more := number - _MOST_OF_A_KIND) > 0:
            example = next(one for one in kept if one.name == name)
            words = f"{example.cluster}/{example.database} has {counted(more, 'more finding')} of the kind {name}."
            kept.append(replace(example, backup_id=None, sentence=words))
    return kept
