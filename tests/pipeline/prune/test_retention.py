"""Tests of the plan of backups to keep: with examples, and with properties for any backups, policies and clocks."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.calls import calls

from pipeline.catalog.attestation import Level
from pipeline.catalog.keys import CLUSTER, GLOBALS, BackupRef
from pipeline.catalog.origin import DumpOptions
from pipeline.errors import InvalidRequest
from pipeline.prune.policy import Policy
from pipeline.prune.retention import Backup, Decision, plan_prune, selection_of

NOW = datetime(2026, 11, 25, 4, tzinfo=UTC)
DAY = timedelta(days=1)


def backup(moment: datetime, database: str = "shop", **fields: Any) -> Backup:
    suffix = fields.pop("suffix", "aaaaaa")
    kind = {GLOBALS: "globals", CLUSTER: "cluster"}.get(database, "database")
    ref = BackupRef("prod", database, f"{moment:%Y%m%dT%H%M%SZ}-{suffix}")
    return Backup(**{"ref": ref, "kind": kind, "snapshot_at": moment, **fields})


def daily(days: int, **fields: Any) -> list[Backup]:
    """Return a backup for each night, the newest first."""
    return [backup(NOW - number * DAY, **fields) for number in range(days)]


def kept(decisions: Sequence[Decision]) -> set[BackupRef]:
    return {one.ref for one in decisions if one.keep}


def why(decisions: Sequence[Decision], of: Backup) -> tuple[str, ...]:
    [reasons] = [one.reasons for one in decisions if one.ref == of.ref]
    return reasons


def test_the_newest_backup_of_each_day_and_month_stays() -> None:
    nights = daily(60)
    noon = backup(NOW - 12 * timedelta(hours=1))
    plan = plan_prune([*nights, noon], Policy(keep_daily=3, keep_monthly=2), NOW)
    assert kept(plan) == {nights[0].ref, noon.ref, nights[2].ref, nights[25].ref}
    assert why(plan, nights[0]) == ("newest good backup", "daily 2026-11-25", "monthly 2026-11")
    assert why(plan, noon) == ("daily 2026-11-24",)
    assert why(plan, nights[25]) == ("monthly 2026-10",)
    assert why(plan, nights[1]) == ("no rule keeps it",)


def test_spans_without_a_backup_do_not_count() -> None:
    """As in restic, the last three days that have a backup count, even if they are long ago."""
    old = [backup(NOW - number * 100 * DAY) for number in range(5)]
    assert kept(plan_prune(old, Policy(keep_daily=3), NOW)) == {one.ref for one in old[:3]}


@pytest.mark.parametrize(
    ("rule", "earlier", "later", "span"),
    [
        ("hourly", "2026-11-01T09:59:59", "2026-11-01T10:00:00", "2026-11-01 10h"),
        ("daily", "2026-11-01T23:59:59", "2026-11-02T00:00:00", "2026-11-02"),
        ("weekly", "2027-01-03T23:59:59", "2027-01-04T00:00:00", "2027-W01"),
        ("monthly", "2026-10-31T23:59:59", "2026-11-01T00:00:00", "2026-11"),
        ("yearly", "2025-12-31T23:59:59", "2026-01-01T00:00:00", "2026"),
    ],
)
def test_spans_begin_in_utc(rule: str, earlier: str, later: str, span: str) -> None:
    one, two = (backup(datetime.fromisoformat(text).replace(tzinfo=UTC)) for text in (earlier, later))
    policy, now = Policy(**{f"keep_{rule}": 2}), NOW + 365 * DAY  # type: ignore[arg-type]
    plan = plan_prune([one, two], policy, now)
    assert kept(plan) == {one.ref, two.ref}
    assert why(plan, two) == ("newest good backup", f"{rule} {span}")
    same = backup(two.snapshot_at + timedelta(seconds=1))
    assert kept(plan_prune([two, same], policy, now)) == {same.ref}


def test_keep_within_counts_back_from_the_newest_backup() -> None:
    nights = daily(10)
    plan = plan_prune(nights, Policy(keep_within=3 * DAY), NOW + 1000 * DAY)
    assert kept(plan) == {one.ref for one in nights[:3]}
    assert why(plan, nights[2]) == ("within 3 days",)


def test_backups_with_a_kept_tag_stay() -> None:
    old = backup(NOW - 900 * DAY, tags=frozenset({"before-migration", "x"}))
    plan = plan_prune([*daily(3), old], Policy(keep_tagged=frozenset({"before-migration"})), NOW)
    assert why(plan, old) == ("tagged before-migration",)
    assert len(kept(plan)) == 2


def test_partial_backups_form_their_own_series() -> None:
    whole = daily(3)
    part = replace(daily(1, suffix="bbbbbb")[0], selection=("schema",))
    plan = plan_prune([*whole, part], Policy(keep_last=1), NOW)
    assert kept(plan) == {whole[0].ref, part.ref}
    options = DumpOptions(format="directory", jobs=1, only=None)
    parts = [
        options,
        options.model_copy(update={"only": "schema"}),
        options.model_copy(update={"tables": ["a"]}),
        options.model_copy(update={"schemas": ["a"]}),
        options.model_copy(update={"exclude_databases": ["a"]}),
        options.model_copy(update={"format": "script"}),
        options.model_copy(update={"options": ["--no-comments"]}),
        options.model_copy(update={"options": ["--extension=a"]}),
        options.model_copy(update={"options": ["--an-option-of-tomorrow"]}),
    ]
    assert len({selection_of(one) for one in parts}) == len(parts)
    more = ["--strict-names", "--role=a", "--large-objects"]
    as_files = options.model_copy(update={"format": "custom", "jobs": 4, "options": more})
    assert selection_of(as_files) == selection_of(options)


def test_a_cluster_counts_as_one_backup() -> None:
    """Its members are kept or dropped together with it, and no rule counts them as separate backups."""
    everything, records = [], []
    for number in range(3):
        members = [backup(NOW - number * DAY, name) for name in (GLOBALS, "shop", "blog")]
        records.append(backup(NOW - number * DAY, CLUSTER, members=tuple(one.ref for one in members)))
        everything += [*members, records[-1]]
    alone = [backup(NOW - number * DAY, suffix="bbbbbb") for number in range(2)]
    plan = plan_prune([*everything, *alone], Policy(keep_last=1), NOW)
    assert kept(plan) == {one.ref for one in everything[:4]} | {alone[0].ref}
    assert why(plan, everything[0]) == (f"member of the kept cluster backup {records[0].ref.backup_id}",)
    assert why(plan, everything[4]) == (f"member of the dropped cluster backup {records[1].ref.backup_id}",)


def test_a_cluster_that_lacks_a_member_is_not_good() -> None:
    lone = backup(NOW - DAY, "shop")
    broken = backup(NOW - DAY, CLUSTER, members=(lone.ref, backup(NOW - DAY, "gone").ref))
    whole = backup(NOW, CLUSTER, members=())
    plan = plan_prune([lone, broken, whole], Policy(keep_last=5), NOW)
    assert why(plan, broken) == ("a member is missing",)
    assert kept(plan) == {whole.ref}


def test_with_only_verified_other_backups_do_not_count() -> None:
    nights = daily(6)
    nights[2] = replace(nights[2], verified=Level.RESTORE)
    nights[3] = replace(nights[3], verified=Level.BYTES)
    nights[4] = replace(nights[4], verified=Level.ARCHIVE)
    plan = plan_prune(nights, Policy(keep_last=2, only_verified=Level.ARCHIVE), NOW)
    assert kept(plan) == {nights[number].ref for number in (0, 1, 2, 4)}
    assert why(plan, nights[0]) == ("newer than the newest good backup",)
    assert why(plan, nights[2]) == ("newest good backup", "last 2")
    assert why(plan, nights[3]) == ("not verified at level archive or higher",)
    assert why(plan, nights[5]) == ("not verified at level archive or higher",)


def test_all_backups_stay_if_none_is_good() -> None:
    nights = daily(4)
    plan = plan_prune(nights, Policy(keep_last=1, only_verified=Level.BYTES), NOW)
    assert [one.reasons for one in plan] == [("no good backup yet",)] * 4


def test_for_scripts_of_a_server_level_archive_is_enough() -> None:
    globals_ = [backup(NOW - number * DAY, GLOBALS, verified=Level.ARCHIVE) for number in range(2)]
    plan = plan_prune(globals_, Policy(keep_last=1, only_verified=Level.RESTORE), NOW)
    assert kept(plan) == {globals_[0].ref}
    members = (globals_[0].ref, backup(NOW, "shop").ref)
    for level in (Level.RESTORE, Level.ARCHIVE):
        record = backup(NOW, CLUSTER, members=members)
        shop = backup(NOW, "shop", verified=level)
        plan = plan_prune([globals_[0], shop, record], Policy(keep_last=1, only_verified=Level.RESTORE), NOW)
        good = "last 1" in why(plan, record)
        assert good == (level is Level.RESTORE)


def test_a_damaged_backup_is_not_the_newest_good_backup() -> None:
    nights = daily(3)
    nights[0] = replace(nights[0], damaged=True)
    nights[2] = replace(nights[2], damaged=True)
    plan = plan_prune(nights, Policy(keep_last=1), NOW)
    assert why(plan, nights[0]) == ("newer than the newest good backup",)
    assert why(plan, nights[1]) == ("newest good backup", "last 1")
    assert why(plan, nights[2]) == ("damaged",)


def test_an_unreadable_backup_replaces_no_other_and_stays() -> None:
    newest, second, third, fourth = daily(4)
    unread: dict[str, Any] = {"unread_at": NOW}

    plan = plan_prune([replace(newest, **unread), second, third, fourth], Policy(keep_last=1), NOW)
    assert kept(plan) == {newest.ref, second.ref}
    unproven = "on 2026-11-25, a part could not be read as it was stored"
    assert why(plan, newest) == ("newer than the newest good backup", f"last 1, though {unproven}")

    plan = plan_prune([newest, replace(second, **unread), third, fourth], Policy(keep_last=2), NOW)
    assert kept(plan) == {newest.ref, second.ref, third.ref}
    assert why(plan, second) == (f"last 2, though {unproven}",)

    plan = plan_prune([newest, second, replace(third, **unread), fourth], Policy(keep_last=2), NOW)
    assert kept(plan) == {newest.ref, second.ref}
    assert why(plan, third) == (unproven,)

    plan = plan_prune([replace(one, **unread) for one in daily(4)], Policy(keep_last=1), NOW)
    assert all(one.keep for one in plan)


def test_a_cluster_with_an_unreadable_member_is_unproven() -> None:
    old, new = ([backup(moment, name) for name in (GLOBALS, "shop")] for moment in (NOW - DAY, NOW))
    new[1] = replace(new[1], unread_at=NOW)
    records = [backup(two[0].snapshot_at, CLUSTER, members=tuple(one.ref for one in two)) for two in (old, new)]
    plan = plan_prune([*old, *new, *records], Policy(keep_last=1), NOW)
    assert all(one.keep for one in plan)


def test_locked_backups_stay() -> None:
    nights = daily(4)
    nights[1] = replace(nights[1], retained_until=NOW + DAY)
    nights[2] = replace(nights[2], retained_until=NOW)
    nights[3] = replace(nights[3], held=True)
    plan = plan_prune(nights, Policy(keep_last=1), NOW)
    assert why(plan, nights[1]) == ("locked until 2026-11-26 04:00:00Z",)
    assert why(plan, nights[3]) == ("legal hold",)
    assert kept(plan) == {nights[0].ref, nights[1].ref, nights[3].ref}


def test_a_locked_member_keeps_all_of_its_cluster() -> None:
    member = backup(NOW - DAY, "shop", held=True)
    old = backup(NOW - DAY, CLUSTER, members=(member.ref,))
    plan = plan_prune([member, old, backup(NOW, CLUSTER)], Policy(keep_last=1), NOW)
    assert why(plan, old) == ("legal hold",)
    assert member.ref in kept(plan)


def test_backups_whose_objects_a_kept_backup_uses_stay() -> None:
    nights = daily(4)
    nights[0] = replace(nights[0], uses=frozenset({nights[1].ref}))
    nights[1] = replace(nights[1], uses=frozenset({nights[2].ref}))
    plan = plan_prune(nights, Policy(keep_last=1), NOW)
    assert why(plan, nights[1]) == (f"objects used by {nights[0].ref.backup_id}",)
    assert why(plan, nights[2]) == (f"objects used by {nights[1].ref.backup_id}",)
    assert kept(plan) == {one.ref for one in nights[:3]}


def test_a_backup_with_an_unreadable_manifest_stays_with_all_that_it_may_need() -> None:
    nights, others = daily(3), daily(3, database="blog")
    unreadable = BackupRef("prod", "shop", "20261101T000000Z-cccccc")
    plan = plan_prune([*nights, *others], Policy(keep_last=1), NOW, [unreadable])
    assert kept(plan) == {unreadable, others[0].ref, *(one.ref for one in nights)}
    assert why(plan, nights[2]) == (f"perhaps used by {unreadable.backup_id}, whose manifest can't be read",)
    [told] = [one for one in plan if one.ref == unreadable]
    assert told.reasons == ("its manifest can't be read",)
    more = [replace(unreadable, backup_id=f"20261101T000000Z-{number:06x}") for number in range(2)]
    plan = plan_prune([*nights, *others], Policy(keep_last=1), NOW, [unreadable, *more])
    assert why(plan, nights[2]) == (
        f"perhaps used by {unreadable.backup_id} and 2 more, whose manifests can't be read",
    )
    of_cluster = replace(unreadable, database=CLUSTER)
    plan = plan_prune([*nights, *others], Policy(keep_last=1), NOW, [of_cluster])
    assert len(kept(plan)) == 7


def test_backups_from_the_future_stay_and_replace_no_other() -> None:
    nights = daily(3)
    future = [backup(NOW + number * 400 * DAY) for number in (1, 2)]
    policy = Policy(keep_last=2, keep_within=2 * DAY)
    plan = plan_prune([*nights, *future], policy, NOW)
    assert kept(plan) == {one.ref for one in future} | kept(plan_prune(nights, policy, NOW))
    assert why(plan, future[0]) == ("from the future, by this machine's clock",)


def test_an_empty_policy_keeps_everything() -> None:
    assert len(kept(plan_prune(daily(3), Policy(only_verified=Level.BYTES), NOW))) == 3
    assert Policy(only_verified=Level.BYTES).is_empty
    with pytest.raises(InvalidRequest, match="can't be negative"):
        Policy(keep_daily=-1)


@pytest.mark.parametrize("database", ["shop", CLUSTER])
def test_the_work_grows_no_faster_than_the_number_of_backups(database: str) -> None:
    """Half of the manifests can't be read. The others describe whole servers, their members, and single backups."""

    def work(number: int) -> int:
        backups = daily(number, suffix="bbbbbb")
        for moment in (one.snapshot_at for one in daily(number)):
            members = [backup(moment, name) for name in (GLOBALS, "shop")]
            backups += [*members, backup(moment, CLUSTER, members=tuple(one.ref for one in members))]
        unreadable = [replace(one.ref, database=database) for one in daily(4 * number, suffix="cccccc")]
        policy = Policy(keep_last=3, keep_daily=number, keep_monthly=number)
        return calls(lambda: plan_prune(backups, policy, NOW, unreadable))

    assert work(200) < 2.2 * work(100)


