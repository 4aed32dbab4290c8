"""Tests of ``terraform/examples/aws``. pgstow runs with each role's credentials, while moto enforces IAM. Each role may do only its own work.

moto enforces the actions and the resources of a role's policy. But moto takes every condition as true, and doesn't ask KMS. So for conditions,
the tests read the policies from IAM and from the bucket, and evaluate them. Conditions limit four things:

- puts, to new objects
- listings, to a prefix
- the use of the key, to a prefix
- the requests that the bucket's own policy lets through
"""

import json
import os
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.applied_example import BUCKET, ROLES, AppliedExample
from support.iam_policies import allows, denies
from support.pages import blocks_of, text_of
from support.pgstow import PGSTOW, Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database
from support.signing import make_key

from cli.errors import ExitCode
from demo import compare

pytestmark = pytest.mark.timeout(600)

ARN = f"arn:aws:s3:::{BUCKET}"
DATA = "postgres/data/prod/shop/20261123T020000Z-7f3a9c/pack-00000.tar.zst"
MANIFEST = "postgres/manifests/prod/shop/20261123T020000Z-7f3a9c.json"
ATTESTATION = "postgres/attestations/prod/shop/20261123T020000Z-7f3a9c/20261124T020000Z.json"
KEY_OBJECT = "postgres/keys/prod/shop/20261123T020000Z-7f3a9c/20261123T020500.000000Z.age"
ELSEWHERE = "other/data/prod/shop/x"
CREATE = {"s3:if-none-match": "*"}
CONTEXT = "kms:EncryptionContext:aws:s3:arn"


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
    """pgstow compares the manifest with a listing. S3 gives an object's checksum only to a role that may read the object."""
    answer = run_as(applied, role, "verify", backup, "--from", applied.url, "--level", "objects", "--json")
    assert answer.exit_code == 0, answer
    found = json.loads(answer.stdout)
    assert found["objects"] == found["objects_without_checksum"] == len(manifest_of(applied, backup)["objects"])


def test_the_roles_work_with_sealed_backups(
    applied: AppliedExample, sample_database: Database, empty_target: Database, tmp_path: Path
) -> None:
    identity = tmp_path / "identity"
    recipient = run_pgstow("keygen", "--output", identity).stdout.strip()
    place = ("--to", applied.url, "--cluster", "sealed", "--recipient", recipient)
    made = run_as(applied, "writer", "backup", sample_database.conninfo, *place, "--json")
    assert made.exit_code == 0, made
    backup_id = json.loads(made.stdout)["backup_id"]
    store = ("--from", applied.url)
    assert run_as(applied, "auditor", "verify", backup_id, *store, "--level", "objects").exit_code == 0
    opened = (*store, "--identity", identity, "--quiet")
    for role in ("writer", "auditor", "pruner"):
        assert_denied(run_as(applied, role, "export", backup_id, *opened))
    restored = run_as(applied, "restorer", "restore", backup_id, *opened, "--into", empty_target.conninfo)
    assert restored.exit_code == 0, restored
    assert compare.contents(empty_target.conninfo) == compare.contents(sample_database.conninfo)


def let_lock_expire(applied: AppliedExample, backup_id: str) -> None:
    """Move the end of the locks on the backup's objects into the past."""
    s3 = applied.client("admin")
    for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        if backup_id in entry["Key"]:
            past = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) - timedelta(days=1)}
            s3.put_object_retention(Bucket=BUCKET, Key=entry["Key"], Retention=past, BypassGovernanceRetention=True)


