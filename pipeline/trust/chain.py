"""Examines the chain of each writer of a database. Nothing is read here.

Each statement cites the last committed statement before it. So somebody who removes, repeats or inserts a backup can't make the citations
fit without the writer's key. A removed backup stays in its chain by its tombstone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipeline.trust.statement import Link, Reference


class Fault(StrEnum):
    """What can be wrong with a chain. docs/chain.md explains each name."""

    UNSIGNED = "unsigned"
    """A backup has no signature."""
    UNTRUSTED = "untrusted"
    """No trusted key signed the backup or the tombstone."""
    SWAPPED = "swapped"
    """A backup's signature is another object's."""
    GAP = "gap"
    """A statement cites a backup that is gone without a tombstone."""
    FORK = "fork"
    """Two backups of a writer cite the same statement, or both begin the chain."""
    ANEW = "anew"
    """A writer began its chain anew, because it could not find out about its earlier backups."""
    REPLAY = "replay"
    """A manifest was stored again after the backup was removed."""
    CLOCK_BACK = "clock-back"
    """A backup began before its predecessor, by the clock of the writer."""
    OTHER_SYSTEM = "other-system"
    """A backup is of another PostgreSQL cluster than its predecessor."""
    HEAD_LOST = "head-lost"
    """The expected statement isn't in the store."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of a chain."""

    fault: Fault
    cluster: str
    database: str
    backup_id: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Node:
    """A backup in a chain, by a statement that is trusted."""

    backup_id: str
    sha256: str
    """SHA-256 of the statement's bytes, in hexadecimal."""
    link: Link
    stored_at: datetime | None = None
    """The time when the manifest was stored, by the store's clock; None if the manifest is gone."""
    pruned_at: datetime | None = None
    """The time when the tombstone was stored, by the store's clock; None if there is no tombstone."""
    system: str | None = None
    """The system identifier of the PostgreSQL cluster; None if unknown."""

    @property
    def cited(self) -> Sequence[Reference]:
        """The statements that this one cites, the oldest first."""
        return [*([self.link.predecessor] if self.link.predecessor else []), *self.link.interrupted]


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain of one writer of one database."""

    cluster: str
    database: str
    writer: str
    head: Node
    """The last backup that is in the store, or else the last removed one.

    Somebody who pins its statement elsewhere notices if the newest backups are removed.
    """
    backups: int
    """The number of backups that are in the store."""
    removed: int
    """The number of backups of which only the tombstone is in the store."""
    unfinished: int = 0
    """The number of backups in the store that also have a tombstone. Nobody would notice the removal of such a backup."""


def examine(cluster: str, database: str, nodes: Iterable[Node]) -> tuple[list[Chain], list[Finding]]:
    """Return the chains of a database, by writer, and what is wrong with them, in the order of the backups' IDs."""
    writers = defaultdict[str, list[Node]](list)
    for node in sorted(nodes, key=lambda node: (node.link.sequence, node.backup_id)):
        writers[node.link.writer].append(node)
    chains, findings = list[Chain](), list[Finding]()
    for writer, in_order in sorted(writers.items()):
        living = [node for node in in_order if node.stored_at is not None]
        head = (living or in_order)[-1]
        unfinished = sum(node.pruned_at is not None for node in living)
        chains.append(Chain(cluster, database, writer, head, len(living), len(in_order) - len(living), unfinished))
        findings += [
            Finding(fault, cluster, database, backup_id, sentence)
            for fault, backup_id, sentence in _Examination(in_order).faults()
        ]
    return chains, sorted(findings, key=lambda finding: (finding.backup_id, finding.fault))


_Fault = tuple[Fault, str, str]
"""A fault, the ID of its backup, and a sentence."""