MOMENTS = st.integers(0, 24 * 900).map(lambda hours: NOW + DAY - timedelta(hours=hours))
"""From two and a half years ago to a day ahead of now."""
COUNTS = st.integers(0, 4)
UNHURRIED = settings(max_examples=50)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy(
        keep_last=draw(COUNTS),
        keep_hourly=draw(COUNTS),
        keep_daily=draw(COUNTS),
        keep_weekly=draw(COUNTS),
        keep_monthly=draw(COUNTS),
        keep_yearly=draw(COUNTS),
        keep_within=draw(st.integers(0, 40).map(lambda days: days * DAY)),
        keep_tagged=draw(st.frozensets(st.sampled_from("xy"))),
        only_verified=draw(st.sampled_from([None, *Level])),
    )


@st.composite
def stores(draw: st.DrawFn) -> list[Backup]:
    """Return single backups and clusters. Some are damaged, proven or locked, or use objects of other backups."""
    found: list[Backup] = []

    def add(moment: datetime, database: str, **fields: Any) -> Backup:
        one = backup(
            moment,
            database,
            suffix=f"{len(found):06x}",
            selection=draw(st.sampled_from([(), (), ("schema",)])),
            tags=draw(st.frozensets(st.sampled_from("xy"), max_size=1)),
            verified=draw(st.sampled_from([None, *Level])),
            damaged=draw(st.booleans()) and draw(st.booleans()),
            unread_at=draw(st.sampled_from([None, None, NOW])),
            held=draw(st.integers(0, 9)) == 0,
            retained_until=draw(st.sampled_from([None, None, None, NOW - DAY, NOW + DAY])),
            uses=frozenset({draw(st.sampled_from(found)).ref})
            if found and draw(st.integers(0, 5)) == 0
            else frozenset(),
            **fields,
        )
        found.append(one)
        return one

    for moment in draw(st.lists(MOMENTS, max_size=8)):
        add(moment, draw(st.sampled_from(["shop", "blog"])))
    for moment in draw(st.lists(MOMENTS, max_size=4)):
        members = [add(moment, name) for name in (GLOBALS, "shop")]
        missing = [backup(moment, "gone").ref] if draw(st.integers(0, 4)) == 0 else []
        add(moment, CLUSTER, members=(*(one.ref for one in members), *missing))
    return draw(st.permutations(found))


