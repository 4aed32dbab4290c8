from support.manifest_store import ManifestStore

from pipeline.catalog.listing import list_backups


def test_only_manifests_are_listed(manifest_store: ManifestStore) -> None:
    ref = manifest_store.add("c", "d", 0)
    manifest_store.put(ref.manifest_key + ".sig", b"signature")
    manifest_store.put("manifests/c/d/notes.json", b"{}")
    manifest_store.put(
        f"{ref.data_prefix.replace('aaaaaa', 'bbbbbb')}1.dat.00000.zst", b"data of a backup that was never committed"
    )
    assert list_backups(manifest_store.store) == [ref]


def test_backups_are_listed_by_cluster_and_database(manifest_store: ManifestStore) -> None:
    one, two = manifest_store.add("prod", "shop", 0), manifest_store.add("prod", "shop", 1)
    other, longer, elsewhere = (
        manifest_store.add("prod", "x/y", 0),
        manifest_store.add("prod2", "shop", 0),
        manifest_store.add("test", "shop", 0),
    )
    assert list_backups(manifest_store.store) == [one, two, other, longer, elsewhere]
    assert list_backups(manifest_store.store, "prod") == [one, two, other]
    assert list_backups(manifest_store.store, "prod", "x/y") == [other]
    assert list_backups(manifest_store.store, database="shop") == [one, two, longer, elsewhere]
    assert list_backups(manifest_store.store, "pro") == []