def test_the_pruner_prunes_what_is_no_longer_locked(applied: AppliedExample, sample_database: Database) -> None:
    recipient = run_pgstow("keygen").stdout.partition("public key: ")[2].split()[0]
    to = ("--to", applied.url, "--cluster", "pruned", "--recipient", recipient, "--json")
    expired, locked, last = [
        json.loads(run_as(applied, "writer", "backup", sample_database.conninfo, *to).stdout)["backup_id"]
        for _ in range(3)
    ]
    let_lock_expire(applied, expired)
    # For a request that deletes several objects, moto demands the right to delete the bucket. With checksum=md5, pgstow deletes one by one.
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
    assert reasons[last][0] == "newest good backup"
    left = [entry["Key"] for entry in applied.client("admin").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert not any(expired in key for key in left)
    assert any(locked in key for key in left)


def test_the_pruner_leaves_a_tombstone_that_nobody_removes(
    applied: AppliedExample, sample_database: Database, tmp_path: Path
) -> None:
    key = make_key(tmp_path)
    sign, trusted = ("--sign-with", f"file:{key.private}"), ("--trusted-key", key.public)
    to = ("--to", applied.url, "--cluster", "signed", "--json", *sign, "--state-dir", tmp_path / "states")
    removed, _ = [
        json.loads(run_as(applied, "writer", "backup", sample_database.conninfo, *to).stdout)["backup_id"]
        for _ in range(2)
    ]
    let_lock_expire(applied, removed)
    rules = ("--from", applied.url, "-o", "checksum=md5", "--cluster", "signed", "--keep-last", 1, "--yes", "--json")
    pruned = run_as(applied, "pruner", "prune", *rules, *trusted, *sign)
    assert pruned.exit_code == 0, pruned
    assert json.loads(pruned.stdout)["removed"]["backups"] == [removed]
    found = run_as(applied, "auditor", "chain", "--from", applied.url, "--cluster", "signed", *trusted, "--json")
    assert found.exit_code == 0, found
    assert [(chain["backups"], chain["removed"]) for chain in json.loads(found.stdout)["chains"]] == [(1, 1)]

    tombstone = f"postgres/pruned/signed/{sample_database.name}/{removed}.json"
    let_lock_expire(applied, removed)
    for role in ROLES:
        with pytest.raises(ClientError, match="AccessDenied"):
            applied.client(role).delete_object(Bucket=BUCKET, Key=tombstone)
    for role in set(ROLES) - {"pruner"}:
        with pytest.raises(ClientError, match="AccessDenied"):
            applied.client(role).put_object(Bucket=BUCKET, Key=f"{tombstone}x", Body=b"", IfNoneMatch="*")


def test_the_auditor_sees_that_every_object_is_the_one_that_was_confirmed(applied: AppliedExample, backup: str) -> None:
    """The manifest has each object's version. S3 confirmed the version's SHA-256 at the put, and a version's bytes never change."""
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


def test_the_auditor_checks_all_records(applied: AppliedExample, sample_database: Database, tmp_path: Path) -> None:
    """The auditor's rights are enough for pgstow's commands, and for the commands of docs/evidence.md, which need no pgstow."""
    signing, verifier = make_key(tmp_path, "signing"), make_key(tmp_path, "verifier")
    sign = ("--sign-with", f"file:{signing.private}")
    to = ("--to", applied.url, "--cluster", "evidence", *sign, "--state-dir", tmp_path / "states", "--json")
    backups = [
        json.loads(run_as(applied, "writer", "backup", sample_database.conninfo, *to).stdout)["backup_id"]
        for _ in range(2)
    ]
    store = ("--from", applied.url, "--cluster", "evidence")
    trusted = ("--trusted-key", f"{signing.public}:backup", "--trusted-key", f"{verifier.public}:verify")
    attest = ("--level", "archive", "--attest", "--sign-with", f"file:{verifier.private}", "--quiet")
    assert run_as(applied, "restorer", "verify", *store, *trusted, *attest).exit_code == 0

    audited = run_as(applied, "auditor", "audit", *store, *trusted, "--no-cache", "--json", "-")
    assert (audited.exit_code, audited.stderr) == (0, "")
    [database] = json.loads(audited.stdout)["databases"]
    assert database["last_good"]["backup_id"] == backups[-1]
    assert database["last_good"]["retained_until"]
    assert database["last_good"]["verified"] == "archive"
    for command in (("diff",), ("find", "*.*", "--no-cache"), ("stats", "--no-cache")):
        answer = run_as(applied, "auditor", *command, *store, "--trusted-key", signing.public)
        assert answer.exit_code == 0, answer

    assert check_by_hand(applied, tmp_path / "honest", sample_database.name) == []
    s3, key = applied.client("admin"), f"postgres/manifests/evidence/{sample_database.name}/{backups[0]}.json"
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=key, Body=body.replace(b'"tool":"pgstow', b'"tool":"pgstew'))
    name = key.removeprefix("postgres/")
    gap = f"gap-or-fork below manifests/evidence/{sample_database.name}/{backups[1]}.json"
    altered = check_by_hand(applied, tmp_path / "altered", sample_database.name)
    assert altered == [f"damaged {name}", f"swapped {name}", gap]
    s3.delete_object(Bucket=BUCKET, Key=key)
    s3.delete_object(Bucket=BUCKET, Key=f"postgres/data/evidence/{sample_database.name}/{backups[1]}/SHA256SUMS")
    gone, missing = check_by_hand(applied, tmp_path / "removed", sample_database.name)
    assert (gone, missing.split()[0]) == (gap, "missing-or-replaced")
    assert missing.endswith(f'{backups[1]}/SHA256SUMS"]')