def heads(backups: Sequence[Backup]) -> list[Backup]:
    members = {ref for one in backups for ref in one.members}
    return [one for one in backups if one.ref not in members]


def is_good(one: Backup, policy: Policy, backups: Sequence[Backup]) -> bool:
    """True if the backup is good. This is written independently of the code under test."""
    by_ref = {each.ref: each for each in backups}
    if one.damaged or one.unread_at:
        return False
    if one.members:
        return all(ref in by_ref and is_good(by_ref[ref], policy, ()) for ref in one.members)
    if policy.only_verified is None:
        return True
    levels = list(Level)
    least = levels.index(policy.only_verified)
    if one.kind != "database":
        least = min(least, levels.index(Level.ARCHIVE))
    return one.verified is not None and levels.index(one.verified) >= least


@UNHURRIED
@given(stores(), policies())
def test_the_newest_good_backup_of_each_series_stays(backups: list[Backup], policy: Policy) -> None:
    stays = kept(plan_prune(backups, policy, NOW))
    newest: dict[object, Backup] = {}
    for one in heads(backups):
        if one.snapshot_at <= NOW and is_good(one, policy, backups):
            series = (one.ref.database, one.selection)
            newest[series] = max(newest.get(series, one), one, key=lambda each: (each.snapshot_at, each.ref.backup_id))
    assert {one.ref for one in newest.values()} <= stays


