"""Fixtures over the object stores, for every test; loaded by tests/conftest.py."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from support.object_stores import StoreBucket, fake_gcs_server, moto_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server for the whole run."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    """A GCS server for the whole run."""
    with fake_gcs_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Iterator[Any]:
    """boto3's own client; one for all tests, since making it takes longer than most of them."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}),
    )
    yield client
    client.close()


@pytest.fixture
def s3_bucket(s3_endpoint: str, s3_client: Any, aws_credentials: None) -> StoreBucket:
    """An empty S3 bucket of this test's own."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket)
    return StoreBucket("s3", bucket, "some/prefix", s3_endpoint, s3_client)


@pytest.fixture
def s3_locking_bucket(s3_endpoint: str, s3_client: Any, aws_credentials: None) -> StoreBucket:
    """An empty S3 bucket with Object Lock, of this test's own."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return StoreBucket("s3", bucket, "some/prefix", s3_endpoint, s3_client)


@pytest.fixture
def gcs_bucket(gcs_endpoint: str) -> Iterator[StoreBucket]:
    """An empty GCS bucket of this test's own."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client("test", AnonymousCredentials(), client_options={"api_endpoint": gcs_endpoint})
    bucket = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(bucket)
    yield StoreBucket("gs", bucket, "some/prefix", gcs_endpoint, client)
    client.close()


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that no real account has, and nothing of the developer's own configuration."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
