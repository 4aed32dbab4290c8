"""Somebody overwrites and deletes objects of a backup in a bucket that keeps versions. While the old versions exist, pgstow can restore it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.object_stores import StoreBucket
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import Manifest
from storage_backends import open_backend

ROWS = "SELECT count(*), sum(i) FROM t"
DOCUMENT = Path(__file__).parents[2] / "docs/recovery.md"


@pytest.fixture
def bucket(s3_locking_bucket: StoreBucket, database: Database) -> StoreBucket:
    """Return a bucket with a backup. All its objects were overwritten by bytes of the same length, and then the last was deleted."""
    database.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i")
    made = run_pgstow(
        "backup", database.conninfo, "--to", s3_locking_bucket.url, "--cluster", "prod", "--jobs", 1, "-q"
    )
    assert made.exit_code == 0, made
    client, where = s3_locking_bucket.client, {"Bucket": s3_locking_bucket.bucket}
    for stored in manifest(s3_locking_bucket).objects:
        client.put_object(**where, Key=f"{s3_locking_bucket.prefix}/{stored.key}", Body=bytes(stored.size))
    client.delete_object(**where, Key=f"{s3_locking_bucket.prefix}/{stored.key}")
    return s3_locking_bucket


def manifest(bucket: StoreBucket) -> Manifest:
    return find_backup(open_backend(bucket.url), BackupSelector())


def verify(bucket: StoreBucket, level: str, *more: object) -> Result:
    return run_pgstow("verify", "--from", bucket.url, "--level", level, "-q", *more)


def test_what_was_stored_is_restored_and_the_rest_is_told(
    bucket: StoreBucket, database: Database, empty_target: Database, tmp_path: Path
) -> None:
    objects = manifest(bucket).objects
    assert len(objects) > 1
    looked = verify(bucket, "objects")
    assert looked.exit_code == 7
    assert all("may have been overwritten" in line for line in looked.stderr_lines[:-1])
    assert "is missing" in looked.stderr_lines[-1]
    assert all("tells whether this version still exists" in line for line in looked.stderr_lines)

    for level in ("bytes", "restore"):
        read = verify(bucket, level, "--attest")
        assert read.exit_code == 7, read
        assert sum(
            "was overwritten or deleted. The backup's version" in line for line in set(read.stderr_lines)
        ) == len(objects)
        assert "is NOT AS IT WAS STORED" in read.stdout
    assert "was overwritten" in run_pgstow("list", "--from", bucket.url).stdout

    restored = run_pgstow("restore", "--from", bucket.url, "--into", empty_target.conninfo, "-q")
    assert restored.exit_code == 0, restored
    assert "was overwritten or deleted" in restored.stderr
    assert empty_target.fetch(ROWS) == database.fetch(ROWS)

    later = run_pgstow("backup", database.conninfo, "--to", bucket.url, "--cluster", "prod", "--jobs", 1, "-q")
    assert later.exit_code == 0
    pruned = run_pgstow("prune", "--from", bucket.url, "--keep-last", 2, "--yes", "-q")
    assert pruned.exit_code == 0
    assert len(json.loads(run_pgstow("list", "--from", bucket.url, "--json").stdout)) == 2


def test_without_the_version_it_is_damaged(bucket: StoreBucket, tmp_path: Path) -> None:
    [stored, *_] = manifest(bucket).objects
    key = f"{bucket.prefix}/{stored.key}"
    bucket.client.delete_object(Bucket=bucket.bucket, Key=key, VersionId=stored.version, BypassGovernanceRetention=True)
    result = verify(bucket, "bytes")
    assert result.exit_code == 7
    assert any(f"{stored.key} is not what was stored" in line for line in result.stderr_lines)
    assert "is DAMAGED: 1 of its objects" in result.stdout
    extracted = run_pgstow("restore", "--from", bucket.url, "--to-directory", tmp_path / "dump", "-q")
    assert_one_sentence(extracted, 7, "is not what was stored")


def test_by_hand(bucket: StoreBucket, tmp_path: Path) -> None:
    aws = Path(sys.executable).with_name("aws")
    if not (aws.exists() and shutil.which("jq")):
        pytest.skip("the aws command is in the extra bench, and jq isn't installed everywhere")
    made = manifest(bucket)
    (tmp_path / "objects").mkdir()
    stored = bucket.client.get_object(
        Bucket=bucket.bucket, Key=f"{bucket.prefix}/manifests/prod/{made.database}/{made.backup_id}.json"
    )
    (tmp_path / "manifest.json").write_bytes(stored["Body"].read())
    environment = {
        **os.environ,
        "PATH": f"{aws.parent}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "BUCKET": bucket.bucket,
        "PREFIX": bucket.prefix,
    }
    blocks = dict(
        re.findall(r"^```sh (versions|bring-back)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    )
    subprocess.run(["bash", "-euc", blocks["versions"]], cwd=tmp_path, env=environment, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "objects", check=True)
    subprocess.run(["bash", "-euc", blocks["bring-back"]], cwd=tmp_path, env=environment, check=True)
    assert verify(bucket, "bytes").exit_code == 0
