"""Tests that the verifications of all members give the verification of a whole server's backup."""

from datetime import timedelta

from support.shelf import BackupBuilder

from pipeline.catalog.attestation import Level
from pipeline.catalog.find import BackupSelector, find_stored
from pipeline.catalog.keys import CLUSTER
from pipeline.verify.cluster import ClusterVerification
from pipeline.verify.request import VerifyRequest
from storage_backends.memory import MemoryBackend


def test_a_cluster_is_verified_once_each_member_is_verified() -> None:
    store = MemoryBackend()
    BackupBuilder(store).add_cluster(timedelta(hours=1))
    stored = find_stored(store, BackupSelector(database=CLUSTER))
    whole = ClusterVerification(stored, VerifyRequest(level=Level.OBJECTS, attest=True), store)
    for member in stored.manifest.members:
        assert whole.conclude(lambda _: None) is None
        whole.verify(member, lambda _: None)
    found = whole.conclude(lambda _: None)
    assert found
    assert found.attestation
    assert len(list(store.list("attestations/"))) == len(stored.manifest.members) + 1
