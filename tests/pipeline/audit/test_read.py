"""The facts of an audit: what the records of a store say, in few requests, and also while the store changes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.counting_store import CountingStore
from support.manifests import canonical
from support.shelf import NOW, BackupBuilder
from support.signing import KeyFiles, make_key, put, sign_manifest

from pipeline.audit.facts import DatabaseFacts, TableFacts
from pipeline.audit.read import read_store
from pipeline.catalog.attestation import Level
from pipeline.catalog.keys import CLUSTER, KEYS, MANIFESTS, SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.manifest import LISTS, File, Segment
from pipeline.events import Event, Notice
from pipeline.prune.facts import Signatures
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, prune
from pipeline.trust.policy import Trust
from pipeline.trust.statement import Removal, make_statement
from storage_backends import AccessDenied, ObjectInfo
from storage_backends.holds import ObjectLock
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
LATER = NOW + 10000 * DAY
"""A time after all times of the stores in these tests: their clock is this machine's."""

NO_LINK = Removal(statement_sha256=None, link=None)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def shelf() -> BackupBuilder:
    return BackupBuilder(CountingStore(MemoryBackend()))


def read(shelf: BackupBuilder, trust: Trust | None = None, **options: Any) -> list[DatabaseFacts]:
    notify: Callable[[Event], None] = options.pop("notify", lambda _: None)
    return list(read_store(shelf.store, trust, LATER, notify, **options))


def add(shelf: BackupBuilder, age: timedelta, key: KeyFiles | None = None, **fields: Any) -> BackupRef:
    ref = shelf.add(age, **fields)
    if key:
        sign_manifest(shelf.store, ref, key.signer)
    return ref


def table(name: str, rows: int) -> File:
    segment = Segment(object=0, offset=0, length=4, size=9)
    names: dict[str, Any] = {"schema": "public", "relation": name, "path": f"{name}.dat", "kind": "table"}
    return File(size=9, checksum="a" * 64, rows=rows, segments=(segment,), **names)


def with_tables(shelf: BackupBuilder, ref: BackupRef, *tables: File) -> None:
    """Replace the manifest by one that has these tables, too."""
    content = json.loads(shelf.store.get(ref.manifest_key))
    described = json.loads(LISTS["files"].dump_json(list(tables)))
    shelf.store.delete([ref.manifest_key])
    put(shelf.store, ref.manifest_key, canonical(content | {"files": content["files"] + described}))


def test_a_backup_s_records(shelf: BackupBuilder) -> None:
    ref = add(shelf, DAY, sealed=True, job="nightly")
    with_tables(shelf, ref, table("pens", 3), table("ink", 7))
    [facts] = read(shelf)
    [backup] = facts.backups
    assert (facts.cluster, facts.database, backup.ref) == ("prod", "shop", ref)
    manifest = backup.manifest
    assert manifest
    assert (manifest.job, manifest.kind, manifest.sha256) == ("nightly", "database", shelf.digest(ref))
    assert (manifest.snapshot_at, manifest.partial) == (NOW - DAY, False)
    assert list(manifest.tables) == [
        TableFacts("public", name, rows, 9, "a" * 64) for name, rows in (("ink", 7), ("pens", 3))
    ]
    needed = [stored.key for stored in shelf.manifest(ref).stored]
    assert [key for key, _, _ in manifest.objects] == needed
    assert manifest.objects[-1][0].startswith(KEYS)
    assert manifest.stored_size == sum(stored.size for stored in facts.objects)
    assert sorted(needed) == [stored.key for stored in facts.objects]
    assert (backup.problem, backup.fault, backup.node) == (None, None, None)


