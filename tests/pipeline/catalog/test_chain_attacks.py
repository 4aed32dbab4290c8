"""Each way to alter a store's history has a finding with a name. The list also has accidents, some of which look like an attack."""

import hashlib
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from support.chain_world import FAILURES, ChainKeys, ChainWorld
from support.signing import put, sign_manifest

from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.trust.chain import Fault
from pipeline.trust.statement import Removal, make_statement
from storage_backends import StorageError

SIG = SIGNATURE_SUFFIX


@pytest.fixture
def world(chain_keys: ChainKeys, tmp_path: Path) -> ChainWorld:
    """A store of whose five backups the first two were removed. The writer db1 made all of them."""
    world = ChainWorld(chain_keys, tmp_path)
    for _ in range(5):
        world.store.tick()
        world.back_up(system="7000")
    world.prune(3)
    return world


def make_up_a_backup(world: ChainWorld) -> None:
    world.forge()


def sign_with_a_strange_key(world: ChainWorld) -> None:
    sign_manifest(world.store, world.forge(), world.keys.stranger)


def sign_with_the_pruner_s_key(world: ChainWorld) -> None:
    sign_manifest(world.store, world.forge(), world.keys.pruner)


def copy_a_signature(world: ChainWorld) -> None:
    world.copy(world.backups()[-1].manifest_key + SIG, world.forge().manifest_key + SIG)


def use_a_tombstone_as_a_signature(world: ChainWorld) -> None:
    forged = world.forge()
    world.copy(removed(world)[0].tombstone_key, forged.manifest_key + SIG)


def alter_a_manifest(world: ChainWorld) -> None:
    world.forge(world.backups()[1])


def exchange_two_backups(world: ChainWorld) -> None:
    """Exchange manifests and signatures, so that each signature is still about the bytes beside it."""
    first, second = world.backups()[:2]
    there = {key: world.store.get(key) for one in (first, second) for key in (one.manifest_key, one.manifest_key + SIG)}
    world.store.delete(there)
    for source, target in ((first, second), (second, first)):
        for suffix in ("", SIG):
            put(world.store, target.manifest_key + suffix, there[source.manifest_key + suffix])


def copy_a_backup_to_another_database(world: ChainWorld) -> None:
    source = world.backups()[0]
    target = BackupRef(source.cluster, "other", source.backup_id)
    for suffix in ("", SIG):
        world.copy(source.manifest_key + suffix, target.manifest_key + suffix)


def remove_a_signature(world: ChainWorld) -> None:
    world.store.delete([world.backups()[1].manifest_key + SIG])


def remove_a_manifest(world: ChainWorld) -> None:
    world.store.delete([world.backups()[1].manifest_key])


def remove_all_but_the_newest(world: ChainWorld) -> None:
    world.store.delete(key for key in world.keys_under("") if world.backups()[-1].backup_id not in key)


def remove_a_tombstone(world: ChainWorld) -> None:
    world.store.delete([removed(world)[-1].tombstone_key])


def forge_the_tombstone_of_a_removed_backup(world: ChainWorld) -> None:
    gone = world.backups()[1]
    statement = tombstone(world, gone)
    world.store.delete([gone.manifest_key, gone.manifest_key + SIG])
    put(world.store, gone.tombstone_key, world.keys.stranger.sign(statement))


def sign_a_tombstone_with_the_writer_s_key(world: ChainWorld) -> None:
    gone = world.backups()[1]
    statement = tombstone(world, gone)
    world.store.delete([gone.manifest_key, gone.manifest_key + SIG])
    put(world.store, gone.tombstone_key, world.keys.writer.sign(statement))


def copy_another_backup_s_tombstone(world: ChainWorld) -> None:
    gone = world.backups()[1]
    world.store.delete([gone.manifest_key, gone.manifest_key + SIG])
    world.copy(removed(world)[0].tombstone_key, gone.tombstone_key)


def put_a_removed_backup_back(world: ChainWorld) -> None:
    world.put_back(removed(world)[0])


def remove_the_newest_before_the_next_backup(world: ChainWorld) -> None:
    """The state file of the writer still knows the removed backup."""
    world.store.delete([world.backups()[-1].manifest_key])
    world.back_up()


def lose_the_state_file(world: ChainWorld) -> None:
    """The credentials of the writer can only create objects."""
    shutil.rmtree(world.folder / "db1")
    world.back_up(reads=False)


def restore_a_machine_from_an_image(world: ChainWorld) -> None:
    shutil.copytree(world.folder / "db1", world.folder / "image")
    world.back_up()
    shutil.rmtree(world.folder / "db1")
    (world.folder / "image").rename(world.folder / "db1")
    world.back_up(reads=False)


def turn_the_clock_back(world: ChainWorld) -> None:
    world.back_up(age=timedelta(days=1))


def back_up_another_server(world: ChainWorld) -> None:
    world.back_up(system="8000")


def removed(world: ChainWorld) -> list[BackupRef]:
    refs = map(BackupRef.of_tombstone_key, sorted(world.keys_under("pruned/")))
    return [ref for ref in refs if ref]


def tombstone(world: ChainWorld, ref: BackupRef) -> bytes:
    """Return the statement that ``prune`` would make about the backup."""
    signed = world.signed(ref)
    removal = Removal(statement_sha256=signed.sha256, link=signed.predicate)
    return make_statement(ref.manifest_key, hashlib.sha256(world.store.get(ref.manifest_key)).hexdigest(), removal)


