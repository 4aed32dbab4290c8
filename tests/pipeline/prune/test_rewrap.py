"""Giving sealed backups to other recipients: the new key objects are locked as the backups are, and forgeries are given to nobody."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.in_process import call_pgstow
from support.object_stores import StoreBucket
from support.pgstow import assert_one_sentence
from support.shelf import NOW, BackupBuilder
from support.signing import KeyFiles, make_key, sign_manifest

from pipeline.catalog.find import BackupSelector
from pipeline.catalog.key_objects import list_key_objects, open_seal
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.catalog.manifest import MANIFEST_VERSION, Encryption
from pipeline.errors import Untrusted
from pipeline.events import Event
from pipeline.prune.hold import hold
from pipeline.prune.rewrap import Rewrapped, Selected, find_all, find_one, rewrap
from pipeline.stages.upload import upload
from pipeline.trust.age import Identities, Recipients
from pipeline.trust.seal import Epoch, Keys
from storage_backends import ObjectInfo, open_backend
from storage_backends.holds import lock_of
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
OWNER, OWNER_TEXT = Identities.new()
NEW, _ = Identities.new()


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture
def shelf() -> BackupBuilder:
    return BackupBuilder(MemoryBackend())


def add_sealed(
    shelf: BackupBuilder, database: str = "shop", age: timedelta = DAY, epoch: Epoch | None = None
) -> BackupRef:
    """Store a backup that is sealed to the owner. Return its reference."""
    epoch, begun = epoch or Epoch.new(), shelf.ref(age, database)
    key_object = bytes(Recipients.parse(OWNER.public).seal(epoch.key_file))
    encryption = Encryption(
        scheme="age",
        epoch=begun.backup_id,
        recipient=epoch.recipient,
        recipients=OWNER.public,
        key=upload(shelf.store, begun.key_object_key(NOW), key_object),
        checksums="hmac-sha256",
    )
    return shelf.add(age, database, manifest_version=MANIFEST_VERSION, encryption=encryption)


def give(shelf: BackupBuilder, selected: Selected) -> Rewrapped:
    """Give the backups to the new recipient, in a store whose options ask for no lock."""

    def put_locked(key: str, body: bytes | bytearray, until: datetime) -> None:
        assert isinstance(shelf.store, MemoryBackend)
        upload(MemoryBackend(retain_until=until, objects=shelf.store._objects), key, body)

    told = list[Event]()
    return rewrap(selected, Recipients.parse(NEW.public), Keys(OWNER), shelf.store, put_locked, told.append)


def everything(shelf: BackupBuilder, trusted: KeyFiles | None = None) -> Selected:
    return find_all(shelf.store, None, None, lambda _: None, NOW, trusted.trust if trusted else None)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("days", [None, -1, 30])
def test_a_new_key_object_is_locked_as_its_backup_is(days: int | None, *, held: bool) -> None:
    """Otherwise, somebody could remove the new recipients' only key object, or retention would leave it behind."""
    until = None if days is None else datetime.now(UTC) + days * DAY
    objects = dict[str, tuple[ObjectInfo, bytes]]()
    ref = add_sealed(BackupBuilder(MemoryBackend(retain_until=until, objects=objects)))
    shelf = BackupBuilder(MemoryBackend(objects=objects))
    if held:
        hold(BackupSelector(ref.backup_id), shelf.store, lambda _: None, held=True)
    lock = lock_of(shelf.store, give(shelf, everything(shelf)).keys[ref])
    assert lock.held is held
    assert lock.retained_until == (until if days == 30 else None)


def test_the_store_s_own_lock_comes_first() -> None:
    objects = dict[str, tuple[ObjectInfo, bytes]]()
    asked, until = (datetime.now(UTC) + days * DAY for days in (5, 30))
    ref = add_sealed(BackupBuilder(MemoryBackend(retain_until=until, objects=objects)))
    shelf = BackupBuilder(MemoryBackend(retain_until=asked, objects=objects))
    assert lock_of(shelf.store, give(shelf, everything(shelf)).keys[ref]).retained_until == asked