def test_signatures_and_tombstones(shelf: BackupBuilder, key: KeyFiles, stranger: KeyFiles) -> None:
    removed, kept = add(shelf, 5 * DAY, key), add(shelf, 4 * DAY, key)
    unsigned, untrusted, swapped = add(shelf, 3 * DAY), add(shelf, 2 * DAY, stranger), add(shelf, DAY)
    put(shelf.store, swapped.manifest_key + SIGNATURE_SUFFIX, shelf.store.get(kept.manifest_key + SIGNATURE_SUFFIX))
    request = PruneRequest(Policy(keep_last=1), signatures=Signatures(key.trust), signer=key.signer)
    prune(request, None, shelf.store, lambda _: None, NOW)
    put(shelf.store, kept.tombstone_key, stranger.signer.sign(make_statement(kept.manifest_key, "0" * 64, NO_LINK)))
    [facts] = read(shelf, key.trust)
    assert [(one.ref, one.fault, one.node is not None) for one in facts.backups] == [
        (kept, None, True),
        (unsigned, "unsigned", False),
        (untrusted, "untrusted", False),
        (swapped, "swapped", False),
    ]
    assert [node.backup_id for node in facts.removed] == [removed.backup_id]
    assert facts.removed[0].pruned_at
    [(odd, reason)] = facts.odd_tombstones
    assert odd == kept.tombstone_key
    assert "no trusted key" in reason


def test_a_removed_backup_that_is_still_there_tells_its_removal(shelf: BackupBuilder, key: KeyFiles) -> None:
    ref = add(shelf, DAY, key)
    shelf.store, real = _Undeletable(shelf.store), shelf.store
    add(shelf, timedelta(), key)
    request = PruneRequest(Policy(keep_last=1), signatures=Signatures(key.trust), signer=key.signer)
    with pytest.raises(AccessDenied):
        prune(request, None, shelf.store, lambda _: None, NOW)
    shelf.store = real
    [facts] = read(shelf, key.trust)
    assert not facts.removed
    [first, _] = facts.backups
    assert first.ref == ref
    assert first.node
    assert first.node.pruned_at


class _Undeletable(CountingStore):
    """A store whose credentials can't delete."""

    def delete(self, keys: Any) -> bool:
        raise AccessDenied("not for you")


def test_only_believed_attestations_count(shelf: BackupBuilder, key: KeyFiles, stranger: KeyFiles) -> None:
    ref = add(shelf, DAY, key)
    shelf.attest(ref, Level.OBJECTS, signer=key.signer)
    shelf.attest(ref, Level.RESTORE, later=DAY / 24, signer=stranger.signer)
    shelf.attest(ref, Level.ARCHIVE, later=DAY / 12)
    told = list[Event]()
    [facts] = read(shelf, key.trust, notify=told.append)
    assert [one.level for one in facts.backups[0].attestations] == ["objects"]
    [notice] = told
    assert isinstance(notice, Notice)
    assert "1 more attestation" in notice.text
    [facts] = read(shelf)
    assert [one.level for one in facts.backups[0].attestations] == ["objects", "restore", "archive"]


def test_an_attestation_about_another_manifest_is_left_out(shelf: BackupBuilder) -> None:
    ref = add(shelf, DAY)
    shelf.attest(ref)
    with_tables(shelf, ref, table("pens", 3))
    [facts] = read(shelf)
    assert not facts.backups[0].attestations


@pytest.mark.parametrize("body", [b"", b"{}", b"nothing", b"[" * 100_000])
def test_a_damaged_manifest_is_a_problem_and_no_error(shelf: BackupBuilder, key: KeyFiles, body: bytes) -> None:
    ref, whole = add(shelf, DAY, key), add(shelf, timedelta(), key)
    shelf.store.delete([ref.manifest_key])
    put(shelf.store, ref.manifest_key, body)
    [facts] = read(shelf, key.trust)
    damaged, other = facts.backups
    assert (damaged.ref, damaged.manifest, damaged.fault, damaged.node) == (ref, None, "swapped", None)
    assert damaged.problem
    assert (other.ref, other.problem) == (whole, None)


def test_members_of_a_cluster(shelf: BackupBuilder) -> None:
    *members, whole = shelf.add_cluster(DAY)
    facts = {one.database: one for one in read(shelf)}
    manifest = facts[CLUSTER].backups[0].manifest
    assert manifest
    assert list(manifest.members) == members
    assert whole.database == CLUSTER