ATTACKS: dict[Callable[[ChainWorld], None], set[Fault]] = {
    make_up_a_backup: {Fault.UNSIGNED},
    sign_with_a_strange_key: {Fault.UNTRUSTED},
    sign_with_the_pruner_s_key: {Fault.UNTRUSTED},
    copy_a_signature: {Fault.SWAPPED},
    use_a_tombstone_as_a_signature: {Fault.UNTRUSTED},
    alter_a_manifest: {Fault.SWAPPED, Fault.GAP},
    exchange_two_backups: {Fault.SWAPPED, Fault.GAP},
    copy_a_backup_to_another_database: {Fault.SWAPPED},
    remove_a_signature: {Fault.UNSIGNED, Fault.GAP},
    remove_a_manifest: {Fault.GAP},
    remove_all_but_the_newest: {Fault.GAP},
    remove_a_tombstone: {Fault.GAP},
    forge_the_tombstone_of_a_removed_backup: {Fault.UNTRUSTED, Fault.GAP},
    sign_a_tombstone_with_the_writer_s_key: {Fault.UNTRUSTED, Fault.GAP},
    copy_another_backup_s_tombstone: {Fault.SWAPPED, Fault.GAP},
    put_a_removed_backup_back: {Fault.REPLAY},
    remove_the_newest_before_the_next_backup: {Fault.GAP},
    lose_the_state_file: {Fault.ANEW},
    restore_a_machine_from_an_image: {Fault.FORK},
    turn_the_clock_back: {Fault.CLOCK_BACK},
    back_up_another_server: {Fault.OTHER_SYSTEM},
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_each_attack_has_a_finding(world: ChainWorld, attack: Callable[[ChainWorld], None]) -> None:
    assert world.faults() == []
    attack(world)
    assert set(world.faults()) == ATTACKS[attack]


def lose_the_state_file_after_all_backups_were_removed(world: ChainWorld) -> None:
    """The chain begins a second time."""
    world.back_up("db2")
    world.prune(1)
    shutil.rmtree(world.folder / "db1")
    world.back_up()


def lose_the_state_file_after_the_last_backups_were_removed(world: ChainWorld) -> None:
    """The new backup cites the last backup that is in the store, as the first of the removed ones does."""
    world.back_up(tags=["keep"])
    for writer in ("db1", "db1", "db2"):
        world.back_up(writer)
    world.prune(1)
    shutil.rmtree(world.folder / "db1")
    world.back_up()


def restore_a_machine_that_can_read_the_store(world: ChainWorld) -> None:
    shutil.copytree(world.folder / "db1", world.folder / "image")
    world.back_up()
    shutil.rmtree(world.folder / "db1")
    (world.folder / "image").rename(world.folder / "db1")
    world.back_up()


def fail_in_every_way(world: ChainWorld) -> None:
    for reads in (True, False):
        for failure in filter(None, FAILURES):
            with pytest.raises(StorageError):
                world.back_up(reads=reads, failure=failure)
            world.back_up(reads=reads)


def remove_backups_that_were_perhaps_committed(world: ChainWorld) -> None:
    for _ in range(2):
        with pytest.raises(StorageError):
            world.back_up(reads=False, failure="no answer")
    world.back_up(reads=False)
    world.prune(1)


def remove_in_two_runs(world: ChainWorld) -> None:
    with pytest.raises(StorageError):
        world.prune(1, deletes=False)
    world.store.tick()
    world.back_up()
    world.prune(1)


HONEST: list[Callable[[ChainWorld], None]] = [
    lose_the_state_file_after_all_backups_were_removed,
    lose_the_state_file_after_the_last_backups_were_removed,
    restore_a_machine_that_can_read_the_store,
    fail_in_every_way,
    remove_backups_that_were_perhaps_committed,
    remove_in_two_runs,
]


@pytest.mark.parametrize("history", HONEST, ids=lambda history: history.__name__)
def test_an_honest_history_has_no_finding(world: ChainWorld, history: Callable[[ChainWorld], None]) -> None:
    history(world)
    assert world.faults() == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_only_the_head_shows_that_the_newest_backups_were_removed(world: ChainWorld, number: int) -> None:
    [head] = world.heads()
    world.store.delete([ref.manifest_key for ref in world.backups()[-number:]])
    assert world.faults() == []
    assert world.faults(head) == [Fault.HEAD_LOST]


def test_a_thief_who_also_removes_the_tombstone_can_undo_a_removal(world: ChainWorld) -> None:
    """docs/chain.md says so: the store is as it was before the removal. The tombstone's lock prevents it."""
    first, second = removed(world)
    world.put_back(second)
    world.store.delete([second.tombstone_key])
    assert world.faults() == []
    world.store.delete([first.tombstone_key])
    assert world.faults() == [Fault.GAP]


def test_only_the_note_of_an_unfinished_removal_shows_what_a_thief_may_take(world: ChainWorld) -> None:
    """If a lock spares the manifest after its tombstone was put, nobody notices the manifest's removal later."""
    with pytest.raises(StorageError):
        world.prune(1, deletes=False)
    assert world.faults() == []
    assert [chain.unfinished for chain in world.chains().chains] == [2]
    world.store.delete([world.backups()[0].manifest_key])
    assert world.faults() == []
    assert [chain.unfinished for chain in world.chains().chains] == [1]
    world.prune(1)
    assert [(chain.unfinished, chain.backups, chain.removed) for chain in world.chains().chains] == [(0, 1, 4)]
