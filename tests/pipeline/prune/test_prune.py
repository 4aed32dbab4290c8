"""Tests of prune and gc on a store: which objects are removed and which stay. An interruption never leaves a broken backup."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shelf import NOW, BackupBuilder

from pipeline.catalog.attestation import Level
from pipeline.catalog.find import BackupSelector, find_backup, newest_believed
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.catalog.listing import ListedManifest, list_manifests
from pipeline.catalog.manifest import Manifest, Member, dump_manifest
from pipeline.catalog.reader import read_catalog
from pipeline.prune.deletion import Deleted
from pipeline.prune.gc import GcRequest, collect, find_leftovers
from pipeline.prune.policy import Policy
from pipeline.prune.prune import Pruned, PruneRequest, plan, prune
from pipeline.stages.upload import upload
from storage_backends import AccessDenied, ObjectInfo, ObjectLocked, StorageBackend, StorageError
from storage_backends.holds import ObjectLock
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
LATER = NOW.replace(year=2099)
LAST = PruneRequest(Policy(keep_last=1))


def run(store: StorageBackend, request: PruneRequest = LAST) -> Pruned:
    return prune(request, plan(request, store, lambda _: None, NOW), store, lambda _: None, NOW)


def run_gc(store: StorageBackend, request: GcRequest | None = None) -> Deleted:
    request = request or GcRequest()
    return collect(request, find_leftovers(request, store, lambda _: None, LATER), store, lambda _: None, LATER)


@pytest.fixture
def shelf() -> BackupBuilder:
    return BackupBuilder(MemoryBackend())


def test_all_objects_of_a_dropped_backup_are_removed(shelf: BackupBuilder) -> None:
    old, new = shelf.add(DAY), shelf.add(0 * DAY)
    attestation = shelf.attest(old)
    upload(shelf.store, old.manifest_key + ".sig", b"")
    before = set(shelf.all_keys())
    pruned = run(shelf.store)
    assert pruned.backups == [old]
    assert not pruned.spared
    assert pruned.removed.objects == 4
    gone = before - set(shelf.all_keys())
    assert {attestation, old.manifest_key, old.manifest_key + ".sig"} <= gone
    assert all(old.backup_id in key for key in gone)
    assert not any(old.backup_id in key for key in shelf.all_keys())
    assert shelf.committed() == {new}


@pytest.mark.parametrize("dropped", [1, 5], ids=["listed by backup", "listed by database"])
def test_all_key_objects_of_a_dropped_backup_are_removed(shelf: BackupBuilder, dropped: int) -> None:
    old = [shelf.add((age + 1) * DAY, sealed=True) for age in range(dropped)]
    new = shelf.add(0 * DAY, sealed=True)
    for ref in (*old, new):
        upload(shelf.store, ref.key_object_key(LATER), b"the key for other recipients")
    assert set(run(shelf.store).backups) == set(old)
    assert not any(ref.backup_id in key for ref in old for key in shelf.all_keys())
    assert sum(key.startswith("keys/") for key in shelf.all_keys()) == 2
    assert shelf.committed() == {new}


class WithoutKeys(MemoryBackend):
    """A store whose credentials have no rights on key objects, as with a policy from before there were any."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if prefix.startswith("keys/"):
            raise AccessDenied("not for you")
        return super().list(prefix)


def test_unsealed_backups_need_no_rights_on_key_objects() -> None:
    shelf = BackupBuilder(WithoutKeys())
    old, new = shelf.add(DAY), shelf.add(0 * DAY)
    assert run(shelf.store).backups == [old]
    shelf.objects(shelf.ref(2 * DAY))
    told: list[Any] = []
    find_leftovers(GcRequest(), shelf.store, told.append, LATER)
    assert any("key objects" in str(one) and "not for you" in str(one) for one in told)
    assert run_gc(shelf.store).objects == 2
    assert shelf.committed() == {new}


def test_the_key_object_of_an_interrupted_backup_is_removed(shelf: BackupBuilder) -> None:
    whole, interrupted = shelf.add(DAY, sealed=True), shelf.ref(2 * DAY)
    upload(shelf.store, interrupted.key_object_key(NOW), b"key")
    assert run_gc(shelf.store).objects == 1
    assert shelf.committed() == {whole}


