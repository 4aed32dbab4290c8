"""Retention with trusted keys: unsigned backups stay, and each removal leaves a signed tombstone."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from support.shelf import NOW, BackupBuilder
from support.signing import KeyFiles, make_key, put, sign_manifest

from pipeline.catalog.attestation import Level, latest_attestations
from pipeline.catalog.find import BackupSelector
from pipeline.catalog.keys import CLUSTER, PRUNED, SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.signature import read_tombstone
from pipeline.errors import Untrusted
from pipeline.events import Event, Notice
from pipeline.prune.facts import Signatures
from pipeline.prune.gc import GcRequest, collect, find_leftovers
from pipeline.prune.hold import hold
from pipeline.prune.policy import Policy
from pipeline.prune.prune import Pruned, PruneRequest, plan, prune
from pipeline.trust.policy import Trust
from storage_backends import StorageError
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
LAST = Policy(keep_last=1)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def shelf() -> BackupBuilder:
    return BackupBuilder(MemoryBackend())


def add(shelf: BackupBuilder, age: timedelta, key: KeyFiles | None = None) -> BackupRef:
    ref = shelf.add(age)
    if key:
        sign_manifest(shelf.store, ref, key.signer)
    return ref


def run(shelf: BackupBuilder, key: KeyFiles, policy: Policy = LAST, *, unsigned: bool = False) -> Pruned:
    request = PruneRequest(policy, signatures=Signatures(key.trust, unsigned), signer=key.signer)
    return prune(request, None, shelf.store, lambda _: None, NOW)


def test_an_unsigned_backup_stays_and_replaces_none(shelf: BackupBuilder, key: KeyFiles, stranger: KeyFiles) -> None:
    dropped, kept = add(shelf, 4 * DAY, key), add(shelf, 3 * DAY, key)
    others = [add(shelf, 2 * DAY), add(shelf, DAY, stranger), add(shelf, 0 * DAY)]
    pruned = run(shelf, key)
    assert pruned.backups == [dropped]
    assert sorted(pruned.doubtful, key=str) == sorted(others, key=str)
    assert shelf.committed() == {kept, *others}


def test_unsigned_backups_are_pruned_among_themselves_if_asked(
    shelf: BackupBuilder, key: KeyFiles, stranger: KeyFiles
) -> None:
    old, signed = add(shelf, 4 * DAY), add(shelf, 3 * DAY, key)
    by_stranger, newest = add(shelf, 2 * DAY, stranger), add(shelf, DAY)
    pruned = run(shelf, key, unsigned=True)
    assert pruned.backups == [old]
    assert pruned.doubtful == [by_stranger]
    assert shelf.committed() == {signed, by_stranger, newest}
    removal = read_tombstone(shelf.store, old, key.trust).predicate
    assert (removal.link, removal.statement_sha256) == (None, None)


def test_a_stranger_s_junk_does_not_block_pruning(shelf: BackupBuilder, key: KeyFiles) -> None:
    dropped = add(shelf, DAY, key)
    add(shelf, 0 * DAY, key)
    put(shelf.store, BackupRef("prod", "shop", "20261120T000000Z-eeeeee").manifest_key, b"{")
    without = PruneRequest(LAST)
    assert all(one.keep for one in plan(without, shelf.store, lambda _: None, NOW))
    assert run(shelf, key).backups == [dropped]


@pytest.mark.parametrize("attack", ["no signature", "no envelope", "no manifest"])
def test_a_members_signature_that_was_removed_costs_no_backup(shelf: BackupBuilder, key: KeyFiles, attack: str) -> None:
    """The signature of the cluster manifest covers the members, since the manifest has their SHA-256."""
    old, middle, new = (shelf.add_cluster(age * DAY) for age in (3, 2, 1))
    for ref in (*old, *middle, *new):
        sign_manifest(shelf.store, ref, key.signer)
    attacked = middle[0].manifest_key + ("" if attack == "no manifest" else SIGNATURE_SUFFIX)
    shelf.store.delete([attacked])
    if attack != "no signature":
        put(shelf.store, attacked, b"{")
    for policy, dropped in ((Policy(keep_last=2), old), (LAST, middle)):
        # A manifest that can't be read keeps all backups of its database, as without trusted keys.
        assert set(run(shelf, key, policy).backups) == (set() if attack == "no manifest" else set(dropped))


def test_a_forged_cluster_manifest_takes_no_signed_backup_with_it(shelf: BackupBuilder, key: KeyFiles) -> None:
    """A cluster's backup and its members are dropped together. So a forged cluster manifest names real backups as its members."""
    real = add(shelf, 3 * DAY, key)
    forged = shelf.add(2 * DAY, CLUSTER, members=[real])
    newer = shelf.add_cluster(DAY)
    pruned = run(shelf, key, unsigned=True)
    assert pruned.backups == [forged]
    assert shelf.committed() == {real, *newer}


