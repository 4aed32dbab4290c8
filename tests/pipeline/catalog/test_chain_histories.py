"""Any history of a store: no honest history is a finding, and each forgery is one.

Hypothesis interleaves backups of two writers, failures at each step of a commit, and prunes, and then lets an attacker act.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.chain_world import FAILURES, ChainKeys, ChainWorld
from support.signing import sign_manifest

from pipeline.audit.read import read_store
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.trust.chain import Chain, Fault, examine
from storage_backends import StorageError

WRITERS = st.sampled_from(["db1", "db2"])


class Histories(RuleBasedStateMachine):
    """A store with backups of one database by two writers, and an attacker who may write to the store, but has no key."""

    keys: ChainKeys
    attack_by: Callable[..., Fault | None]
    """Forges something, and returns the fault that must be found; None if there is nothing to forge."""

    @initialize(choice=st.integers(0, 2**16))
    def begin(self, choice: int) -> None:
        """Begin with three backups, so that even a short history has something to attack. ``choice`` picks what is attacked."""
        self.choice = choice
        self.folder = Path(mkdtemp(prefix="pgstow-tests-"))
        self.world = ChainWorld(self.keys, self.folder)
        self.heads: set[str] = set()
        self.forged: Fault | None = None
        for _ in range(3):
            self.back_up_well("db1")

    def teardown(self) -> None:
        """Remove the oldest backups and attack, if no step did, so that each history ends with an attack."""
        try:
            if self.forged is None:
                self.prune(keep=2, deletes=True)
                self.attack()
                self.the_findings_are_right()
            self.the_facts_of_an_audit_agree()
        finally:
            shutil.rmtree(self.folder)

    def the_facts_of_an_audit_agree(self) -> None:
        """Check that an audit sees the same chains and faults as ``pgstow chain``. Each has its own way to read the records."""
        chains, faults = list[Chain](), list[Fault]()
        for facts in read_store(self.world.store, self.keys.trust, datetime.now(UTC), lambda _: None):
            nodes = [*facts.removed, *(one.node for one in facts.backups if one.node)]
            examined, findings = examine(facts.cluster, facts.database, nodes)
            chains += examined
            faults += [finding.fault for finding in findings]
            faults += [Fault(one.fault) for one in facts.backups if one.fault]
        found = self.world.chains()
        assert chains == found.chains
        assert sorted(faults) == sorted(finding.fault for finding in found.findings)

    @rule(writer=WRITERS)
    def back_up_well(self, writer: str) -> None:
        self.back_up(writer, reads=True, failure="", tagged=False, tick=True)

    @rule(
        writer=WRITERS, reads=st.booleans(), failure=st.sampled_from(FAILURES), tagged=st.booleans(), tick=st.booleans()
    )
    def back_up(self, writer: str, reads: bool, failure: str, tagged: bool, tick: bool) -> None:
        if tick:
            self.world.store.tick()
        # A writer who knows nothing of its chain must be able to read the store, or the chain begins anew.
        reads = reads or not (self.folder / writer).exists()
        with suppress(StorageError):
            self.world.back_up(writer, reads=reads, failure=failure, tags=["keep"] if tagged else [])

    @precondition(lambda self: not self.forged)
    @rule(writer=WRITERS)
    def back_up_without_the_state_file(self, writer: str) -> None:
        shutil.rmtree(self.folder / writer, ignore_errors=True)
        self.back_up_well(writer)

    @precondition(lambda self: not self.forged)
    @rule(keep=st.integers(1, 2), deletes=st.booleans())
    def prune(self, keep: int, deletes: bool) -> None:
        with suppress(StorageError):
            self.world.prune(keep, deletes=deletes)

    @precondition(lambda self: not self.forged)
    @rule()
    def attack(self) -> None:
        self.heads |= set(self.world.heads())
        self.forged = self.attack_by()

    def make_up_a_backup(self) -> Fault:
        self.world.forge()
        return Fault.UNSIGNED

    def sign_by_another_key(self) -> Fault:
        sign_manifest(self.world.store, self.world.forge(), self.keys.stranger)
        return Fault.UNTRUSTED

    def copy_a_signature(self) -> Fault:
        source, forged = self.pick(self.world.backups()), self.world.forge()
        self.world.copy(source.manifest_key + SIGNATURE_SUFFIX, forged.manifest_key + SIGNATURE_SUFFIX)
        return Fault.SWAPPED

    def alter_a_manifest(self) -> Fault:
        self.world.forge(self.pick(self.world.backups()))
        return Fault.SWAPPED

    def remove_a_signature(self) -> Fault:
        ref = self.pick(self.world.backups())
        self.world.store.delete([ref.manifest_key + SIGNATURE_SUFFIX])
        return Fault.UNSIGNED

    def remove_a_backup(self) -> Fault | None:
        there = [ref for ref in self.world.backups() if self.must_be_there(self.world.signed(ref).sha256)]
        spared = self.world.keys_under("pruned/")
        if not (there := [ref for ref in there if ref.tombstone_key not in spared]):
            return None
        self.world.store.delete([self.pick(there).manifest_key])
        return Fault.GAP

    def put_a_removed_backup_back(self) -> Fault | None:
        if not (gone := self.was_removed()):
            return None
        self.world.put_back(self.pick(gone))
        return Fault.REPLAY

    def remove_a_tombstone(self) -> Fault | None:
        gone = [ref for ref in self.was_removed() if self.must_be_there(self.world.removal(ref).statement_sha256)]
        if not gone:
            return None
        self.world.store.delete([self.pick(gone).tombstone_key])
        return Fault.GAP

    # What the rules need

    def pick(self, refs: Sequence[BackupRef]) -> BackupRef:
        return refs[self.choice % len(refs)]

    def was_removed(self) -> list[BackupRef]:
        gone = self.world.keys_under("pruned/") - {ref.tombstone_key for ref in self.world.backups()}
        return [ref for key in sorted(gone) if (ref := BackupRef.of_tombstone_key(key))]

    def must_be_there(self, statement: str | None) -> bool:
        """True if the statement is pinned, or if another one cites it and nothing after it."""
        links = [self.world.removal(ref).link for ref in self.was_removed()]
        links += [self.world.signed(ref).predicate for ref in self.world.backups()]
        cited = {link.predecessor.sha256 for link in links if link and link.predecessor and not link.interrupted}
        return statement in cited | self.heads

    @invariant()
    def the_findings_are_right(self) -> None:
        if not hasattr(self, "world"):  # checked before the first step, too
            return
        faults = self.world.faults(*sorted(self.heads))
        if self.forged is None:
            assert not faults
        elif self.forged is Fault.GAP:
            assert set(faults) & {Fault.GAP, Fault.HEAD_LOST}
        else:
            assert self.forged in faults


FORGERIES = [
    "make_up_a_backup",
    "sign_by_another_key",
    "copy_a_signature",
    "alter_a_manifest",
    "remove_a_signature",
    "remove_a_backup",
    "put_a_removed_backup_back",
    "remove_a_tombstone",
]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_honest_history_is_a_finding_and_each_forgery_is_one(chain_keys: ChainKeys, forgery: str) -> None:
    machine = type("Machine", (Histories,), {"keys": chain_keys, "attack_by": getattr(Histories, forgery)})
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=20, deadline=None))