@pytest.mark.parametrize("dropped", [1, 5], ids=["listed by backup", "listed by database"])
def test_a_key_that_only_begins_like_a_dropped_backups_keys_stays(dropped: int) -> None:
    shelf = BackupBuilder(MemoryBackend())
    old = shelf.add((dropped + 1) * DAY)
    for age in range(dropped):
        shelf.add(age * DAY)
    folders = (old.data_prefix, old.attestations_prefix)
    foreign = [
        name
        for folder in folders
        for name in (folder.removesuffix("/"), folder.replace(old.backup_id, old.backup_id + "x") + "1")
    ]
    foreign += [f"{old.manifest_key}{end}" for end in ("x", ".sigx", ".sig/1")]
    for key in foreign:
        upload(shelf.store, key, b"foreign")
    request = PruneRequest(Policy(keep_last=1))
    assert old in prune(request, None, shelf.store, lambda _: None, NOW).backups
    assert set(foreign) <= set(shelf.all_keys())
    assert not [key for key in shelf.all_keys() if key.startswith(old.data_prefix)]


def test_a_plan_changes_nothing(shelf: BackupBuilder) -> None:
    shelf.add(DAY)
    shelf.add(0 * DAY)
    before = shelf.all_keys()
    plan(LAST, shelf.store, lambda _: None, NOW)
    assert shelf.all_keys() == before


def test_only_backups_of_the_requested_database_are_pruned(shelf: BackupBuilder) -> None:
    old, other = shelf.add(2 * DAY), shelf.add(2 * DAY, "blog")
    shelf.add(DAY)
    shelf.add(DAY, "blog")
    assert run(shelf.store, PruneRequest(LAST.policy, "prod", "shop")).backups == [old]
    assert run(shelf.store, PruneRequest(LAST.policy, "elsewhere")).backups == []
    assert run(shelf.store, PruneRequest(LAST.policy, database="blog")).backups == [other]


def test_a_cluster_and_its_members_are_removed_only_together(shelf: BackupBuilder) -> None:
    old, new = shelf.add_cluster(2 * DAY), shelf.add_cluster(DAY)
    alone = shelf.add(3 * DAY)
    assert run(shelf.store, PruneRequest(LAST.policy, database="shop")).backups == []
    assert run(shelf.store, PruneRequest(LAST.policy, database=CLUSTER)).backups == old
    assert shelf.committed() == {*new, alone}


def test_a_cluster_manifest_that_names_other_manifests_is_damaged(shelf: BackupBuilder) -> None:
    first, second = shelf.add_cluster(2 * DAY), shelf.add_cluster(DAY)
    member = second[1]
    data = shelf.manifest(member).model_copy(update={"tool": "another"})
    shelf.store.delete([member.manifest_key])
    upload(shelf.store, member.manifest_key, dump_manifest(data))
    assert run(shelf.store).backups == []
    assert shelf.committed() == {*first, *second}


def test_attestations_decide_which_backups_count(shelf: BackupBuilder) -> None:
    refs = [shelf.add(age * DAY) for age in (3, 2, 1)]
    shelf.attest(refs[0])
    shelf.attest(refs[1], good=False)
    assert run(shelf.store, PruneRequest(Policy(keep_last=1, only_verified=Level.RESTORE))).backups == []
    shelf.attest(refs[2], Level.BYTES)
    assert run(shelf.store, PruneRequest(Policy(keep_last=1, only_verified=Level.RESTORE))).backups == []
    assert run(shelf.store, PruneRequest(Policy(keep_last=1, only_verified=Level.BYTES))).backups == refs[:2]


def test_an_unreadable_object_for_one_night_drops_no_proven_backup(shelf: BackupBuilder) -> None:
    oldest, older, newest = (shelf.add(age * DAY) for age in (2, 1, 0))
    for ref in (oldest, older, newest):
        shelf.attest(ref, Level.BYTES, unreadable=[] if ref == newest else ["The store failed."])
    two = Policy(keep_last=2, only_verified=Level.BYTES)
    assert run(shelf.store, PruneRequest(two)).backups == [oldest]
    assert shelf.committed() == {older, newest}
    higher = Policy(keep_last=2, only_verified=Level.RESTORE)
    assert run(shelf.store, PruneRequest(higher)).backups == []