def check_by_hand(applied: AppliedExample, folder: Path, database: str) -> list[str]:
    """Run the commands of docs/evidence.md as the auditor. Return the findings about the cluster ``evidence``."""
    _, *blocks = [block for block in blocks_of("docs/evidence.md", text_of("docs/evidence.md")) if block.is_run]
    script = "\n".join(line for block in blocks[:-1] for line in block.commands)
    script = script.replace("my-backups", BUCKET).replace("*/shop/", f"*/{database}/")
    script = re.sub(r"\b(manifests|attestations|pruned)/\*'", r"\1/evidence/*'", script)
    folder.mkdir()
    for name in ("signing.pub", "verifier.pub"):
        (folder / name).write_bytes((folder.parent / name).read_bytes())
    environment = {**os.environ, **applied.environment("auditor"), "AWS_DEFAULT_REGION": "eu-central-1"}
    environment["PATH"] = f"{PGSTOW.parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "audit/findings").read_text().splitlines()


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


# The tests below put objects into the bucket that are not backups. These objects would disturb pgstow, so the tests of pgstow come first.


def put(name: str) -> Callable[[Any], object]:
    return lambda s3: s3.put_object(Bucket=BUCKET, Key=f"{name}.new", Body=b"x")


def get(name: str) -> Callable[[Any], object]:
    return lambda s3: s3.get_object(Bucket=BUCKET, Key=name)


def delete(name: str) -> Callable[[Any], object]:
    return lambda s3: s3.delete_object(Bucket=BUCKET, Key=name)


REQUESTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "put data": (put(DATA), "writer"),
    "put a manifest": (put(MANIFEST), "writer"),
    "put an attestation": (put(ATTESTATION), "restorer"),
    "put a key object": (put(KEY_OBJECT), "writer"),
    "put elsewhere": (put(ELSEWHERE), ""),
    "get data": (get(DATA), "restorer"),
    "head data": (lambda s3: s3.head_object(Bucket=BUCKET, Key=DATA), "restorer"),
    "get a manifest": (get(MANIFEST), "writer restorer auditor pruner"),
    "get an attestation": (get(ATTESTATION), "restorer auditor pruner"),
    "get a key object": (get(KEY_OBJECT), "restorer"),
    "get from elsewhere": (get(ELSEWHERE), ""),
    "list": (
        lambda s3: s3.list_objects_v2(Bucket=BUCKET, Prefix="postgres/manifests/"),
        "writer restorer auditor pruner",
    ),
    "list versions": (lambda s3: s3.list_object_versions(Bucket=BUCKET, Prefix="postgres/"), "auditor pruner"),
    "delete data": (delete(DATA), "pruner"),
    "delete a manifest": (delete(MANIFEST), "pruner"),
    "delete a key object": (delete(KEY_OBJECT), "pruner"),
    "delete elsewhere": (delete(ELSEWHERE), ""),
    "change the lifecycle": (
        lambda s3: s3.put_bucket_lifecycle_configuration(
            Bucket=BUCKET,
            LifecycleConfiguration={
                "Rules": [{"ID": "all", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}]
            },
        ),
        "",
    ),
    "stop versioning": (
        lambda s3: s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}),
        "",
    ),
    "change the policy": (lambda s3: s3.delete_bucket_policy(Bucket=BUCKET), ""),
    "delete the bucket": (lambda s3: s3.delete_bucket(Bucket=BUCKET), ""),
}
"""Requests to S3, and the roles that may send them."""