@UNHURRIED
@given(stores(), policies())
def test_a_series_without_a_good_backup_loses_none(backups: list[Backup], policy: Policy) -> None:
    stays = kept(plan_prune(backups, policy, NOW))
    good = {(one.ref.database, one.selection) for one in heads(backups) if is_good(one, policy, backups)}
    for one in heads(backups):
        if (one.ref.database, one.selection) not in good:
            assert one.ref in stays


@UNHURRIED
@given(stores(), policies())
def test_no_kept_backup_loses_objects_that_it_uses(backups: list[Backup], policy: Policy) -> None:
    stays = kept(plan_prune(backups, policy, NOW))
    there = {one.ref for one in backups}
    for one in backups:
        if one.ref in stays:
            assert (one.uses & there) <= stays


@UNHURRIED
@given(stores(), policies())
def test_members_are_kept_or_dropped_with_their_cluster(backups: list[Backup], policy: Policy) -> None:
    stays = kept(plan_prune(backups, policy, NOW))
    there = {one.ref for one in backups}
    for one in backups:
        assert {ref in stays for ref in one.members if ref in there} <= {one.ref in stays}


@UNHURRIED
@given(stores(), policies(), st.data())
def test_a_backup_that_is_not_believed_never_makes_the_plan_drop_more(
    backups: list[Backup], policy: Policy, data: st.DataObject
) -> None:
    """A forged manifest may say anything, even that real backups are its members or that it uses objects of real backups."""
    chosen = data.draw(st.lists(st.sampled_from(backups), unique_by=lambda one: one.ref) if backups else st.just([]))
    refs = [one.ref for one in backups]
    forged = [
        backup(
            NOW + data.draw(st.integers(-900, 900)) * DAY,
            data.draw(st.sampled_from(["shop", CLUSTER])),
            suffix=f"f{number:05x}",
            verified=Level.RESTORE,
            tags=frozenset("x"),
            uses=frozenset(data.draw(st.lists(st.sampled_from(refs), max_size=2))) if refs else frozenset(),
            members=tuple(data.draw(st.lists(st.sampled_from(refs), max_size=2))) if refs else (),
            doubt="It can't be.",
        )
        for number in range(data.draw(st.integers(1, 3)))
    ]
    with_forged = plan_prune([*backups, *forged], policy, NOW)
    assert {one.ref for one in forged} <= kept(with_forged)
    assert kept(plan_prune(backups, policy, NOW)) <= kept(with_forged)
    assert all(one.doubtful == (one.ref in {each.ref for each in forged}) for one in with_forged)
    doubted = {one.ref for one in chosen}
    real = [one for one in backups if one.ref not in doubted]
    partly = plan_prune([replace(one, doubt="No.") if one.ref in doubted else one for one in backups], policy, NOW)
    assert doubted <= kept(partly)
    assert kept(plan_prune(real, policy, NOW)) <= kept(partly)
    for one in backups:
        if one.ref in kept(partly):
            assert (one.uses & set(refs)) <= kept(partly)


