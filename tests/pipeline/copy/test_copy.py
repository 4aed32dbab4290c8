"""Copies keep their bytes, are whole or not there, and go on where they stopped."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.counting_store import CountingStore
from support.shelf import NOW, BackupBuilder

from pipeline.catalog.attestation import Level
from pipeline.catalog.keys import CLUSTER, GLOBALS, SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.manifest import Member, dump_manifest
from pipeline.config import Limits
from pipeline.copy.copy import copy
from pipeline.copy.request import CopyOutcome, CopyRequest, CopyState
from pipeline.errors import BackupDamaged, BackupNotFound, InvalidRequest
from pipeline.prune.gc import GcRequest, collect, find_leftovers
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, plan
from storage_backends import (
    AccessDenied,
    ObjectAlreadyExists,
    ObjectInfo,
    StorageBackend,
    StorageError,
    TransientStorageError,
    open_backend,
)
from storage_backends.backend import Body
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
ALL = CopyRequest()


class Store(CountingStore):
    """A store that may fail. ``fails`` gets the kind and the key of each put or get before it happens."""

    def __init__(self, fails: Callable[[str, str], object] = lambda _kind, _key: None, **options: datetime) -> None:
        super().__init__(MemoryBackend(retain_until=options.get("retain_until")))
        self.fails = fails
        self.tried = set[BackupRef | None]()
        """The backups whose data were put or read so far."""
        self.is_down = False
        """True if listings fail."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if self.is_down:
            raise TransientStorageError("the store is down")
        return super().list(prefix)

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        self.tried |= {BackupRef.of_key(key)} if key.startswith("data/") else set()
        self.fails("PUT", key)
        return super().put(key, body, sha256=sha256)

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        self.tried |= {BackupRef.of_key(key)} if key.startswith("data/") else set()
        self.fails("GET", key)
        return super().get(key, offset=offset, length=length, at_most=at_most)

    def keys(self, kind: str, prefix: str = "") -> Sequence[str]:
        return [key for one, key in self.requests if one == kind and key.startswith(prefix)]


