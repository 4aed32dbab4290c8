"""A plan for one database needs only a part of the store. Documents that are known are read again only if they may have changed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.counting_store import CountingStore
from support.shelf import NOW, BackupBuilder

from pipeline.catalog.attestation import Level
from pipeline.catalog.keys import CLUSTER, GLOBALS, BackupRef
from pipeline.catalog.manifest import Member, dump_manifest
from pipeline.prune.facts import Known
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, plan
from pipeline.prune.retention import Decision
from pipeline.stages.upload import upload
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
LAST = PruneRequest(Policy(keep_last=1))
AGES = st.integers(-2, 40).map(lambda days: days * DAY)


def decide(shelf: BackupBuilder, request: PruneRequest, known: Known | None = None) -> list[Decision]:
    return plan(request, shelf.store, lambda _: None, NOW, known)


@st.composite
def shelves(draw: st.DrawFn, *, members_use_others: bool) -> BackupBuilder:
    """Return a store with backups of two clusters. Some are damaged, forged or held, can't be read, or use objects of other backups."""
    store = MemoryBackend()
    shelf = BackupBuilder(store)
    for cluster in draw(st.sampled_from([["prod"], ["prod", "test"]])):
        alone: list[BackupRef] = []
        for age, database in draw(st.lists(st.tuples(AGES, st.sampled_from(["shop", "blog"])), max_size=8)):
            uses = [ref for ref in alone if ref.database == database] if draw(st.integers(0, 3)) == 0 else []
            fields: dict[str, Any] = {"job": draw(st.sampled_from([None, "a", "b"]))}
            alone.append(shelf.add(age, database, uses=uses[-1:], cluster=cluster, **fields))
        for age in draw(st.lists(AGES, max_size=3)):
            members = []
            for name in (GLOBALS, "shop", "blog"):
                uses = [ref for ref in alone if ref.database == name and members_use_others and draw(st.booleans())]
                members.append(shelf.add(age, name, uses=uses[-1:], cluster=cluster))
            named = draw(st.one_of(st.just(members), st.lists(st.sampled_from(members), min_size=1, unique=True)))
            shelf.add(age, CLUSTER, members=named, cluster=cluster)
        if draw(st.integers(0, 3)) == 0:
            ref = shelf.ref(draw(AGES), draw(st.sampled_from(["shop", "blog", CLUSTER])), cluster)
            upload(store, ref.manifest_key, b"")
    refs = sorted((ref for key in shelf.all_keys() if (ref := BackupRef.of_manifest_key(key))), key=str)
    readable = [ref for ref in refs if store.get(ref.manifest_key)]
    for ref in draw(st.lists(st.sampled_from(readable), unique=True, max_size=4)) if readable else ():
        shelf.attest(ref, draw(st.sampled_from(list(Level))), good=draw(st.booleans()))
    for ref in draw(st.lists(st.sampled_from(refs), unique=True, max_size=2)) if refs else ():
        store.set_hold(ref.manifest_key, held=True)
    for victim in draw(st.lists(st.sampled_from(readable), max_size=3)) if readable else ():
        forge(shelf, victim, draw(st.sampled_from(["shop", "blog", CLUSTER, CLUSTER])), draw(AGES), draw(AGES))
    return shelf


def forge(shelf: BackupBuilder, victim: BackupRef, database: str, age: timedelta, began: timedelta) -> None:
    """Store a manifest without objects that names a real backup as its member. pgstow believes it only if ``age`` is ``began``."""
    ref = shelf.ref(began, database, victim.cluster)
    template = shelf.manifest(victim).model_copy(update={"objects": [], "files": [], "members": []})
    member = Member(database=victim.database, backup_id=victim.backup_id, sha256=shelf.digest(victim))
    fields = {"database": database, "backup_id": ref.backup_id, "kind": "cluster"}
    members = [] if victim.database == CLUSTER else [member]
    times = dict.fromkeys(("started_at", "snapshot_at", "finished_at"), NOW - age)
    upload(
        shelf.store, ref.manifest_key, dump_manifest(template.model_copy(update=fields | times | {"members": members}))
    )


POLICIES = st.builds(
    Policy,
    keep_last=st.integers(0, 2),
    keep_weekly=st.integers(0, 2),
    only_verified=st.sampled_from([None, Level.BYTES]),
)
REQUESTS = st.builds(
    lambda policy, cluster, database, job: PruneRequest(policy, cluster, database, job),
    POLICIES,
    st.sampled_from([None, "prod", "test"]),
    st.sampled_from(["shop", "blog", CLUSTER, None]),
    st.sampled_from([None, None, "a"]),
)


def asked_for(request: PruneRequest, decisions: list[Decision]) -> list[Decision]:
    """Return the decisions on the backups that a request covers, of the decisions on all backups of its job."""
    return [
        one
        for one in decisions
        if request.cluster in (None, one.head.cluster) and request.database in (None, one.head.database)
    ]


