"""Any history of a store: no honest history is a finding, and each forgery is one.

Hypothesis interleaves backups of two writers, failures at each step of a commit, and prunes, and then lets an attacker act.
"""

import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
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
from support.counting_store import CountingStore
from support.shelf import NOW, BackupBuilder
from support.signing import KeyFiles, make_key, put, sign_manifest

from pipeline.audit.read import read_store
from pipeline.backup.signing import Signing
from pipeline.catalog.chain import read_chains
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.listing import list_backups
from pipeline.catalog.signature import read_signature, read_tombstone
from pipeline.prune.facts import Signatures
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, prune
from pipeline.trust.chain import Fault, examine
from pipeline.trust.policy import Signed, Trust
from pipeline.trust.statement import Link, Removal
from storage_backends import AccessDenied, ObjectInfo, StorageError
from storage_backends.backend import Body
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend

FAILURES = ["", "no signature", "only the signature", "no manifest", "no answer"]
"""How a commit fails: the signature isn't stored, or its answer is lost; the manifest isn't stored, or its answer is lost."""
WRITERS = st.sampled_from(["db1", "db2"])


class Credentials(CountingStore):
    """The store, as somebody's credentials and network let it be seen."""

    def __init__(self, store: LocalBackend, *, reads: bool = True, failure: str = "", deletes: bool = True) -> None:
        super().__init__(store)
        self._reads = reads
        self._failure = failure
        self._deletes = deletes

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        lost = {"no signature": SIGNATURE_SUFFIX, "no manifest": ".json"}.get(self._failure, "-")
        if key.endswith(lost):
            raise StorageError("the store failed")
        info = super().put(key, body, sha256=sha256)
        if key.endswith({"only the signature": SIGNATURE_SUFFIX, "no answer": ".json"}.get(self._failure, "-")):
            raise StorageError("the answer was lost")
        return info

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if not self._reads:
            raise AccessDenied("not for you")
        return super().list(prefix)

    def delete(self, keys: Iterable[str]) -> bool:
        if not self._deletes:
            raise StorageError("the store failed")
        return super().delete(keys)