def test_a_backup_that_was_committed_after_the_plan_counts(shelf: BackupBuilder) -> None:
    old, new = shelf.add(2 * DAY), shelf.add(DAY)
    approved = plan(LAST, shelf.store, lambda _: None, NOW)
    latest = shelf.add(0 * DAY, uses=[old])
    pruned = prune(LAST, approved, shelf.store, lambda _: None, NOW)
    assert pruned.backups == []
    assert pruned.spared == [old]
    assert shelf.committed() == {old, new, latest}, (
        "a backup that only the new plan drops stays, because nobody approved it"
    )


def test_an_unreadable_manifest_is_reported_and_keeps_its_databases_backups(shelf: BackupBuilder) -> None:
    refs = [shelf.add(age * DAY) for age in (3, 2, 1)]
    damaged = shelf.ref(4 * DAY)
    upload(shelf.store, damaged.manifest_key, b"")
    decisions = plan(LAST, shelf.store, lambda _: None, NOW)
    assert [one.ref for one in decisions] == [damaged, *refs]
    assert all(one.keep for one in decisions)
    assert decisions[0].reasons == ("its manifest can't be read",)
    assert run(shelf.store).backups == []


def test_a_backup_with_a_locked_manifest_keeps_all_its_objects(shelf: BackupBuilder) -> None:
    assert isinstance(shelf.store, MemoryBackend)
    old = shelf.add_cluster(2 * DAY)
    shelf.add_cluster(DAY)
    shelf.store.set_hold(old[0].manifest_key, held=True)
    before = shelf.all_keys()
    assert run(shelf.store).backups == []
    assert shelf.all_keys() == before
    shelf.store.set_hold(old[0].manifest_key, held=False)
    assert run(shelf.store).backups == old


def test_a_cluster_manifest_stays_if_a_members_manifest_turns_out_to_be_locked() -> None:
    """Without the cluster manifest, the member would count as a backup of its own."""

    class Secretive(MemoryBackend):
        def lock_of(self, key: str) -> ObjectLock:
            return ObjectLock(None, None, ("a permission",))

    store = Secretive()
    shelf = BackupBuilder(store)
    old, new = shelf.add_cluster(2 * DAY), shelf.add_cluster(DAY)
    store.set_hold(old[1].manifest_key, held=True)
    pruned = run(store)
    assert pruned.backups == old[:1]
    assert pruned.spared == [old[2], old[1]]
    assert pruned.removed.locked == {old[1].manifest_key: None}
    assert shelf.committed() == {*new, *old[1:]}
    store.set_hold(old[1].manifest_key, held=False)
    assert set(run(store).backups) == set(old[1:])


def test_a_locked_object_is_reported_and_stays_until_its_lock_ends(shelf: BackupBuilder) -> None:
    assert isinstance(shelf.store, MemoryBackend)
    old, new = shelf.add(2 * DAY), shelf.add(DAY)
    locked = old.data_prefix + "0.dat.00000.zst"
    shelf.store.set_hold(locked, held=True)
    pruned = run(shelf.store)
    assert pruned.backups == [old]
    assert pruned.removed.locked == {locked: None}
    assert [key for key in shelf.all_keys() if old.backup_id in key] == [locked]
    assert run_gc(shelf.store).locked == {locked: None}
    shelf.store.set_hold(locked, held=False)
    assert run_gc(shelf.store).objects == 1
    assert shelf.committed() == {new}


