from datetime import timedelta
from typing import Any

import pytest
from support.manifest_store import NOON, ManifestStore

from pipeline.catalog.find import BackupSelector, find_backup, newest_believed
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import list_backups
from pipeline.catalog.plausibility import CLOCK_TOLERANCE
from pipeline.errors import BackupNotFound, InvalidRequest, ManifestInvalid


def test_latest_finds_the_newest_backup_or_the_newest_before_a_time(manifest_store: ManifestStore) -> None:
    refs = [manifest_store.add("c", "d", hours) for hours in (0, 24, 48)]

    def found(**wanted: Any) -> str:
        return find_backup(manifest_store.store, BackupSelector(**wanted)).backup_id

    assert found() == refs[2].backup_id
    assert found(at=NOON + timedelta(hours=30)) == refs[1].backup_id
    assert found(at=NOON + timedelta(hours=24)) == refs[1].backup_id, "the moment itself counts"
    assert found(at=NOON) == refs[0].backup_id
    with pytest.raises(BackupNotFound, match="from 2026-11-23 11:59:59"):
        found(at=NOON - timedelta(seconds=1))


def test_a_backup_is_found_by_its_id_or_the_ids_beginning(manifest_store: ManifestStore) -> None:
    first, second = manifest_store.add("c", "d", 0), manifest_store.add("c", "d", 24)
    assert find_backup(manifest_store.store, BackupSelector(first.backup_id)).backup_id == first.backup_id
    assert find_backup(manifest_store.store, BackupSelector("20261124")).backup_id == second.backup_id
    with pytest.raises(InvalidRequest, match="2 backups begin with 202611; give more"):
        find_backup(manifest_store.store, BackupSelector("202611"))
    with pytest.raises(BackupNotFound, match="no backup 2027"):
        find_backup(manifest_store.store, BackupSelector("2027"))
    with pytest.raises(InvalidRequest, match="not by both"):
        find_backup(manifest_store.store, BackupSelector(first.backup_id, at=NOON))


def test_backups_of_several_databases_are_never_mixed_up(manifest_store: ManifestStore) -> None:
    manifest_store.add("prod", "shop", 0)
    wanted = manifest_store.add("test", "it's", 5)
    with pytest.raises(
        InvalidRequest, match="--cluster 'prod' --database 'shop', --cluster 'test' --database \"it's\""
    ):
        find_backup(manifest_store.store, BackupSelector())
    assert find_backup(manifest_store.store, BackupSelector(cluster="test")).backup_id == wanted.backup_id
    assert find_backup(manifest_store.store, BackupSelector(database="it's")).backup_id == wanted.backup_id
    assert find_backup(manifest_store.store, BackupSelector(wanted.backup_id)).backup_id == wanted.backup_id


def test_a_damaged_latest_manifest_is_not_skipped(manifest_store: ManifestStore) -> None:
    older = manifest_store.add("c", "d", 0)
    manifest_store.put(BackupRef("c", "d", "20261124T120000Z-bbbbbb").manifest_key, b'{"manifest_version": "1.0"')
    with pytest.raises(ManifestInvalid):
        find_backup(manifest_store.store, BackupSelector())
    assert find_backup(manifest_store.store, BackupSelector(older.backup_id)).backup_id == older.backup_id


def test_a_damaged_manifest_is_skipped_if_its_backup_began_after_the_wanted_time(manifest_store: ManifestStore) -> None:
    older = manifest_store.add("c", "d", 0)
    manifest_store.put(BackupRef("c", "d", "20261124T120000Z-bbbbbb").manifest_key, b'{"manifest_version": "1.0"')

    def found(at: timedelta) -> str:
        return find_backup(manifest_store.store, BackupSelector(at=NOON + at)).backup_id

    assert found(timedelta(hours=23)) == older.backup_id
    for at in (timedelta(hours=25), timedelta(hours=23, minutes=50)):  # the database server's clock may be behind
        with pytest.raises(ManifestInvalid):
            found(at)


def test_an_empty_store_has_no_backup(manifest_store: ManifestStore) -> None:
    assert list_backups(manifest_store.store) == []
    with pytest.raises(BackupNotFound, match=r"no backup .*pgstow list shows"):
        find_backup(manifest_store.store, BackupSelector())


@pytest.mark.parametrize("days", [3, 30])
def test_only_the_manifest_that_is_found_is_read(manifest_store: ManifestStore, days: int) -> None:
    refs = [manifest_store.add("c", "d", day * 24) for day in range(1 - days, 1)]
    store = manifest_store.store

    def read(**wanted: Any) -> list[str]:
        find_backup(store, BackupSelector(**wanted))
        return manifest_store.read()

    assert read() == [refs[-1].manifest_key]
    assert read(backup=refs[1].backup_id) == [refs[1].manifest_key]
    assert read(at=NOON - timedelta(hours=23)) == [refs[-2].manifest_key]
    near = NOON - timedelta(hours=24) - CLOCK_TOLERANCE  # the database server's clock may be behind by so much
    assert read(at=near) == [refs[-2].manifest_key, refs[-3].manifest_key]
    newest_believed(store, "c", "d", lambda _: None)
    assert manifest_store.read() == [refs[-1].manifest_key]


def test_lists_are_parsed_only_of_the_manifest_that_is_found(manifest_store: ManifestStore) -> None:
    """The newest manifest is partial, and the fault in its list of files is never noticed."""
    older = manifest_store.add("c", "d", 0)
    newer = manifest_store.add(
        "c",
        "d",
        24,
        change=lambda content: (content["dump"].update(only="schema"), content["files"][1].update(path="../x")),
    )
    assert find_backup(manifest_store.store, BackupSelector()).backup_id == older.backup_id
    with pytest.raises(ManifestInvalid, match=r"files\.1\.path"):
        find_backup(manifest_store.store, BackupSelector(newer.backup_id))