class Histories(RuleBasedStateMachine):
    """A store with backups of one database by two writers, and an attacker who may write to the store, but has no key."""

    key: KeyFiles
    stranger: KeyFiles
    pruner: KeyFiles
    forge: Callable[..., Fault | None]
    """Forges something, and returns the fault that must be found; None if there is nothing to forge."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(mkdtemp(prefix="pgstow-tests-"))
        (self.folder / "store").mkdir()
        self.store = LocalBackend(self.folder / "store")
        self.trust = Trust((self.key.trusted("backup"), self.pruner.trusted("prune")))
        self.seconds = itertools.count()
        self.heads: set[str] = set()
        self.stolen: dict[str, bytes] = {}
        self.forged: Fault | None = None
        self.backups = 0

    def teardown(self) -> None:
        self.the_facts_of_an_audit_agree()
        shutil.rmtree(self.folder)

    def the_facts_of_an_audit_agree(self) -> None:
        """Check that an audit sees the same chains and faults as ``pgstow chain``. Each has its own way to read the records."""
        chains, faults = list[str](), list[Fault]()
        for facts in read_store(self.store, self.trust, datetime.now(UTC), lambda _: None):
            nodes = [*facts.removed, *(one.node for one in facts.backups if one.node)]
            examined, findings = examine(facts.cluster, facts.database, nodes)
            chains += [chain.head.sha256 for chain in examined]
            faults += [finding.fault for finding in findings]
            faults += [Fault(one.fault) for one in facts.backups if one.fault]
        found, heads = self.chains()
        assert chains == heads
        assert sorted(faults) == sorted(fault for fault in found if fault is not Fault.HEAD_LOST)

    def make(self, *tags: str) -> tuple[BackupRef, bytes]:
        """Return a new backup's reference and its manifest, which isn't stored yet."""
        shelf = BackupBuilder(MemoryBackend())
        ref = shelf.add(timedelta(hours=4, seconds=-next(self.seconds)), number=1, tags=list(tags))
        return ref, shelf.store.get(ref.manifest_key)

    def chains(self) -> tuple[list[Fault], list[str]]:
        found = read_chains(self.store, None, None, self.trust, sorted(self.heads))
        return [finding.fault for finding in found.findings], [chain.head.sha256 for chain in found.chains]

    @rule(writer=WRITERS)
    def back_up_well(self, writer: str) -> None:
        self.back_up(writer, reads=True, failure="", tagged=False)

    @rule(writer=WRITERS, reads=st.booleans(), failure=st.sampled_from(FAILURES), tagged=st.booleans())
    def back_up(self, writer: str, reads: bool, failure: str, tagged: bool) -> None:
        signing = Signing(self.key.signer, writer, self.folder / writer)
        # A writer who knows nothing of its chain must be able to read the store, or the chain begins anew.
        reads = reads or not (self.folder / writer).exists()
        credentials = Credentials(self.store, reads=reads, failure=failure)
        ref, manifest = self.make(*(["keep"] if tagged else []))
        with suppress(StorageError):
            signing.commit(credentials, ref, manifest, lambda _: None)
            self.backups += 1

    @precondition(lambda self: not self.forged)
    @rule(writer=WRITERS)
    def lose_the_state_file(self, writer: str) -> None:
        shutil.rmtree(self.folder / writer, ignore_errors=True)

    @precondition(lambda self: not self.forged)
    @rule(keep=st.integers(1, 3), deletes=st.booleans())
    def prune(self, keep: int, deletes: bool) -> None:
        self.stolen |= {info.key: self.store.get(info.key) for info in self.store.list("manifests/")}
        credentials = Credentials(self.store, deletes=deletes)
        request = PruneRequest(
            Policy(keep_last=keep, keep_tagged=frozenset({"keep"})),
            signatures=Signatures(self.trust),
            signer=self.pruner.signer,
        )
        with suppress(StorageError):
            prune(request, None, credentials, lambda _: None, NOW)

    @precondition(lambda self: self.backups >= 4 and not self.forged)
    @rule(draw=st.data())
    def attack(self, draw: st.DataObject) -> None:
        self.heads |= set(self.chains()[1])
        self.forged = self.forge(draw)

    def make_up_a_backup(self, _: st.DataObject) -> Fault:
        self.put(*self.make())
        return Fault.UNSIGNED

    def sign_by_another_key(self, _: st.DataObject) -> Fault:
        ref = self.put(*self.make())
        sign_manifest(self.store, ref, self.stranger.signer)
        return Fault.UNTRUSTED

    def copy_a_signature(self, draw: st.DataObject) -> Fault | None:
        source, ref = self.pick(draw, list_backups(self.store)), self.put(*self.make())
        put(self.store, ref.manifest_key + SIGNATURE_SUFFIX, self.store.get(source.manifest_key + SIGNATURE_SUFFIX))
        return Fault.SWAPPED

    def alter_a_manifest(self, draw: st.DataObject) -> Fault:
        ref = self.pick(draw, list_backups(self.store))
        self.store.delete([ref.manifest_key])
        self.put(ref, b"another manifest")
        return Fault.SWAPPED

    def remove_a_signature(self, draw: st.DataObject) -> Fault:
        self.store.delete([self.pick(draw, list_backups(self.store)).manifest_key + SIGNATURE_SUFFIX])
        return Fault.UNSIGNED

    def remove_a_backup(self, draw: st.DataObject) -> Fault | None:
        there = [ref for ref in list_backups(self.store) if self.must_be_there(self.digest(ref))]
        spared = self.keys("pruned/")
        if not (there := [ref for ref in there if ref.tombstone_key not in spared]):
            return None
        self.store.delete([self.pick(draw, there).manifest_key])
        return Fault.GAP

    def put_a_removed_backup_back(self, draw: st.DataObject) -> Fault | None:
        if not (gone := self.was_removed()):
            return None
        ref = self.pick(draw, gone)
        time.sleep(0.02)  # the clock of files has ticks
        for key in {ref.manifest_key, ref.manifest_key + SIGNATURE_SUFFIX} - self.keys("manifests/"):
            put(self.store, key, self.stolen[key])
        return Fault.REPLAY

    def remove_a_tombstone(self, draw: st.DataObject) -> Fault | None:
        gone = [ref for ref in self.was_removed() if self.must_be_there(self.removal(ref).statement_sha256)]
        if not gone:
            return None
        self.store.delete([self.pick(draw, gone).tombstone_key])
        return Fault.GAP

    # What the rules need

    def put(self, ref: BackupRef, manifest: bytes) -> BackupRef:
        put(self.store, ref.manifest_key, manifest)
        return ref

    def pick(self, draw: st.DataObject, refs: Sequence[BackupRef]) -> BackupRef:
        return draw.draw(st.sampled_from(refs))

    def was_removed(self) -> list[BackupRef]:
        gone = self.keys("pruned/") - {ref.tombstone_key for ref in list_backups(self.store)}
        return [ref for key in sorted(gone) if (ref := BackupRef.of_tombstone_key(key))]

    def removal(self, ref: BackupRef) -> Removal:
        return read_tombstone(self.store, ref, self.trust).predicate

    def signed(self, ref: BackupRef) -> Signed[Link]:
        return read_signature(self.store, ref.manifest_key, Link, self.trust)

    def digest(self, ref: BackupRef) -> str:
        return self.signed(ref).sha256

    def must_be_there(self, statement: str | None) -> bool:
        """True if the statement is pinned, or if another one cites it and nothing after it."""
        links = [self.removal(ref).link for ref in self.was_removed()]
        links += [self.signed(ref).predicate for ref in list_backups(self.store)]
        cited = {link.predecessor.sha256 for link in links if link and link.predecessor and not link.interrupted}
        return statement in cited | self.heads

    def keys(self, prefix: str) -> set[str]:
        return {info.key for info in self.store.list(prefix)}

    @invariant()
    def the_findings_are_right(self) -> None:
        if not hasattr(self, "store"):
            return
        faults, _ = self.chains()
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
def test_no_honest_history_is_a_finding_and_each_forgery_is_one(tmp_path: Path, forgery: str) -> None:
    fields = {name: make_key(tmp_path, name) for name in ("key", "stranger", "pruner")}
    machine = type("Machine", (Histories,), fields | {"forge": getattr(Histories, forgery)})
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=20, deadline=None))
