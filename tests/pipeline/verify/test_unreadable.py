"""Tests of verifications if a store fails to give objects: a single object, many objects, or all objects."""

import math
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from support.faulty_http import Fault, FaultyProxy
from support.object_stores import StoreBucket
from support.pgstow import Result, run_pgstow
from support.shelf import NOW, BackupBuilder

from pipeline.catalog.attestation import Attestation, load_attestation
from pipeline.catalog.keys import BackupRef
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, prune
from pipeline.verify.unreadable import MOST
from storage_backends import open_backend

DAY = timedelta(days=1)
BYTES = ("--level", "bytes", "--attest", "-q", "--give-up-after", 0.1)


class Flaky:
    """Backups in a store behind a proxy, which fails as the test says."""

    def __init__(self, bucket: StoreBucket, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.url = bucket.url_at(proxy.url)
        self.store = open_backend(bucket.url)
        self.shelf = BackupBuilder(self.store)

    def lose(self, path: str, *, method: str = "GET|HEAD", with_: Fault = Fault.INTERNAL_ERROR) -> None:
        """Make requests for the path fail forever."""
        self.proxy.fail(with_=with_, method=method, path=path, times=math.inf)

    def verify(self, *arguments: object) -> Result:
        return run_pgstow("verify", "--from", self.url, *arguments)

    def attestations(self, ref: BackupRef) -> list[Attestation]:
        keys = [info.key for info in self.store.list(ref.attestations_prefix)]
        return [load_attestation(self.store.get(key), key) for key in keys]


@pytest.fixture
def flaky(s3_bucket: StoreBucket) -> Iterator[Flaky]:
    with FaultyProxy(s3_bucket.endpoint) as proxy:
        made = Flaky(s3_bucket, proxy)
        with closing(made.store):
            yield made


def test_one_lost_object_makes_only_its_backup_unproven(flaky: Flaky) -> None:
    """The other objects are read, the other backups are verified, and prune keeps the backup that can be read."""
    older, newer, other = flaky.shelf.add(2 * DAY), flaky.shelf.add(DAY), flaky.shelf.add(DAY, "crm")
    lost = flaky.shelf.manifest(newer).objects[0].key
    flaky.lose(f"{newer.backup_id}/0.dat")

    found = flaky.verify("--latest-of-each", *BYTES)
    assert found.exit_code == 6, found
    assert len(found.stderr_lines) == 1, found
    assert lost in found.stderr
    assert f"prod/shop {newer.backup_id} is NOT PROVEN: 1 of its objects could not be read" in found.stdout
    assert f"prod/crm {other.backup_id} is good" in found.stdout
    [attested] = flaky.attestations(newer)
    assert (attested.good, attested.problems, attested.objects) == (False, [], 1)
    assert attested.unproven
    assert lost in attested.unreadable[0]
    assert [one.good for one in flaky.attestations(other)] == [True]

    listed = run_pgstow("list", "--from", flaky.url)
    assert f"{attested.finished_at.astimezone():%Y-%m-%d} bytes: could not be read" in listed.stdout
    shown = run_pgstow("show", newer.backup_id, "--from", flaky.url)
    assert f"{attested.finished_at.astimezone():%Y-%m-%d} bytes: could not be read" in shown.stdout

    pruned = prune(PruneRequest(Policy(keep_last=1)), None, flaky.store, lambda _: None, NOW)
    assert pruned.backups == []
    assert flaky.shelf.committed() == {older, newer, other}


@pytest.mark.parametrize("fault", [Fault.INTERNAL_ERROR, Fault.SLOW_DOWN, Fault.TRUNCATE, Fault.RESET])
def test_any_kind_of_failure_makes_an_object_unreadable(flaky: Flaky, fault: Fault) -> None:
    ref = flaky.shelf.add(DAY)
    flaky.lose(f"{ref.backup_id}/1.dat", method="GET", with_=fault)
    found = flaky.verify(*BYTES)
    assert found.exit_code == 6, found
    assert [one.unproven for one in flaky.attestations(ref)] == [True]


def test_an_object_can_be_unreadable_at_level_objects(flaky: Flaky) -> None:
    ref = flaky.shelf.add(DAY)
    flaky.lose(f"{ref.backup_id}/1.dat", method="HEAD")
    found = flaky.verify("--level", "objects", *BYTES[2:])
    assert found.exit_code == 6, found
    assert [(one.unproven, one.level, one.objects) for one in flaky.attestations(ref)] == [(True, "objects", 1)]


def test_damage_counts_more_than_unreadable_objects(flaky: Flaky) -> None:
    ref = flaky.shelf.add(DAY)
    flaky.lose(f"{ref.backup_id}/0.dat")
    flaky.store.delete([flaky.shelf.manifest(ref).objects[1].key])
    found = flaky.verify(*BYTES)
    assert found.exit_code == 7, found
    [attested] = flaky.attestations(ref)
    assert (len(attested.problems), len(attested.unreadable), attested.unproven) == (1, 1, False)


@pytest.mark.parametrize("answered", [0, 1], ids=["nothing is read", "one object is read before"])
def test_no_attestation_is_made_if_the_store_is_down(flaky: Flaky, answered: int) -> None:
    """The store still gives manifests and accepts attestations."""
    refs = [flaky.shelf.add(DAY), flaky.shelf.add(2 * DAY), flaky.shelf.add(DAY, "crm")]
    flaky.proxy.fail(with_=Fault.INTERNAL_ERROR, method="GET", path="/data/", skip=answered, times=math.inf)
    found = flaky.verify("--latest-of-each", *BYTES)
    assert found.exit_code == 6, found
    assert [flaky.attestations(ref) for ref in refs] == [[], [], []]


def test_damage_found_before_the_store_went_down_is_reported(flaky: Flaky) -> None:
    ref = flaky.shelf.add(DAY, number=4)
    flaky.proxy.fail(with_=Fault.FLIP_RECEIVED, method="GET", path=f"{ref.backup_id}/0.dat")
    flaky.lose("/data/", method="GET")
    found = flaky.verify("--transfers", 1, *BYTES)
    assert found.exit_code == 7, found
    assert f"{ref.backup_id}/0.dat" in found.stderr
    assert "InternalError" in found.stderr
    [attested] = flaky.attestations(ref)
    assert (len(attested.problems), attested.unreadable) == (1, [])


def test_no_attestation_is_made_if_the_store_was_down_for_a_while(flaky: Flaky) -> None:
    """At the end, the store works again, and gives the object that it failed to give before."""
    ref = flaky.shelf.add(DAY, number=4)
    flaky.proxy.fail(with_=Fault.INTERNAL_ERROR, method="GET", path=f"{ref.backup_id}/[12].dat", times=2)
    found = flaky.verify("--transfers", 1, *BYTES, "--give-up-after", 0)  # without retries, each object fails once
    assert found.exit_code == 6, found
    assert len(found.stderr_lines) == 1, found
    assert flaky.attestations(ref) == []


def test_another_backup_with_a_lost_manifest_is_skipped(flaky: Flaky) -> None:
    """The backup can't show whether the store gives objects, so pgstow tries the next backup."""
    flaky.shelf.add(3 * DAY)
    lost, ref = flaky.shelf.add(2 * DAY), flaky.shelf.add(DAY)
    flaky.lose(f"manifests/.*{lost.backup_id}")
    flaky.lose(f"/data/.*{ref.backup_id}", method="GET")
    found = flaky.verify("latest", *BYTES)
    assert found.exit_code == 6, found
    assert [one.unproven for one in flaky.attestations(ref)] == [True]


@pytest.mark.parametrize("others", [0, 1])
def test_a_backup_without_a_readable_object_is_unproven_if_another_backup_can_be_read(
    flaky: Flaky, others: int
) -> None:
    """If the store gives an object of another backup, the backup is unproven. Without another backup, the store may be down."""
    older = [flaky.shelf.add(2 * DAY) for _ in range(others)]
    ref = flaky.shelf.add(DAY)
    flaky.lose(f"/data/.*{ref.backup_id}", method="GET")
    found = flaky.verify("latest", *BYTES)
    assert found.exit_code == 6, found
    assert [one.unproven for one in flaky.attestations(ref)] == [True] * others
    pruned = prune(PruneRequest(Policy(keep_last=1)), None, flaky.store, lambda _: None, NOW)
    assert pruned.backups == []
    assert flaky.shelf.committed() == {*older, ref}


def test_credentials_that_may_not_read_are_an_error(flaky: Flaky) -> None:
    ref = flaky.shelf.add(DAY)
    flaky.lose(f"{ref.backup_id}/1.dat", with_=Fault.FORBIDDEN)
    found = flaky.verify(*BYTES)
    assert found.exit_code == 6, found
    assert flaky.attestations(ref) == []


def test_many_unreadable_objects_take_no_longer_than_a_few(flaky: Flaky) -> None:
    """pgstow sends only a few requests for each unreadable object, and no requests for objects beyond the bound."""
    ref = flaky.shelf.add(DAY, "large", number=MOST + 30)
    lost = [stored.key for stored in flaky.shelf.manifest(ref).objects[1:]]
    flaky.lose(r"/[1-9]\d*\.dat")
    found = flaky.verify("--database", "large", "--level", "objects", "--attest", "-q", "--give-up-after", 0.1)
    assert found.exit_code == 6, found
    [attested] = flaky.attestations(ref)
    assert attested.unproven
    named = [sentence for sentence in attested.unreadable if any(key in sentence for key in lost)]
    assert MOST <= len(named) <= MOST + 16  # other requests were under way when the bound was reached
    assert (
        attested.unreadable[-1] == f"More than {MOST} objects could not be read; pgstow did not try the other objects."
    )
    assert len(found.stderr_lines) == 21


def test_a_cluster_with_an_unreadable_member_is_unproven(flaky: Flaky) -> None:
    members = flaky.shelf.add_cluster(DAY)
    flaky.lose(f"{members[1].backup_id}/0.dat")
    found = flaky.verify("--database", "@cluster", *BYTES)
    assert found.exit_code == 6, found
    attested = [flaky.attestations(ref)[0] for ref in members]
    assert [(one.good, one.unproven) for one in attested] == [(True, False), (False, True), (False, True)]
    assert attested[2].unreadable[0].startswith("shop: ")
    assert "NOT GOOD" in found.stdout
