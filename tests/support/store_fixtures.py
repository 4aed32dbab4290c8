"""Fixtures for object stores. tests/conftest.py loads them for every test."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from support.object_stores import StoreBucket, fake_gcs_server, moto_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3 server, which all tests share."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    """The URL of a GCS server, which all tests share."""
    with fake_gcs_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Iterator[Any]:
    """boto3's client. All tests share it, since making a client takes longer than most tests."""
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
    """The test's own S3 bucket, empty."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket)
    return StoreBucket("s3", bucket, "some/prefix", s3_endpoint, s3_client)


@pytest.fixture
def s3_locking_bucket(s3_endpoint: str, s3_client: Any, aws_credentials: None) -> StoreBucket:
    """The test's own S3 bucket with Object Lock, empty."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return StoreBucket("s3", bucket, "some/prefix", s3_endpoint, s3_client)


@pytest.fixture
def gcs_bucket(gcs_endpoint: str) -> Iterator[StoreBucket]:
    """The test's own GCS bucket, empty."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client("test", AnonymousCredentials(), client_options={"api_endpoint": gcs_endpoint})
    bucket = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(bucket)
    yield StoreBucket("gs", bucket, "some/prefix", gcs_endpoint, client)
    client.close()


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials that no real account has, and hide the developer's own configuration."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