@pytest.fixture
def objects(applied: AppliedExample) -> None:
    """One object of each kind."""
    s3 = applied.client("admin")
    for key in (DATA, MANIFEST, ATTESTATION, KEY_OBJECT, ELSEWHERE):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"there")


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.usefixtures("objects")
def test_requests(applied: AppliedExample, role: str, request_name: str) -> None:
    ask, allowed = REQUESTS[request_name]
    assert _is_granted(applied, role, ask) == (role in allowed.split())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.usefixtures("objects")
def test_nobody_deletes_a_locked_version(applied: AppliedExample, role: str) -> None:
    s3 = applied.client("admin")
    head = s3.head_object(Bucket=BUCKET, Key=DATA)
    assert head["ObjectLockMode"] == "GOVERNANCE", "the bucket locks what is put"
    version = head["VersionId"]
    assert not _is_granted(applied, role, lambda s3: s3.delete_object(Bucket=BUCKET, Key=DATA, VersionId=version))
    assert not allows(applied.policies[role], "s3:BypassGovernanceRetention", f"{ARN}/{DATA}")
    assert not allows(applied.policies[role], "s3:PutObjectRetention", f"{ARN}/{DATA}")
    assert not allows(applied.policies[role], "s3:PutObjectLegalHold", f"{ARN}/{DATA}")


@pytest.mark.usefixtures("objects")
def test_what_the_pruner_deleted_can_be_brought_back(applied: AppliedExample) -> None:
    s3 = applied.client("pruner")
    marker = s3.delete_object(Bucket=BUCKET, Key=MANIFEST)
    s3 = applied.client("admin")
    with pytest.raises(ClientError):
        s3.get_object(Bucket=BUCKET, Key=MANIFEST)
    s3.delete_object(Bucket=BUCKET, Key=MANIFEST, VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=BUCKET, Key=MANIFEST)["Body"].read() == b"there"


DECISIONS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "create data": ("s3:PutObject", f"{ARN}/{DATA}", CREATE, "writer"),
    "overwrite data": ("s3:PutObject", f"{ARN}/{DATA}", {}, ""),
    "create a manifest": ("s3:PutObject", f"{ARN}/{MANIFEST}", CREATE, "writer"),
    "overwrite a manifest": ("s3:PutObject", f"{ARN}/{MANIFEST}", {}, ""),
    "create an attestation": ("s3:PutObject", f"{ARN}/{ATTESTATION}", CREATE, "restorer"),
    "overwrite an attestation": ("s3:PutObject", f"{ARN}/{ATTESTATION}", {}, ""),
    "create a key object": ("s3:PutObject", f"{ARN}/{KEY_OBJECT}", CREATE, "writer"),
    "overwrite a key object": ("s3:PutObject", f"{ARN}/{KEY_OBJECT}", {}, ""),
    "list key objects": ("s3:ListBucket", ARN, {"s3:prefix": "postgres/keys/"}, "restorer auditor pruner"),
    "list manifests": ("s3:ListBucket", ARN, {"s3:prefix": "postgres/manifests/"}, "writer restorer auditor pruner"),
    "list data": ("s3:ListBucket", ARN, {"s3:prefix": "postgres/data/"}, "restorer auditor pruner"),
    "list everything": ("s3:ListBucket", ARN, {}, ""),
    "list elsewhere": ("s3:ListBucket", ARN, {"s3:prefix": "other/"}, ""),
    "list versions of data": ("s3:ListBucketVersions", ARN, {"s3:prefix": "postgres/data/"}, "auditor pruner"),
    "list versions elsewhere": ("s3:ListBucketVersions", ARN, {"s3:prefix": "other/"}, ""),
    "read a version of data": ("s3:GetObjectVersion", f"{ARN}/{DATA}", {}, "restorer"),
    "read a lock": ("s3:GetObjectRetention", f"{ARN}/{DATA}", {}, "auditor pruner"),
    "read a manifest's lock": ("s3:GetObjectRetention", f"{ARN}/{MANIFEST}", {}, "restorer auditor pruner"),
    "read a manifest's legal hold": ("s3:GetObjectLegalHold", f"{ARN}/{MANIFEST}", {}, "restorer auditor pruner"),
    "read the default lock": ("s3:GetBucketObjectLockConfiguration", ARN, {}, "auditor pruner"),
    "delete a version": ("s3:DeleteObjectVersion", f"{ARN}/{DATA}", {}, "pruner"),
    "share an object": ("s3:PutObjectAcl", f"{ARN}/{DATA}", {}, ""),
    "write into the access logs": ("s3:PutObject", f"{ARN}-access-logs/acme-backups/x", CREATE, ""),
    "read the replica": ("s3:GetObject", f"{ARN}-replica/{DATA}", {}, ""),
    "take a role": ("sts:AssumeRole", "arn:aws:iam::123456789012:role/acme-backups-restorer", {}, ""),
}
"""The action, the resource and the condition keys of requests, and the roles that may send them."""