class Denying(MemoryBackend):
    """A store that denies access to attestations."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if prefix.startswith("attestations/"):
            raise AccessDenied("not for you")
        return super().list(prefix)


def test_nothing_is_pruned_if_attestations_cannot_be_read() -> None:
    shelf = BackupBuilder(Denying())
    shelf.add(DAY)
    shelf.add(0 * DAY)
    before = shelf.all_keys()
    with pytest.raises(AccessDenied, match="attestations can't be read"):
        run(shelf.store)
    assert shelf.all_keys() == before


ODD_KEYS = [
    "manifests/prod/%FF/20200101T000000Z-aaaaaa.json",
    "manifests/%41/shop/20200101T000000Z-aaaaaa.json",
    "manifests/prod/shop/20261399T000000Z-aaaaaa.json",
    "manifests/prod/sh\\op/20200101T000000Z-aaaaaa.json",
    "manifests/prod/sh\\xe9/20200101T000000Z-aaaaaa.json",
    "manifests/prod//20200101T000000Z-aaaaaa.json",
    "manifests/prod/shop/x/20200101T000000Z-aaaaaa.json",
    "manifests/prod/sh\nop/20200101T000000Z-aaaaaa.json",
    "manifests/notes",
    "manifests/prod/shop/readme.json",
    "data/x/y/20261399T000000Z-aaaaaa/z",
    "data/x/%41/20200101T000000Z-aaaaaa/z",
    "data/x/y/20200101T000000Z-aaaaaa/",
    "attestations/prod/shop/20261399T000000Z-aaaaaa/z.json",
]


def test_foreign_keys_are_reported_and_ignored() -> None:
    objects: dict[str, tuple[ObjectInfo, bytes]] = {}
    shelf = BackupBuilder(MemoryBackend(objects=objects))
    old, new = shelf.add(DAY), shelf.add(0 * DAY)
    shelf.attest(new)
    leftover = BackupRef("prod", "shop", "20200101T000000Z-aaaaaa")
    shelf.objects(leftover)
    below = [f"{old.data_prefix}a\\b", f"{leftover.data_prefix}c\\d", f"{new.attestations_prefix}x\\y.json"]
    below.append(f"{new.attestations_prefix}z")
    for key in (*ODD_KEYS, *below):
        objects[key] = ObjectInfo(key, 1, NOW), b"x"
    told: list[object] = []
    decisions = plan(LAST, shelf.store, told.append, NOW)
    assert [one.keep for one in decisions] == [False, True]
    assert "is no name that pgstow gives to a manifest" in str(told)
    assert "Under manifests/, 2 objects have names that are not pgstow's, such as 'manifests/notes'." in str(told)
    assert str(told).count("is no name that pgstow gives to an attestation") == 1
    assert "keeps it. 1 more has such a name." in str(told)
    pruned = run(shelf.store)
    assert pruned.backups == [old]
    assert pruned.removed.odd == below[:1]
    find_leftovers(GcRequest(), shelf.store, told.append, NOW)
    assert "is not a name that pgstow gives to a backup's object" in str(told)
    collected = run_gc(shelf.store)
    assert collected.objects == 2
    assert sorted(collected.odd) == sorted(below[:2])
    assert {*ODD_KEYS, *below} <= set(shelf.all_keys())
    assert [entry.problem for entry in read_catalog(shelf.store, list_manifests(shelf.store).manifests, NOW)] == [None]
    assert find_backup(shelf.store, BackupSelector()).backup_id == new.backup_id


def test_implausible_backups_stay_and_replace_no_other_backup(shelf: BackupBuilder) -> None:
    """Somebody who can write to the bucket forged them. Each is newer than the real backups, so a rule would keep it in their place."""
    store, real = shelf.store, [shelf.add(age * DAY) for age in (2, 1)]
    template = shelf.manifest(real[1])

    def forge(suffix: str, begun: datetime = NOW, /, **fields: Any) -> BackupRef:
        ref = BackupRef("prod", "shop", f"{begun:%Y%m%dT%H%M%SZ}-{suffix}")
        times = {"started_at": NOW, "snapshot_at": NOW, "finished_at": NOW}
        upload(
            store,
            ref.manifest_key,
            dump_manifest(template.model_copy(update={**times, "backup_id": ref.backup_id, **fields})),
        )
        return ref

    bogus = {
        forge("a00000", NOW + 9 * DAY): "by its ID, the backup began at",
        forge("a00001", LATER, started_at=LATER): "is in the future: it was stored at",
        forge("a00002", snapshot_at=LATER): "is in the future: it was stored at",
        forge("a00003", finished_at=LATER): "is in the future: it was stored at",
        forge("a00004", files=[], objects=[]): "it names no toc.dat",
        forge("a00005", files=[replace(template.files[0], path="1.dat", kind="large_object")]): "it names no toc.dat",
        forge("a00006", files=[replace(template.files[0], size=0, segments=())]): "it names no toc.dat",
        forge("a00007", dump=template.dump.model_copy(update={"format": "custom"}), files=[]): "exactly one file",
        forge("a00008", kind="cluster", files=[]): "names no backup",
        forge("a00009", totals=template.totals.model_copy(update={"tables": 3})): "it counts 3 tables",
        forge(
            "a0000a", members=[Member(database="x", backup_id=real[0].backup_id, sha256="0" * 64)]
        ): "is not a cluster manifest",
    }
    entries = {one.ref: one.problem for one in read_catalog(store, list_manifests(store).manifests, NOW)}
    for ref, reason in bogus.items():
        assert reason in (entries[ref] or ""), entries[ref]
    decisions = {one.ref: one for one in plan(LAST, store, lambda _: None, NOW)}
    assert all(decisions[ref].keep and decisions[ref].doubtful for ref in bogus)
    assert run(store).backups == real[:1]
    assert find_backup(store, BackupSelector()).backup_id == real[1].backup_id
    newest = newest_believed(store, "prod", "shop", lambda _: None)
    assert newest is not None
    assert newest.manifest.backup_id == real[1].backup_id
    told: list[object] = []
    assert all(
        find_backup(store, BackupSelector(ref.backup_id), told.append).backup_id == ref.backup_id for ref in bogus
    )
    assert len(told) == len(bogus)


def test_backups_from_the_future_by_this_machines_clock_are_not_believed(shelf: BackupBuilder) -> None:
    """In a folder, anybody who writes a file can set its time."""
    refs = [shelf.add(age * DAY) for age in (2, 1, 0)]
    listed = [ListedManifest(ref, LATER, 1) for ref in refs]
    early = NOW - timedelta(hours=1)
    problems = [entry.problem for entry in read_catalog(shelf.store, listed, early)]
    assert problems[:2] == [None, None]
    assert "this machine's clock says 2026-11-25 03:00:00Z" in str(problems[2])
    assert [entry.problem for entry in read_catalog(shelf.store, listed, NOW - timedelta(minutes=14))] == [None] * 3


def test_old_leftovers_of_an_interrupted_backup_are_removed(shelf: BackupBuilder) -> None:
    committed = shelf.add(9 * DAY)
    left, elsewhere = shelf.ref(3 * DAY), shelf.ref(3 * DAY, "blog")
    shelf.objects(left, 3)
    shelf.objects(elsewhere)
    [one, other] = find_leftovers(GcRequest(), shelf.store, lambda _: None, LATER)
    assert (one.ref, other.ref) == (elsewhere, left)
    assert (other.objects, other.size, other.kept) == (3, 12, None)
    assert run_gc(shelf.store, GcRequest(database="shop")).objects == 3
    assert run_gc(shelf.store).objects == 2
    assert shelf.committed() == {committed}
    assert len(shelf.all_keys()) == 3


@pytest.mark.parametrize("length", [978, 979, 984])
def test_names_that_leave_no_room_for_a_manifests_key_do_not_stop_gc(length: int) -> None:
    shelf = BackupBuilder(MemoryBackend())
    left = shelf.objects(shelf.ref(3 * DAY))
    upload(shelf.store, f"data/c/{'d' * length}/20260101T000000Z-7f3a9c/x", b"foreign")
    run_gc(shelf.store)
    assert not {stored.key for stored in left} & set(shelf.all_keys())


@pytest.mark.parametrize("age", [-2 * DAY, 0 * DAY])
def test_objects_of_a_backup_that_may_be_running_stay(shelf: BackupBuilder, age: timedelta) -> None:
    """A backup may be running if it began just now or in the future, or if its newest object was stored just now."""
    shelf.objects(shelf.ref(age))
    newest = max(info.modified for info in shelf.store.list())
    [begun_now] = find_leftovers(GcRequest(), shelf.store, lambda _: None, min(NOW, newest))
    assert begun_now.kept == "perhaps still running"
    old = BackupBuilder(MemoryBackend())
    old.objects(old.ref(900 * DAY))
    stored = max(info.modified for info in old.store.list())
    [still_at_it] = find_leftovers(GcRequest(), old.store, lambda _: None, stored + timedelta(hours=23))
    assert still_at_it.kept == "perhaps still running"
    [given_up] = find_leftovers(GcRequest(), old.store, lambda _: None, max(stored, NOW) + timedelta(hours=25))
    assert given_up.kept is None


def test_objects_that_a_backup_uses_are_not_leftovers(shelf: BackupBuilder) -> None:
    old, damaged = shelf.add(3 * DAY), shelf.ref(2 * DAY, "blog")
    shelf.add(2 * DAY, uses=[old])
    shelf.store.delete([old.manifest_key])
    shelf.objects(shelf.ref(5 * DAY, "blog"))
    upload(shelf.store, damaged.manifest_key, b"")
    before = shelf.all_keys()
    assert run_gc(shelf.store).objects == 0
    assert shelf.all_keys() == before


def test_a_backup_that_is_committed_while_gc_asks_stays(shelf: BackupBuilder) -> None:
    ref = shelf.add(3 * DAY)
    manifest = shelf.store.get(ref.manifest_key)
    shelf.store.delete([ref.manifest_key])
    approved = find_leftovers(GcRequest(), shelf.store, lambda _: None, LATER)
    assert [one.kept for one in approved] == [None]
    upload(shelf.store, ref.manifest_key, manifest)
    assert collect(GcRequest(), approved, shelf.store, lambda _: None, LATER).objects == 0
    assert shelf.committed() == {ref}


def test_gc_stops_if_a_listing_lacks_a_manifest() -> None:
    class Lying(MemoryBackend):
        hidden = ""

        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            return (info for info in super().list(prefix) if not (self.hidden and info.key.startswith(self.hidden)))

    store = Lying()
    shelf = BackupBuilder(store)
    ref, leftover = shelf.add(DAY), shelf.ref(2 * DAY)
    shelf.objects(leftover)
    approved = find_leftovers(GcRequest(), store, lambda _: None, LATER)
    assert [one.ref for one in approved] == [leftover]
    before = shelf.all_keys()
    for hidden in ("manifests/", ref.manifest_key):
        store.hidden = hidden
        for attempt in (
            lambda: run_gc(store),
            lambda: collect(GcRequest(), approved, store, lambda _: None, LATER),
        ):
            with pytest.raises(StorageError, match=f"has {ref.manifest_key}, but doesn't list it"):
                attempt()
        store.hidden = ""
        assert shelf.all_keys() == before
    assert run_gc(store).objects == 2


class Interrupted(MemoryBackend):
    """A store that fails from one call on. After each deletion, it checks that every committed backup still has its objects."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_left = -1
        self._counting = threading.RLock()
        self.broken: list[str] = []

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        self._count()
        return super().get(key, offset=offset, length=length, at_most=at_most)

    def head(self, key: str) -> ObjectInfo:
        self._count()
        return super().head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            self._count()
            yield info

    def delete(self, keys: Iterable[str]) -> bool:
        locked: dict[str, datetime | None] = {}
        for key in keys:
            with self._counting:
                self._count()
                try:
                    super().delete([key])
                except ObjectLocked as exc:
                    locked |= exc.objects
                self._look()
        if locked:
            raise ObjectLocked(self.url, locked, hidden=False)
        return False

    def _count(self) -> None:
        with self._counting:
            if self.calls_left == 0:
                raise StorageError("the store is gone")
            self.calls_left -= 1

    def _look(self) -> None:
        there = {info.key for info in super().list()}
        for key in there:
            if key.startswith("manifests/"):
                for stored in Manifest.model_validate_json(super().get(key)).objects:
                    if stored.key not in there:
                        self.broken.append(f"{key} lacks {stored.key}")


