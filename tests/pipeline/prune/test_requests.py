"""The number of requests of prune, gc and run grows with the number of backups, and no faster."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from support.counting_store import CountingStore
from support.faulty_http import FaultyProxy
from support.object_stores import StoreBucket
from support.shelf import NOW, BackupBuilder

from pipeline.archive.destinations import BackupResults, Committed
from pipeline.backup.request import BackupRequest
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.nightly.jobs import Job
from pipeline.nightly.run import run
from pipeline.nightly.settings import DestinationSettings
from pipeline.postgres.conninfo import Conninfo
from pipeline.prune.facts import Known
from pipeline.prune.gc import GcRequest, collect, find_leftovers
from pipeline.prune.hold import find_holds
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, plan, prune
from pipeline.verify.proof import ProofRequest
from storage_backends import StorageBackend, open_backend
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
LAST = PruneRequest(Policy(keep_last=1))
ROUNDING = 10
"""Requests that are not exactly proportional: each series keeps one backup, and lists and deletions take many objects in a request."""


def filled(backups: int, databases: int = 2) -> CountingStore:
    """Return a store with backups of each database. All have attestations and signatures, and the whole server has as many backups."""
    store = MemoryBackend()
    shelf = BackupBuilder(store)
    for age in range(backups):
        refs = [shelf.add(age * DAY, f"db{number}") for number in range(databases)]
        for ref in (*refs, *shelf.add_cluster(age * DAY)):
            shelf.attest(ref)
    return CountingStore(store)


def dry_run(store: StorageBackend, known: Known | None = None) -> None:
    plan(LAST, store, lambda _: None, NOW, known)


def remove(store: StorageBackend) -> None:
    known = Known()
    approved = plan(LAST, store, lambda _: None, NOW, known)
    assert prune(LAST, approved, store, lambda _: None, NOW, known).backups


def remove_each(store: StorageBackend) -> None:
    """Prune as ``run`` does: one database after another, and the whole server."""
    known = Known()
    databases = sorted({ref.database for info in store.list("manifests/") if (ref := BackupRef.of_key(info.key))})
    for database in databases:
        request = PruneRequest(LAST.policy, "prod", None if database == CLUSTER else database)
        prune(request, None, store, lambda _: None, NOW, known)


def remove_leftovers(store: StorageBackend) -> None:
    known, later = Known(), NOW.replace(year=2099)
    leftovers = find_leftovers(GcRequest(), store, lambda _: None, later, known)
    assert collect(GcRequest(), leftovers, store, lambda _: None, later, known).objects


def interrupted(store: CountingStore) -> CountingStore:
    """Return the store without every second manifest."""
    manifests = [info.key for info in store.list("manifests/")]
    store.delete(manifests[::2])
    store.requests.clear()
    return store


@pytest.mark.parametrize("command", [dry_run, remove, remove_each])
def test_twice_as_many_backups_need_at_most_twice_as_many_requests(command: Callable[[StorageBackend], None]) -> None:
    small, large = filled(20), filled(40)
    for store in (small, large):
        command(store)
        assert store.most_repeated("GET") == 1
    assert small.count() < large.count() <= 2 * small.count() + ROUNDING


@pytest.mark.parametrize("command", [dry_run, remove, remove_each])
def test_twice_as_many_databases_need_at_most_twice_as_many_requests(command: Callable[[StorageBackend], None]) -> None:
    small, large = filled(5, databases=10), filled(5, databases=20)
    for store in (small, large):
        command(store)
        assert store.most_repeated("GET") == 1
    assert small.count() < large.count() <= 2 * small.count() + ROUNDING


def test_removing_many_backups_takes_few_requests() -> None:
    store = filled(50)
    known = Known()
    approved = plan(LAST, store, lambda _: None, NOW, known)
    planned = store.count("LIST")
    locks = sum(not one.keep for one in approved)
    assert store.count("LOCK") == locks > 200
    store.requests.clear()
    assert len(prune(LAST, approved, store, lambda _: None, NOW, known).backups) == locks
    assert store.count("GET") == 0
    assert store.count("LIST") == planned + 3 * len({one.ref.database for one in approved})
    assert store.count("DELETE") <= 3 * 8


def test_a_few_large_backups_are_listed_one_by_one() -> None:
    """If the database has many objects, a list of all would take more requests."""
    store = CountingStore(MemoryBackend())
    shelf = BackupBuilder(store)
    for age in range(2, 5):
        shelf.add(age * DAY, number=1200)
    old, new = shelf.add(DAY), shelf.add(0 * DAY)
    store.requests.clear()
    request = PruneRequest(Policy(keep_last=4))
    dropped = prune(request, None, store, lambda _: None, NOW).backups
    assert [store.count("LIST", prefix) for prefix in dropped[0].prefixes] == [1, 1, 2]
    assert shelf.committed() >= {old, new}


def test_twice_as_many_leftovers_need_at_most_twice_as_many_requests() -> None:
    small, large = interrupted(filled(20)), interrupted(filled(40))
    for store in (small, large):
        remove_leftovers(store)
        assert store.most_repeated("GET") <= 2, "each look asks whether a leftover's manifest is there"
    assert small.count() < large.count() <= 2 * small.count() + ROUNDING


def test_gc_reads_no_manifest_of_a_database_without_leftovers() -> None:
    store = filled(5)
    assert find_leftovers(GcRequest(), store, lambda _: None, NOW) == []
    assert store.count("GET") == 0


def test_a_request_for_one_database_reads_only_its_manifests_and_cluster_manifests() -> None:
    store = filled(5, databases=3)
    plan(PruneRequest(LAST.policy, "prod", "db0"), store, lambda _: None, NOW)
    assert store.count("GET", "manifests/prod/db0/") == store.count("GET", "manifests/prod/%40cluster/") == 5
    assert store.count("GET", "manifests/") == 10
    assert store.count("GET", "attestations/prod/db0/") == store.count("GET", "attestations/") == 5
    assert not store.count("LIST", "manifests/prod/db1/")
    store.requests.clear()
    plan(PruneRequest(LAST.policy, database="shop"), store, lambda _: None, NOW)
    assert store.count("GET", "manifests/") == 10
    assert store.count("GET", "attestations/") == 0, "all backups of shop are members"


def test_a_store_without_locks_is_asked_for_none(s3_bucket: StoreBucket) -> None:
    with FaultyProxy(s3_bucket.endpoint) as proxy:
        store = open_backend(s3_bucket.url_at(proxy.url))
        shelf = BackupBuilder(store)
        old = [shelf.add(age * DAY) for age in (3, 2, 1)]
        shelf.add(0 * DAY)
        assert prune(LAST, None, store, lambda _: None, NOW).backups == old
        assert proxy.count("HEAD") == proxy.count("GET", r"\?(legal-hold|retention)") == 0
        assert proxy.count("GET", r"\?object-lock") == 1 + proxy.count("POST", r"\?delete")
        assert proxy.count("POST", r"\?delete") == 2
        assert find_holds(store) == {}
        store.close()


def test_a_run_reads_each_manifest_once(s3_bucket: StoreBucket) -> None:
    """The jobs of a run belong to the same cluster. Each job backs up a database, and then removes old backups."""
    store = open_backend(s3_bucket.url)
    shelf = BackupBuilder(store)
    counts = []
    for databases in (2, 4):
        names = [f"db{number}" for number in range(databases)]
        for name in names:
            for age in (3, 2):
                shelf.add(age * DAY, name, job=name)
        shelf.add_cluster(3 * DAY)
        with FaultyProxy(s3_bucket.endpoint) as proxy:
            results = list(run([job(name, s3_bucket.url_at(proxy.url), shelf) for name in names], lambda _: ignore))
            assert [result.error for result in results] == [None] * databases
            assert [result.removed for result in results] == [2] * databases
            read = [one.path for one in proxy.requests if one.method == "GET" and ".json" in one.path]
            assert len(read) == len(set(read)), "no manifest was read twice"
            counts.append(len(proxy.requests))
        assert {ref.database for ref in shelf.committed()} >= {*names, CLUSTER}
        store.delete([info.key for info in store.list()])
    assert counts[0] < counts[1] <= 2 * counts[0] + ROUNDING
    store.close()


def ignore(_: object) -> None:
    pass


def job(name: str, url: str, shelf: BackupBuilder) -> Job:
    """Return a job that backs up a database and keeps its last backup. No server is needed."""

    def back_up(stores: object, notify: object) -> BackupResults:
        ref = shelf.add(DAY, name, job=name)
        return [Committed(shelf.manifest(ref), shelf.digest(ref))]

    return Job(
        name=name,
        request=BackupRequest(Conninfo.parse("dbname=" + name), cluster="prod"),
        whole_server=False,
        agree=lambda: None,
        back_up=back_up,
        destinations={"bucket": DestinationSettings(url=url)},
        verify=None,
        proof=ProofRequest(),
        retention=LAST.policy,
    )
