"""pgstow in the bucket that ``terraform/examples/aws`` made, with each role's own credentials, IAM enforced."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.applied_example import BUCKET, AppliedExample
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database

from cli.errors import ExitCode
from demo import compare

pytestmark = pytest.mark.timeout(600)


def run_as(applied: AppliedExample, role: str, *arguments: object) -> Result:
    return run_pgstow(*arguments, env=applied.environment(role))


def assert_denied(result: Result) -> None:
    assert_one_sentence(result, ExitCode.STORE, "access was denied")


def manifest_of(applied: AppliedExample, backup_id: str) -> dict[str, Any]:
    s3 = applied.client("auditor")
    [key] = [
        entry["Key"]
        for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix="postgres/manifests/")["Contents"]
        if backup_id in entry["Key"]
    ]
    manifest: dict[str, Any] = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    return manifest


@pytest.fixture
def backup(applied: AppliedExample, sample_database: Database) -> str:
    """The ID of a backup that the writer made."""
    answer = run_as(
        applied, "writer", "backup", sample_database.conninfo, "--to", applied.url, "--cluster", "prod", "--json"
    )
    assert answer.exit_code == 0, answer
    backup_id: str = json.loads(answer.stdout)["backup_id"]
    return backup_id


def test_the_writer_backs_up_and_sees_what_is_there(applied: AppliedExample, backup: str) -> None:
    assert backup in run_as(applied, "writer", "list", "--from", applied.url).stdout


def test_pgstow_check_has_nothing_to_say_against_the_writer(applied: AppliedExample, sample_database: Database) -> None:
    answer = run_as(
        applied, "writer", "check", sample_database.conninfo, "--to", applied.url, "--cluster", "checked", "--json"
    )
    outcomes = {finding["subject"]: finding["outcome"] for finding in json.loads(answer.stdout)["findings"]}
    assert {name: outcomes[name] for name in ("store", "create-only", "reading", "deleting")} == {
        "store": "ok",
        "create-only": "ok",
        "reading": "ok",
        "deleting": "ok",
    }


def test_the_printed_configuration_is_one(applied: AppliedExample, sample_database: Database, tmp_path: Path) -> None:
    file = tmp_path / "pgstow.toml"
    file.write_text(applied.outputs["pgstow_toml"])
    answer = run_as(applied, "writer", "config", "check", "--config", file)
    assert (answer.exit_code, answer.stderr) == (0, "")

    file.write_text(file.read_text().replace('conninfo = "service=shop"', f'conninfo = "{sample_database.conninfo}"'))
    answer = run_as(applied, "writer", "run", "--config", file, "--json")
    assert answer.exit_code == 0, answer
    [outcome] = json.loads(answer.stdout)["backups"]
    assert outcome["backup_id"] in run_as(applied, "writer", "list", "--from", applied.url, "--cluster", "prod").stdout


def test_the_writer_reads_no_data(applied: AppliedExample, backup: str, tmp_path: Path) -> None:
    store = ("--from", applied.url, "--quiet")
    assert_denied(run_as(applied, "writer", "verify", backup, *store, "--level", "bytes"))
    assert_denied(run_as(applied, "writer", "restore", backup, *store, "--to-directory", tmp_path / "dump"))


def test_the_restorer_verifies_attests_and_restores(
    applied: AppliedExample, backup: str, sample_database: Database, empty_target: Database
) -> None:
    verified = run_as(
        applied, "restorer", "verify", backup, "--from", applied.url, "--level", "archive", "--attest", "--json"
    )
    assert verified.exit_code == 0, verified
    listed = applied.client("auditor").list_objects_v2(Bucket=BUCKET, Prefix="postgres/attestations/")
    assert any(backup in entry["Key"] for entry in listed["Contents"])
    restored = run_as(applied, "restorer", "restore", backup, "--from", applied.url, "--into", empty_target.conninfo)
    assert restored.exit_code == 0, restored
    assert compare.contents(empty_target.conninfo) == compare.contents(sample_database.conninfo)


@pytest.mark.parametrize("role", ["restorer", "auditor", "pruner"])
def test_nobody_else_backs_up(applied: AppliedExample, role: str, sample_database: Database) -> None:
    before = applied.client("admin").list_objects_v2(Bucket=BUCKET)["KeyCount"]
    assert_denied(
        run_as(applied, role, "backup", sample_database.conninfo, "--to", applied.url, "--cluster", "prod", "--quiet")
    )
    assert applied.client("admin").list_objects_v2(Bucket=BUCKET)["KeyCount"] == before


@pytest.mark.parametrize("role", ["auditor", "pruner"])
def test_who_looks_after_backups_reads_no_data(applied: AppliedExample, role: str, backup: str, tmp_path: Path) -> None:
    store = ("--from", applied.url, "--quiet")
    assert backup in run_as(applied, role, "list", "--from", applied.url).stdout
    assert run_as(applied, role, "show", backup, "--from", applied.url).exit_code == 0
    assert_denied(run_as(applied, role, "restore", backup, *store, "--to-directory", tmp_path / "dump"))
    assert_denied(run_as(applied, role, "verify", backup, *store, "--level", "bytes"))


@pytest.mark.parametrize("role", ["auditor", "pruner"])
def test_who_looks_after_backups_sees_that_all_is_there(applied: AppliedExample, role: str, backup: str) -> None:
    """By the listing: S3 tells an object's checksum only to those who may read it."""
    answer = run_as(applied, role, "verify", backup, "--from", applied.url, "--level", "objects", "--json")
    assert answer.exit_code == 0, answer
    found = json.loads(answer.stdout)
    assert found["objects"] == found["objects_without_checksum"] == len(manifest_of(applied, backup)["objects"])


