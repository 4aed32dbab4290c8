"""The cache of records: it saves requests, and changes no answer."""

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.counting_store import CountingStore
from support.shelf import NOW, BackupBuilder
from support.signing import KeyFiles, make_key, put, sign_manifest

from pipeline.audit.cache import NO_CACHE, open_cache
from pipeline.audit.facts import BackupFacts, DatabaseFacts
from pipeline.audit.read import read_store
from pipeline.catalog.keys import MANIFESTS, SIGNATURE_SUFFIX, BackupRef
from pipeline.events import Event
from pipeline.prune.facts import Signatures
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, prune
from pipeline.trust.policy import Trust
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
LATER = NOW + 10000 * DAY
"""A time after all times of the stores in these tests: their clock is this machine's."""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("other"))


class Auditor:
    """Somebody who reads a store again and again, with a cache."""

    def __init__(self, key: KeyFiles, folder: Path) -> None:
        self.shelf = BackupBuilder(MemoryBackend())
        self.folder = folder
        self.key = key
        self.told: list[Event] = []
        for age in (3, 2, 1):
            self.add(age)
        request = PruneRequest(Policy(keep_last=2), signatures=Signatures(key.trust), signer=key.signer)
        prune(request, None, self.shelf.store, lambda _: None, NOW)

    @property
    def file(self) -> Path:
        return self.folder / "records.sqlite"

    def add(self, age: float) -> BackupRef:
        """Store a signed backup with a signed attestation: four documents."""
        ref = self.shelf.add(age * DAY)
        sign_manifest(self.shelf.store, ref, self.key.signer)
        self.shelf.attest(ref, later=-age * DAY / 2, signer=self.key.signer)
        return ref

    def read(
        self, trust: Trust | None = None, store: Any = None, **options: Any
    ) -> tuple[list[DatabaseFacts], list[str]]:
        """Return the facts, and the keys that were read from the store."""
        counting = CountingStore(store or self.shelf.store)
        with closing(open_cache(self.folder, self.told.append)) as cache:
            found = list(read_store(counting, trust or self.key.trust, LATER, self.told.append, cache=cache, **options))
        return [plain(one) for one in found], [key for kind, key in counting.requests if kind == "GET"]

    def read_without_cache(self, trust: Trust | None = None) -> list[DatabaseFacts]:
        return [plain(one) for one in read_store(self.shelf.store, trust or self.key.trust, LATER, lambda _: None)]


@pytest.fixture
def auditor(key: KeyFiles, tmp_path: Path) -> Auditor:
    return Auditor(key, tmp_path / "cache")


def plain(facts: DatabaseFacts) -> DatabaseFacts:
    """Return the facts with all sequences unpacked, so that they can be compared."""

    def unpacked(backup: BackupFacts) -> BackupFacts:
        manifest = backup.manifest
        return replace(
            backup,
            manifest=manifest and replace(manifest, tables=list(manifest.tables), objects=list(manifest.objects)),
        )

    return replace(facts, backups=[unpacked(one) for one in facts.backups])


def test_a_second_audit_reads_only_new_documents(auditor: Auditor) -> None:
    first, read = auditor.read()
    assert len(read) == 2 * 4 + 1
    written = auditor.file.stat().st_mtime_ns
    assert auditor.read() == (first, [])
    assert auditor.file.stat().st_mtime_ns == written
    ref = auditor.add(0.5)
    second, read = auditor.read()
    assert len(read) == 4
    assert all(ref.backup_id in key for key in read)
    assert second == auditor.read_without_cache() != first
    assert not auditor.told


def test_a_command_that_reads_less_costs_the_next_audit_nothing(auditor: Auditor) -> None:
    auditor.read()
    auditor.read(folders=[MANIFESTS])
    assert auditor.read()[1] == []


def test_a_removed_backup_leaves_the_cache(auditor: Auditor) -> None:
    auditor.read()
    ref = BackupRef("prod", "shop", auditor.shelf.add(DAY).backup_id)
    sign_manifest(auditor.shelf.store, ref, auditor.key.signer)
    auditor.read()
    with sqlite3.connect(auditor.file) as rows:
        [before] = rows.execute("SELECT count(*) FROM documents").fetchone()
    auditor.shelf.store.delete([ref.manifest_key, ref.manifest_key + SIGNATURE_SUFFIX])
    assert auditor.read() == (auditor.read_without_cache(), [])
    with sqlite3.connect(auditor.file) as rows:
        assert rows.execute("SELECT count(*) FROM documents").fetchone() == (before - 2,)


def test_trust_is_asked_anew(auditor: Auditor, other: KeyFiles) -> None:
    auditor.read()
    for trust in (other.trust, Trust((auditor.key.trusted("backup"),)), Trust((auditor.key.trusted("verify"),))):
        assert auditor.read(trust)[0] == auditor.read_without_cache(trust)
    assert auditor.read() == (auditor.read_without_cache(), [])