@settings(max_examples=100)
@given(shelves(members_use_others=False), REQUESTS)
def test_a_plan_for_a_database_has_the_decisions_of_the_plan_for_the_store(
    shelf: BackupBuilder, request: PruneRequest
) -> None:
    everything = decide(shelf, PruneRequest(request.policy, job=request.job))
    assert decide(shelf, request) == asked_for(request, everything)


@settings(max_examples=100)
@given(shelves(members_use_others=True), REQUESTS)
def test_a_plan_for_a_database_never_drops_more_than_the_plan_for_the_store(
    shelf: BackupBuilder, request: PruneRequest
) -> None:
    """A member may use objects of another backup. A request for its database doesn't cover the member, so both stay."""
    everything = asked_for(request, decide(shelf, PruneRequest(request.policy, job=request.job)))
    restricted = decide(shelf, request)
    assert [one.ref for one in restricted] == [one.ref for one in everything]
    assert {one.ref for one in everything if one.keep} <= {one.ref for one in restricted if one.keep}


def test_a_backup_that_a_member_uses_stays_until_the_member_is_asked_for() -> None:
    shelf = BackupBuilder(MemoryBackend())
    used = shelf.add(4 * DAY)
    for age in (3, 2):
        member = shelf.add(age * DAY, uses=[used] if age == 3 else [])
        shelf.add(age * DAY, CLUSTER, members=[member])
    shelf.add(DAY)
    assert used in {one.ref for one in decide(shelf, PruneRequest(LAST.policy, database="shop")) if one.keep}
    assert used in {one.ref for one in decide(shelf, LAST) if not one.keep}


def test_a_forged_cluster_manifest_hides_no_damage() -> None:
    shelf = BackupBuilder(MemoryBackend())
    refs = [shelf.add(age * DAY) for age in (3, 2, 1)]
    shelf.attest(refs[2], good=False)
    forge(shelf, refs[2], CLUSTER, age=-DAY, began=DAY)
    request = PruneRequest(LAST.policy, "prod", "shop")
    assert [one.reasons for one in decide(shelf, request)][2] == ("newer than the newest good backup",)
    assert decide(shelf, request) == asked_for(request, decide(shelf, LAST))


@settings(max_examples=50)
@given(shelves(members_use_others=True), st.lists(REQUESTS, max_size=4))
def test_what_is_known_changes_no_decision(shelf: BackupBuilder, requests: list[PruneRequest]) -> None:
    known = Known()
    for request in requests:
        assert decide(shelf, request, known) == decide(shelf, request)


def overwrite(shelf: BackupBuilder, ref: BackupRef, body: bytes) -> None:
    shelf.store.delete([ref.manifest_key])
    upload(shelf.store, ref.manifest_key, body)


@pytest.mark.parametrize(
    "change",
    [
        lambda shelf, ref: overwrite(shelf, ref, shelf.store.get(ref.manifest_key)[::-1]),
        lambda shelf, ref: shelf.store.delete([ref.manifest_key]),
        lambda shelf, ref: shelf.attest(ref, good=False),
        lambda shelf, ref: shelf.store.set_hold(ref.manifest_key, held=True),
        lambda shelf, ref: shelf.add(-DAY / 100, uses=[ref]),
    ],
    ids=["altered", "removed", "damaged", "held", "used"],
)
def test_a_change_in_the_store_is_seen_despite_what_is_known(
    change: Callable[[BackupBuilder, BackupRef], None],
) -> None:
    shelf, known = BackupBuilder(MemoryBackend()), Known()
    refs = [shelf.add(age * DAY) for age in (3, 2, 1)]
    shelf.attest(refs[1], Level.OBJECTS)
    before = decide(shelf, LAST, known)
    change(shelf, refs[0])
    after = decide(shelf, LAST, known)
    assert after == decide(shelf, LAST)
    assert after != before


def test_a_document_that_could_not_be_used_is_read_again() -> None:
    shelf = BackupBuilder(MemoryBackend())
    damaged, bad = shelf.ref(2 * DAY), shelf.add(DAY)
    upload(shelf.store, damaged.manifest_key, b"")
    upload(shelf.store, bad.attestation_key(NOW), b"")
    counting, known = CountingStore(shelf.store), Known()
    for looks in (1, 2):
        plan(LAST, counting, lambda _: None, NOW, known)
        assert counting.count("GET", damaged.manifest_key) == counting.count("GET", "attestations/") == looks
        assert counting.count("GET", bad.manifest_key) == 1


def test_a_backup_of_the_future_is_believed_as_soon_as_its_time_has_come() -> None:
    shelf, known = BackupBuilder(MemoryBackend()), Known()
    shelf.add(0 * DAY)
    for now, doubtful in ((NOW - DAY, True), (NOW, False)):
        [decision] = plan(LAST, shelf.store, lambda _: None, now, known)
        assert decision.doubtful == doubtful