def let_lock_expire(applied: AppliedExample, backup_id: str) -> None:
    """As time would."""
    s3 = applied.client("admin")
    for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        if backup_id in entry["Key"]:
            past = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) - timedelta(days=1)}
            s3.put_object_retention(Bucket=BUCKET, Key=entry["Key"], Retention=past, BypassGovernanceRetention=True)


def test_the_pruner_prunes_what_is_no_longer_locked(applied: AppliedExample, sample_database: Database) -> None:
    to = ("--to", applied.url, "--cluster", "pruned", "--json")
    expired, locked, last = [
        json.loads(run_as(applied, "writer", "backup", sample_database.conninfo, *to).stdout)["backup_id"]
        for _ in range(3)
    ]
    let_lock_expire(applied, expired)
    # Where several objects are deleted by one request, moto asks for the right to delete the bucket.
    rules = ("--from", applied.url, "-o", "checksum=md5", "--cluster", "pruned", "--keep-last", 1, "--yes")
    for role in ("writer", "restorer", "auditor"):
        denied = run_as(applied, role, "prune", *rules, "--quiet")
        assert (denied.exit_code, "access was denied" in denied.stderr) == (ExitCode.STORE, True), denied
    answer = run_as(applied, "pruner", "prune", *rules, "--json")
    assert answer.exit_code == 0, answer
    document = json.loads(answer.stdout)
    reasons = {one["backup_id"]: one["reasons"] for one in document["plan"]}
    assert document["removed"]["backups"] == [expired]
    assert reasons[locked][0].startswith("locked until")
    assert reasons[last][0] == "newest good"
    left = [entry["Key"] for entry in applied.client("admin").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert not any(expired in key for key in left)
    assert any(locked in key for key in left)


def test_the_auditor_sees_that_every_object_is_the_one_that_was_confirmed(applied: AppliedExample, backup: str) -> None:
    """By version: S3 confirmed its SHA-256 when it was put, and its bytes can't change."""
    pages = applied.client("auditor").get_paginator("list_object_versions")
    seen = {
        (version["Key"], version["VersionId"], version["Size"])
        for page in pages.paginate(Bucket=BUCKET, Prefix="postgres/data/")
        for version in page["Versions"]
        if version["IsLatest"]
    }
    objects = manifest_of(applied, backup)["objects"]
    assert objects
    for stored in objects:
        assert (f"postgres/{stored['key']}", stored["version"], stored["size"]) in seen


def test_what_is_put_is_encrypted_by_the_bucket_s_key_and_locked(applied: AppliedExample, backup: str) -> None:
    for stored in manifest_of(applied, backup)["objects"]:
        head = applied.client("restorer").head_object(Bucket=BUCKET, Key=f"postgres/{stored['key']}")
        assert head["SSEKMSKeyId"] == applied.kms_key
        assert head["ObjectLockMode"] == "GOVERNANCE"


def test_the_nightly_task_acts_as_the_writer(applied: AppliedExample) -> None:
    [container] = applied.task_definition["containerDefinitions"]
    assert applied.task_definition["taskRoleArn"] == applied.outputs["role_arns"]["writer"]
    assert {"name": "PGSTOW_STORE", "value": applied.url} in container["environment"]
    assert [secret["name"] for secret in container["secrets"]] == ["PGPASSWORD"]
