"""Checks that the backups of the audited time are sealed and locked as the policy says."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from pipeline.audit.checks.objects import StoredBackup
from pipeline.audit.checks.subject import Subject, span_in_words
from pipeline.audit.facts import DatabaseFacts, ManifestFacts
from pipeline.audit.policy import Expectations
from pipeline.audit.report import AuditFinding
from pipeline.counting import counted

_TOLERANCE = timedelta(hours=1)
"""pgstow computes the end of the locks when it opens the store, which is before the backup begins."""


def check_conformity(
    facts: DatabaseFacts, stored: Mapping[str, StoredBackup], expected: Expectations, since: datetime
) -> Iterator[AuditFinding]:
    """Yield a finding for each rule of the policy that a believed backup since ``since`` doesn't follow."""
    subject, bare, foreign, unlocked = Subject.of(facts), list[str](), list[str](), list[str]()
    for one in facts.backups:
        if one.problem or one.manifest is None or one.manifest.snapshot_at < since:
            continue
        recipients = one.manifest.recipients
        if (expected.sealed or expected.recipients is not None) and not _is_sealed(one.manifest):
            bare.append(one.ref.backup_id)
        elif expected.recipients is not None and set(recipients) != set(expected.recipients):
            foreign.append(one.ref.backup_id)
        if expected.locked_for is not None:
            lock, needed = stored[one.ref.backup_id], one.manifest.started_at + expected.locked_for - _TOLERANCE
            if not lock.held and (lock.retained_until is None or lock.retained_until < needed):
                unlocked.append(one.ref.backup_id)
    yield from _told(subject, "not-sealed", bare, "not sealed")
    yield from _told(subject, "other-recipients", foreign, "sealed to other recipients than the policy names")
    if expected.locked_for is not None:
        words = f"not locked for {span_in_words(expected.locked_for)}, as far as the store and the manifests say"
        yield from _told(subject, "not-locked", unlocked, words)


def _is_sealed(manifest: ManifestFacts) -> bool:
    """True if the backup is sealed. A backup without objects, such as a cluster's, has nothing to seal."""
    return bool(manifest.recipients or not manifest.objects)


def _told(subject: Subject, name: str, backups: Sequence[str], words: str) -> Iterator[AuditFinding]:
    if backups:
        are = "is" if len(backups) == 1 else "are"
        sentence = f"{counted(len(backups), 'backup')} of {subject.name} {are} {words}; the newest is {backups[-1]}."
        yield subject.finding(name, sentence, backups[-1])
