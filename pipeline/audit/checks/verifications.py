"""Checks what verifications found, and when a restore last proved a backup."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.audit.checks.subject import Subject, moment_in_words, span_in_words
from pipeline.audit.facts import DatabaseFacts
from pipeline.audit.policy import Expectations
from pipeline.audit.report import AuditedBackup, AuditFinding
from pipeline.catalog.attestation import Attestation, Level

_LEVELS = list(Level)


@dataclass(frozen=True, slots=True)
class Verified:
    """What the verifications of one backup say together."""

    level: Level | None
    """The deepest level of the good verifications; None if there is none."""
    proof: Attestation | None
    """The last restore that proved the backup."""
    failed: Attestation | None
    """The failed verification that counts: no later one of the same or a higher level is good."""


def combine(attestations: Sequence[Attestation]) -> Verified:
    """Return what verifications say together. ``attestations`` has the oldest first."""
    level, proof, failed = None, None, None
    for one in attestations:
        depth = Level(one.level)
        if not one.good:
            failed = one
            continue
        level = depth if level is None else max(level, depth, key=_LEVELS.index)
        if depth is Level.RESTORE:
            proof = one
        if failed and _LEVELS.index(depth) >= _LEVELS.index(Level(failed.level)):
            failed = None
    return Verified(level, proof, failed)


def check_verifications(facts: DatabaseFacts) -> Iterator[AuditFinding]:
    """Yield a finding for each believed backup whose last word is a failed verification."""
    subject = Subject.of(facts)
    for one in facts.backups:
        if one.problem or not (failed := combine(one.attestations).failed):
            continue
        name, said = _of_failure(failed)
        when = f"the verification of {moment_in_words(failed.finished_at)} at level {failed.level}"
        words = f"The backup {one.ref.backup_id} of {subject.name} failed {when}: {said or 'no reason was recorded.'}"
        yield subject.finding(name, words, one.ref.backup_id)


def _of_failure(failed: Attestation) -> tuple[str, str]:
    """Return the finding's name, and the first sentence of the verification."""
    for name, sentences in (
        ("damaged", failed.problems),
        ("overwritten", failed.replaced),
        ("unreadable", failed.unreadable),
    ):
        if sentences:
            return name, sentences[0]
    return "damaged", ""


def check_proofs(
    subject: Subject, proven: AuditedBackup | None, expected: Expectations, now: datetime
) -> Iterator[AuditFinding]:
    """Yield a finding if no restore proved a backup lately, or if the last restore took too long. ``proven`` is the backup proven last."""
    if proven is None or proven.proven_at is None:
        if expected.proven_within is not None or expected.rto is not None:
            yield subject.finding("not-proven", f"No restore has proved a good backup of {subject.name}.")
        return
    if expected.proven_within is not None and now - proven.proven_at > expected.proven_within:
        words = (
            f"The last restore that proved a backup of {subject.name} was {span_in_words(now - proven.proven_at)} ago, "
            f"but the policy wants one within {span_in_words(expected.proven_within)}."
        )
        yield subject.finding("not-proven", words, proven.backup_id)
    took = timedelta(seconds=proven.restore_seconds or 0)
    if expected.rto is not None and took > expected.rto:
        words = (
            f"The last proof by a restore of {subject.name} took {span_in_words(took)}, "
            f"but the policy allows at most {span_in_words(expected.rto)} for a restore."
        )
        yield subject.finding("slow-restore", words, proven.backup_id)