def test_a_hold_covers_the_signature_and_the_key_object(shelf: BackupBuilder, key: KeyFiles) -> None:
    """Without its signature, a held backup would no longer be trusted."""
    assert isinstance(shelf.store, MemoryBackend)
    ref = shelf.add(DAY, sealed=True)
    for number in (4, 5):
        wanted = BackupSelector(ref.backup_id)
        assert hold(wanted, shelf.store, lambda _: None, held=True) == {ref: number}
        assert all(shelf.store.lock_of(name).held for name in shelf.all_keys())
        assert hold(wanted, shelf.store, lambda _: None, held=False) == {ref: number}
        assert not any(shelf.store.lock_of(name).held for name in shelf.all_keys())
        if number == 4:
            sign_manifest(shelf.store, ref, key.signer)


def test_only_verified_believes_only_keys_for_verifications(
    shelf: BackupBuilder, key: KeyFiles, stranger: KeyFiles, tmp_path: Path
) -> None:
    verifier = make_key(tmp_path, "verifier")
    trust = Trust((key.trusted("backup,prune"), verifier.trusted("verify")))
    first, second, third = (add(shelf, age * DAY, key) for age in (3, 2, 1))
    for ref, signer in ((first, verifier), (second, key), (third, stranger)):
        shelf.attest(ref, signer=signer.signer)
    told: list[Event] = []
    digests = {ref: shelf.digest(ref) for ref in (first, second, third)}
    found = latest_attestations(shelf.store, digests, None, None, told.append, trust=trust)
    assert found is not None
    assert list(found) == [first]
    assert len(told) == 2
    assert all("is not believed: no trusted key signed it" in str(notice) for notice in told)

    request = PruneRequest(Policy(keep_last=1, only_verified=Level.RESTORE), signatures=Signatures(trust))
    decisions = {one.ref: one.keep for one in plan(request, shelf.store, lambda _: None, NOW)}
    assert decisions == {first: True, second: True, third: True}
    assert not plan(PruneRequest(request.policy), shelf.store, lambda _: None, NOW)[0].keep, "without trusted keys"


def test_an_unsigned_attestation_counts_only_without_trusted_keys(shelf: BackupBuilder, key: KeyFiles) -> None:
    ref = add(shelf, DAY, key)
    shelf.attest(ref, signer=key.signer)
    shelf.attest(ref, good=False, later=timedelta(seconds=1))
    digests = {ref: shelf.digest(ref)}
    [trusting] = (latest_attestations(shelf.store, digests, None, None, lambda _: None, trust=key.trust) or {}).values()
    assert trusting.good
    told: list[Event] = []
    [found] = (latest_attestations(shelf.store, digests, None, None, told.append) or {}).values()
    assert not found.good
    assert not told, "a signature is no odd name"


def test_a_removed_backup_leaves_a_tombstone(shelf: BackupBuilder, key: KeyFiles) -> None:
    old = shelf.add(DAY)
    statement, sha256 = sign_manifest(shelf.store, old, key.signer, sequence=7), shelf.digest(old)
    add(shelf, 0 * DAY, key)
    assert run(shelf, key).backups == [old]
    tombstone = read_tombstone(shelf.store, old, key.trust)
    assert tombstone.subject_sha256 == sha256
    assert tombstone.predicate.statement_sha256 == statement.sha256
    assert tombstone.predicate.link is not None
    assert tombstone.predicate.link.sequence == 7
    left = [name for name in shelf.all_keys() if old.backup_id in name]
    assert left == [old.tombstone_key]
    request = GcRequest(grace=timedelta())
    leftovers = find_leftovers(request, shelf.store, lambda _: None, NOW.replace(year=2099))
    collect(request, leftovers, shelf.store, lambda _: None, NOW.replace(year=2099))
    assert old.tombstone_key in shelf.all_keys()