def test_a_hold_covers_the_key_objects_that_rewrap_added(shelf: BackupBuilder) -> None:
    ref = add_sealed(shelf)
    added = give(shelf, everything(shelf)).keys[ref]
    for held in (True, False):
        number = hold(BackupSelector(ref.backup_id), shelf.store, lambda _: None, held=held)[ref]
        assert number == len(shelf.all_keys())
        assert lock_of(shelf.store, added).held is held


def test_a_forged_manifest_gets_no_other_backup_s_key(shelf: BackupBuilder, key: KeyFiles) -> None:
    """A manifest can name the key of any backup. A person who shares a harmless database must not share that key."""
    secret = Epoch.new()
    real = add_sealed(shelf, "secret", 2 * DAY, secret)
    harmless = add_sealed(shelf, "harmless", 2 * DAY)
    for ref in (real, harmless):
        sign_manifest(shelf.store, ref, key.signer)
    forged = add_sealed(shelf, "harmless", DAY, secret)
    latest = find_one(BackupSelector(database="harmless", trust=key.trust), shelf.store, lambda _: None)
    assert [manifest.backup_id for manifest in latest.manifests] == [harmless.backup_id]
    with pytest.raises(Untrusted):
        find_one(BackupSelector(forged.backup_id, trust=key.trust), shelf.store, lambda _: None)
    done = give(shelf, everything(shelf, key))
    assert (set(done.keys), set(done.failed)) == ({real, harmless}, {forged})
    assert len(list_key_objects(shelf.store, shelf.manifest(forged))) == 1


def test_the_signature_of_a_whole_server_s_backup_covers_its_members(shelf: BackupBuilder, key: KeyFiles) -> None:
    member, stray = add_sealed(shelf), add_sealed(shelf)
    whole = shelf.add(DAY, CLUSTER, members=[member])
    sign_manifest(shelf.store, whole, key.signer)
    done = give(shelf, everything(shelf, key))
    assert (set(done.keys), set(done.failed)) == ({member}, {stray})
    open_seal(shelf.store, shelf.manifest(member), Keys(NEW))


def test_the_commands_refuse_what_no_trusted_key_signed(key: KeyFiles, tmp_path: Path) -> None:
    folder, identity = tmp_path / "store", tmp_path / "owner.key"
    identity.write_text(OWNER_TEXT)
    identity.chmod(0o600)
    folder.mkdir()
    with closing(open_backend(str(folder))) as store:
        signed, unsigned = (add_sealed(BackupBuilder(store), name) for name in ("signed", "unsigned"))
        sign_manifest(store, signed, key.signer)
    trusted = ("--from", folder, "--trusted-key", key.public)
    for action in ("add", "remove"):
        refused = call_pgstow("hold", action, unsigned.backup_id, *trusted, "--database", "unsigned")
        assert_one_sentence(refused, 7, "it is not signed")
    new = ("--identity", identity, "--recipient", NEW.public[0], "--json")
    result = call_pgstow("rewrap", "--all", *trusted, *new)
    assert result.exit_code == 7
    assert {one["backup_id"]: one["problem"] is None for one in json.loads(result.stdout)} == {
        signed.backup_id: True,
        unsigned.backup_id: False,
    }
    alone = ("rewrap", unsigned.backup_id, "--database", "unsigned", *trusted, *new)
    assert call_pgstow(*alone).exit_code == 7
    assert call_pgstow(*alone, "--unsigned").exit_code == 0


def test_rewrap_locks_new_key_objects_in_a_bucket(s3_locking_bucket: StoreBucket, tmp_path: Path) -> None:
    identity = tmp_path / "owner.key"
    identity.write_text(OWNER_TEXT)
    with closing(open_backend(s3_locking_bucket.url, {"retain_days": "30"})) as store:
        ref = add_sealed(BackupBuilder(store))
        arguments = ("--from", s3_locking_bucket.url, "--identity", identity, "--recipient", NEW.public[0], "--json")
        result = call_pgstow("rewrap", ref.backup_id, *arguments)
        assert result.exit_code == 0, result
        [made] = json.loads(result.stdout)
        assert lock_of(store, made["key"]).retained_until == lock_of(store, ref.manifest_key).retained_until
