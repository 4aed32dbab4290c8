"""Tests of audit.toml: what is expected of each database, and what is wrong with a file."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from pipeline.audit.policy import Policy
from pipeline.errors import ConfigInvalid
from pipeline.toml_file import TomlFile


def parse(text: str) -> Policy:
    return TomlFile(Path("audit.toml"), text).validate(Policy)


def test_later_entries_override_earlier_ones_key_by_key() -> None:
    policy = parse("""
        [defaults]
        rpo = "26h"
        sealed = true
        [databases."prod/*"]
        rpo = "2h"
        stores = 2
        [databases."prod/shop"]
        rpo = "30m"
    """)
    shop, other, elsewhere = (
        policy.expectations(cluster, name) for cluster, name in (("prod", "shop"), ("prod", "x"), ("test", "shop"))
    )
    assert (shop.rpo, shop.stores, shop.sealed) == (timedelta(minutes=30), 2, True)
    assert (other.rpo, other.stores, other.sealed) == (timedelta(hours=2), 2, True)
    assert (elsewhere.rpo, elsewhere.stores, elsewhere.sealed) == (timedelta(hours=26), 1, True)
    assert policy.required == [("prod", "shop")]


def test_a_slash_in_a_name_matches_no_other_database() -> None:
    policy = parse('[databases."a%2Fb/c"]\nsealed = true')
    assert policy.expectations("a/b", "c").sealed
    assert not policy.expectations("a", "b/c").sealed
    assert policy.required == [("a/b", "c")]


@pytest.mark.parametrize(
    ("schedule", "longest"),
    [
        ('"hourly"', timedelta(hours=2)),
        ('"daily"', timedelta(days=2)),
        ('"weekly"', timedelta(days=14)),
        ('["monday", "thursday"]', timedelta(days=8)),
        ('["sunday"]', timedelta(days=14)),
    ],
)
def test_a_schedule_implies_an_rpo(schedule: str, longest: timedelta) -> None:
    assert parse(f"[defaults]\nschedule = {schedule}").defaults.longest_gap == longest
    assert parse(f'[defaults]\nschedule = {schedule}\nrpo = "5h"').defaults.longest_gap == timedelta(hours=5)


def test_nothing_is_expected_without_a_file() -> None:
    assert Policy().expectations("prod", "shop").longest_gap is None
    assert Policy().required == []


def test_a_finding_is_accepted_by_name_database_backup_and_day() -> None:
    policy = parse("""
        [[ignore]]
        finding = "shrunk"
        databases = "prod/*"
        backup = "20261123T020000Z-aaaaaa"
        reason = "archived"
        until = 2026-12-31
        [[ignore]]
        finding = "not-listed"
        reason = "no rights"
    """)
    id_, day = "20261123T020000Z-aaaaaa", date(2026, 12, 31)

    def accepts(name: str, cluster: str | None, backup_id: str | None, today: date) -> bool:
        return policy.ignoring(name, cluster, cluster and "shop", backup_id, today) is not None

    assert accepts("shrunk", "prod", id_, day)
    assert not accepts("shrunk", "prod", id_, day + timedelta(days=1))
    assert not accepts("shrunk", "prod", None, day)
    assert not accepts("shrunk", "test", id_, day)
    assert not accepts("fast", "prod", id_, day)
    assert accepts("not-listed", None, None, day)


def test_all_problems_have_their_lines() -> None:
    text = """\
[defaults]
schedule = "dayly"
rpoo = "2h"
kept_for = "a week"
rows_fall = 101
[databases.shop]
stores = 0
[[ignore]]
finding = "shrink"
[[ignore]]
finding = "gap"
reason = ""
"""
    with pytest.raises(ConfigInvalid) as caught:
        parse(text)
    assert [problem.removeprefix("audit.toml:") for problem in caught.value.problems] == [
        '2: defaults.schedule: must be hourly, daily, weekly, monthly, or a list of days such as ["monday", "thursday"].',
        "3: defaults.rpoo: there is no such key; did you mean rpo?",
        "4: defaults.kept_for: must be a duration such as 30m, 26h, 30d or 8w.",
        "5: defaults.rows_fall: should be less than or equal to 100.",
        "6: databases.shop: must be CLUSTER/DATABASE, as pgstow list shows them.",
        "7: databases.shop.stores: should be greater than or equal to 1.",
        "8: ignore.0.reason: is missing.",
        "9: ignore.0.finding: is no name of a finding; did you mean shrunk?",
        "12: ignore.1.reason: is empty.",
    ]