@UNHURRIED
@given(stores(), policies(), policies())
def test_an_additional_rule_never_drops_more(backups: list[Backup], policy: Policy, other: Policy) -> None:
    assume(not policy.is_empty)
    more = Policy(
        **{
            f"keep_{rule}": max(getattr(policy, f"keep_{rule}"), getattr(other, f"keep_{rule}"))
            for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly", "within")
        },
        keep_tagged=policy.keep_tagged | other.keep_tagged,
        only_verified=policy.only_verified,
    )
    assert kept(plan_prune(backups, policy, NOW)) <= kept(plan_prune(backups, more, NOW))


@UNHURRIED
@given(stores(), policies())
def test_pruning_again_drops_nothing(backups: list[Backup], policy: Policy) -> None:
    stays = kept(plan_prune(backups, policy, NOW))
    left = [one for one in backups if one.ref in stays]
    assert kept(plan_prune(left, policy, NOW)) == stays


@UNHURRIED
@given(stores(), policies())
def test_backups_from_the_future_do_not_change_other_decisions(backups: list[Backup], policy: Policy) -> None:
    """If a clock was ahead, the backups made by it are not dropped, and they replace no other backups."""
    alone = [one for one in heads(backups) if not one.members and not one.uses]
    past = [one for one in alone if one.snapshot_at <= NOW]
    plan = plan_prune(alone, policy, NOW)
    assert {one.ref for one in alone if one.snapshot_at > NOW} <= kept(plan)
    assert kept(plan) & {one.ref for one in past} == kept(plan_prune(past, policy, NOW))


@UNHURRIED
@given(stores(), policies(), st.integers(-2000, 2000))
def test_a_series_keeps_a_good_backup_even_if_the_clock_is_wrong(
    backups: list[Backup], policy: Policy, days: int
) -> None:
    unlocked = [replace(one, retained_until=None) for one in backups]
    stays = kept(plan_prune(unlocked, policy, NOW + days * DAY))
    for series in {(one.ref.database, one.selection) for one in heads(unlocked)}:
        those = [one for one in heads(unlocked) if (one.ref.database, one.selection) == series]
        good = [one for one in those if is_good(one, policy, unlocked)]
        if good:
            assert stays & {one.ref for one in good}


@UNHURRIED
@given(stores(), policies())
def test_every_backup_gets_one_decision_with_a_reason(backups: list[Backup], policy: Policy) -> None:
    plan = plan_prune(backups, policy, NOW)
    assert sorted(one.ref.manifest_key for one in plan) == sorted(one.ref.manifest_key for one in backups)
    assert all(one.reasons for one in plan)
    assert plan == plan_prune(list(reversed(backups)), policy, NOW)