def test_every_database_with_any_object_is_there(shelf: BackupBuilder) -> None:
    put(shelf.store, "data/prod/interrupted/20261101T000000Z-aaaaaa/toc.dat", b"x")
    put(shelf.store, "pruned/prod/gone/20261101T000000Z-aaaaaa.json", b"x")
    put(shelf.store, "keys/prod/sealed/20261101T000000Z-aaaaaa/x.age", b"x")
    put(shelf.store, "data/prod/%40check/20261101T000000Z-aaaaaa/x", b"x")  # a test object of pgstow check
    put(shelf.store, "data/prod/not%encoded/20261101T000000Z-aaaaaa/x", b"x")
    put(shelf.store, "data/short", b"x")
    add(shelf, DAY, cluster="other")
    facts = read(shelf)
    assert [(one.cluster, one.database) for one in facts] == [
        ("other", "shop"),
        ("prod", "gone"),
        ("prod", "interrupted"),
        ("prod", "sealed"),
    ]
    assert [one.database for one in read(shelf, database="gone")] == ["gone"]
    assert [one.cluster for one in read(shelf, cluster="other", database="shop")] == ["other"]
    assert not read(shelf, cluster="other", database="gone")


def test_odd_manifests_are_told(shelf: BackupBuilder) -> None:
    add(shelf, DAY)
    put(shelf.store, odd := "manifests/prod/shop/20261301T000000Z-aaaaaa.json", b"x")
    [facts] = read(shelf)
    assert (len(facts.backups), facts.odd) == (1, [odd])


@pytest.mark.parametrize("databases", [2, 40])
def test_the_listings_cost_the_same_for_any_number_of_databases(key: KeyFiles, databases: int) -> None:
    shelf = BackupBuilder(store := CountingStore(MemoryBackend()))
    for number in range(databases):
        add(shelf, DAY, key, database=f"db{number}")
    store.requests.clear()
    assert len(read(shelf, key.trust)) == databases
    assert store.count("LIST") == 5
    assert store.count("GET") == 2 * databases
    assert store.count("GET", "data/") == 0
    assert store.most_repeated("GET") == 1


class _Denied(CountingStore):
    """A store whose credentials can't list some folders."""

    def __init__(self, inner: Any, *folders: str) -> None:
        super().__init__(inner)
        self._folders = folders

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if prefix.startswith(self._folders):
            raise AccessDenied(f"{prefix} is not for you")
        yield from super().list(prefix)


def test_a_folder_that_cannot_be_listed_is_told_once(shelf: BackupBuilder) -> None:
    for name in ("crm", "shop"):
        add(shelf, DAY, database=name)
    shelf.store = _Denied(shelf.store, "data/", "keys/")
    told = list[Event]()
    facts = read(shelf, notify=told.append)
    assert [(one.unlisted, one.objects, len(one.backups)) for one in facts] == [(("data/", "keys/"), [], 1)] * 2
    assert len(told) == 2


def test_without_the_manifests_there_is_no_audit(shelf: BackupBuilder) -> None:
    shelf.store = _Denied(shelf.store, MANIFESTS)
    with pytest.raises(AccessDenied):
        read(shelf)


class _Busy(CountingStore):
    """A store that changes right after the listing of a folder has begun."""

    def __init__(self, inner: Any, folder: str, change: Callable[[], object]) -> None:
        super().__init__(inner)
        self._folder, self._change = folder, change

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        infos = list(super().list(prefix))
        if prefix == self._folder:
            self._change()
        yield from infos


def test_a_backup_that_is_removed_meanwhile_is_no_broken_backup(shelf: BackupBuilder, key: KeyFiles) -> None:
    ref, kept = add(shelf, DAY, key), add(shelf, timedelta(), key)

    def remove() -> None:
        own = [ref.manifest_key, ref.manifest_key + SIGNATURE_SUFFIX]
        shelf.store.delete([*own, *(info.key for info in shelf.store.list(ref.data_prefix))])

    for folder in (MANIFESTS, "pruned/"):
        [facts] = list(read_store(_Busy(shelf.store, folder, remove), key.trust, LATER, lambda _: None))
        assert [one.ref for one in facts.backups] == [kept]


