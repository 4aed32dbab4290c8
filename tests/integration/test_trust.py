"""Sealing, signing, trusted keys, proofs, locks and retention together."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.faulty_backups import FaultyStore
from support.faulty_http import Fault
from support.object_stores import StoreBucket
from support.owners import Owner, new_owner
from support.pgstow import Result, assert_nothing_left, finish, run_pgstow, start_pgstow, wait_until
from support.postgres_fixtures import Database
from support.signing import KeyFiles, make_key

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster


@pytest.fixture
def key(tmp_path: Path) -> KeyFiles:
    return make_key(tmp_path)


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return new_owner(tmp_path / "owner.key")


def run_well(*arguments: object) -> Result:
    result = run_pgstow(*arguments)
    assert result.exit_code == 0, result
    return result


def read_json(*arguments: object) -> Any:
    return json.loads(run_well(*arguments, "--json").stdout)


def test_three_nights_that_are_sealed_signed_locked_proven_and_pruned(
    sample_database: Database,
    empty_target: Database,
    postgres: ThrowawayCluster,
    s3_locking_bucket: StoreBucket,
    key: KeyFiles,
    owner: Owner,
    tmp_path: Path,
    spool_dir: Path,
) -> None:
    config = tmp_path / "pgstow.toml"

    def night(url: str, *options: object) -> Any:
        config.write_text(
            f"""
            [defaults]
            cluster = "prod"
            spool_dir = "{spool_dir}"
            verify = "archive"
            scratch = "{postgres.conninfo()}"
            [databases.shop]
            conninfo = "{sample_database.conninfo}"
            [destinations.offsite]
            url = "{url}"
            [encryption]
            recipients = ["{owner.recipient}"]
            [signing]
            key = "file:{key.private}"
            writer = "nightly"
            state_dir = "{tmp_path}/states"
            [trust]
            keys = ["{key.public}"]
            [retention.default]
            keep_last = 1
            only_verified = "archive"
            """
        )
        [outcome] = read_json("run", "--config", config, *options)["backups"]
        return outcome

    locked = s3_locking_bucket.url + "&retain_days=30"
    nights = [night(s3_locking_bucket.url), night(locked, "--verify", "restore"), night(locked)]
    assert [(one["verified"], one["removed"]) for one in nights] == [("archive", 0), ("restore", 1), ("archive", 0)]
    first, *kept = (one["backup_id"] for one in nights)

    trusted = ("--from", s3_locking_bucket.url, "--trusted-key", key.public)
    [chain] = read_json("chain", *trusted)["chains"]
    assert (chain["backups"], chain["removed"], chain["unfinished"]) == (2, 1, 0)
    assert chain["head"]["backup_id"] == kept[-1]
    listed = read_json("list", *trusted)
    assert [(one["backup_id"], one["proven"]["level"], one["proven"]["good"]) for one in listed] == [
        (kept[0], "restore", True),
        (kept[1], "archive", True),
    ]

    objects = contents(s3_locking_bucket)
    assert [name for name in objects if first in name] == [f"pruned/prod/{sample_database.name}/{first}.json"]
    records = {name for name in objects if name.startswith(("manifests/", "attestations/"))}
    assert {name for name in records if name.endswith(".json")} == {
        name.removesuffix(".sig") for name in records if name.endswith(".sig")
    }
    sealed = {name for name in objects if name.startswith(("data/", "keys/"))}
    assert {name.rpartition("/")[2] for name in sealed if not name.endswith(".age")} == {"SHA256SUMS"}
    for backup_id in kept:
        assert {name.partition("/")[0] for name in objects if backup_id in name} == {
            "data", "keys", "manifests", "attestations",
        }  # fmt: skip
    month = datetime.now(UTC) + timedelta(days=29)
    assert [name for name, until in objects.items() if until is None or until < month] == []

    run_well("restore", *trusted, "--identity", owner.identity, "--into", empty_target.conninfo)
    assert compare.contents(empty_target.conninfo) == compare.contents(sample_database.conninfo)


def contents(bucket: StoreBucket) -> dict[str, datetime | None]:
    """Return the end of the lock of each object, by its key in the store."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket)
    names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    heads = {name: bucket.client.head_object(Bucket=bucket.bucket, Key=name) for name in names}
    return {
        name.removeprefix(f"{bucket.prefix}/"): head.get("ObjectLockRetainUntilDate") for name, head in heads.items()
    }


GAPS = ["/keys/", r"\.json\.sig$", r"\.json$"]
"""The puts before which a kill leaves a gap: of the key object, of the signature, and of the manifest."""


def test_kill_9_between_the_parts_of_a_sealed_and_signed_backup(
    database: Database, s3: FaultyStore, key: KeyFiles, owner: Owner, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute("CREATE TABLE item AS SELECT 1 AS id")
    backup = ("backup", database.conninfo, "--to", s3.url, "--cluster", "prod", "--spool-dir", spool_dir, "--quiet")
    backup += ("--recipient", owner.recipient, "--sign-with", f"file:{key.private}", "--writer", "db1")
    backup += ("--state-dir", tmp_path / "states")
    trusted = ("--from", s3.url, "--trusted-key", key.public)
    parts = [{"data"}, {"data", "keys"}, {"data", "keys", "manifests"}]
    for put, stored in zip(GAPS, parts, strict=True):
        before, sent = set(s3.keys), s3.proxy.count("PUT", put)
        s3.proxy.fail(method="PUT", path=put, with_=Fault.STALL)
        with start_pgstow(*backup) as process:
            wait_until(lambda put=put, sent=sent: s3.proxy.count("PUT", put) > sent, f"the PUT of {put}")
            process.kill()
            finish(process)
        s3.proxy.heal()
        assert_nothing_left(spool_dir, database)
        left = {name.removeprefix(f"{s3.bucket.prefix}/") for name in set(s3.keys) - before}
        assert {name.partition("/")[0] for name in left} == stored
        assert read_json("list", *trusted) == []
        assert read_json("chain", *trusted) == {"chains": [], "findings": []}

    run_well(*backup)
    assert read_json("gc", "--from", s3.url, "--grace", "0h", "--yes")["removed"]["objects"] > 0
    [whole] = read_json("list", *trusted)
    assert all(whole["backup_id"] in name for name in s3.keys)
    assert read_json("chain", *trusted)["findings"] == []
    run_well("verify", *trusted, "--level", "archive", "--identity", owner.identity, "--spool-dir", spool_dir, "-q")