class WithoutChecksums(Store):
    """A store whose listings have no checksums."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from (replace(info, checksum=None) for info in super().list(prefix))


@pytest.fixture
def source() -> Store:
    return Store()


@pytest.fixture
def target() -> Store:
    return Store()


@pytest.fixture
def shelf(source: Store) -> BackupBuilder:
    return BackupBuilder(source)


def run(source: StorageBackend, *targets: StorageBackend, request: CopyRequest = ALL) -> list[CopyOutcome]:
    return list(copy(request, source, targets, lambda _: None, NOW).outcomes)


def states(outcomes: Sequence[CopyOutcome]) -> dict[BackupRef, str]:
    return {one.ref: one.state.value for one in outcomes}


def contents(store: StorageBackend) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list()}


def put(store: StorageBackend, key: str, body: bytes) -> None:
    store.put(key, body, sha256=hashlib.sha256(body).digest())


def replace_object(store: StorageBackend, key: str, body: bytes) -> None:
    store.delete([key])
    put(store, key, body)


def test_a_copy_has_the_same_bytes_and_a_second_copy_sends_nothing(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    refs = {shelf.add(DAY), shelf.add(2 * DAY, "crm", sealed=True), *shelf.add_cluster(3 * DAY)}
    outcomes = run(source, target)
    assert states(outcomes) == dict.fromkeys(refs, "copied")
    assert sum(one.objects for one in outcomes) == 2 + 3 + 4
    assert contents(target) == contents(source)
    source.requests.clear()
    target.requests.clear()
    assert states(run(source, target)) == dict.fromkeys(refs, "present")
    assert (target.keys("PUT"), source.keys("GET")) == ([], [])


def test_the_manifest_comes_last_and_each_object_is_read_once_for_all_targets(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    ref, another = shelf.add(DAY, sealed=True, number=5), Store()
    shelf.attest(ref)
    source.requests.clear()
    run(source, target, another)
    for store in (target, another):
        *_, attestation, manifest = store.keys("PUT")
        assert (BackupRef.of_key(attestation), manifest) == (ref, ref.manifest_key)
        assert attestation.startswith("attestations/")
    assert sorted(source.keys("GET", "data/")) == sorted(set(source.keys("GET", "data/")))


def test_manifests_are_compared_if_listings_have_no_checksums(shelf: BackupBuilder, source: Store) -> None:
    same, other, target = shelf.add(DAY), shelf.add(2 * DAY), WithoutChecksums()
    run(source, target)
    target.delete([other.manifest_key])
    put(target, other.manifest_key, source.get(other.manifest_key).replace(b"a test", b"a liar"))
    source.requests.clear()
    target.requests.clear()
    assert states(run(source, target)) == {same: "present", other: "failed"}
    for store in (source, target):
        assert sorted(store.keys("GET")) == sorted([same.manifest_key, other.manifest_key])
    assert not target.keys("PUT")


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_store_that_is_down_is_not_asked_for_each_backup(shelf: BackupBuilder, which: str) -> None:
    for age in range(1, 5):
        shelf.add(age * DAY)
    source, target, another = shelf.store, Store(), Store()
    bad = source if which == "source" else target
    assert isinstance(bad, Store)

    def fail(_kind: str, key: str) -> None:
        if key.startswith("data/"):
            bad.is_down = True
            raise TransientStorageError(f"{key}: the store failed (gave up after 9 attempts in 300 s)")

    bad.fails = fail
    bad.tried.clear()
    outcomes = run(source, target, another, request=replace(ALL, limits=Limits(transfers=1)))
    failed = [one for one in outcomes if one.error]
    assert len(failed) == (8 if which == "source" else 4)
    assert len({str(one.error) for one in failed}) == 1
    assert len(bad.tried) == 1
    bad.fails, bad.is_down = (lambda _kind, _key: None), False
    assert {one.state.value for one in run(source, target, another)} <= {"copied", "present"}


def test_one_object_that_the_source_never_gives_costs_only_its_backup(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    good, bad = shelf.add(DAY), shelf.add(2 * DAY)

    def fail(_kind: str, key: str) -> None:
        if key.startswith(bad.data_prefix):
            raise TransientStorageError(f"{key}: the store failed")

    source.fails = fail
    assert states(run(source, target)) == {good: "copied", bad: "failed"}


class Killed(BaseException):
    """The end of a process."""


def test_a_copy_that_is_killed_at_any_put_leaves_no_half_backup_and_goes_on(
    shelf: BackupBuilder, source: Store
) -> None:
    refs = set(shelf.add_cluster(2 * DAY)) | {shelf.add(DAY, sealed=True)}
    for ref in refs:
        shelf.attest(ref)
    wanted = contents(source)
    for puts in range(len(wanted)):
        left = puts

        def fail(kind: str, _key: str) -> None:
            nonlocal left
            left -= kind == "PUT"
            if left < 0:
                raise Killed

        target = Store(fail)
        with pytest.raises(Killed):
            run(source, target, request=replace(ALL, limits=Limits(transfers=1)))
        target.fails = lambda _kind, _key: None
        BackupBuilder(target).committed()
        sent = set(target.keys("PUT"))
        target.requests.clear()
        assert set(states(run(source, target)).values()) <= {"copied", "present"}
        assert contents(target) == wanted
        assert not sent & set(target.keys("PUT", "data/")), "no object is sent twice"


def test_an_interrupted_copy_goes_on_if_another_copy_of_the_same_backup_runs(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    ref = shelf.add(DAY, number=4)

    def store_it_first(kind: str, key: str) -> None:
        if kind == "PUT" and key.startswith("data/"):
            put(target._inner, key, b"data")

    target.fails = store_it_first
    assert states(run(source, target)) == {ref: "copied"}
    assert contents(target) == contents(source)


@pytest.mark.parametrize("body", [b"DATA", b"other size", b""])
def test_a_taken_key_is_an_error_and_nothing_is_overwritten(
    shelf: BackupBuilder, source: Store, target: Store, body: bytes
) -> None:
    good, taken = shelf.add(DAY, "crm"), shelf.add(DAY)
    key = f"{taken.data_prefix}1.dat.00000.zst"
    put(target, key, body)
    outcomes = run(source, target)
    assert states(outcomes) == {good: "copied", taken: "failed"}
    [error] = [one.error for one in outcomes if one.error]
    assert isinstance(error, ObjectAlreadyExists)
    assert key in str(error)
    assert contents(target)[key] == body
    assert BackupBuilder(target).committed() == {good}


def test_an_object_whose_checksum_is_not_sha256_is_read_before_it_counts(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    """Another object can have the same CRC32C."""
    ref = shelf.add(DAY)
    key = f"{ref.data_prefix}0.dat.00000.zst"
    put(target, key, b"DATA")
    info, body = target._inner._objects[key]  # type: ignore[attr-defined]
    target._inner._objects[key] = replace(info, checksum="crc32c:12345678"), body  # type: ignore[attr-defined]
    assert states(run(source, target)) == {ref: "failed"}
    target.delete([key])
    put(target, key, b"data")
    target._inner._objects[key] = replace(info, checksum="crc32c:12345678"), b"data"  # type: ignore[attr-defined]
    assert states(run(source, target)) == {ref: "copied"}


def test_damage_is_named_and_the_other_backups_are_copied(shelf: BackupBuilder, source: Store, target: Store) -> None:
    good, altered, lacking = (shelf.add(age * DAY, number=3) for age in (1, 2, 3))
    broken = shelf.add(4 * DAY)
    replace_object(source, f"{altered.data_prefix}1.dat.00000.zst", b"DATA")
    source.delete([f"{lacking.data_prefix}2.dat.00000.zst"])
    replace_object(source, broken.manifest_key, b"{}")
    outcomes = run(source, target)
    assert states(outcomes) == {good: "copied", altered: "failed", lacking: "failed", broken: "failed"}
    errors = {one.ref: str(one.error) for one in outcomes}
    assert f"{altered.data_prefix}1.dat.00000.zst is not what was stored" in errors[altered]
    assert f"{lacking.data_prefix}2.dat.00000.zst is missing" in errors[lacking]
    assert BackupBuilder(target).committed() == {good}


def test_the_members_of_a_server_come_before_its_manifest(shelf: BackupBuilder, source: Store, target: Store) -> None:
    refs = shelf.add_cluster(DAY)
    assert states(run(source, target, request=CopyRequest(refs[-1].backup_id))) == dict.fromkeys(refs, "copied")
    assert target.keys("PUT", "manifests/") == [ref.manifest_key for ref in refs]


def test_members_that_a_database_names_are_not_followed(shelf: BackupBuilder, source: Store, target: Store) -> None:
    """An attacker's manifests may name one another. Only the backup of a whole server has members."""
    refs = [shelf.add(DAY), shelf.add(DAY, "crm")]
    for ref, other in (refs, refs[::-1]):
        member = Member(database=other.database, backup_id=other.backup_id, sha256="0" * 64)
        forged = shelf.manifest(ref).model_copy(update={"members": [member]})
        replace_object(source, ref.manifest_key, dump_manifest(forged))
    assert set(states(run(source, target)).values()) == {"failed"}
    source.requests.clear()
    named = run(source, target, request=CopyRequest(backup=refs[0].backup_id))
    assert states(named)[refs[0]] == "copied"
    assert source.keys("GET", "manifests/").count(refs[0].manifest_key) == 2