def test_a_tombstone_that_is_stored_meanwhile_is_seen(shelf: BackupBuilder, key: KeyFiles) -> None:
    first, second = shelf.add(2 * DAY), shelf.add(DAY)
    statement = sign_manifest(shelf.store, first, key.signer)
    sign_manifest(shelf.store, second, key.signer, sequence=2, predecessor=statement)
    request = PruneRequest(Policy(keep_last=1), signatures=Signatures(key.trust), signer=key.signer)
    prune(request, None, shelf.store, lambda _: None, NOW)

    class Late(CountingStore):
        """A store whose first listing of the tombstones is older than its listing of the manifests."""

        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            return iter(()) if prefix == "pruned/" else super().list(prefix)

    store = Late(shelf.store)
    [facts] = list(read_store(store, key.trust, LATER, lambda _: None))
    assert [node.backup_id for node in facts.removed] == [first.backup_id]
    assert store.most_repeated("GET") == 1


def test_objects_that_are_stored_meanwhile_are_not_missing(shelf: BackupBuilder) -> None:
    ref = add(shelf, DAY)
    there = [(info.key, shelf.store.get(info.key)) for info in shelf.store.list(ref.data_prefix)]
    shelf.store.delete([key for key, _ in there])

    def store_them() -> None:
        for key, body in there:
            put(shelf.store, key, body)

    [facts] = list(read_store(_Busy(shelf.store, "data/", store_them), None, LATER, lambda _: None))
    assert [stored.key for stored in facts.objects] == [key for key, _ in there]
    assert len(facts.backups) == 1


def test_objects_that_are_missing_cost_no_request_each(shelf: BackupBuilder) -> None:
    ref = add(shelf, DAY, number=50)
    shelf.store.delete([info.key for info in shelf.store.list(ref.data_prefix)])
    store = CountingStore(shelf.store)
    [facts] = list(read_store(store, None, LATER, lambda _: None))
    assert not facts.objects
    assert store.count() <= 5 + 1 + 3


def test_locks_of_the_newest_backups(key: KeyFiles) -> None:
    until = NOW + 20000 * DAY
    shelf = BackupBuilder(CountingStore(MemoryBackend(retain_until=until)))
    refs = [add(shelf, age * DAY, key) for age in (3, 2, 1)]
    assert isinstance(shelf.store, CountingStore)
    shelf.store.requests.clear()
    [facts] = read(shelf, key.trust, locks=2)
    assert [one.lock and one.lock.retained_until for one in facts.backups] == [None, until, until]
    assert [key for kind, key in shelf.store.requests if kind == "LOCK"] == [ref.manifest_key for ref in refs[1:]]


def test_a_store_without_locks_locks_nothing(tmp_path: Path) -> None:
    """The manifest of a copy names the lock of the store from which it was copied."""
    shelf = BackupBuilder(LocalBackend(tmp_path))
    for age in (3, 2, 1):
        shelf.add(age * DAY, retained_until=NOW + 20000 * DAY)
    store = CountingStore(shelf.store)
    [facts] = read_store(store, None, LATER, lambda _: None, locks=1)
    assert [one.lock for one in facts.backups] == [ObjectLock()] * 3
    assert "LOCK" not in {kind for kind, _ in store.requests}


def test_only_the_listed_folders_are_read(shelf: BackupBuilder, key: KeyFiles) -> None:
    ref = add(shelf, DAY, key)
    shelf.attest(ref, signer=key.signer)
    store = CountingStore(shelf.store)
    [facts] = list(read_store(store, key.trust, LATER, lambda _: None, folders=[MANIFESTS]))
    assert [one.problem for one in facts.backups] == [None]
    assert store.count() == 3


def test_a_name_longer_than_any_of_postgresql_is_refused(shelf: BackupBuilder) -> None:
    ref = add(shelf, DAY)
    with_tables(shelf, ref, replace(table("x", 1), relation="x" * 2000))
    [facts] = read(shelf)
    assert facts.backups[0].manifest is None
    assert "is not valid" in (facts.backups[0].problem or "")
