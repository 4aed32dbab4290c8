"""Tests of finding a sealed backup's keys, in a store in which an attacker may create objects."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.counting_store import CountingStore
from support.manifest_store import ManifestStore

from pipeline.catalog.key_objects import open_seal
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import Manifest
from pipeline.catalog.reader import read_manifest
from pipeline.errors import BackupDamaged, InvalidRequest
from pipeline.trust.age import Identities, Recipients
from pipeline.trust.seal import UNSEALED, Epoch, Keys
from storage_backends import StorageError

OWNER, STRANGER = (Identities.new()[0] for _ in range(2))
EPOCH = Epoch.new()
BEGUN = datetime(2026, 11, 23, 12, tzinfo=UTC)


class SealedStore:
    """A store with the manifest of a sealed backup, and its key objects."""

    def __init__(self, manifests: ManifestStore) -> None:
        self.manifests = manifests
        self.store: CountingStore = manifests.store
        self.sealed_key = bytes(Recipients.parse(OWNER.public).seal(EPOCH.key_file))
        self.ref = manifests.add("prod", "shop", 0, change=self._seal)
        self.key = self.ref.key_object_key(BEGUN)

    def _seal(self, content: dict[str, Any]) -> None:
        ref = BackupRef("prod", "shop", content["backup_id"])
        sha256 = hashlib.sha256(self.sealed_key).hexdigest()
        key = {"key": ref.key_object_key(BEGUN), "size": len(self.sealed_key), "sha256": sha256}
        content["encryption"] = {
            "scheme": "age",
            "epoch": ref.backup_id,
            "recipient": EPOCH.recipient,
            "recipients": OWNER.public,
            "key": key | {"checksum": None, "version": None},
            "checksums": "hmac-sha256",
        }

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.store, self.ref)

    def put(self, after: timedelta, identities: Identities, key_file: bytes = EPOCH.key_file) -> None:
        """Store a key object, so long after the backup began, and sealed to these identities."""
        self.manifests.put(
            self.ref.key_object_key(BEGUN + after), bytes(Recipients.parse(identities.public).seal(key_file))
        )

    def opens(self, identities: Identities) -> bool:
        seal = open_seal(self.store, self.manifest, Keys(identities))
        return seal.open(bytes(EPOCH.close(bytearray(b"content"))), "the object") == b"content"


@pytest.fixture
def sealed(manifest_store: ManifestStore) -> SealedStore:
    return SealedStore(manifest_store)


def test_a_backup_that_is_not_sealed_needs_no_key(manifest_store: ManifestStore) -> None:
    ref = manifest_store.add("prod", "shop", 0)
    manifest = read_manifest(manifest_store.store, ref)
    manifest_store.store.requests.clear()
    assert open_seal(manifest_store.store, manifest, Keys(OWNER)) is UNSEALED
    assert not manifest_store.store.requests


def test_the_owner_opens_the_key_object_with_one_request(sealed: SealedStore) -> None:
    sealed.manifests.put(sealed.key, sealed.sealed_key)
    manifest = sealed.manifest
    sealed.store.requests.clear()
    open_seal(sealed.store, manifest, Keys(OWNER))
    assert sealed.store.requests == [("GET", sealed.key)]


def test_a_known_epoch_needs_no_request(sealed: SealedStore) -> None:
    manifest = sealed.manifest
    sealed.store.requests.clear()
    assert open_seal(sealed.store, manifest, Keys(epochs=[Epoch.new(), EPOCH])) is EPOCH
    assert not sealed.store.requests


def test_other_identities_are_told_the_recipients(sealed: SealedStore) -> None:
    sealed.manifests.put(sealed.key, sealed.sealed_key)
    for identities in (STRANGER, Identities()):
        with pytest.raises(InvalidRequest, match=OWNER.public[0]):
            sealed.opens(identities)


def test_a_later_key_object_opens_the_backup_for_other_recipients(sealed: SealedStore) -> None:
    sealed.manifests.put(sealed.key, sealed.sealed_key)
    sealed.put(timedelta(days=1), STRANGER)
    assert sealed.opens(STRANGER)
    assert sealed.opens(OWNER)


def test_a_key_object_of_an_attacker_is_not_believed(sealed: SealedStore) -> None:
    """The owner's public key is in the manifest, so everybody can seal a file to it."""
    sealed.manifests.put(sealed.key, sealed.sealed_key)
    sealed.put(timedelta(days=-1), OWNER, Epoch.new().key_file)
    sealed.put(timedelta(days=1), OWNER, Epoch.new().key_file)
    sealed.put(timedelta(days=2), OWNER, b"# checksum key: " + b"0" * 64)
    assert sealed.opens(OWNER)


class Archive(CountingStore):
    """A store in which an attacker archived an object, so that nobody can read it."""

    archived = ""

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        if key == self.archived:
            raise StorageError(f"{key} is archived")
        return super().get(key, offset=offset, length=length, at_most=at_most)


def test_a_key_object_that_nobody_can_read_hides_no_other(sealed: SealedStore) -> None:
    sealed.manifests.put(sealed.key, sealed.sealed_key)
    sealed.put(timedelta(days=1), STRANGER)
    store, manifest = Archive(sealed.store), sealed.manifest
    sealed.manifests.put(key := sealed.ref.key_object_key(BEGUN + timedelta(days=2)), b"archived")
    store.archived = key
    assert open_seal(store, manifest, Keys(STRANGER)) == EPOCH
    store.archived = sealed.key
    with pytest.raises(StorageError, match="is archived"):
        open_seal(store, manifest, Keys(OWNER))


def test_an_attackers_key_object_in_the_place_of_the_backups_own_is_damage(sealed: SealedStore) -> None:
    sealed.manifests.put(sealed.key, bytes(Recipients.parse(OWNER.public).seal(Epoch.new().key_file)))
    with pytest.raises(BackupDamaged, match="was altered"):
        sealed.opens(OWNER)
    sealed.put(timedelta(days=1), OWNER)
    assert sealed.opens(OWNER), "a later key object still has the key"


@pytest.mark.parametrize("body", [None, b"", b"age-encryption.org/v1\n", bytes(10**6)])
def test_a_missing_or_damaged_key_object_is_damage(sealed: SealedStore, body: bytes | None) -> None:
    if body is not None:
        sealed.manifests.put(sealed.key, body)
    with pytest.raises(BackupDamaged, match="no other key object"):
        sealed.opens(OWNER)


def test_many_key_objects_cost_a_bounded_number_of_requests(sealed: SealedStore) -> None:
    sealed.manifests.put(sealed.key, sealed.sealed_key)
    for number in range(500):
        sealed.manifests.put(sealed.ref.key_object_key(BEGUN + timedelta(hours=number + 1)), b"decoy")
        sealed.manifests.put(f"{sealed.ref.keys_prefix}decoy-{number}", b"decoy")
    manifest = sealed.manifest
    sealed.store.requests.clear()
    with pytest.raises(InvalidRequest):
        open_seal(sealed.store, manifest, Keys(STRANGER))
    assert len(sealed.store.requests) <= 110
    assert sealed.opens(OWNER), "decoys don't hide the key object that the manifest names"


def test_a_manifest_that_names_another_epochs_key_is_not_believed(sealed: SealedStore) -> None:
    sealed.manifests.put(sealed.key, sealed.sealed_key)
    manifest = sealed.manifest
    assert manifest.encryption
    forged = manifest.model_copy(
        update={"encryption": manifest.encryption.model_copy(update={"recipient": Epoch.new().recipient})}
    )
    with pytest.raises(InvalidRequest):
        open_seal(sealed.store, forged, Keys(OWNER))
