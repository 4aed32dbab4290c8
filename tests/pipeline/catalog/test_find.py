import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.manifests import canonical
from support.stored_sample import StoredSample

from pipeline.catalog.find import BackupSelector, ListedManifest, find_backup, list_backups, read_catalog
from pipeline.catalog.keys import BackupRef, encode_name
from pipeline.errors import BackupNotFound, InvalidRequest, ManifestInvalid
from storage_backends.memory import MemoryBackend

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=30)


def moved(content: dict[str, Any], cluster: str, database: str) -> dict[str, Any]:
    """A manifest's content with objects of another database."""
    own = f"data/{encode_name(cluster)}/{encode_name(database)}/"
    objects = [stored | {"key": own + "/".join(stored["key"].split("/")[3:])} for stored in content["objects"]]
    return content | {"objects": objects}


class BackupBuilder:
    """A store with nothing but manifests."""

    def __init__(self, template: dict[str, Any]) -> None:
        self._template = template
        self.store = MemoryBackend()

    def add(self, cluster: str, database: str, hours: int, suffix: str = "aaaaaa") -> BackupRef:
        """A backup of the data as of so many hours after noon; its ID says when it began, which may be earlier."""
        moment = NOON + timedelta(hours=hours)
        ref = BackupRef(cluster, database, f"{moment:%Y%m%dT%H%M%SZ}-{suffix}")
        fields = {"cluster": cluster, "database": database, "backup_id": ref.backup_id}
        fields |= dict.fromkeys(("started_at", "snapshot_at", "finished_at"), f"{moment:%Y-%m-%dT%H:%M:%SZ}")
        self.put(ref.manifest_key, canonical(moved(self._template, cluster, database) | fields))
        return ref

    def put(self, key: str, body: bytes) -> None:
        self.store.put(key, body, sha256=hashlib.sha256(body).digest())


@pytest.fixture
def shelf(stored_sample: StoredSample) -> BackupBuilder:
    """An empty store."""
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    return BackupBuilder(json.loads(path.read_bytes()))


def test_only_manifests_count(shelf: BackupBuilder) -> None:
    ref = shelf.add("c", "d", 0)
    shelf.put(ref.manifest_key + ".sig", b"signature")
    shelf.put("manifests/c/d/notes.json", b"{}")
    shelf.put(f"{ref.data_prefix.replace('aaaaaa', 'bbbbbb')}1.dat.00000.zst", b"of a backup that never was committed")
    assert list_backups(shelf.store) == [ref]


def test_by_cluster_and_database(shelf: BackupBuilder) -> None:
    one, two = shelf.add("prod", "shop", 0), shelf.add("prod", "shop", 1)
    other, longer, elsewhere = shelf.add("prod", "x/y", 0), shelf.add("prod2", "shop", 0), shelf.add("test", "shop", 0)
    assert list_backups(shelf.store) == [one, two, other, longer, elsewhere]
    assert list_backups(shelf.store, "prod") == [one, two, other]
    assert list_backups(shelf.store, "prod", "x/y") == [other]
    assert list_backups(shelf.store, database="shop") == [one, two, longer, elsewhere]
    assert list_backups(shelf.store, "pro") == []


def test_the_latest_and_the_latest_before(shelf: BackupBuilder) -> None:
    refs = [shelf.add("c", "d", hours) for hours in (0, 24, 48)]

    def found(**wanted: Any) -> str:
        return find_backup(shelf.store, BackupSelector(**wanted)).backup_id

    assert found() == refs[2].backup_id
    assert found(at=NOON + timedelta(hours=30)) == refs[1].backup_id
    assert found(at=NOON + timedelta(hours=24)) == refs[1].backup_id, "the moment itself counts"
    assert found(at=NOON) == refs[0].backup_id
    with pytest.raises(BackupNotFound, match="from 2026-11-23 11:59:59"):
        found(at=NOON - timedelta(seconds=1))


def test_by_id_and_by_its_beginning(shelf: BackupBuilder) -> None:
    first, second = shelf.add("c", "d", 0), shelf.add("c", "d", 24)
    assert find_backup(shelf.store, BackupSelector(first.backup_id)).backup_id == first.backup_id
    assert find_backup(shelf.store, BackupSelector("20261124")).backup_id == second.backup_id
    with pytest.raises(InvalidRequest, match="2 backups begin with 202611; give more"):
        find_backup(shelf.store, BackupSelector("202611"))
    with pytest.raises(BackupNotFound, match="no backup 2027"):
        find_backup(shelf.store, BackupSelector("2027"))
    with pytest.raises(InvalidRequest, match="not by both"):
        find_backup(shelf.store, BackupSelector(first.backup_id, at=NOON))


def test_several_databases_are_never_mixed_up(shelf: BackupBuilder) -> None:
    shelf.add("prod", "shop", 0)
    wanted = shelf.add("test", "it's", 5)
    with pytest.raises(
        InvalidRequest, match="--cluster 'prod' --database 'shop', --cluster 'test' --database \"it's\""
    ):
        find_backup(shelf.store, BackupSelector())
    assert find_backup(shelf.store, BackupSelector(cluster="test")).backup_id == wanted.backup_id
    assert find_backup(shelf.store, BackupSelector(database="it's")).backup_id == wanted.backup_id
    assert find_backup(shelf.store, BackupSelector(wanted.backup_id)).backup_id == wanted.backup_id


def test_a_damaged_latest_is_not_passed_over(shelf: BackupBuilder) -> None:
    older = shelf.add("c", "d", 0)
    shelf.put(BackupRef("c", "d", "20261124T120000Z-bbbbbb").manifest_key, b'{"manifest_version": "1.0"')
    with pytest.raises(ManifestInvalid):
        find_backup(shelf.store, BackupSelector())
    assert find_backup(shelf.store, BackupSelector(older.backup_id)).backup_id == older.backup_id


def test_the_catalog_tells_of_what_it_cannot_read(shelf: BackupBuilder) -> None:
    good = shelf.add("c", "d", 0)
    bad = BackupRef("c", "d", "20261124T120000Z-bbbbbb")
    shelf.put(bad.manifest_key, b"")
    gone = BackupRef("c", "d", "20261125T120000Z-cccccc")
    entries = read_catalog(shelf.store, [ListedManifest(ref, LATER, 1) for ref in (gone, good, bad)], LATER)
    assert [entry.ref for entry in entries] == [gone, good, bad], "in the order that was asked for"
    assert [entry.manifest is not None for entry in entries] == [False, True, False]
    assert "no backup" in (entries[0].problem or "")
    assert "damaged" in (entries[2].problem or "")


def test_the_catalog_holds_no_backups_files(shelf: BackupBuilder) -> None:
    """They are most of a manifest, and a store may hold thousands of backups."""
    ref = shelf.add("c", "d", 0)
    [entry] = read_catalog(shelf.store, [ListedManifest(ref, LATER, 1)], LATER)
    assert entry.manifest
    assert (entry.manifest.files, entry.manifest.objects) == ([], [])
    assert entry.manifest.totals == find_backup(shelf.store, BackupSelector()).totals


def test_an_empty_store(shelf: BackupBuilder) -> None:
    assert list_backups(shelf.store) == []
    with pytest.raises(BackupNotFound, match=r"no backup .*pgstow list shows"):
        find_backup(shelf.store, BackupSelector())
