"""Apply ``terraform/examples/aws`` to moto with the real provider, and take credentials of its roles."""

import json
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from support.patience import PATIENCE
from support.ports import free_port
from support.terraform import Terraform

BUCKET = "acme-backups"
EXAMPLE = "examples/aws"
ROLES = ("writer", "restorer", "auditor", "pruner")

# moto's URL is http://127.0.0.1, where no bucket can be a host name, and its credentials aren't AWS's.
_OVERRIDE = """
provider "aws" {
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}

provider "aws" {
  alias                       = "replica"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}
"""

_VARIABLES = {
    "bucket_name": BUCKET,
    "operators": '["arn:aws:iam::123456789012:role/operator"]',
    "auditors": '["arn:aws:iam::123456789012:role/audit"]',
    "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/pgstow:0.1.0",
    "database_host": "db.example.com",
    "password_secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop-a1b2c3",
    "subnet_ids": '["subnet-12345678"]',
    "security_group_ids": '["sg-12345678"]',
}


@dataclass(frozen=True)
class AppliedExample:
    """The example as applied to moto. moto enforces IAM: a request succeeds only if the role's policy allows its action and resource."""

    endpoint: str
    """moto's URL."""
    outputs: Mapping[str, Any]
    """Terraform's outputs by name."""
    credentials: Mapping[str, Mapping[str, str]]
    """Credentials by role. The role ``admin`` may do anything."""
    bucket_policy: Mapping[str, Any]
    """The bucket's policy before it was removed. moto ignores conditions, so a statement that denies on a condition would always deny."""
    task_definition: Mapping[str, Any]
    """The ECS task that the nightly schedule runs."""
    clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    """The clients that :meth:`client` has made, by role and service."""

    @property
    def url(self) -> str:
        """The URL of the destination in the printed pgstow.toml."""
        url: str = tomllib.loads(self.outputs["pgstow_toml"])["destinations"]["offsite"]["url"]
        return url

    @property
    def kms_key(self) -> str:
        return self.url.partition("kms_key=")[2]

    def environment(self, role: str) -> dict[str, str]:
        """Return the environment of a program that acts as the role."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        fields = ("AccessKeyId", "SecretAccessKey", "SessionToken")
        found = {name: self.credentials[role].get(given, "") for name, given in zip(names, fields, strict=True)}
        return found | {"AWS_ENDPOINT_URL": self.endpoint, "AWS_CONFIG_FILE": "/dev/null"}

    def client(self, role: str, service: str = "s3") -> Any:
        """Return boto3's client, which acts as the role. All tests share it, since making a client takes longer than most tests."""
        if (role, service) not in self.clients:
            self.clients[role, service] = _client(self.endpoint, service, self.credentials[role])
        return self.clients[role, service]

    @cached_property
    def policies(self) -> dict[str, list[dict[str, Any]]]:
        """The policies in IAM, by role."""
        iam = self.client("admin", "iam")
        return {
            role: [
                iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
            ]
            for role in ROLES
            for name in [self.outputs["role_arns"][role].rpartition("/")[2]]
        }


@contextmanager
def moto_process() -> Iterator[str]:
    """Run moto in a separate process, and yield its URL. moto enforces IAM either in the whole process or not at all."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/moto-api/", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def apply_example(terraform: Terraform, endpoint: str) -> AppliedExample:
    """Apply the example, and take each role's credentials. After that, moto asks IAM about every request."""
    (terraform.copy / EXAMPLE / "moto_override.tf").write_text(_OVERRIDE)
    anybody = {"AccessKeyId": "any", "SecretAccessKey": "any"}
    provider = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    variables = [f"-var={name}={value}" for name, value in _VARIABLES.items()]
    Terraform(terraform.copy, provider).run(EXAMPLE, "apply", "-auto-approve", "-no-color", *variables)
    outputs = terraform.outputs(EXAMPLE)
    services = ("iam", "sts", "s3", "scheduler", "ecs")
    iam, sts, s3, scheduler, ecs = clients = [_client(endpoint, service, anybody) for service in services]
    iam.create_user(UserName="admin")
    anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName="admin", PolicyName="anything", PolicyDocument=json.dumps(anything))
    credentials = {"admin": iam.create_access_key(UserName="admin")["AccessKey"]}
    for role in ROLES:
        answer = sts.assume_role(RoleArn=outputs["role_arns"][role], RoleSessionName="test")
        credentials[role] = answer["Credentials"]
    bucket_policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    s3.delete_bucket_policy(Bucket=BUCKET)
    target = scheduler.get_schedule(Name="pgstow")["Target"]
    definition = ecs.describe_task_definition(taskDefinition=target["EcsParameters"]["TaskDefinitionArn"])
    reset = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    with urllib.request.urlopen(reset):
        pass
    for client in clients:
        client.close()
    return AppliedExample(endpoint, outputs, credentials, bucket_policy, definition["taskDefinition"])


def _client(endpoint: str, service: str, credentials: Mapping[str, str]) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials.get("SessionToken"),
        config=Config(retries={"total_max_attempts": 1}),
    )


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise RuntimeError("moto did not start")
