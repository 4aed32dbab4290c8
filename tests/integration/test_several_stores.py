"""One dump to several stores. Each store gets a whole backup, even if another store fails."""

import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from support.faulty_backups import SMALL, FaultyStore
from support.faulty_http import Fault
from support.object_stores import StoreBucket
from support.pgstow import Result, assert_nothing_left, assert_one_sentence, committed_backups, run_pgstow
from support.postgres_fixtures import Database

from pipeline.postgres.throwaway import ThrowawayCluster

BAD_INPUT, DUMP, STORE = 2, 4, 6


def run_backup(source: str, spool_dir: Path, *more: object) -> Result:
    return run_pgstow("backup", source, "--spool-dir", spool_dir, "--object-size", "64KiB", *more)


def manifests(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((folder / "manifests").rglob("*.json"))]


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_each_has_a_backup_of_its_own(
    sample_database: Database, s3_bucket: StoreBucket, spool_dir: Path, tmp_path: Path, format_: str
) -> None:
    s3_bucket.client.put_bucket_versioning(Bucket=s3_bucket.bucket, VersioningConfiguration={"Status": "Enabled"})
    stores = [tmp_path / "one", s3_bucket.url, tmp_path / "two"]
    named = [word for store in stores for word in ("--to", store)]
    result = run_backup(sample_database.conninfo, spool_dir, *named, "--format", format_, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    documents = json.loads(result.stdout)
    assert [document["store"] for document in documents] == [
        f"file://{stores[0]}",
        f"s3://{s3_bucket.bucket}/{s3_bucket.prefix}",
        f"file://{stores[2]}",
    ]
    [backup_id] = {document["backup_id"] for document in documents}
    for store in stores:
        assert committed_backups(store) == [backup_id]
        for level in ("bytes", "archive"):
            assert run_pgstow("verify", "--from", store, "--level", level).exit_code == 0
    [body] = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.bucket, Prefix=f"{s3_bucket.prefix}/manifests/")[
        "Contents"
    ]
    in_s3 = json.loads(s3_bucket.client.get_object(Bucket=s3_bucket.bucket, Key=body["Key"])["Body"].read())
    [in_folder] = manifests(tmp_path / "one")
    assert in_folder["files"] == in_s3["files"]
    assert all(stored["version"] for stored in in_s3["objects"]), "the manifest in S3 has the versions of S3"
    assert not any(stored["version"] for stored in in_folder["objects"])


def test_one_that_fails_in_the_middle(
    large_database: Database, s3: FaultyStore, spool_dir: Path, tmp_path: Path
) -> None:
    s3.proxy.fail(with_=Fault.FORBIDDEN, method="PUT", skip=10, times=math.inf)
    command = ("--to", s3.url, "--to", tmp_path, "--quiet", *SMALL)
    result = run_pgstow("backup", large_database.conninfo, "--spool-dir", spool_dir, *command)
    assert_one_sentence(
        result, STORE, "There is no backup of .* in s3://.*; the backup continues in the other stores.*AccessDenied"
    )
    assert f"objects at file://{tmp_path}." in result.stdout
    assert_nothing_left(spool_dir, large_database, s3.bucket.url)
    assert committed_backups(s3.bucket.url) == []
    assert len(committed_backups(tmp_path)) == 1


@pytest.mark.parametrize("key", ["SHA256SUMS", "manifests/"])
def test_one_that_fails_at_the_end(
    sample_database: Database, s3: FaultyStore, spool_dir: Path, tmp_path: Path, key: str
) -> None:
    s3.proxy.fail(with_=Fault.FORBIDDEN, method="PUT", path=key, times=math.inf)
    result = run_backup(sample_database.conninfo, spool_dir, "--to", s3.url, "--to", tmp_path, "--json")
    assert_one_sentence(result, STORE, "There is no backup of .* in s3://")
    failed, made = json.loads(result.stdout)
    assert "AccessDenied" in failed["problem"]
    assert committed_backups(tmp_path) == [made["backup_id"]]
    assert committed_backups(s3.bucket.url) == []


