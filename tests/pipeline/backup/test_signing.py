"""The commit of a signed backup: the envelope first, the manifest last, and each statement cites the one before it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.counting_store import CountingStore
from support.signing import KeyFiles, make_key

from pipeline.backup.signing import Signing
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.signature import read_signature
from pipeline.errors import InvalidRequest
from pipeline.events import Event
from pipeline.trust.policy import Signed
from pipeline.trust.statement import Link
from storage_backends import AccessDenied, ObjectInfo, StorageError
from storage_backends.backend import Body
from storage_backends.memory import MemoryBackend


class CreateOnlyStore(CountingStore):
    """A store whose credentials can only create objects."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        raise AccessDenied("not for you")


class FailingStore(CountingStore):
    """A store that takes no manifest, or says so although it took the manifest."""

    def __init__(self, inner: MemoryBackend, *, takes: bool) -> None:
        super().__init__(inner)
        self.takes = takes

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        if self.takes or not key.endswith(".json"):
            super().put(key, body, sha256=sha256)
        if key.endswith(".json"):
            raise StorageError("the store failed")
        return self.head(key)


class World:
    """A store in memory, and a machine that backs up into it."""

    def __init__(self, key: KeyFiles, folder: Path) -> None:
        self.inner = MemoryBackend()
        self.key = key
        self.signing = Signing(key.signer, "db1", folder)
        self.told: list[Event] = []
        self._number = 0

    def back_up(self, store: CountingStore | None = None, *, database: str = "shop") -> BackupRef:
        self._number += 1
        ref = BackupRef("prod", database, f"20261123T{self._number:06}Z-7f3a9c")
        self.signing.commit(store or CountingStore(self.inner), ref, f"manifest {ref}".encode(), self.told.append)
        return ref

    def signed(self, ref: BackupRef) -> Signed[Link]:
        return read_signature(self.inner, ref.manifest_key, Link, self.key.trust)

    def forget(self) -> None:
        for path in self.signing.states.iterdir():
            path.unlink()

    def assert_cites(self, ref: BackupRef, *cited: BackupRef, sequence: int) -> None:
        link = self.signed(ref).predicate
        there = [*([link.predecessor] if link.predecessor else []), *link.interrupted]
        assert [one.backup_id for one in there] == [one.backup_id for one in cited]
        assert [one.sha256 for one in there] == [self.signed(one).sha256 for one in cited]
        assert (link.sequence, link.anew) == (sequence, False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(make_key(tmp_path), tmp_path / "states")


def test_the_envelope_is_put_before_the_manifest(world: World) -> None:
    store = CountingStore(world.inner)
    ref = world.back_up(store)
    puts = [key for kind, key in store.requests if kind == "PUT"]
    assert puts == [ref.manifest_key + SIGNATURE_SUFFIX, ref.manifest_key]
    world.signed(ref).check(world.inner.get(ref.manifest_key))


@pytest.mark.parametrize("forgetful", [False, True])
def test_each_statement_cites_the_last_one(world: World, forgetful: bool) -> None:
    first, other = world.back_up(), world.back_up(database="till")
    if forgetful:
        world.forget()
    second = world.back_up()
    world.assert_cites(first, sequence=1)
    world.assert_cites(other, sequence=1)
    world.assert_cites(second, first, sequence=2)
    assert not world.told


def test_another_writer_has_a_chain_of_its_own(world: World, tmp_path: Path) -> None:
    first = world.back_up()
    world.signing = Signing(world.key.signer, "db2", tmp_path / "states")
    world.assert_cites(world.back_up(), sequence=1)
    world.signing = Signing(world.key.signer, "db1", tmp_path / "states")
    world.assert_cites(world.back_up(), first, sequence=2)


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_writers_name_has_a_bound(world: World, name: str) -> None:
    """A longer name would make a state file, or an envelope, that is too long to be read again."""
    with pytest.raises(InvalidRequest, match="from 1 to 255 characters"):
        replace(world.signing, writer=name)
    world.signing = replace(world.signing, writer="\U0001f418" * 255)
    world.assert_cites(world.back_up(), sequence=1)


def test_a_host_that_cannot_read_the_store_continues_from_its_file(world: World) -> None:
    store = CreateOnlyStore(world.inner)
    first = world.back_up(store)
    assert world.signed(first).predicate.anew
    second = world.back_up(store)
    world.assert_cites(second, first, sequence=2)
    world.forget()
    third = world.signed(world.back_up(store)).predicate
    assert (third.anew, third.sequence, third.predecessor) == (True, 1, None)
    assert not world.told


def test_the_statement_of_a_removed_backup_is_still_cited(world: World) -> None:
    world.back_up()
    newest = world.back_up()
    world.inner.delete([newest.manifest_key])
    world.assert_cites(world.back_up(), newest, sequence=3)


@pytest.mark.parametrize("takes", [False, True])
@pytest.mark.parametrize("reads", [False, True])
def test_after_a_failed_commit_the_next_statement_cites_both(world: World, takes: bool, reads: bool) -> None:
    first = world.back_up()
    with pytest.raises(StorageError, match="the store failed"):
        world.back_up(FailingStore(world.inner, takes=takes))
    failed = BackupRef("prod", "shop", "20261123T000002Z-7f3a9c")
    third = world.back_up(CountingStore(world.inner) if reads else CreateOnlyStore(world.inner))
    world.assert_cites(third, *([failed] if takes and reads else [first, failed]), sequence=3)
    world.assert_cites(world.back_up(), third, sequence=4)


def test_a_stranger_s_statement_is_not_cited(world: World, tmp_path: Path) -> None:
    first = world.back_up()
    strangers = World(make_key(tmp_path, "stranger"), tmp_path / "other")
    strangers.inner, strangers._number = world.inner, 50
    strangers.back_up()
    world.forget()
    world.assert_cites(world.back_up(), first, sequence=2)