def test_a_signature_without_a_manifest_is_an_interrupted_backup(shelf: BackupBuilder, key: KeyFiles) -> None:
    """A kill between the envelope and the manifest leaves the envelope, and the objects of the data."""
    kept, interrupted = add(shelf, DAY, key), shelf.ref(2 * DAY)
    shelf.objects(interrupted)
    put(shelf.store, interrupted.manifest_key + SIGNATURE_SUFFIX, key.signer.sign(b"{}"))
    later = NOW.replace(year=2099)
    assert run(shelf, key).backups == []
    [leftover] = leftovers = find_leftovers(GcRequest(), shelf.store, lambda _: None, later)
    assert (leftover.ref, leftover.objects) == (interrupted, 3)
    assert collect(GcRequest(), leftovers, shelf.store, lambda _: None, later).objects == 3
    assert shelf.committed() == {kept}
    assert kept.manifest_key + SIGNATURE_SUFFIX in shelf.all_keys()


class StuckOnce(MemoryBackend):
    """A store that fails to delete once."""

    stuck = True

    def delete(self, keys: Iterable[str]) -> bool:
        if self.stuck:
            self.stuck = False
            raise StorageError("the store failed")
        return super().delete(keys)


def test_after_an_interruption_the_own_tombstone_counts(key: KeyFiles, tmp_path: Path) -> None:
    shelf, pruner = BackupBuilder(StuckOnce()), make_key(tmp_path, "pruner")
    old, new = add(shelf, DAY, key), add(shelf, 0 * DAY, key)
    request = PruneRequest(LAST, signatures=Signatures(key.trust), signer=pruner.signer)
    with pytest.raises(StorageError, match="the store failed"):
        prune(request, None, shelf.store, lambda _: None, NOW)
    assert old.tombstone_key in shelf.all_keys()
    assert prune(request, None, shelf.store, lambda _: None, NOW).backups == [old]
    assert shelf.committed() == {new}


def test_a_stranger_s_tombstone_stops_the_removal(shelf: BackupBuilder, key: KeyFiles, stranger: KeyFiles) -> None:
    old, new = add(shelf, DAY, key), add(shelf, 0 * DAY, key)
    put(shelf.store, old.tombstone_key, stranger.signer.sign(b"{}"))
    with pytest.raises(Untrusted, match=r"tombstone pruned/prod/shop/.* is not believed: no trusted key signed it\."):
        run(shelf, key)
    assert shelf.committed() == {old, new}


@pytest.mark.parametrize("trusting", [False, True])
def test_without_a_signer_there_is_no_tombstone_but_a_notice(
    shelf: BackupBuilder, key: KeyFiles, trusting: bool
) -> None:
    add(shelf, 2 * DAY, key)
    add(shelf, DAY, key)
    add(shelf, 0 * DAY, key)
    request = PruneRequest(LAST, signatures=Signatures(key.trust if trusting else None))
    planned, done = list[Event](), list[Event]()
    decisions = plan(request, shelf.store, planned.append, NOW)
    assert prune(request, decisions, shelf.store, done.append, NOW).backups
    [notice] = [one.text for one in planned if isinstance(one, Notice)]
    assert "2 signed backups are to be removed without a tombstone" in notice
    assert not [one for one in done if isinstance(one, Notice)], "the plan has said it"
    assert not list(shelf.store.list(PRUNED))
    assert not [name for name in shelf.all_keys() if name.endswith(SIGNATURE_SUFFIX)][1:]


def test_a_gap_is_told_even_if_nobody_approves_a_plan(shelf: BackupBuilder, key: KeyFiles) -> None:
    def notices(signer: KeyFiles | None) -> list[str]:
        told: list[Event] = []
        add(shelf, 0 * DAY, key)
        request = PruneRequest(LAST, signatures=Signatures(key.trust), signer=signer and signer.signer)
        assert prune(request, None, shelf.store, told.append, NOW).backups
        return [one.text for one in told if isinstance(one, Notice)]

    add(shelf, DAY, key)
    assert notices(key) == []
    [notice] = notices(None)
    assert "1 signed backup is to be removed without a tombstone" in notice