def test_a_folder_that_is_missing_costs_no_backup_elsewhere(
    database: Database, s3_bucket: StoreBucket, spool_dir: Path, tmp_path: Path
) -> None:
    """The folder may be missing because its disk isn't mounted."""
    missing = tmp_path / "mnt" / "nas"
    result = run_backup(database.conninfo, spool_dir, "--to", str(missing), "--to", s3_bucket.url, "--quiet")
    assert_one_sentence(result, STORE, f"the backup continues in the other stores.*no folder {missing}")
    assert not missing.parent.exists()
    assert len(committed_backups(s3_bucket.url)) == 1


def test_all_that_fail(large_database: Database, s3: FaultyStore, spool_dir: Path) -> None:
    s3.proxy.fail(with_=Fault.FORBIDDEN, method="PUT", times=math.inf)
    command = ("--to", "/proc/pgstow", "--to", s3.url, "--quiet", *SMALL)
    result = run_pgstow("backup", large_database.conninfo, "--spool-dir", spool_dir, *command)
    assert result.exit_code == STORE
    assert result.stdout == ""
    told, failed = result.stderr_lines
    assert "the backup continues in the other stores" in told
    assert "go on" not in failed
    assert_nothing_left(spool_dir, large_database, s3.bucket.url)
    assert committed_backups(s3.bucket.url) == []


def test_a_dump_that_fails_is_a_backup_nowhere(
    sample_database: Database, s3_bucket: StoreBucket, spool_dir: Path, tmp_path: Path
) -> None:
    where = ("--to", s3_bucket.url, "--to", tmp_path)
    result = run_backup(f"{sample_database.conninfo} user=nobody_has_this_name", spool_dir, *where)
    assert result.exit_code == 3
    assert committed_backups(s3_bucket.url) == committed_backups(tmp_path) == []


def test_a_whole_server(spool_dir: Path, tmp_path: Path, s3: FaultyStore) -> None:
    """The store that fails gets no later database and no cluster manifest. The other store gets everything."""
    with ThrowawayCluster() as server:
        for number in range(3):
            run_sql(server, f"CREATE DATABASE shop_{number}")
        s3.proxy.fail(with_=Fault.FORBIDDEN, method="PUT", path=r"shop_1/.*\.json", times=math.inf)
        where = ("--to", s3.url, "--to", tmp_path, "--quiet")
        result = run_backup(server.conninfo(), spool_dir, "--all-databases", *where)
        assert result.exit_code == STORE
        told = [line.partition(" in s3")[0] for line in result.stderr_lines]
        assert told == ["pgstow: There is no backup of shop_1", "pgstow: There is no backup of @cluster"]
        databases = [manifest["database"] for manifest in manifests(tmp_path)]
        assert databases == ["@cluster", "@globals", "postgres", "shop_0", "shop_1", "shop_2", "template1"]
        record = manifests(tmp_path)[0]
        assert len(record["members"]) == 6
        in_turn = [one["database"] for one in sorted(manifests(tmp_path), key=lambda one: one["started_at"])][1:]
        before = in_turn[: in_turn.index("shop_1")]
        assert {unquote(key.split("/")[-2]) for key in s3.keys if "/manifests/" in key} == set(before)

        s3.proxy.heal()
        result = run_backup(server.conninfo(), spool_dir, "--all-databases", "--databases-at-once", 2, *where)
        assert (result.exit_code, result.stderr) == (0, "")
    with ThrowawayCluster() as other:
        restored = run_pgstow("restore", "--all-databases", "--from", s3.bucket.url, "--into", other.conninfo())
        assert restored.exit_code == 0, restored


def run_sql(server: ThrowawayCluster, statement: str) -> None:
    Database("postgres", server.conninfo()).execute(statement)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "The command needs a store"),
        (["--to", "/a", "--to", "/a"], "named twice"),
        (["--to", "s3://a/b", "--to", "s3://c/d", "-o", "region=eu"], "leave out --store-option"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSTOW_STORE", raising=False)
    assert_one_sentence(run_pgstow("backup", "shop", *arguments), BAD_INPUT, words)


def test_a_folder_in_the_environment_may_have_spaces(
    sample_database: Database, spool_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my backups"
    folder.mkdir()
    monkeypatch.setenv("PGSTOW_STORE", str(folder))
    assert run_backup(sample_database.conninfo, spool_dir).exit_code == 0
    assert len(committed_backups(folder)) == 1
