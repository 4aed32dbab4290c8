"""Checks that the backups that a cluster manifest names are there and good."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from pipeline.audit.checks.subject import Subject
from pipeline.audit.facts import DatabaseFacts
from pipeline.audit.report import AuditFinding
from pipeline.catalog.canonical_json import brief
from pipeline.catalog.keys import BackupRef
from pipeline.counting import counted


def check_members(facts: DatabaseFacts, good: AbstractSet[BackupRef]) -> Iterator[AuditFinding]:
    """Yield a finding for each believed cluster manifest with members that are missing or not good. ``good`` are the store's good backups."""
    subject = Subject.of(facts)
    for one in facts.backups:
        members = one.manifest.members if one.manifest and not one.problem else ()
        if lacking := [member for member in members if member not in good]:
            words = (
                f"The backup {one.ref.backup_id} of the whole server {subject.cluster} lacks "
                f"{len(lacking):,} of {counted(len(members), 'good backup')}, such as the one of {brief(lacking[0].database)}."
            )
            yield subject.finding("member-missing", words, one.ref.backup_id)