class _Examination:
    """The chain of one writer. ``in_order`` has its backups by their sequence."""

    def __init__(self, in_order: Sequence[Node]) -> None:
        self._nodes: Mapping[str, Node] = {node.sha256: node for node in in_order}
        self._children: dict[str | None, list[Node]] = {}
        self._parents = {node.sha256: self._find_parent(node) for node in self._nodes.values()}
        for child in self._nodes.values():
            parent = self._parents[child.sha256]
            self._children.setdefault(None if parent is None else parent.sha256, []).append(child)
        self._living: set[str] = set()
        """The statements of the backups in the store, and of all backups before them."""
        for one in self._nodes.values():
            node = one if one.stored_at is not None else None
            while node is not None and node.sha256 not in self._living:
                self._living.add(node.sha256)
                node = self._parents[node.sha256]
        self._with_system: dict[str, Node | None] = {}
        """By statement: the last backup, from there backwards, whose system identifier is known; None if there is none."""

    def faults(self) -> Iterable[_Fault]:
        for node in self._nodes.values():
            yield from self._of(node)
        yield from self._forks()
        yield from self._beginnings()

    def _find_parent(self, node: Node) -> Node | None:
        """Return the backup before this one: the last of the cited statements that is there."""
        return next((self._nodes[one.sha256] for one in reversed(node.cited) if one.sha256 in self._nodes), None)

    def _of(self, node: Node) -> Iterable[_Fault]:
        here, parent = node.backup_id, self._parents[node.sha256]
        if node.link.predecessor and parent is None:
            gone = node.link.predecessor.backup_id
            yield Fault.GAP, gone, f"{gone} is gone without a tombstone, but {here} cites it."
        if node.stored_at is None:
            return
        if node.pruned_at is not None and node.stored_at > node.pruned_at:
            yield Fault.REPLAY, here, f"The manifest of {here} was stored again after the backup was removed."
        if parent is None:
            return
        if _begun(node) < _begun(parent):
            yield Fault.CLOCK_BACK, here, f"{here} was made after {parent.backup_id}, but its time is earlier."
        before = self._nearest_system(parent)
        if before and node.system and node.system != before.system:
            words = f"{here} is of the PostgreSQL cluster {node.system}, but {before.backup_id} is of {before.system}."
            yield Fault.OTHER_SYSTEM, here, words

    def _nearest_system(self, node: Node | None) -> Node | None:
        """Return the last backup, from this one backwards, whose system identifier is known."""
        passed = list[str]()
        while node is not None and node.system is None and node.sha256 not in self._with_system:
            passed.append(node.sha256)
            node = self._parents[node.sha256]
        found = node if node is None or node.system else self._with_system[node.sha256]
        self._with_system |= dict.fromkeys(passed, found)  # so that a long chain is walked only once
        return found

    def _forks(self) -> Iterable[_Fault]:
        """Yield a fault for each branch after the first. A branch counts only while a backup of it is in the store.

        Otherwise, an honest writer would fork: without its state file, it can't cite the removed backups at the end of its chain.
        """
        for sha256, children in self._children.items():
            branches = [child for child in children if self._lives(child)] if sha256 is not None else []
            for branch in branches[1:]:
                words = f"{branch.backup_id} and {branches[0].backup_id} both cite the statement of {self._nodes[sha256 or ''].backup_id}."
                yield Fault.FORK, branch.backup_id, words

    def _beginnings(self) -> Iterable[_Fault]:
        """Yield a fault for each beginning of the chain after the first, as long as a backup of an earlier beginning is in the store."""
        beginnings = [node for node in self._children.get(None, ()) if node.link.predecessor is None]
        earlier = None
        for node in sorted(beginnings, key=lambda node: (_begun(node), node.backup_id)):
            if earlier is None:
                earlier = node if self._lives(node) else None
            elif node.link.anew:
                words = f"{node.backup_id} begins the chain anew: the writer knew nothing of {earlier.backup_id}."
                yield Fault.ANEW, node.backup_id, words
            else:
                words = f"{node.backup_id} and {earlier.backup_id} both begin the chain."
                yield Fault.FORK, node.backup_id, words

    def _lives(self, node: Node) -> bool:
        """True if this backup, or one after it, is in the store."""
        return node.sha256 in self._living


def _begun(node: Node) -> str:
    """Return the part of the backup's ID that holds its time."""
    return node.backup_id.partition("-")[0]
