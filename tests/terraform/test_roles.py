"""What each role of the AWS example may do, and what it may not.

moto enforces actions and resources of a role's policy, not conditions: it takes each as fulfilled. Nor does it ask KMS. So what
depends on a condition (create-only puts, listing by prefix, the key by prefix, all of the bucket's policy) is decided on the
policies themselves, as they are in IAM and on the bucket.
"""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.applied_example import BUCKET, ROLES, AppliedExample
from support.iam_policies import allows, denies

ARN = f"arn:aws:s3:::{BUCKET}"
DATA = "postgres/data/prod/shop/20261123T020000Z-7f3a9c/pack-00000.tar.zst"
MANIFEST = "postgres/manifests/prod/shop/20261123T020000Z-7f3a9c.json"
ATTESTATION = "postgres/attestations/prod/shop/20261123T020000Z-7f3a9c/20261124T020000Z.json"
ELSEWHERE = "other/data/prod/shop/x"
CREATE = {"s3:if-none-match": "*"}
CONTEXT = "kms:EncryptionContext:aws:s3:arn"

pytestmark = pytest.mark.timeout(600)


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
    "put elsewhere": (put(ELSEWHERE), ""),
    "get data": (get(DATA), "restorer"),
    "head data": (lambda s3: s3.head_object(Bucket=BUCKET, Key=DATA), "restorer"),
    "get a manifest": (get(MANIFEST), "writer restorer auditor pruner"),
    "get an attestation": (get(ATTESTATION), "restorer auditor pruner"),
    "get from elsewhere": (get(ELSEWHERE), ""),
    "list": (
        lambda s3: s3.list_objects_v2(Bucket=BUCKET, Prefix="postgres/manifests/"),
        "writer restorer auditor pruner",
    ),
    "list versions": (lambda s3: s3.list_object_versions(Bucket=BUCKET, Prefix="postgres/"), "auditor pruner"),
    "delete data": (delete(DATA), "pruner"),
    "delete a manifest": (delete(MANIFEST), "pruner"),
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
"""What is asked of S3, and who may."""


@pytest.fixture
def objects(applied: AppliedExample) -> None:
    """One object of each kind."""
    s3 = applied.client("admin")
    for key in (DATA, MANIFEST, ATTESTATION, ELSEWHERE):
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
    "list manifests": ("s3:ListBucket", ARN, {"s3:prefix": "postgres/manifests/"}, "writer restorer auditor pruner"),
    "list data": ("s3:ListBucket", ARN, {"s3:prefix": "postgres/data/"}, "restorer auditor pruner"),
    "list everything": ("s3:ListBucket", ARN, {}, ""),
    "list elsewhere": ("s3:ListBucket", ARN, {"s3:prefix": "other/"}, ""),
    "list versions of data": ("s3:ListBucketVersions", ARN, {"s3:prefix": "postgres/data/"}, "auditor pruner"),
    "list versions elsewhere": ("s3:ListBucketVersions", ARN, {"s3:prefix": "other/"}, ""),
    "read a version of data": ("s3:GetObjectVersion", f"{ARN}/{DATA}", {}, "restorer"),
    "read a lock": ("s3:GetObjectRetention", f"{ARN}/{DATA}", {}, "pruner"),
    "read a manifest's lock": ("s3:GetObjectRetention", f"{ARN}/{MANIFEST}", {}, "restorer auditor pruner"),
    "read a manifest's legal hold": ("s3:GetObjectLegalHold", f"{ARN}/{MANIFEST}", {}, "restorer auditor pruner"),
    "read the default lock": ("s3:GetBucketObjectLockConfiguration", ARN, {}, "pruner"),
    "delete a version": ("s3:DeleteObjectVersion", f"{ARN}/{DATA}", {}, "pruner"),
    "share an object": ("s3:PutObjectAcl", f"{ARN}/{DATA}", {}, ""),
    "write into the access logs": ("s3:PutObject", f"{ARN}-access-logs/acme-backups/x", CREATE, ""),
    "read the replica": ("s3:GetObject", f"{ARN}-replica/{DATA}", {}, ""),
    "take a role": ("sts:AssumeRole", "arn:aws:iam::123456789012:role/acme-backups-restorer", {}, ""),
}
"""Action, resource, and the condition keys of the request, and who may."""

KEY_DECISIONS: dict[str, tuple[str, str, str]] = {
    "encrypt data": ("kms:GenerateDataKey", DATA, "writer"),
    "encrypt a manifest": ("kms:GenerateDataKey", MANIFEST, "writer"),
    "encrypt an attestation": ("kms:GenerateDataKey", ATTESTATION, "restorer"),
    "encrypt elsewhere": ("kms:GenerateDataKey", ELSEWHERE, ""),
    "decrypt data": ("kms:Decrypt", DATA, "restorer"),
    "decrypt a manifest": ("kms:Decrypt", MANIFEST, "writer restorer auditor pruner"),
    "decrypt an attestation": ("kms:Decrypt", ATTESTATION, "restorer auditor pruner"),
    "decrypt elsewhere": ("kms:Decrypt", ELSEWHERE, ""),
    "destroy the key": ("kms:ScheduleKeyDeletion", DATA, ""),
}
"""What is asked of the key, for which object, and who may."""


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
    assert not [role for role in ROLES if allows(applied.policies[role], action, applied.kms_key)], "without a prefix"


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
