"""With trusted keys, what none of them signed is reported and ignored."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.manifest_store import ManifestStore
from support.signing import KeyFiles, make_key, put, sign_manifest

from pipeline.catalog.chain import read_chains
from pipeline.catalog.find import BackupSelector, find_backup, sources
from pipeline.catalog.keys import CLUSTER, SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.listing import list_manifests
from pipeline.catalog.reader import CatalogEntry, read_catalog
from pipeline.catalog.signature import BackupSignature, describe_signature
from pipeline.errors import BackupNotFound, ManifestInvalid, Untrusted
from pipeline.events import Event
from pipeline.trust.policy import Trust
from pipeline.trust.statement import LONGEST_ENVELOPE


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("stranger"))


def entries(manifest_store: ManifestStore, trust: Trust | None) -> list[CatalogEntry]:
    listed = list_manifests(manifest_store.store).manifests
    return list(read_catalog(manifest_store.store, listed, datetime.now(UTC), trust))


def move_signature(manifest_store: ManifestStore, source: BackupRef, target: BackupRef) -> None:
    signature = manifest_store.store.get(source.manifest_key + SIGNATURE_SUFFIX)
    manifest_store.put(target.manifest_key + SIGNATURE_SUFFIX, signature)


Forge = Callable[[ManifestStore, BackupRef, BackupRef, KeyFiles], None]
FORGERIES: dict[str, tuple[str, Forge]] = {
    "no signature": ("unsigned", lambda *_: None),
    "a stranger's signature": (
        "untrusted",
        lambda there, _, forged, stranger: sign_manifest(there.store, forged, stranger.signer) and None,
    ),
    "another backup's signature": ("swapped", lambda there, real, forged, _: move_signature(there, real, forged)),
    "no envelope": ("untrusted", lambda there, _, forged, __: there.put(forged.manifest_key + SIGNATURE_SUFFIX, b"{")),
    "a huge envelope": (
        "untrusted",
        lambda there, _, forged, __: there.put(forged.manifest_key + SIGNATURE_SUFFIX, b" " * (LONGEST_ENVELOPE + 1)),
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_latest_is_never_a_backup_that_no_trusted_key_signed(
    manifest_store: ManifestStore, key: KeyFiles, stranger: KeyFiles, forgery: str
) -> None:
    fault, forge = FORGERIES[forgery]
    real, forged = manifest_store.add("c", "d", 0), manifest_store.add("c", "d", 24)
    sign_manifest(manifest_store.store, real, key.signer)
    forge(manifest_store, real, forged, stranger)
    told: list[Event] = []

    found = find_backup(manifest_store.store, BackupSelector(trust=key.trust), told.append)
    assert found.backup_id == real.backup_id
    [notice] = told
    assert forged.manifest_key in str(notice)
    assert find_backup(manifest_store.store, BackupSelector()).backup_id == forged.backup_id, "without trusted keys"

    by_id = BackupSelector(forged.backup_id, trust=key.trust)
    with pytest.raises(Untrusted, match="--unsigned") as caught:
        find_backup(manifest_store.store, by_id)
    assert caught.value.fault == fault
    told.clear()
    insisted = BackupSelector(forged.backup_id, trust=key.trust, unsigned=True)
    assert find_backup(manifest_store.store, insisted, told.append).backup_id == forged.backup_id
    assert len(told) == 1

    [good, bad] = entries(manifest_store, key.trust)
    assert (good.fault, good.problem) == (None, None)
    assert bad.manifest is not None
    assert bad.fault == fault
    assert forged.manifest_key in (bad.problem or "")
    assert not any(entry.problem for entry in entries(manifest_store, None))


def test_a_manifest_whose_bytes_were_changed_is_not_trusted(manifest_store: ManifestStore, key: KeyFiles) -> None:
    real = manifest_store.add("c", "d", 0)
    sign_manifest(manifest_store.store, real, key.signer)
    manifest_store.store.delete([real.manifest_key])
    assert manifest_store.add("c", "d", 0, change=lambda content: content.update(tags=["forged"])) == real
    with pytest.raises(BackupNotFound, match="its signature is about other bytes"):
        find_backup(manifest_store.store, BackupSelector(trust=key.trust))
    assert [entry.fault for entry in entries(manifest_store, key.trust)] == ["swapped"]


def test_what_a_stranger_put_is_not_even_read(manifest_store: ManifestStore, key: KeyFiles) -> None:
    real = manifest_store.add("c", "d", 0)
    sign_manifest(manifest_store.store, real, key.signer)
    junk = BackupRef("c", "d", "20261124T120000Z-bbbbbb")
    manifest_store.put(junk.manifest_key, b"{")
    with pytest.raises(ManifestInvalid):
        find_backup(manifest_store.store, BackupSelector())
    manifest_store.read()
    assert find_backup(manifest_store.store, BackupSelector(trust=key.trust)).backup_id == real.backup_id
    assert junk.manifest_key not in manifest_store.read()


def test_a_forged_cluster_manifest_takes_no_backup_from_verification(
    manifest_store: ManifestStore, key: KeyFiles
) -> None:
    """The newest backup of a server may be a script with data. A forged manifest with members says that there is nothing to verify."""
    sign_manifest(manifest_store.store, manifest_store.add("c", CLUSTER, 0), key.signer)
    member = {"database": "d", "backup_id": manifest_store.add("c", "d", 0).backup_id, "sha256": "0" * 64}
    forged: dict[str, Any] = {"kind": "cluster", "members": [member], "files": [], "objects": [], "tables": []}
    manifest_store.add("c", CLUSTER, 1, change=lambda content: content.update(forged))
    assert sources(manifest_store.store, trust=key.trust) == [("c", CLUSTER), ("c", "d")]
    assert sources(manifest_store.store) == [("c", "d")], "without trusted keys"


def test_an_empty_manifest_of_a_stranger_is_a_finding(manifest_store: ManifestStore, key: KeyFiles) -> None:
    """No byte of the manifest can be read, but the manifest is there."""
    manifest_store.put(BackupRef("c", "d", "20261124T120000Z-bbbbbb").manifest_key, b"")
    [finding] = read_chains(manifest_store.store, None, None, key.trust).findings
    assert finding.fault == "unsigned"


def test_a_signature_costs_one_request_and_none_without_trusted_keys(
    manifest_store: ManifestStore, key: KeyFiles
) -> None:
    refs = [manifest_store.add("c", "d", hours) for hours in range(3)]
    for ref in refs:
        sign_manifest(manifest_store.store, ref, key.signer)
    manifest_store.read()
    entries(manifest_store, None)
    assert sorted(manifest_store.read()) == [ref.manifest_key for ref in refs]
    entries(manifest_store, key.trust)
    both = [key for ref in refs for key in (ref.manifest_key, ref.manifest_key + SIGNATURE_SUFFIX)]
    assert sorted(manifest_store.read()) == both


def test_without_trusted_keys_no_library_for_signatures_is_loaded() -> None:
    modules = "pipeline.catalog.find, pipeline.backup.database, pipeline.prune.prune, pipeline.verify.backup, cli.backup, cli.list"
    code = f"import json, sys, {modules}\nprint(json.dumps([name for name in sys.modules]))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=Path.cwd()).stdout
    assert "securesystemslib" not in json.loads(output)


def test_a_signature_alone_is_no_backup(manifest_store: ManifestStore, key: KeyFiles) -> None:
    put(manifest_store.store, BackupRef("c", "d", "20261124T120000Z-bbbbbb").manifest_key + SIGNATURE_SUFFIX, b"{}")
    assert not list_manifests(manifest_store.store).manifests
    with pytest.raises(BackupNotFound):
        find_backup(manifest_store.store, BackupSelector(trust=key.trust))


def test_a_signature_is_described_as_far_as_it_can_be_believed(
    manifest_store: ManifestStore, key: KeyFiles, stranger: KeyFiles
) -> None:
    ref = manifest_store.add("c", "d", 0)
    sha256 = hashlib.sha256(manifest_store.store.get(ref.manifest_key)).hexdigest()

    def described(trust: Trust | None) -> BackupSignature | None:
        return describe_signature(manifest_store.store, ref, sha256, trust)

    assert described(key.trust) is None
    sign_manifest(manifest_store.store, ref, key.signer, sequence=7)
    ids = [key.trusted().key.keyid]
    both = Trust((stranger.trusted(), key.trusted()))
    assert described(both) == BackupSignature(ids, True, "db1", 7)
    assert described(None) == BackupSignature(ids)
    assert described(stranger.trust) == BackupSignature(ids, False, problem="no trusted key signed it")
    assert described(Trust((key.trusted("prune"),))) == BackupSignature(ids, False, problem="no trusted key signed it")
    swapped = describe_signature(manifest_store.store, ref, "0" * 64, key.trust)
    assert swapped == BackupSignature(ids, False, problem="its signature is about other bytes")


@pytest.mark.parametrize("forgery", [name for name in FORGERIES if name != "no signature"])
def test_a_forged_signature_is_described(
    manifest_store: ManifestStore, key: KeyFiles, stranger: KeyFiles, forgery: str
) -> None:
    _, forge = FORGERIES[forgery]
    real, forged = manifest_store.add("c", "d", 0), manifest_store.add("c", "d", 24)
    sign_manifest(manifest_store.store, real, key.signer)
    forge(manifest_store, real, forged, stranger)
    for trust in (key.trust, None):
        found = describe_signature(manifest_store.store, forged, "0" * 64, trust)
        assert found is not None
        assert not found.trusted
        assert found.writer is None
