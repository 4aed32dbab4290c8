"""Tests of how the backends for S3 and GCS handle failures of the network and of the store. A proxy fails on purpose."""

import hashlib
import math
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from support.faulty_http import Answer, Fault, FaultyProxy
from support.object_stores import StoreBucket

from storage_backends import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    ObjectAlreadyExists,
    ObjectNotFound,
    StorageBackend,
    StorageError,
    TransientStorageError,
    open_backend,
)

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).digest()


@dataclass
class Store:
    """One vendor's store behind a proxy, and how its API spells each call."""

    backend: StorageBackend
    proxy: FaultyProxy
    raw_keys: Callable[[], list[str]]
    open: Callable[..., StorageBackend]
    put: str
    """The HTTP method of a put."""


@pytest.fixture(params=["s3", "gcs"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    bucket: StoreBucket = request.getfixturevalue(f"{request.param}_bucket")
    opened: list[StorageBackend] = []
    with FaultyProxy(bucket.endpoint, verify_digests=True) as proxy:

        def open_store(give_up_after: float = 300, **options: str) -> StorageBackend:
            url = bucket.url_at(proxy.url)
            opened.append(open_backend(url, options, give_up_after=give_up_after, sleep=lambda seconds: None))
            return opened[-1]

        def raw_keys() -> list[str]:
            if request.param == "gcs":
                return [blob.name for blob in bucket.client.list_blobs(bucket.bucket)]
            return [entry["Key"] for entry in bucket.client.list_objects_v2(Bucket=bucket.bucket).get("Contents", ())]

        method = "PUT" if request.param == "s3" else "POST"
        yield Store(open_store(), proxy, raw_keys, open_store, method)
        for backend in opened:
            backend.close()


@pytest.mark.parametrize(
    "fault", [Fault.RESET, Fault.INTERNAL_ERROR, Fault.SLOW_DOWN, Fault.ERROR_IN_200], ids=lambda fault: fault.name
)
def test_what_may_pass_is_tried_again(store: Store, fault: Fault) -> None:
    store.proxy.fail(method=store.put, times=2, with_=fault)
    info = store.backend.put("key", BODY, sha256=SHA256)
    assert info.size == len(BODY)
    assert store.proxy.count(store.put, "key|upload") == 3

    if fault is Fault.ERROR_IN_200:
        # In the body of a GET, an error looks like an object. GCS isn't known to answer a deletion with an error and status 200.
        if store.put == "POST":
            return
    else:
        store.proxy.fail(method="GET|HEAD", times=2, with_=fault)
        assert store.backend.get("key") == BODY
        store.proxy.fail(method="GET|HEAD", times=2, with_=fault)
        assert store.backend.head("key").size == len(BODY)
        store.proxy.fail(method="GET", times=2, with_=fault)
        assert [listed.key for listed in store.backend.list()] == ["key"]
    store.proxy.fail(method="DELETE|POST", times=2, with_=fault)
    store.backend.delete(["key"])
    assert store.raw_keys() == []


def test_a_put_that_succeeded_unseen_is_a_success(store: Store) -> None:
    store.proxy.fail(method=store.put, with_=Fault.RESET_AFTER)
    info = store.backend.put("key", BODY, sha256=SHA256)
    assert info == store.backend.head("key")
    assert store.proxy.count(store.put) == 2


def test_a_put_that_succeeded_unseen_is_a_success_without_permission_to_read(store: Store) -> None:
    store.proxy.fail(method=store.put, with_=Fault.RESET_AFTER)
    store.proxy.fail(method="GET|HEAD", times=math.inf, with_=Fault.FORBIDDEN)
    info = store.backend.put("key", BODY, sha256=SHA256)
    assert (info.key, info.size, info.checksum, info.version) == ("key", len(BODY), None, None)


def test_a_retried_put_does_not_claim_another_ones_object(store: Store) -> None:
    store.backend.put("key", BODY[::-1], sha256=hashlib.sha256(BODY[::-1]).digest())
    store.proxy.fail(method=store.put, with_=Fault.RESET)
    with pytest.raises(ObjectAlreadyExists):
        store.backend.put("key", BODY, sha256=SHA256)
    assert store.backend.get("key") == BODY[::-1]


@pytest.mark.parametrize(("offset", "length"), [(0, None), (1000, None), (1000, 5000)])
def test_a_truncated_body_is_fetched_again(store: Store, offset: int, length: int | None) -> None:
    store.backend.put("key", BODY, sha256=SHA256)
    store.proxy.fail(method="GET", times=2, with_=Fault.TRUNCATE)
    end = None if length is None else offset + length
    assert store.backend.get("key", offset=offset, length=length) == BODY[offset:end]
    assert store.proxy.count("GET") == 3


def test_a_stalled_answer_is_given_up_and_asked_for_again(store: Store) -> None:
    backend = store.open(read_timeout="0.5")
    backend.put("key", BODY, sha256=SHA256)
    store.proxy.fail(method="GET|HEAD", with_=Fault.STALL)
    assert backend.head("key").size == len(BODY)
    store.proxy.fail(method="GET|HEAD", with_=Fault.STALL)
    assert backend.get("key") == BODY


def test_giving_up_says_so(store: Store) -> None:
    store.proxy.fail(times=math.inf, with_=Fault.SLOW_DOWN)
    backend = store.open(give_up_after=0)
    with pytest.raises(
        TransientStorageError, match=r"some/prefix/key: .*\(gave up after 1 attempt in \d+ s\)"
    ) as caught:
        backend.put("key", BODY, sha256=SHA256)
    assert "\n" not in str(caught.value)


def test_a_denied_call_is_not_repeated(store: Store) -> None:
    store.proxy.fail(times=math.inf, with_=Fault.FORBIDDEN)
    calls: list[Callable[[], object]] = [
        lambda: store.backend.put("key", BODY, sha256=SHA256),
        lambda: store.backend.get("key"),
        lambda: store.backend.head("key"),
        lambda: list(store.backend.list()),
        # Before a deletion, the backend asks for locks: on GCS with one request, on S3 with four. The store may deny these requests.
        lambda: store.backend.delete(["key"]),
    ]
    for call in calls:
        store.proxy.requests.clear()
        with pytest.raises(AccessDenied, match=r"some/prefix"):
            call()
        sent = [(request.method, request.path) for request in store.proxy.requests]
        assert len(sent) == len(set(sent)) == (1 if call is not calls[-1] else 5 if store.put == "PUT" else 2)


def test_missing_objects_and_buckets_are_not_asked_for_again(store: Store) -> None:
    for call in (store.backend.get, store.backend.head):
        store.proxy.requests.clear()
        with pytest.raises(ObjectNotFound):
            call("none")
        # Two answers don't say what is missing: S3's answer to a HEAD, and GCS's to a download. So the backend sends a second request.
        assert len(store.proxy.requests) == (2 if (call == store.backend.head) == (store.put == "PUT") else 1)


@pytest.mark.parametrize(
    "fault", [Fault.BAD_DIGEST, Fault.WRONG_CHECKSUM, Fault.NO_CHECKSUM, Fault.FLIP_SENT], ids=lambda fault: fault.name
)
def test_a_put_is_a_success_only_if_the_store_confirms_the_bytes(store: Store, fault: Fault) -> None:
    if fault is Fault.FLIP_SENT and store.put == "POST":
        pytest.skip("fake-gcs-server doesn't compare the checksum that it gets with the bytes")
    store.proxy.fail(method=store.put, with_=fault)
    with pytest.raises(ChecksumMismatch, match="some/prefix/key"):
        store.backend.put("key", BODY, sha256=SHA256)
    assert store.proxy.count(store.put) == 1
    assert store.raw_keys() == []


def test_a_slow_upload_is_one_request_however_long_it_takes(store: Store) -> None:
    """Each pause of the store is longer than the connect timeout, and the whole takes several times the read timeout."""
    backend = store.open(connect_timeout="0.2", read_timeout="1.5")
    store.proxy.fail(method=store.put, with_=Fault.SLOW_READ)
    body = bytearray(BODY * 20)
    assert backend.put("key", body, sha256=hashlib.sha256(body).digest()).size == len(body)
    assert len(store.proxy.requests) == 1


def test_a_slow_download_is_one_request_however_long_it_takes(store: Store) -> None:
    store.backend.put("key", BODY, sha256=SHA256)
    backend = store.open(connect_timeout="0.2", read_timeout="1.5")
    store.proxy.requests.clear()
    store.proxy.fail(method="GET", with_=Fault.SLOW_WRITE)
    assert backend.get("key") == BODY
    assert len(store.proxy.requests) == 1


def test_a_store_that_takes_no_more_bytes_is_given_up_on(store: Store) -> None:
    backend = store.open(give_up_after=0, read_timeout="0.5")
    store.proxy.fail(method=store.put, with_=Fault.DEAF)
    body = bytes(32 * 1024 * 1024)
    with pytest.raises(TransientStorageError, match=r"some/prefix/key: the store was silent for too long"):
        backend.put("key", bytearray(body), sha256=hashlib.sha256(body).digest())


def test_every_object_is_one_request_however_large(store: Store) -> None:
    body = bytes(32 * 1024 * 1024)
    store.backend.put("key", body, sha256=hashlib.sha256(body).digest())
    assert len(store.proxy.requests) == 1


class TestS3Alone:
    @pytest.fixture
    def proxy(self, s3_bucket: StoreBucket) -> Iterator[FaultyProxy]:
        with FaultyProxy(s3_bucket.endpoint, verify_digests=True) as proxy:
            yield proxy

    def test_md5_serves_stores_without_sha256(self, s3_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        backend = open_backend(s3_bucket.url_at(proxy.url), {"checksum": "md5"})
        proxy.fail(method="PUT", with_=Fault.NO_CHECKSUM)
        info = backend.put("key", BODY, sha256=SHA256)
        assert info.checksum == backend.head("key").checksum == f"md5:{hashlib.md5(BODY).hexdigest()}"
        with pytest.raises(ChecksumMismatch):
            backend.put("other", BODY, sha256=hashlib.sha256(b"").digest())
        proxy.fail(method="PUT", with_=Fault.FLIP_SENT)
        with pytest.raises(ChecksumMismatch):
            backend.put("other", BODY, sha256=SHA256)
        backend.delete(["key", "other"])
        assert list(backend.list()) == []
        backend.close()

    def test_a_store_without_conditional_puts_is_looked_at_first(
        self, s3_bucket: StoreBucket, proxy: FaultyProxy
    ) -> None:
        proxy.fail(method="PUT", times=math.inf, with_=Fault.NO_CONDITIONS)
        with (
            closing(open_backend(s3_bucket.url_at(proxy.url))) as backend,
            pytest.raises(StorageError, match="set create_only=look"),
        ):
            backend.put("key", BODY, sha256=SHA256)
        looking = s3_bucket.url_at(proxy.url) + "&create_only=look"
        with closing(open_backend(looking, sleep=lambda seconds: None)) as backend:
            backend.put("key", BODY, sha256=SHA256)
            with pytest.raises(ObjectAlreadyExists, match="key"):
                backend.put("key", b"other", sha256=hashlib.sha256(b"other").digest())
            assert backend.get("key") == BODY
            proxy.heal()
            proxy.fail(method="PUT", with_=Fault.RESET_AFTER)
            assert backend.put("unseen", BODY, sha256=SHA256).size == len(BODY)
            assert proxy.count("PUT", "unseen") == 1
            proxy.heal()
            # A 404 that isn't the store's own doesn't say that the key is free.
            proxy.fail(method="HEAD|GET", times=math.inf, with_=Answer(404, b"<html>"))
            with pytest.raises(StorageError, match="404"):
                backend.put("another", BODY, sha256=SHA256)
            proxy.heal()
            proxy.fail(method="HEAD|GET", times=math.inf, with_=Fault.FORBIDDEN)
            with pytest.raises(AccessDenied, match="create_only=look needs s3:GetObject"):
                backend.put("another", BODY, sha256=SHA256)

    def test_a_missing_bucket_is_asked_for_once(self, s3_bucket: StoreBucket, proxy: FaultyProxy) -> None:
        backend = open_backend(f"s3://no-such-bucket?path_style=true&endpoint={proxy.url}")
        with pytest.raises(BucketNotFound, match="no-such-bucket"):
            backend.put("key", BODY, sha256=SHA256)
        assert len(proxy.requests) == 1
        backend.close()

    def test_options_reach_the_store(self, s3_bucket: StoreBucket) -> None:
        backend = open_backend(s3_bucket.url, {"storage_class": "STANDARD_IA", "kms_key": "some-key"})
        backend.put("key", BODY, sha256=SHA256)
        answer = s3_bucket.client.head_object(Bucket=s3_bucket.bucket, Key="some/prefix/key")
        assert answer["StorageClass"] == "STANDARD_IA"
        assert answer["ServerSideEncryption"] == "aws:kms"
        assert answer["SSEKMSKeyId"].endswith("some-key")
        backend.close()

    @pytest.mark.parametrize(("path_style", "in_host"), [("true", False), ("false", True), (None, False)])
    def test_where_the_buckets_name_stands(
        self, s3_bucket: StoreBucket, monkeypatch: pytest.MonkeyPatch, path_style: str | None, in_host: bool
    ) -> None:
        names = []
        resolve = socket.getaddrinfo

        def resolve_below_localhost(host: str, *args: Any, **options: Any) -> Any:
            names.append(host)
            return resolve("127.0.0.1", *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve_below_localhost)  # not every resolver knows these names
        endpoint = s3_bucket.endpoint.replace("127.0.0.1", "localhost")
        options = {"endpoint": endpoint, "region": "us-east-1"} | ({"path_style": path_style} if path_style else {})
        with closing(open_backend(f"s3://{s3_bucket.bucket}/some/prefix", options)) as backend:
            backend.put("key", BODY, sha256=SHA256)
            assert backend.get("key") == BODY
            assert [info.key for info in backend.list()] == ["key"]
        s3_bucket.client.head_object(Bucket=s3_bucket.bucket, Key="some/prefix/key")
        assert set(names) - {"127.0.0.1"} == {f"{s3_bucket.bucket}.localhost" if in_host else "localhost"}

    def test_versions(self, s3_bucket: StoreBucket) -> None:
        s3_bucket.client.put_bucket_versioning(Bucket=s3_bucket.bucket, VersioningConfiguration={"Status": "Enabled"})
        backend = open_backend(s3_bucket.url)
        info = backend.put("key", BODY, sha256=SHA256)
        assert info.version
        assert backend.head("key").version == info.version
        backend.close()

    def test_a_consoles_folders_are_no_objects(self, s3_bucket: StoreBucket) -> None:
        for key in ("some/prefix/", "some/prefix/folder/", "some/prefixed", "some/prefix/folder/key"):
            s3_bucket.client.put_object(Bucket=s3_bucket.bucket, Key=key, Body=b"")
        backend = open_backend(s3_bucket.url)
        assert [info.key for info in backend.list()] == ["folder/key"]
        backend.close()

    def test_no_credentials(self, s3_bucket: StoreBucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        backend = open_backend(s3_bucket.url)
        with pytest.raises(AccessDenied, match="no AWS credentials; set AWS_PROFILE"):
            backend.put("key", BODY, sha256=SHA256)
        backend.close()

    def test_an_error_of_many_lines_is_one_sentence(self, aws_credentials: None) -> None:
        backend = open_backend("s3://no_such+bucket?path_style=true")
        with pytest.raises(StorageError, match="Invalid bucket name") as caught:
            backend.put("key", BODY, sha256=SHA256)
        assert "\n" not in str(caught.value)
        backend.close()


class TestGCSAlone:
    def test_options_reach_the_store(self, gcs_bucket: StoreBucket) -> None:
        with FaultyProxy(gcs_bucket.endpoint) as proxy:
            options = {"storage_class": "NEARLINE", "kms_key": "projects/p/some-key", "project": "payer"}
            backend = open_backend(gcs_bucket.url_at(proxy.url), options)
            info = backend.put("key", BODY, sha256=SHA256)
            assert proxy.count("POST", "kmsKeyName=projects%2Fp%2Fsome-key&userProject=payer") == 1
            backend.head("key")
            assert proxy.count("GET", "userProject=payer") == 1
            backend.close()
        blob = gcs_bucket.client.bucket(gcs_bucket.bucket).get_blob("some/prefix/key")
        assert blob.storage_class == "NEARLINE"
        assert info.version == str(blob.generation)

    def test_a_taken_key_without_permission_to_overwrite(self, gcs_bucket: StoreBucket) -> None:
        with FaultyProxy(gcs_bucket.endpoint) as proxy:
            message = "backup@example.com does not have storage.objects.delete access to the object."
            proxy.fail(with_=Fault.FORBIDDEN, message=message)
            backend = open_backend(gcs_bucket.url_at(proxy.url))
            with pytest.raises(ObjectAlreadyExists):
                backend.put("key", BODY, sha256=SHA256)
            backend.close()

    def test_the_emulators_own_variable_is_heard(
        self, gcs_bucket: StoreBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_bucket.endpoint)
        backend = open_backend(f"gs://{gcs_bucket.bucket}")
        backend.put("key", BODY, sha256=SHA256)
        assert backend.get("key") == BODY
        backend.close()
