"""Copies and signatures: who is believed, and what the chain of a target says."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from support.shelf import NOW, BackupBuilder
from support.signing import KeyFiles, make_key, put, sign_manifest

from pipeline.catalog.attestation import Level
from pipeline.catalog.chain import read_chains
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.copy.copy import copy
from pipeline.copy.request import CopyOutcome, CopyRequest
from pipeline.errors import Untrusted
from pipeline.prune.tombstones import put_tombstones
from pipeline.trust.statement import Reference
from storage_backends import StorageBackend
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture
def source() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def target() -> MemoryBackend:
    return MemoryBackend()


def run(
    request: CopyRequest, source: StorageBackend, target: StorageBackend
) -> tuple[dict[BackupRef, str], list[CopyOutcome]]:
    outcomes = copy(request, source, [target], lambda _: None, NOW).outcomes
    return {one.ref: one.state.value for one in outcomes}, [one for one in outcomes if one.error]


def chained(store: StorageBackend, key: KeyFiles, nights: int) -> list[BackupRef]:
    """Store signed backups, one a night, which form a chain. Return them, the oldest first."""
    shelf, refs = BackupBuilder(store), list[BackupRef]()
    last: Reference | None = None
    for night in range(nights):
        refs.append(shelf.add((nights - night) * DAY))
        last = sign_manifest(store, refs[-1], key.signer, sequence=night + 1, predecessor=last)
    return refs


def remove(store: StorageBackend, refs: Sequence[BackupRef], key: KeyFiles) -> None:
    """Remove backups as prune does."""
    put_tombstones(store, refs, key.signer, key.trust)
    for ref in refs:
        store.delete([ref.manifest_key, ref.manifest_key + SIGNATURE_SUFFIX])


def faults(store: StorageBackend, key: KeyFiles) -> list[str]:
    return [finding.fault.value for finding in read_chains(store, None, None, key.trust).findings]


def test_a_copy_of_all_backups_and_tombstones_has_no_findings(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles
) -> None:
    refs = chained(source, key, 5)
    remove(source, refs[1:3], key)
    assert faults(source, key) == []
    result = copy(CopyRequest(trust=key.trust), source, [target], lambda _: None, NOW)
    assert result.tombstones == 2
    assert faults(target, key) == []
    [chain] = read_chains(target, None, None, key.trust).chains
    assert (chain.backups, chain.removed, chain.head.backup_id) == (3, 2, refs[-1].backup_id)
    assert copy(CopyRequest(trust=key.trust), source, [target], lambda _: None, NOW).tombstones == 0


def test_a_part_of_the_backups_has_a_gap(source: MemoryBackend, target: MemoryBackend, key: KeyFiles) -> None:
    refs = chained(source, key, 3)
    run(CopyRequest(at_most_age=DAY, trust=key.trust), source, target)
    assert faults(target, key) == ["gap"]
    run(CopyRequest(trust=key.trust), source, target)
    assert faults(target, key) == []
    assert BackupBuilder(target).committed() == set(refs)


def test_the_tombstone_of_a_backup_that_a_lock_spared_is_not_copied(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles
) -> None:
    """Otherwise, the backup would look like a replay once it is copied."""
    refs = chained(source, key, 3)
    put_tombstones(source, refs[:1], key.signer, key.trust)
    run(CopyRequest(at_most_age=DAY, trust=key.trust), source, target)
    run(CopyRequest(trust=key.trust), source, target)
    assert faults(target, key) == []


def test_a_backup_that_the_source_removed_stays_in_the_target(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles
) -> None:
    refs = chained(source, key, 3)
    run(CopyRequest(trust=key.trust), source, target)
    remove(source, refs[:1], key)
    run(CopyRequest(trust=key.trust), source, target)
    assert BackupBuilder(target).committed() == set(refs)
    assert faults(target, key) == []


def test_a_backup_that_the_target_removed_is_not_copied_again(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles
) -> None:
    refs = chained(source, key, 3)
    run(CopyRequest(trust=key.trust), source, target)
    remove(target, refs[:1], key)
    states, _ = run(CopyRequest(trust=key.trust), source, target)
    assert states == {refs[0]: "removed", refs[1]: "present", refs[2]: "present"}
    assert faults(target, key) == []


def test_a_tombstone_that_a_stranger_made_keeps_no_backup_away(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path)
    [ref] = chained(source, key, 1)
    gone = BackupBuilder(source).ref(9 * DAY)
    for store in (source, target):
        put(store, (gone if store is source else ref).tombstone_key, stranger.signer.sign(b"{}"))
    states, _ = run(CopyRequest(trust=key.trust), source, target)
    assert states == {ref: "copied"}
    assert [info.key for info in target.list("pruned/")] == [ref.tombstone_key]


def test_only_what_a_trusted_key_signed_is_copied(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles, tmp_path: Path
) -> None:
    shelf, stranger = BackupBuilder(source), make_key(tmp_path)
    signed, unsigned, strange, swapped = (shelf.add(age * DAY) for age in (1, 2, 3, 4))
    sign_manifest(source, signed, key.signer)
    sign_manifest(source, strange, stranger.signer)
    put(source, swapped.manifest_key + SIGNATURE_SUFFIX, source.get(signed.manifest_key + SIGNATURE_SUFFIX))
    bad = dict.fromkeys((unsigned, strange, swapped), "failed")
    states, failed = run(CopyRequest(trust=key.trust), source, target)
    assert states == {signed: "copied", **bad}
    assert {one.error.fault for one in failed if isinstance(one.error, Untrusted)} == {
        "unsigned",
        "untrusted",
        "swapped",
    }
    states, _ = run(CopyRequest(trust=key.trust, unsigned=True), source, target)
    assert states == {signed: "present", **bad, unsigned: "copied"}
    assert BackupBuilder(target).committed() == {signed, unsigned}
    states, _ = run(CopyRequest(), source, target)
    assert set(states.values()) == {"copied", "present"}


def test_the_signature_of_a_server_covers_its_members(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles
) -> None:
    shelf = BackupBuilder(source)
    refs, stranger = shelf.add_cluster(DAY), shelf.add(2 * DAY)
    sign_manifest(source, refs[-1], key.signer)
    states, _ = run(CopyRequest(trust=key.trust), source, target)
    assert states == {**dict.fromkeys(refs, "copied"), stranger: "failed"}


def test_only_attestations_by_a_trusted_key_are_copied(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles
) -> None:
    [ref] = chained(source, key, 1)
    shelf = BackupBuilder(source)
    signed = shelf.attest(ref, signer=key.signer)
    unsigned = shelf.attest(ref, Level.BYTES, later=DAY)
    run(CopyRequest(trust=key.trust), source, target)
    assert [info.key for info in target.list("attestations/")] == [signed, signed + SIGNATURE_SUFFIX]
    other = MemoryBackend()
    run(CopyRequest(), source, other)
    assert unsigned in {info.key for info in other.list("attestations/")}


def test_a_forged_manifest_in_the_target_is_no_copy(
    source: MemoryBackend, target: MemoryBackend, key: KeyFiles
) -> None:
    """Its objects have the right checksums, but nobody trusted signed what it says about them."""
    [ref] = chained(source, key, 1)
    run(CopyRequest(), source, target)
    forged = target.get(ref.manifest_key).replace(b'"tool":"a test"', b'"tool":"a liar"')
    target.delete([ref.manifest_key])
    put(target, ref.manifest_key, forged)
    states, failed = run(CopyRequest(trust=key.trust), source, target)
    assert states == {ref: "failed"}
    assert "is the manifest of another backup" in str(failed[0].error)
