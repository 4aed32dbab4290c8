"""Tests of the checks of an audit, over facts that no store has to have: which findings a database has, and which backups count."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from support.audit_facts import LAST_NIGHT, NOW, STORE, attestation, backup, database, nights, stored

from pipeline.audit.checks.subject import span_in_words
from pipeline.audit.examine import Window, examine_copy, examine_database
from pipeline.audit.facts import BackupFacts, DatabaseFacts
from pipeline.audit.names import SEVERITIES
from pipeline.audit.policy import Policy
from pipeline.audit.report import DatabaseAudit, NightState, Severity
from pipeline.catalog.keys import BackupRef
from pipeline.trust.chain import Node
from pipeline.trust.statement import Link, Reference
from storage_backends.holds import ObjectLock

COPY = "gs://copy/postgres"


def examine(
    *copies: DatabaseFacts, ignore: Sequence[dict[str, Any]] = (), days: int = 30, **expected: Any
) -> DatabaseAudit:
    policy = Policy.model_validate({"defaults": expected, "ignore": list(ignore)})
    window = Window(NOW.date() - timedelta(days=days - 1), NOW)
    read = [examine_copy(one, policy.defaults, window, None) for one in copies]
    removed = [
        LAST_NIGHT - timedelta(days=day) for day in {node.link.sequence for one in copies for node in one.removed}
    ]
    return examine_database("prod", copies[0].database, read, removed, policy, window)


def names(found: DatabaseAudit) -> list[str]:
    assert all(one.severity is SEVERITIES[one.name] for one in found.findings)
    return [one.name for one in found.findings]


def sentence(found: DatabaseAudit) -> str:
    [finding] = found.findings
    return finding.sentence


def test_good_backups_are_no_finding_without_a_policy() -> None:
    found = examine(database(nights(0, 1, 2, 3, 10)))
    assert names(found) == []
    assert found.rpo is None
    assert found.last_good == found.backups[-1]


# Coverage


@pytest.mark.parametrize(
    ("made", "expected", "found"),
    [
        ((0, 1, 2), {"rpo": "26h"}, []),
        ((1.1, 2), {"rpo": "26h"}, ["overdue"]),
        ((2.1, 3), {"schedule": "daily", "kept_for": "3d"}, ["overdue", "missed"]),
        ((0, 3), {"rpo": "26h"}, ["rpo-missed"]),
        ((0, 3), {"rpo": "26h", "schedule": "daily"}, ["missed"]),
        ((0, 1, 2, 9), {"schedule": "daily", "kept_for": "3d"}, []),
        ((0, 40), {"schedule": "daily", "kept_for": "1d"}, []),
        ((0, 7, 14), {"schedule": "weekly"}, []),
        ((0, 21), {"schedule": "weekly", "rpo": "30d"}, ["missed"]),
        ((0, 4, 7), {"schedule": ["monday", "thursday"]}, []),
        ((0, 7), {"schedule": ["monday", "thursday"]}, ["missed"]),
        ((0, 22), {"schedule": "monthly"}, []),
        ((40,), {"schedule": "monthly"}, []),
        ((0.2, 0.3, 0.4), {"rpo": "4h"}, ["overdue"]),
    ],
)
def test_gaps_against_schedule_and_rpo(made: tuple[float, ...], expected: dict[str, Any], found: list[str]) -> None:
    assert names(examine(database(nights(*made)), **expected)) == found


def test_nights_of_a_gap_are_missing() -> None:
    found = examine(database(nights(0, 3)), schedule="daily", days=6)
    assert sentence(found) == "prod/shop has no good backup from 2026-11-21 to 2026-11-22 (2 days)."
    assert [state for _, state in found.nights] == [
        NightState.NOT_EXPECTED,
        NightState.NOT_EXPECTED,
        NightState.GOOD,
        NightState.MISSING,
        NightState.MISSING,
        NightState.GOOD,
    ]
    assert [found.nights[0][0], found.nights[-1][0]] == [date(2026, 11, 18), date(2026, 11, 23)]


def test_a_removed_backup_was_made() -> None:
    link = Link(writer="db1", sequence=1, predecessor=None)
    removed = Node("20261122T020000Z-aaaaaa", "1" * 64, link, pruned_at=NOW)
    found = examine(database(nights(0, 2), removed=[removed]), schedule="daily")
    assert names(found) == []
    assert found.nights[-2:-1] == [(date(2026, 11, 22), NightState.GOOD)]


def test_a_forged_time_makes_no_gap() -> None:
    forged = backup(20, of_backup={"problem": "No.", "fault": "untrusted"})
    assert names(examine(database([forged, *nights(1, 0)]), schedule="daily")) == ["untrusted"]


def test_a_backup_that_is_not_believed_fills_no_gap() -> None:
    bad = backup(0, of_backup={"problem": "The manifest is not believed.", "fault": "untrusted"})
    found = examine(database([*nights(2, 1), bad]), rpo="26h")
    assert names(found) == ["untrusted", "overdue"]
    assert found.backups[-1].doubt == "The manifest is not believed."
    assert found.nights[-1][1] is NightState.DOUBTED


def test_partial_backups_count_only_if_the_policy_says_so() -> None:
    partial = database(nights(0, 1, partial=True))
    assert names(examine(partial, rpo="26h")) == ["only-partial"]
    assert names(examine(partial, rpo="26h", partial=True)) == []


def test_a_database_without_backups() -> None:
    window = Window(date(2026, 11, 20), NOW)
    policy = Policy.model_validate({"databases": {"prod/shop": {"schedule": "daily"}}})
    required, other = (examine_database("prod", name, (), (), policy, window) for name in ("shop", "old"))
    assert names(required) == ["no-backup"]
    assert [state for _, state in required.nights] == [NightState.MISSING] * 3 + [NightState.NOT_EXPECTED]
    assert names(other) == ["no-backups-left"]


def test_copies_are_counted_over_stores() -> None:
    here = database(nights(0, 1, 2))
    assert names(examine(here, stores=2)) == ["few-copies"]
    whole, late = (replace(database(nights(*made)), store=COPY) for made in ((0, 1, 2), (1, 2)))
    assert names(examine(here, whole, stores=2)) == []
    assert names(examine(here, late, stores=2)) == ["few-copies"]
    assert names(examine(here, late, stores=2, rpo="48h")) == []
    broken = replace(whole, objects=())
    assert "few-copies" in names(examine(here, broken, stores=2))


# Records


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"manifest": None, "problem": "It is damaged."}, "unreadable-manifest"),
        ({"problem": "Its time is in the future."}, "implausible"),
        ({"problem": "It is swapped.", "fault": "swapped"}, "swapped"),
        ({"problem": "It is not signed.", "fault": "unsigned"}, "unsigned"),
        ({"manifest": None, "problem": "It is damaged.", "fault": "unsigned"}, "unreadable-manifest"),
        ({"manifest": None, "problem": "It is damaged.", "fault": "swapped"}, "swapped"),
    ],
)
def test_a_backup_that_is_not_believed_does_not_count(fields: dict[str, Any], name: str) -> None:
    found = examine(database([backup(1), backup(0, of_backup=fields)]))
    assert names(found) == [name]
    assert [one.doubt for one in found.backups] == [None, fields["problem"]]
    assert found.last_good == found.backups[0]


def test_unsigned_backups_are_one_finding() -> None:
    found = examine(database([*nights(*range(1, 30), of_backup={"problem": "No.", "fault": "unsigned"}), backup(0)]))
    assert sentence(found) == "29 backups of prod/shop are not signed; the newest is 20261122T020000Z-aaaaaa."


def test_many_findings_of_a_kind_are_counted() -> None:
    found = examine(database([*nights(*range(1, 30), of_backup={"problem": "No.", "fault": "swapped"}), backup(0)]))
    assert names(found) == ["swapped"] * 11
    assert found.findings[-1].sentence == "prod/shop has 19 more findings of the kind swapped."


def test_a_long_name_does_not_fill_the_report() -> None:
    found = examine(database([backup(0)], odd=["manifests/" + "x" * 100_000]))
    assert len(sentence(found)) <= 1001


def test_the_chain_is_examined() -> None:
    first = Node(backup(1).ref.backup_id, "1" * 64, Link(writer="db1", sequence=1, predecessor=None), NOW)
    gone = Reference(backup_id="20261122T120000Z-aaaaaa", sequence=2, sha256="2" * 64)
    second = Node(backup(0).ref.backup_id, "3" * 64, Link(writer="db1", sequence=3, predecessor=gone), NOW)
    facts = database([backup(1, of_backup={"node": first}), backup(0, of_backup={"node": second})])
    found = examine(facts)
    assert names(found) == ["gap"]
    assert found.findings[0].backup_id == gone.backup_id
    [copy] = [examine_copy(facts, Policy().defaults, Window(NOW.date(), NOW), None)]
    assert [(head.store, head.backup_id, head.statement_sha256) for head in copy.heads] == [
        (STORE, second.backup_id, "3" * 64)
    ]
    assert all(one.signed for one in found.backups)


def test_odd_names_and_tombstones_are_findings() -> None:
    found = examine(
        database([backup(0)], odd=["manifests/x"], odd_tombstones=[("pruned/x", "No trusted key signed it.")])
    )
    assert names(found) == ["untrusted", "odd-name"]


# Objects


def test_missing_and_altered_objects_are_damage() -> None:
    old, new = nights(1, 0)
    for objects, name in (
        (stored(old), "object-missing"),
        ([*stored(old), *stored(new, size=999)], "object-altered"),
        ([*stored(old), *stored(new, checksum="md5:bb")], "object-altered"),
    ):
        found = examine(database([old, new], objects=objects))
        assert names(found) == [name]
        assert found.last_good == found.backups[0]
    for objects in ([*stored(old), *stored(new, checksum=checksum)] for checksum in (None, "crc32c:bb")):
        assert names(examine(database([old, new], objects=objects))) == []


def test_a_folder_that_can_not_be_listed_lacks_nothing() -> None:
    found = examine(database([backup(0)], objects=(), unlisted=["data/"]))
    assert names(found) == []


def test_orphans_are_old_and_belong_to_no_backup() -> None:
    left, young = backup(5), backup(0.5)
    kept = backup(1)
    there = [*stored(kept), *stored(left), *stored(young)]
    found = examine(database([kept], objects=there))
    assert sentence(found) == (
        "1 object of prod/shop belongs to no backup, such as data/prod/shop/20261118T020000Z-aaaaaa/0001.zst; "
        "pgstow gc removes such objects."
    )
    reused = backup(0, objects=left.manifest.objects if left.manifest else ())
    assert names(examine(database([kept, reused], objects=there))) == []
    unreadable = backup(0, of_backup={"manifest": None, "problem": "It is damaged."})
    assert names(examine(database([kept, unreadable], objects=there))) == ["unreadable-manifest"]


def test_members_of_a_whole_server_must_be_good() -> None:
    member = BackupRef("prod", "shop", backup(0).ref.backup_id)
    whole = database([backup(0, database="@cluster", kind="cluster", tables={}, objects=(), members=(member,))])
    expected, window = Policy().defaults, Window(NOW.date(), NOW)
    assert examine_copy(whole, expected, window, {member}).findings == []
    lacking = examine_copy(whole, expected, window, set())
    assert [one.name for one in lacking.findings] == ["member-missing"]
    assert lacking.backups[0].doubt


# Verifications


def of_last_night(*attestations: dict[str, Any]) -> DatabaseFacts:
    return database([backup(0, attestations=[attestation(backup(0), **each) for each in attestations])])


BAD = {"good": False, "problems": ["0001.zst is missing."]}


@pytest.mark.parametrize(
    ("attestations", "found", "verified"),
    [
        ([{"level": "bytes"}], [], "bytes"),
        ([{"level": "restore"}, {"level": "objects"}], [], "restore"),
        ([{"level": "bytes", **BAD}], ["damaged"], None),
        ([{"level": "restore"}, {"level": "bytes", **BAD}], ["damaged"], "restore"),
        ([{"level": "bytes", **BAD}, {"level": "objects"}], ["damaged"], "objects"),
        ([{"level": "bytes", **BAD}, {"level": "archive"}], [], "archive"),
        ([{"level": "bytes", "good": False, "unreadable": ["No answer."]}], ["unreadable"], None),
        ([{"level": "bytes", "good": False, "replaced": ["Overwritten."]}], ["overwritten"], None),
    ],
)
def test_the_verification_that_counts(
    attestations: list[dict[str, Any]], found: list[str], verified: str | None
) -> None:
    result = examine(of_last_night(*attestations))
    assert names(result) == ([*found, "no-backup"] if found == ["damaged"] else found)
    assert result.backups[0].verified == verified
    assert (result.backups[0].doubt is not None) == (found == ["damaged"])


def test_proofs_are_recent_and_fast_enough() -> None:
    facts = of_last_night({"days_ago": 6, "minutes": 90})
    assert names(examine(facts, proven_within="8d", rto="2h")) == []
    assert names(examine(facts, proven_within="5d", rto="1h")) == ["not-proven", "slow-restore"]
    assert names(examine(of_last_night(), proven_within="8d")) == ["not-proven"]
    assert names(examine(of_last_night({"level": "archive"}), rto="1h")) == ["not-proven"]
    found = examine(facts)
    assert found.last_proof is found.backups[0]
    assert examine(of_last_night({}, {"level": "bytes", **BAD})).last_proof is None
    assert found.backups[0].restore_seconds == 90 * 60
    assert found.nights[-1][1] is NightState.PROVEN


# The policy


def test_sealing_and_recipients_are_judged_in_the_audited_time() -> None:
    facts = database([backup(40), backup(2, recipients=["age1a"]), backup(1, recipients=["age1a", "age1b"]), backup(0)])
    assert sentence(examine(facts, sealed=True)) == (
        "1 backup of prod/shop is not sealed; the newest is 20261123T020000Z-aaaaaa."
    )
    assert names(examine(database([backup(0, objects=())]), sealed=True)) == [], "there is nothing to seal"
    found = examine(facts, recipients=["age1a"])
    assert names(found) == ["not-sealed", "other-recipients"]
    assert [one.backup_id for one in found.findings] == [backup(0).ref.backup_id, backup(1).ref.backup_id]


@pytest.mark.parametrize(
    ("lock", "listed", "asked_for", "found"),
    [
        (None, None, None, ["not-locked"]),
        (None, None, 30, []),
        (None, None, 29, ["not-locked"]),
        (None, 30, None, []),
        (None, 10, 30, ["not-locked"]),
        (ObjectLock(), None, 30, ["not-locked"]),
        (ObjectLock(LAST_NIGHT + timedelta(days=31)), None, None, []),
        (ObjectLock(needs=("s3:GetObjectRetention",)), None, 30, []),
        (ObjectLock(held=True), None, None, []),
    ],
)
def test_locks(lock: ObjectLock | None, listed: int | None, asked_for: int | None, found: list[str]) -> None:
    until, asked = (LAST_NIGHT + timedelta(days=days) if days else None for days in (listed, asked_for))
    one = backup(0, retained_until=asked, of_backup={"lock": lock})
    assert names(examine(database([one], objects=stored(one, retained_until=until)), locked_for="30d")) == found


# Silent loss


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([1000, 1100, 1200], []),
        ([1000, 1000, 101], []),
        ([1000, 1000, 100], ["rows-fell"]),
        ([1000, 1000, 0], ["rows-fell"]),
        ([1000, 1000, None], ["table-vanished"]),
        ([0, 50, 0], []),  # a queue is often empty
        ([1000, 0, 0], ["rows-fell"]),  # one finding, for the backup that lost the rows
        ([None, 500, 0], ["rows-fell"]),
    ],
)
def test_tables_that_lose_their_rows(rows: list[int | None], found: list[str]) -> None:
    backups = [
        backup(2 - place, tables={"public.a": 7} | ({} if number is None else {"public.order": number}))
        for place, number in enumerate(rows)
    ]
    assert names(examine(database(backups))) == found
    assert names(examine(database(backups), volatile=["public.ord*"])) == []


def test_loss_is_told_once_and_not_for_ever() -> None:
    backups = [backup(day, tables={"public.order": 1000 if day > 10 else 1}) for day in range(20, -1, -1)]
    assert sentence(examine(database(backups))) == (
        "1 table lost at least 90% of the rows in the backup 20261113T020000Z-aaaaaa of prod/shop: public.order (1,000 to 1)."
    )
    assert names(examine(database(backups), days=5)) == []


def test_backups_that_are_far_smaller_or_faster() -> None:
    usual = nights(4, 3, 2, 1)
    small = backup(0, size=4_000_000, finished_at=LAST_NIGHT + timedelta(seconds=59))
    found = examine(database([*usual, small]))
    assert names(found) == ["shrunk", "fast"]
    assert found.nights[-1][1] is NightState.DOUBTED
    assert found.last_good is found.backups[-1]
    assert names(examine(database([*usual, small]), size_share=30, duration_share=9)) == []
    assert names(examine(database([*usual[:2], small]))) == []
    little = [
        backup(days, size=1_000_000, finished_at=LAST_NIGHT - timedelta(days=days, seconds=-59))
        for days in (4, 3, 2, 1)
    ]
    assert names(examine(database([*little, backup(0, size=1, finished_at=LAST_NIGHT)]))) == []


def test_only_alike_backups_are_compared() -> None:
    usual = nights(4, 3, 2, 1)
    for fields in ({"job": None}, {"partial": True}):
        odd = backup(0, size=1, tables={}, **fields)
        assert names(examine(database([*usual, odd]), partial=True)) == []


def test_an_unsigned_backup_of_another_cluster() -> None:
    assert names(examine(database([backup(1), backup(0, system_identifier="8")]))) == ["other-system"]
    assert names(examine(database([backup(1, system_identifier=None), backup(0, system_identifier="8")]))) == []
    node = Node(backup(0).ref.backup_id, "1" * 64, Link(writer="db1", sequence=1, predecessor=None), NOW)
    signed = backup(0, system_identifier="8", of_backup={"node": node})
    assert names(examine(database([backup(1), signed]))) == [], "the chain says so of signed backups"


def test_growth_has_the_largest_changes_first() -> None:
    first, last = ({f"public.t{number}": 100 + number * day for number in range(30)} for day in (0, 10))
    found = examine(database([backup(1, tables=first), backup(0, tables=last)]))
    assert [(one.relation, one.first_rows, one.last_rows) for one in found.growth[:2]] == [
        ("t29", 100, 390),
        ("t28", 100, 380),
    ]
    assert len(found.growth) == 20


# All


def test_an_accepted_finding_is_a_note_with_its_reason() -> None:
    bad = database([backup(1), backup(0, system_identifier="8")])
    found = examine(bad, ignore=[{"finding": "other-system", "reason": "we moved"}])
    [finding] = found.findings
    assert finding.severity is Severity.NOTE
    assert finding.sentence.endswith("The policy accepts this finding: we moved")
    assert found.nights[-1][1] is NightState.GOOD


def test_no_history_of_a_year_is_quadratic() -> None:
    """Each manifest's tables are unpacked a few times, however many backups there are."""

    class Counted(list[Any]):
        passes = 0

        def __iter__(self) -> Any:
            Counted.passes += 1
            return super().__iter__()

    def counted(one: BackupFacts) -> BackupFacts:
        assert one.manifest
        return replace(one, manifest=replace(one.manifest, tables=Counted(one.manifest.tables)))

    year = database([counted(one) for one in nights(*range(365))])
    for days, most in ((365, 365 + 2), (30, 30 + 7 + 2)):
        Counted.passes = 0
        examine(year, days=days)
        assert Counted.passes <= most


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(minutes=12, seconds=59), "12m"),
        (timedelta(hours=26), "26h"),
        (timedelta(hours=26, minutes=5), "26h 05m"),
        (timedelta(days=4, hours=5), "4 days"),
    ],
)
def test_durations_in_words(span: timedelta, words: str) -> None:
    assert span_in_words(span) == words