def test_a_document_that_was_replaced_is_read_again(auditor: Auditor) -> None:
    auditor.read()
    ref = auditor.read_without_cache()[0].backups[0].ref
    manifest = auditor.shelf.store.get(ref.manifest_key)
    auditor.shelf.store.delete([ref.manifest_key])
    put(auditor.shelf.store, ref.manifest_key, manifest.replace(b"a test", b"A test"))  # of the same size
    [facts], read = auditor.read()
    assert read == [ref.manifest_key]
    assert facts.backups[0].fault == "swapped"


class _Replaced(CountingStore):
    """A store in which an attacker replaced a document for a moment: the listing still shows the real one."""

    def __init__(self, inner: Any, key: str, body: bytes) -> None:
        super().__init__(inner)
        self._key, self._body = key, body

    def get(self, key: str, **options: Any) -> bytes:
        return self._body if key == self._key else super().get(key, **options)


def test_what_was_there_for_a_moment_does_not_stay_in_the_cache(auditor: Auditor) -> None:
    first, second = (one.ref for one in auditor.read_without_cache()[0].backups)
    for key, instead in (
        (first.manifest_key, second.manifest_key),
        (first.manifest_key + SIGNATURE_SUFFIX, second.manifest_key + SIGNATURE_SUFFIX),
    ):
        replaced = _Replaced(auditor.shelf.store, key, auditor.shelf.store.get(instead))
        [facts], _ = auditor.read(store=replaced)
        assert facts.backups[0].problem
        assert auditor.read()[0] == auditor.read_without_cache()
        auditor.file.unlink()


def test_a_damaged_cache_changes_no_answer(auditor: Auditor) -> None:
    expected, _ = auditor.read()
    whole = auditor.file.read_bytes()
    chance = random.Random(17)
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 200])):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        auditor.file.write_bytes(damaged[: chance.choice([len(damaged), len(damaged) // 2])])
        assert auditor.read()[0] == expected
    auditor.file.write_bytes(b"no database at all" * 1000)
    assert auditor.read()[0] == expected
    assert auditor.read() == (expected, [])


def test_rows_of_another_shape_change_no_answer(auditor: Auditor) -> None:
    expected, _ = auditor.read()
    for change in ("packed = 'text'", "packed = NULL", "stamp = 7", "key = store", "digest = packed"):
        with sqlite3.connect(auditor.file) as rows:
            rows.execute(f"UPDATE OR REPLACE documents SET {change}")
        rows.close()
        assert auditor.read()[0] == expected


def test_another_version_begins_a_new_file(auditor: Auditor) -> None:
    expected, read = auditor.read()
    with sqlite3.connect(auditor.file) as rows:
        rows.execute("PRAGMA user_version = 1")
    rows.close()
    assert auditor.read() == (expected, read)
    assert auditor.read() == (expected, [])


def test_only_the_user_can_read_the_cache(auditor: Auditor) -> None:
    auditor.read()
    assert (auditor.folder.stat().st_mode & 0o777, auditor.file.stat().st_mode & 0o777) == (0o700, 0o600)


def _folder_for_all(auditor: Auditor) -> None:
    auditor.folder.chmod(0o777)


def _file_for_all(auditor: Auditor) -> None:
    auditor.file.chmod(0o666)


def _link(auditor: Auditor) -> None:
    auditor.file.rename(auditor.folder / "elsewhere")
    auditor.file.symlink_to(auditor.folder / "elsewhere")


def _folder(auditor: Auditor) -> None:
    auditor.file.unlink()
    auditor.file.mkdir()


def _foreign(auditor: Auditor) -> None:
    os.chown(auditor.file, 12345, 12345)


@pytest.mark.parametrize("spoil", [_folder_for_all, _file_for_all, _link, _folder, _foreign])
def test_a_cache_that_others_could_forge_is_not_used(auditor: Auditor, spoil: Callable[[Auditor], None]) -> None:
    if spoil is _foreign and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    expected, read = auditor.read()
    spoil(auditor)
    assert auditor.read() == (expected, read)
    [notice] = auditor.told
    assert "can't be used" in str(notice)


def test_a_cache_that_is_in_use_keeps_nobody_waiting_for_long(auditor: Auditor) -> None:
    expected, _ = auditor.read()
    auditor.add(0.5)
    with closing(sqlite3.connect(auditor.file, isolation_level=None)) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        found, _ = auditor.read()
    assert found == auditor.read_without_cache() != expected


def test_without_a_cache_nothing_is_kept() -> None:
    NO_CACHE.save("file:///x", "prod/shop", {}, [])
    assert not NO_CACHE.load("file:///x", "prod/shop")
