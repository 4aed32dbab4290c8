"""The modules can use the user's own bucket, key and permissions boundary. The simple example needs only three variables.

The configuration that calls the modules may also make the bucket, the key and the boundary. Terraform learns the key's ARN only when it makes
the key. So a module that decides by the ARN which other resources to make could not be planned.
"""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from support.applied_example import moto_process
from support.iam_policies import allows
from support.terraform import Terraform

OWN = "examples/own"
BUCKET = "arn:aws:s3:::acme.own"
OBJECT = f"{BUCKET}/postgres/data/prod/shop/20261123T020000Z-7f3a9c/pack-00000.tar.zst"

_PROVIDER = """
provider "aws" {
  region                      = "eu-central-1"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}
"""
_CONFIGURATION = (
    _PROVIDER
    + """
resource "aws_s3_bucket" "own" {
  bucket = "acme.own"
}

resource "aws_kms_key" "own" {}

resource "aws_iam_policy" "boundary" {
  name   = "boundary"
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "*", Resource = "*" }] })
}

module "roles" {
  source               = "../../modules/aws-backup-roles"
  bucket_name          = aws_s3_bucket.own.bucket
  kms_key              = { arn = aws_kms_key.own.arn, bucket_key = true }
  permissions_boundary = aws_iam_policy.boundary.arn
  trusted_by           = { writer = { ec2 = true }, auditor = { ec2 = true } }
}

module "backups" {
  source               = "../../modules/aws-backup-bucket"
  bucket_name          = "acme-made"
  kms_key              = { arn = aws_kms_key.own.arn }
  permissions_boundary = aws_iam_policy.boundary.arn
  trusted_by           = { restorer = { ec2 = true } }
}

output "roles" { value = module.roles }
output "boundary" { value = aws_iam_policy.boundary.arn }
output "key" { value = aws_kms_key.own.arn }
"""
)


@pytest.fixture(scope="module")
def at_moto(terraform: Terraform) -> Iterator[tuple[Terraform, Any]]:
    """Terraform that applies to moto, and a client of moto's IAM."""
    with moto_process() as endpoint:
        anybody = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        iam = boto3.client("iam", endpoint_url=endpoint, region_name="eu-central-1", **anybody)
        provider = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        yield Terraform(terraform.copy, provider), iam
        iam.close()


def test_what_the_user_has_is_used_as_it_is(at_moto: tuple[Terraform, Any]) -> None:
    terraform, iam = at_moto
    (terraform.copy / OWN).mkdir()
    (terraform.copy / OWN / "main.tf").write_text(_CONFIGURATION)
    planned = terraform.run(OWN, "plan", "-no-color")
    assert "module.backups.module.roles.aws_iam_role.backups" in planned
    assert "module.backups.aws_kms_key" not in planned
    # Only the roles: the provider would wait long for the lifecycle of the bucket's module.
    terraform.run(OWN, "apply", "-auto-approve", "-no-color", "-target=module.roles")
    made = terraform.outputs(OWN)
    assert made["roles"]["url"] == f"s3://acme.own/postgres?kms_key={made['key']}"
    for role, action in (("writer", "kms:GenerateDataKey"), ("auditor", "kms:Decrypt")):
        name = f"acme.own-{role}"
        assert iam.get_role(RoleName=name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == made["boundary"]
        policy = iam.get_role_policy(RoleName=name, PolicyName=f"pgstow-{role}")["PolicyDocument"]
        assert allows([policy], "s3:PutObject", OBJECT, {"s3:if-none-match": "*"}) == (role == "writer")
        assert allows([policy], action, made["key"], {"kms:EncryptionContext:aws:s3:arn": BUCKET})
        assert not allows([policy], action, made["key"], {"kms:EncryptionContext:aws:s3:arn": f"{BUCKET}-other"})


def test_three_variables_are_enough(at_moto: tuple[Terraform, Any]) -> None:
    terraform, _ = at_moto
    simple = "examples/aws-simple"
    (terraform.copy / simple / "moto_override.tf").write_text(_PROVIDER)
    operator = 'operators=["arn:aws:iam::123456789012:role/operator"]'
    variables = [f"-var={value}" for value in ("bucket_name=acme-simple", "region=eu-central-1", operator)]
    planned = terraform.run(simple, "plan", "-no-color", "-input=false", *variables)
    assert "Plan: " in planned
    assert '+ instance_profile = "acme-simple-writer"' in planned
