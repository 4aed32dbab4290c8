"""Checks that the records can be believed: manifests, signatures, tombstones, and the chains that they form."""

from collections.abc import Iterator, Sequence

from pipeline.audit.checks.subject import Subject
from pipeline.audit.facts import BackupFacts, DatabaseFacts
from pipeline.audit.report import AuditFinding, ChainHead
from pipeline.counting import counted
from pipeline.trust.chain import examine


def check_records(facts: DatabaseFacts) -> Iterator[AuditFinding]:
    """Yield a finding for each record that can't be believed. All backups that are merely unsigned are one finding."""
    subject, unsigned = Subject.of(facts), list[BackupFacts]()
    for one in facts.backups:
        if one.problem is None:
            continue
        if one.manifest is None and one.fault != "swapped":  # "swapped" is what pgstow chain says, too
            yield subject.finding("unreadable-manifest", one.problem, one.ref.backup_id)
        elif one.fault == "unsigned":
            unsigned.append(one)
        else:
            yield subject.finding(one.fault or "implausible", one.problem, one.ref.backup_id)
    if unsigned:
        newest, are = unsigned[-1].ref.backup_id, "is" if len(unsigned) == 1 else "are"
        words = f"{counted(len(unsigned), 'backup')} of {subject.name} {are} not signed; the newest is {newest}."
        yield subject.finding("unsigned", words, newest)
    for _, sentence in facts.odd_tombstones:
        yield subject.finding("untrusted", sentence)
    for key in facts.odd:
        yield subject.finding(
            "odd-name", f"{key!r} is no name that pgstow gives to a manifest, so it stands for no backup."
        )


def check_chain(facts: DatabaseFacts) -> tuple[Sequence[ChainHead], Sequence[AuditFinding]]:
    """Return the heads of the chains of a database, and what is wrong with the chains."""
    subject = Subject.of(facts)
    nodes = [*facts.removed, *(one.node for one in facts.backups if one.node)]
    chains, faults = examine(facts.cluster, facts.database, nodes)
    heads = [
        ChainHead(facts.store, chain.cluster, chain.database, chain.writer, chain.head.backup_id, chain.head.sha256)
        for chain in chains
    ]
    return heads, [
        subject.finding(fault.fault, f"{subject.name}: {fault.sentence}", fault.backup_id) for fault in faults
    ]