def test_nothing_is_removed_before_everything_is_listed_and_read() -> None:
    store = Interrupted()
    shelf = BackupBuilder(store)
    for age in (3, 2, 1):
        shelf.attest(shelf.add(age * DAY))
        shelf.objects(shelf.ref(age * DAY))
    approved = plan(LAST, store, lambda _: None, NOW)
    leftovers = find_leftovers(GcRequest(), store, lambda _: None, LATER)
    before = shelf.all_keys()
    for look, act in (
        (lambda: plan(LAST, store, lambda _: None, NOW), lambda: prune(LAST, approved, store, lambda _: None, NOW)),
        (
            lambda: find_leftovers(GcRequest(), store, lambda _: None, LATER),
            lambda: collect(GcRequest(), leftovers, store, lambda _: None, LATER),
        ),
    ):
        store.calls_left = plenty = 10**6
        look()
        needed = plenty - store.calls_left
        assert needed > 10
        for calls in range(needed):
            store.calls_left = calls
            with pytest.raises(StorageError):
                act()
            store.calls_left = -1
            assert shelf.all_keys() == before


def test_pruning_again_after_an_interruption_at_any_call_gives_the_same_result() -> None:
    def fill(shelf: BackupBuilder) -> None:
        for age in (2, 1):
            old = shelf.add(age * 7 * DAY)
            shelf.attest(shelf.add(age * 7 * DAY, uses=[old]))
            shelf.add_cluster(age * 7 * DAY)

    steady = BackupBuilder(MemoryBackend())
    fill(steady)
    run(steady.store)
    run_gc(steady.store)
    for calls in itertools.count():
        store = Interrupted()
        fill(BackupBuilder(store))
        store.calls_left = calls
        try:
            run(store)
            run_gc(store)
            break
        except StorageError:
            assert store.broken == []
        store.calls_left = -1
        run(store)
        run_gc(store)
        assert store.broken == []
        assert BackupBuilder(store).all_keys() == steady.all_keys(), f"after an interruption at call {calls}"
    assert calls > 100