KEY_DECISIONS: dict[str, tuple[str, str, str]] = {
    "encrypt data": ("kms:GenerateDataKey", DATA, "writer"),
    "encrypt a manifest": ("kms:GenerateDataKey", MANIFEST, "writer"),
    "encrypt an attestation": ("kms:GenerateDataKey", ATTESTATION, "restorer"),
    "encrypt a key object": ("kms:GenerateDataKey", KEY_OBJECT, "writer"),
    "decrypt a key object": ("kms:Decrypt", KEY_OBJECT, "restorer"),
    "encrypt elsewhere": ("kms:GenerateDataKey", ELSEWHERE, ""),
    "decrypt data": ("kms:Decrypt", DATA, "restorer"),
    "decrypt a manifest": ("kms:Decrypt", MANIFEST, "writer restorer auditor pruner"),
    "decrypt an attestation": ("kms:Decrypt", ATTESTATION, "restorer auditor pruner"),
    "decrypt elsewhere": ("kms:Decrypt", ELSEWHERE, ""),
    "destroy the key": ("kms:ScheduleKeyDeletion", DATA, ""),
}
"""The action on the key and the object's key in S3, and the roles that may do it."""


@pytest.mark.parametrize("decision", DECISIONS)
def test_decisions_on_conditions(applied: AppliedExample, decision: str) -> None:
    action, resource, context, allowed = DECISIONS[decision]
    assert [role for role in ROLES if allows(applied.policies[role], action, resource, context)] == allowed.split()


@pytest.mark.parametrize("decision", KEY_DECISIONS)
def test_decisions_on_the_key(applied: AppliedExample, decision: str) -> None:
    action, key, allowed = KEY_DECISIONS[decision]
    context = {CONTEXT: f"{ARN}/{key}"}
    assert [
        role for role in ROLES if allows(applied.policies[role], action, applied.kms_key, context)
    ] == allowed.split()
    assert not [role for role in ROLES if allows(applied.policies[role], action, applied.kms_key)], (
        "a request without an object is denied"
    )


def test_what_the_bucket_s_policy_denies(applied: AppliedExample) -> None:
    ours = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
    encryption, key = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
    policy = [applied.bucket_policy]

    def denied(action: str, resource: str = f"{ARN}/{DATA}", **context: str) -> bool:
        return denies(policy, action, resource, ours | context)

    assert not denied("s3:GetObject")
    assert not denied("s3:ListBucket", ARN)
    assert denied("s3:GetObject", **{"aws:SecureTransport": "false"})
    assert denied("s3:ListBucket", ARN, **{"aws:SecureTransport": "false"})
    assert denied("s3:GetObject", **{"s3:TlsVersion": "1.1"})
    assert not denied("s3:PutObject"), "the bucket's default encrypts"
    assert not denied("s3:PutObject", **{encryption: "aws:kms", key: applied.kms_key})
    assert denied("s3:PutObject", **{encryption: "AES256"})
    assert denied("s3:PutObject", **{encryption: "aws:kms", key: "arn:aws:kms:eu-central-1:666666666666:key/a-thief-s"})


def _is_granted(applied: AppliedExample, role: str, ask: Callable[[Any], object]) -> bool:
    try:
        ask(applied.client(role))
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "403"):
            return False
        raise
    return True
