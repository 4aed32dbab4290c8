import hashlib
import threading
import time
from datetime import timedelta
from pathlib import Path

from support.counting_store import CountingStore
from support.manifest_store import NOON, ManifestStore

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import ListedManifest
from pipeline.catalog.reader import read_catalog
from storage_backends.local import LocalBackend

LATER = NOON + timedelta(days=30)


def test_the_catalog_reports_manifests_that_it_cannot_read(manifest_store: ManifestStore) -> None:
    good = manifest_store.add("c", "d", 0)
    bad = BackupRef("c", "d", "20261124T120000Z-bbbbbb")
    manifest_store.put(bad.manifest_key, b"")
    gone = BackupRef("c", "d", "20261125T120000Z-cccccc")
    listed = [ListedManifest(ref, LATER, 1) for ref in (gone, good, bad)]
    entries = list(read_catalog(manifest_store.store, listed, LATER))
    assert [entry.ref for entry in entries] == [gone, good, bad], "in the requested order"
    assert [entry.manifest is not None for entry in entries] == [False, True, False]
    assert "no backup" in (entries[0].problem or "")
    assert "damaged" in (entries[2].problem or "")


def test_the_catalog_reads_each_manifest_once(manifest_store: ManifestStore) -> None:
    listed = [ListedManifest(manifest_store.add("c", "d", day * 24), LATER, 1) for day in range(5)]
    assert len(list(read_catalog(manifest_store.store, listed, LATER))) == 5
    assert sorted(manifest_store.read()) == [one.ref.manifest_key for one in listed]


def test_the_catalog_has_what_the_manifests_say(manifest_store: ManifestStore) -> None:
    ref = manifest_store.add("c", "d", 0)
    [entry] = read_catalog(manifest_store.store, [ListedManifest(ref, LATER, 1)], LATER)
    assert entry.manifest == find_backup(manifest_store.store, BackupSelector()).summary
    assert entry.problem is None


def test_a_large_manifest_is_fetched_alone(manifest_store: ManifestStore) -> None:
    refs = [manifest_store.add("c", "d", day * 24) for day in range(6)]
    listed = [ListedManifest(ref, LATER, size) for ref, size in zip(refs, (1, 2**20, 2**30, 2**30, 1, 1), strict=True)]
    large = {one.ref.manifest_key for one in listed if one.size == 2**30}
    fetching, beside = set[str](), set[str]()

    class Slow(CountingStore):
        def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
            fetching.add(key)
            time.sleep(0.01)
            if key in large:
                beside.update(fetching - {key})
            fetching.discard(key)
            return super().get(key, offset=offset, length=length, at_most=at_most)

    entries = list(read_catalog(Slow(manifest_store.store), listed, LATER))
    assert [entry.ref for entry in entries] == refs
    assert all(entry.manifest for entry in entries)
    assert not beside


def test_a_folder_is_read_without_threads(manifest_store: ManifestStore, tmp_path: Path) -> None:
    folder, threads = LocalBackend(tmp_path), set[int]()
    refs = [manifest_store.add("c", "d", day * 24) for day in range(5)]
    for ref in refs:
        body = manifest_store.store.get(ref.manifest_key)
        folder.put(ref.manifest_key, body, sha256=hashlib.sha256(body).digest())

    class Watched(CountingStore):
        def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
            threads.add(threading.get_ident())
            return super().get(key, offset=offset, length=length, at_most=at_most)

    entries = list(read_catalog(Watched(folder), [ListedManifest(ref, LATER, 1) for ref in refs], LATER))
    assert [entry.ref for entry in entries if entry.manifest] == refs
    assert threads == {threading.get_ident()}
