from support.manifest_store import ManifestStore

from pipeline.catalog.listing import list_backups


def test_only_manifests_are_listed(shelf: ManifestStore) -> None:
    ref = shelf.add("c", "d", 0)
    shelf.put(ref.manifest_key + ".sig", b"signature")
    shelf.put("manifests/c/d/notes.json", b"{}")
    shelf.put(
        f"{ref.data_prefix.replace('aaaaaa', 'bbbbbb')}1.dat.00000.zst", b"data of a backup that was never committed"
    )
    assert list_backups(shelf.store) == [ref]


def test_backups_are_listed_by_cluster_and_database(shelf: ManifestStore) -> None:
    one, two = shelf.add("prod", "shop", 0), shelf.add("prod", "shop", 1)
    other, longer, elsewhere = shelf.add("prod", "x/y", 0), shelf.add("prod2", "shop", 0), shelf.add("test", "shop", 0)
    assert list_backups(shelf.store) == [one, two, other, longer, elsewhere]
    assert list_backups(shelf.store, "prod") == [one, two, other]
    assert list_backups(shelf.store, "prod", "x/y") == [other]
    assert list_backups(shelf.store, database="shop") == [one, two, longer, elsewhere]
    assert list_backups(shelf.store, "pro") == []