def test_a_server_without_a_member_is_not_committed(shelf: BackupBuilder, source: Store, target: Store) -> None:
    globals_, member, cluster = shelf.add_cluster(DAY)
    source.delete([f"{member.data_prefix}0.dat.00000.zst"])
    outcomes = run(source, target)
    assert states(outcomes) == {globals_: "copied", member: "failed", cluster: "failed"}
    assert BackupBuilder(target).committed() == {globals_}
    source.delete([member.manifest_key])
    outcomes = run(source, target)
    assert states(outcomes) == {globals_: "present", cluster: "failed"}
    assert isinstance(outcomes[-1].error, BackupDamaged)
    assert str(outcomes[-1].error).startswith(f"{member.manifest_key} is missing")


def test_a_server_is_not_committed_if_prune_removes_a_member_meanwhile(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    refs = shelf.add_cluster(DAY)

    def prune(kind: str, key: str) -> None:
        if kind == "PUT" and key.startswith(refs[1].data_prefix):
            target.delete([refs[0].manifest_key])

    target.fails = prune
    assert states(run(source, target)) == {refs[0]: "copied", refs[1]: "copied", refs[2]: "failed"}
    target.fails = Store().fails
    run(source, target)
    assert BackupBuilder(target).committed() == set(refs)


def test_a_backup_that_prune_removes_from_the_source_is_not_called_damaged(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    ref = shelf.add(DAY)

    def prune(kind: str, key: str) -> None:
        if kind == "PUT":
            source.delete([ref.manifest_key, *(info.key for info in source.list(ref.data_prefix))])

    target.fails = prune
    [outcome] = run(source, target, request=CopyRequest(limits=Limits(transfers=1)))
    assert isinstance(outcome.error, BackupNotFound)


def test_a_server_is_not_committed_beside_another_manifest_of_a_member(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    """A backup may have gone to several stores. Each store then has its own manifests of the same objects."""
    globals_, member, cluster = shelf.add_cluster(DAY)
    run(source, target)
    target.delete([cluster.manifest_key])
    own = replace_tool(target, member)
    outcomes = run(source, target)
    assert states(outcomes) == {globals_: "present", member: "present", cluster: "failed"}
    assert contents(target)[member.manifest_key] == own


def replace_tool(store: StorageBackend, ref: BackupRef) -> bytes:
    """Replace the manifest of a backup by another manifest of the same objects. Return its bytes."""
    manifest = BackupBuilder(store).manifest(ref).model_copy(update={"tool": "another run", "manifest_checksum": None})
    replace_object(store, ref.manifest_key, dump_manifest(manifest))
    return store.get(ref.manifest_key)


def test_another_backup_with_the_same_id_is_an_error(shelf: BackupBuilder, source: Store, target: Store) -> None:
    ref = shelf.add(DAY)
    other = BackupBuilder(target)
    assert other.add(DAY, number=3) == ref
    outcomes = run(source, target)
    assert states(outcomes) == {ref: "failed"}
    assert "is the manifest of another backup; nothing was overwritten" in str(outcomes[0].error)


def test_objects_of_other_backups_are_copied_too(shelf: BackupBuilder, source: Store, target: Store) -> None:
    base = shelf.add(2 * DAY)
    user = shelf.add(DAY, uses=[base])
    assert states(run(source, target, request=CopyRequest(user.backup_id))) == {user: "copied"}
    assert BackupBuilder(target).committed() == {user}
    assert not find_leftovers_to_remove(target, datetime.now(UTC) + 9 * DAY)
    assert states(run(source, target)) == {base: "copied", user: "present"}


def find_leftovers_to_remove(store: StorageBackend, now: datetime) -> list[BackupRef]:
    return [one.ref for one in find_leftovers(GcRequest(), store, lambda _: None, now) if one.kept is None]


def test_gc_spares_a_copy_that_was_just_interrupted_and_removes_it_later(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    """The backup began long ago. But its newest object in the target is new, by the target's clock."""
    ref = shelf.add(400 * DAY, sealed=True)
    source.fails = lambda kind, key: (_ for _ in ()).throw(StorageError("gone")) if "1.dat" in key else None
    assert states(run(source, target, request=replace(ALL, limits=Limits(transfers=1)))) == {ref: "failed"}
    now = datetime.now(UTC)
    assert not find_leftovers_to_remove(target, now)
    assert find_leftovers_to_remove(target, now + 2 * DAY) == [ref]
    left = find_leftovers(GcRequest(), target, lambda _: None, now + 2 * DAY)
    assert collect(GcRequest(), left, target, lambda _: None, now + 2 * DAY).objects
    assert not list(target.list())


def test_objects_of_an_earlier_attempt_are_compared_after_new_ones_were_sent(
    shelf: BackupBuilder, source: Store, target: Store
) -> None:
    """gc may remove them until the target has a new object. So the comparison notices."""
    ref = shelf.add(DAY, number=3)
    old = f"{ref.data_prefix}0.dat.00000.zst"
    put(target, old, b"data")
    target.fails = lambda kind, key: target.delete([old]) if "2.dat" in key else None
    outcomes = run(source, target, request=replace(ALL, limits=Limits(transfers=1)))
    assert states(outcomes) == {ref: "failed"}
    assert "perhaps pgstow gc removed it" in str(outcomes[0].error)
    target.fails = lambda _kind, _key: None
    assert states(run(source, target)) == {ref: "copied"}


def test_a_target_that_fails_costs_the_others_nothing(shelf: BackupBuilder, source: Store, target: Store) -> None:
    ref, bad = shelf.add(DAY), Store()

    def refuse(kind: str, key: str) -> None:
        if kind == "PUT" and "1.dat" in key:
            raise AccessDenied(f"{key}: access was denied")

    bad.fails = refuse
    outcomes = run(source, bad, target)
    assert [(one.state, one.target) for one in outcomes] == [("failed", bad.url), ("copied", target.url)]
    assert isinstance(outcomes[0].error, AccessDenied)
    assert BackupBuilder(target).committed() == {ref}
    assert BackupBuilder(bad).committed() == set()


def test_a_folder_that_is_missing_costs_the_others_nothing(
    shelf: BackupBuilder, source: Store, target: Store, tmp_path: Path
) -> None:
    shelf.add(DAY)
    (tmp_path / "gone").mkdir()
    gone = open_backend(str(tmp_path / "gone"))
    (tmp_path / "gone").rmdir()
    assert [one.state.value for one in run(source, gone, target)] == ["failed", "copied"]


def test_attestations_that_also_hold_for_a_copy_are_copied(shelf: BackupBuilder, source: Store, target: Store) -> None:
    ref = shelf.add(DAY)
    proven = shelf.attest(ref)
    shelf.attest(ref, Level.BYTES, good=False, later=timedelta(hours=1))
    broken = shelf.attest(ref, Level.ARCHIVE, good=False, later=timedelta(hours=2))
    put(source, ref.attestation_key(NOW + DAY), b"no attestation")
    run(source, target)
    assert [info.key for info in target.list("attestations/")] == [proven, broken]


def test_later_attestations_about_the_source_are_not_copied(shelf: BackupBuilder, source: Store, target: Store) -> None:
    """They say nothing about the objects of the copy."""
    ref = shelf.add(DAY)
    run(source, target)
    shelf.attest(ref, good=False)
    run(source, target)
    assert not list(target.list("attestations/"))


@pytest.mark.parametrize("folder", ["attestations/", "pruned/"])
def test_a_record_that_nobody_can_read_keeps_no_backup_away(
    folder: str, shelf: BackupBuilder, source: Store, target: Store
) -> None:
    """An attacker who may only create objects may store one with a key of the attacker's, or in an archive."""
    ref = shelf.add(DAY)
    shelf.attest(ref)
    put(source, shelf.ref(9 * DAY).tombstone_key, b"the attacker's")

    def fail(kind: str, key: str) -> None:
        if kind == "GET" and key.startswith(folder) and not key.endswith(SIGNATURE_SUFFIX):
            raise AccessDenied(f"{key} is archived")

    source.fails = fail
    notices = list[str]()
    result = copy(ALL, source, [target], lambda event: notices.append(str(event)), NOW)
    assert states(result.outcomes) == {ref: "copied"}
    assert not list(target.list(folder))
    assert sum(f"not copied. {folder}" in notice for notice in notices) == 1


def test_all_key_objects_of_the_epoch_are_copied(shelf: BackupBuilder, source: Store, target: Store) -> None:
    ref = shelf.add(DAY, sealed=True)
    put(source, ref.key_object_key(NOW + DAY), b"for another recipient")
    put(source, f"{ref.keys_prefix}other", b"not pgstow's")
    run(source, target)
    assert [info.key for info in target.list("keys/")] == [ref.key_object_key(NOW), ref.key_object_key(NOW + DAY)]


def test_only_backups_of_the_age_and_the_names_are_copied(shelf: BackupBuilder, source: Store, target: Store) -> None:
    new, _old, other = shelf.add(DAY), shelf.add(9 * DAY), shelf.add(DAY, "crm")
    some = CopyRequest(database="shop", at_most_age=2 * DAY)
    assert states(run(source, target, request=some)) == {new: "copied"}
    assert states(run(source, target, request=CopyRequest("latest", database="crm"))) == {other: "copied"}
    for nothing in (CopyRequest(database="none"), CopyRequest("2020"), CopyRequest(cluster="none")):
        with pytest.raises(BackupNotFound):
            run(source, target, request=nothing)


def test_a_dry_run_changes_nothing(shelf: BackupBuilder, source: Store, target: Store) -> None:
    refs = [*shelf.add_cluster(DAY), shelf.add(2 * DAY)]
    run(source, target, request=CopyRequest(refs[-1].backup_id))
    target.requests.clear()
    source.requests.clear()
    planned = run(source, target, request=CopyRequest(dry_run=True))
    assert states(planned) == {**dict.fromkeys(refs, "missing"), refs[-1]: "present"}
    assert [(one.objects, one.size) for one in planned if one.ref == refs[0]] == [(2, 8)]
    assert (target.keys("PUT"), source.keys("GET", "data/")) == ([], [])


def test_an_impossible_manifest_is_copied_only_by_its_id(shelf: BackupBuilder, source: Store, target: Store) -> None:
    ref = shelf.add(-9 * DAY)
    outcomes = run(source, target)
    assert states(outcomes) == {ref: "failed"}
    assert "is in the future" in str(outcomes[0].error)
    assert states(run(source, target, request=CopyRequest(ref.backup_id))) == {ref: "copied"}


def test_memory_must_hold_two_objects(shelf: BackupBuilder, source: Store, target: Store) -> None:
    ref = shelf.add(DAY)
    [outcome] = run(source, target, request=CopyRequest(limits=Limits(memory=7)))
    assert (outcome.ref, outcome.state) == (ref, CopyState.FAILED)
    assert isinstance(outcome.error, InvalidRequest)


def test_copies_get_the_locks_of_their_own_store(shelf: BackupBuilder, source: Store) -> None:
    until = datetime.now(UTC) + DAY
    shelf.add(DAY, retained_until=NOW - DAY)
    target = Store(retain_until=until)
    run(source, target)
    assert {target.head(info.key).retained_until for info in target.list()} == {until}


def test_prune_asks_the_store_for_the_locks_of_copies(shelf: BackupBuilder, source: Store, target: Store) -> None:
    """The manifest names the lock that the original has."""
    kept, old = shelf.add(DAY), shelf.add(9 * DAY, retained_until=NOW + 99 * DAY)
    run(source, target)
    request = PruneRequest(Policy(keep_last=1))
    decided = {one.ref: one.keep for one in plan(request, target, lambda _: None, datetime.now(UTC))}
    assert decided == {kept: True, old: False}


def test_names_that_pgstow_reserves_are_sources_as_well(shelf: BackupBuilder, source: Store, target: Store) -> None:
    refs = shelf.add_cluster(DAY)
    assert states(run(source, target, request=CopyRequest(database=GLOBALS))) == {refs[0]: "copied"}
    assert states(run(source, target, request=CopyRequest(database=CLUSTER))) == {
        refs[0]: "present",
        refs[1]: "copied",
        refs[2]: "copied",
    }
