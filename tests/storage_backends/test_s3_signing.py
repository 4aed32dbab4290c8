"""A put to S3 is signed by the SHA-256 that the caller gives. botocore doesn't hash the body again."""

import hashlib

import pytest
from support.object_stores import StoreBucket

from storage_backends.s3 import S3Backend

BODY = bytes(1024 * 1024)


def test_a_put_hashes_no_body_for_its_signature(s3_bucket: StoreBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def sha256(data: bytes = b"") -> "hashlib._Hash":
        hashed.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr("botocore.auth.sha256", sha256)
    signed: list[str] = []
    backend = S3Backend(s3_bucket.bucket, s3_bucket.prefix, endpoint=s3_bucket.endpoint, path_style=True)
    backend._client.meta.events.register_first(
        "before-send.s3.PutObject",
        lambda request, **_: signed.append(request.headers["X-Amz-Content-SHA256"].decode()),  # type: ignore[arg-type]
    )
    digest = hashlib.sha256(BODY)
    backend.put("key", BODY, sha256=digest.digest())
    backend.close()
    assert signed == [digest.hexdigest()]
    assert hashed, "the request itself is hashed"
    assert max(hashed) < len(BODY)
