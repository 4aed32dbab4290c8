"""Tests of answers that don't come from the store, such as a login page. For each answer, the backends for S3 and GCS raise an error."""

import hashlib
import json
import math
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support.faulty_http import LOGIN_PAGE, XHTML_PAGE, Answer, Fault, FaultyProxy
from support.object_stores import StoreBucket

from storage_backends import (
    BucketNotFound,
    ObjectNotFound,
    ObjectTooLarge,
    StorageBackend,
    StorageError,
    TransientStorageError,
    open_backend,
)
from storage_backends.holds import set_hold

BODY = b"some bytes"
SHA256 = hashlib.sha256(BODY).digest()


def xml(document: str, status: int = 200) -> Answer:
    return Answer(status, document.encode(), "application/xml")


def in_json(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), "application/json")


def page(rest: str) -> Answer:
    return xml(f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{rest}</ListBucketResult>')


def entry(key: str, size: str = "1", time: str = "2026-01-01T00:00:00Z") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{time}</LastModified></Contents>"


def item(name: str, **other: Any) -> dict[str, Any]:
    return {"name": name, "size": "1", "timeCreated": "2026-01-01T00:00:00Z", "generation": "1", **other}


def items(*described: Any) -> Answer:
    return in_json({"kind": "storage#objects", "items": list(described)})


WHOLE = "<IsTruncated>false</IsTruncated>"
EMPTY = Answer(kind="application/octet-stream")
STRANGE = [LOGIN_PAGE, XHTML_PAGE, EMPTY, in_json({}), in_json([]), in_json("x"), xml("<Other/>"), Answer(204)]


@dataclass
class Store:
    """A store with one object, ``key``, behind a proxy."""

    kind: str
    backend: StorageBackend
    proxy: FaultyProxy
    raw_keys: Callable[[], set[str]]

    def always(self, fault: Answer | Fault, method: str = ".*") -> None:
        self.proxy.heal()
        self.proxy.requests.clear()
        self.proxy.fail(method=method, times=math.inf, with_=fault)

    def calls(self) -> dict[str, Callable[[], object]]:
        return {
            "list": lambda: list(self.backend.list()),
            "get": lambda: self.backend.get("key"),
            "get a part": lambda: self.backend.get("key", offset=2, length=3),
            "get an end": lambda: self.backend.get("key", offset=2),
            "head": lambda: self.backend.head("key"),
            "put": lambda: self.backend.put("new", BODY, sha256=SHA256),
            "delete": lambda: self.backend.delete(["key"]),
            "hold": lambda: set_hold(self.backend, "key", held=True),
        }


@pytest.fixture(params=["s3", "gcs"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    bucket: StoreBucket = request.getfixturevalue(f"{request.param}_bucket")

    def raw_keys() -> set[str]:
        if request.param == "gcs":
            return {blob.name for blob in bucket.client.list_blobs(bucket.bucket)}
        return {entry["Key"] for entry in bucket.client.list_objects_v2(Bucket=bucket.bucket).get("Contents", ())}

    with FaultyProxy(bucket.endpoint) as proxy:
        backend = open_backend(bucket.url_at(proxy.url), give_up_after=0)
        backend.put("key", BODY, sha256=SHA256)
        yield Store(request.param, backend, proxy, raw_keys)
        backend.close()


def test_no_answer_is_read_beyond_what_was_asked_for(store: Store) -> None:
    store.always(Fault.WITHOUT_END, method="GET")
    for call in (
        lambda: store.backend.get("key", at_most=len(BODY)),
        lambda: store.backend.get("key", offset=2, length=3),
    ):
        tracemalloc.start()
        with pytest.raises(ObjectTooLarge):
            call()
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()


def test_no_call_takes_a_strange_page_for_an_answer(store: Store) -> None:
    for answer in STRANGE:
        store.always(answer)
        for name, call in store.calls().items():
            if name == "hold" and store.kind == "s3" and not answer.body:
                continue  # S3 confirms a hold by an empty answer
            with pytest.raises(StorageError, match="bucket-") as caught:
                call()
            assert not isinstance(caught.value, ObjectNotFound), name
            assert "\n" not in str(caught.value)
    assert store.raw_keys() == {"some/prefix/key"}


def test_a_deletion_counts_only_if_the_store_confirms_it(store: Store) -> None:
    for answer in (LOGIN_PAGE, XHTML_PAGE):
        for method in ("DELETE|POST", "GET|HEAD"):
            store.always(answer, method)
            with pytest.raises(StorageError):
                store.backend.delete(["key"])
    assert store.raw_keys() == {"some/prefix/key"}


def test_a_redirect_is_told_and_not_followed(store: Store) -> None:
    for status in (301, 302, 303, 307, 308):
        store.always(Answer(status, headers=(("Location", "https://elsewhere.example.com/"),)))
        for call in store.calls().values():
            store.proxy.requests.clear()
            told = rf"redirects to https://elsewhere\.example\.com/ \({status}\).*set endpoint"
            with pytest.raises(StorageError, match=told) as caught:
                call()
            assert not isinstance(caught.value, TransientStorageError)
            assert len(store.proxy.requests) <= 2  # a deletion on S3 asks for locks first


FOREIGN_404S = [
    Answer(404, b"<html>Not Found</html>"),
    Answer(404, XHTML_PAGE.body),
    Answer(404),
    in_json({"error": {"code": 404, "message": "no such route"}}, 404),
    in_json([1], 404),
    xml("<Error><Code>kms:KeyNotFound</Code><Message>The key is gone</Message></Error>", 404),
    xml("<Error><Code>NoSuchUpload</Code></Error>", 404),
]


def test_a_404_that_is_not_the_stores_own_is_not_missing(store: Store) -> None:
    for answer in FOREIGN_404S:
        store.always(answer)
        for call in store.calls().values():
            with pytest.raises(StorageError, match="404") as caught:
                call()
            assert not isinstance(caught.value, ObjectNotFound | BucketNotFound | TransientStorageError)


def test_what_one_call_calls_missing_must_be_missing_for_another(store: Store) -> None:
    """MinIO without its key service answers a HEAD with 200 and a GET with 404. A broken proxy may do the opposite."""
    missing = Answer(404) if store.kind == "s3" else Answer(404, b"No such object: bucket/key", "text/html")
    asked = "HEAD" if store.kind == "s3" else "GET"
    store.proxy.fail(method=asked, path="alt=media" if store.kind == "gcs" else "", times=1, with_=missing)
    with pytest.raises(StorageError, match="404") as caught:
        store.backend.head("key") if store.kind == "s3" else store.backend.get("key")
    assert not isinstance(caught.value, ObjectNotFound)


def test_an_error_that_comes_with_status_200_is_asked_again(store: Store) -> None:
    for name, call in store.calls().items():
        if name == "head" and store.kind == "s3":
            continue  # the answer to a HEAD has no body
        store.always(Fault.ERROR_IN_200, method=".*" if name != "delete" else "POST|DELETE")
        with pytest.raises(TransientStorageError, match=r"InternalError|says 200"):
            call()


PAGES_OF_S3 = [
    page(""),
    page("<IsTruncated>maybe</IsTruncated>"),
    page("<IsTruncated>true</IsTruncated>"),
    page(f"<IsTruncated>true</IsTruncated><NextMarker>some/prefix/a</NextMarker>{entry('some/prefix/a')}"),
    page("<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>"),
    page(f"{WHOLE}<Prefix>other/</Prefix>"),
    page(WHOLE + entry("other/key")),
    page(WHOLE + entry("some/prefix/b") + entry("some/prefix/a")),
    page(WHOLE + entry("some/prefix/a") + entry("some/prefix/a")),
    page(WHOLE + entry("some/prefix/a", size="much")),
    page(WHOLE + entry("some/prefix/a", time="soon")),
    page(WHOLE + "<Contents><Key>some/prefix/a</Key></Contents>"),
]


PAGES_OF_GCS = [
    in_json({"items": []}),
    in_json({"kind": "storage#buckets"}),
    in_json({"kind": "storage#objects", "items": {}}),
    in_json({"kind": "storage#objects", "items": None}),
    in_json({"kind": "storage#objects", "nextPageToken": ""}),
    in_json({"kind": "storage#objects", "nextPageToken": 5}),
    in_json({"kind": "storage#objects", "nextPageToken": "again"}),
    items("some/prefix/a"),
    items({"name": "some/prefix/a"}),
    items(item("other/key")),
    items(item("some/prefix/b"), item("some/prefix/a")),
    items(item("some/prefix/a", size="much")),
    items(item("some/prefix/a", timeCreated="soon")),
    items(item("some/prefix/a", timeCreated=5)),
    items(item("some/prefix/a", crc32c="x")),
]


def test_a_page_must_have_what_a_page_has(store: Store) -> None:
    for answer in PAGES_OF_S3 if store.kind == "s3" else PAGES_OF_GCS:
        store.always(answer)
        with pytest.raises(StorageError, match="some/prefix") as caught:
            list(store.backend.list())
        assert not isinstance(caught.value, TransientStorageError)


def test_a_complete_page_of_the_first_version_of_listobjects_will_do(store: Store) -> None:
    if store.kind != "s3":
        pytest.skip("only S3 has two versions of ListObjects")
    store.always(
        page(f"{WHOLE}<Prefix>some%2Fprefix%2F</Prefix><EncodingType>url</EncodingType>{entry('some/prefix/a%2Bb')}")
    )
    assert [info.key for info in store.backend.list()] == ["a+b"]
    store.always(page(f"{WHOLE}<Prefix/>{entry('some/prefix/a')}"))
    assert [info.key for info in store.backend.list()] == ["a"]


def test_a_listing_that_is_cut_off_is_asked_for_again(store: Store) -> None:
    store.always(Fault.TRUNCATE)
    with pytest.raises(TransientStorageError):
        list(store.backend.list())


def test_the_region_of_a_bucket_that_is_elsewhere_is_told(store: Store) -> None:
    if store.kind != "s3":
        pytest.skip("only S3 names the bucket's region in a redirect")
    body = b"<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message></Error>"
    store.always(Answer(301, body, "application/xml", (("x-amz-bucket-region", "eu-west-1"),)))
    for call in store.calls().values():
        with pytest.raises(StorageError, match="set region=eu-west-1"):
            call()


def test_md5_puts_are_confirmed_too(s3_bucket: StoreBucket) -> None:
    with FaultyProxy(s3_bucket.endpoint) as proxy:
        backend = open_backend(s3_bucket.url_at(proxy.url), {"checksum": "md5"}, give_up_after=0)
        for answer in (LOGIN_PAGE, XHTML_PAGE, EMPTY):
            proxy.fail(method="PUT", with_=answer)
            with pytest.raises(StorageError, match=r"no ETag|none of S3's"):
                backend.put("key", BODY, sha256=SHA256)
        backend.put("key", BODY, sha256=SHA256)
        proxy.fail(method="DELETE", with_=LOGIN_PAGE)
        with pytest.raises(StorageError, match="none of S3's"):
            backend.delete(["key"])
        assert backend.get("key") == BODY
        backend.close()
