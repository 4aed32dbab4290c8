from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.keys import BackupRef, decode_name, encode_name, is_backup_id, manifests_prefix, new_backup_id
from pipeline.errors import ManifestInvalid
from storage_backends.keys import check_key

ID = "20261123T020000Z-7f3a9c"
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=63)


@given(names, names)
def test_keys_of_any_names_are_valid_in_every_store_and_decode_to_the_names(cluster: str, database: str) -> None:
    ref = BackupRef(cluster, database, ID)
    assert check_key(ref.manifest_key).count("/") == 3
    assert check_key(f"{ref.data_prefix}x").count("/") == 4
    assert BackupRef.of_manifest_key(ref.manifest_key) == ref
    assert ref.manifest_key.startswith(manifests_prefix(cluster, database))


@pytest.mark.parametrize("name", [".", "..", "a/b", "../x", "a\\b", "a\nb", "%2e", "%", "@globals", "größe", "-x", " "])
def test_an_encoded_name_is_one_segment(name: str) -> None:
    encoded = encode_name(name)
    assert check_key(encoded) == encoded
    assert "/" not in encoded
    assert decode_name(encoded) == name


def test_two_names_never_share_a_key() -> None:
    assert encode_name("a/b") != encode_name("a%2Fb")
    assert manifests_prefix("a", "b") != manifests_prefix("a/b")
    assert not manifests_prefix("prod2").startswith(manifests_prefix("prod"))


@pytest.mark.parametrize("segment", ["a b", "%61", "%2f", "%FF", "%", "%2", "a%zz", "é", ".", ".."])
def test_a_segment_that_pgstow_never_writes_is_refused(segment: str) -> None:
    with pytest.raises(ManifestInvalid, match="not a name that pgstow writes"):
        decode_name(segment)


@pytest.mark.parametrize(
    "key",
    [
        f"manifests/c/d/{ID}.json.sig",
        f"manifests/c/d/{ID}",
        f"manifests/c/{ID}.json",
        f"manifests/c/d/e/{ID}.json",
        "manifests/c/d/readme.json",
        f"manifests/c/d/{ID[:-1]}.json",
    ],
)
def test_other_keys_are_not_manifests(key: str) -> None:
    assert BackupRef.of_manifest_key(key) is None


def test_ids_sort_by_time_in_every_time_zone() -> None:
    start = datetime(2026, 11, 23, 2, tzinfo=UTC)
    moments = [start + timedelta(seconds=37 * n) for n in range(200)]
    ids = [new_backup_id(moment.astimezone(timezone(timedelta(hours=n % 12)))) for n, moment in enumerate(moments)]
    assert sorted(ids) == ids
    assert all(map(is_backup_id, ids))
    assert ids[0].startswith("20261123T020000Z-")


def test_ids_of_the_same_second_differ() -> None:
    now = datetime.now(UTC)
    assert len({new_backup_id(now) for _ in range(100)}) > 90