@st.composite
def fillings(draw: st.DrawFn) -> Callable[[BackupBuilder], None]:
    """Return a function that adds backups, the same backups each time."""
    alone = draw(
        st.lists(
            st.tuples(st.integers(0, 40), st.sampled_from(["shop", "blog"]), st.integers(0, 3), st.integers(0, 6)),
            max_size=6,
        )
    )
    clusters = draw(st.lists(st.integers(0, 40), max_size=3))
    attested = draw(st.sets(st.integers(0, 20), max_size=4))
    held = draw(st.sets(st.integers(0, 60), max_size=2))

    def fill(shelf: BackupBuilder) -> None:
        refs: list[BackupRef] = []
        for age, database, uses, _ in alone:
            earlier = [ref for ref in refs if ref.database == database]
            refs.append(shelf.add(age * DAY, database, uses=earlier[-1:] if uses == 0 else []))
        for age in clusters:
            refs += shelf.add_cluster(age * DAY)
        for number in attested:
            if number < len(refs):
                shelf.attest(refs[number], good=number % 3 != 0)
        keys = shelf.all_keys()
        assert isinstance(shelf.store, MemoryBackend)
        for number in held:
            if number < len(keys):
                shelf.store.set_hold(keys[number], held=True)

    return fill


@settings(max_examples=30)
@given(
    fillings(),
    st.builds(
        Policy,
        keep_last=st.integers(1, 2),
        keep_weekly=st.integers(0, 2),
        only_verified=st.sampled_from([None, Level.BYTES]),
    ),
    st.integers(0, 150),
)
def test_any_store_ends_the_same_after_an_interruption(
    fill: Callable[[BackupBuilder], None], policy: Policy, calls: int
) -> None:
    request, steady, store = PruneRequest(policy), MemoryBackend(), Interrupted()
    fill(BackupBuilder(steady))
    fill(BackupBuilder(store))
    assert BackupBuilder(store).all_keys() == BackupBuilder(steady).all_keys()
    run(steady, request)
    run_gc(steady)
    for attempt in (lambda: run(store, request), lambda: run_gc(store)):
        store.calls_left = calls
        with suppress(StorageError):
            attempt()
        store.calls_left = -1
        assert store.broken == []
    run(store, request)
    run_gc(store)
    assert store.broken == []
    assert BackupBuilder(store).all_keys() == BackupBuilder(steady).all_keys()
    assert run(store, request).backups == []
    assert run_gc(store).objects == 0
