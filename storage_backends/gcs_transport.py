"""How requests go to Google Cloud Storage: over connections that send in pieces, and with a check of each answer.

Google's SDK takes any JSON for an answer. The requests library follows redirects, and makes a POST a GET on the way.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from storage_backends.backend import Body
from storage_backends.connections import REMEDY, Misanswered, patient_pools, socket_options
from storage_backends.errors import quote
from storage_backends.faults import ENCRYPTED, speaks_tls

_CONNECTIONS = 64
_DESCRIPTION = ("name", "size", "timeCreated", "generation")
"""The fields that a description of an object must have."""
_PATCHED = ("name", "size", "generation")
"""The fields that the answer to a PATCH must have: fake-gcs-server gives no more."""


class TrustingAdapter(requests.adapters.HTTPAdapter):
    """An adapter of requests that trusts the CAs in the file ``ca_bundle``; None for those that requests trusts by itself.

    A session's own ``verify`` would give way to REQUESTS_CA_BUNDLE.
    """

    def __init__(self, ca_bundle: str | None, **options: Any) -> None:
        self._ca_bundle = ca_bundle
        super().__init__(**options)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send the request. Return the answer."""
        if self._ca_bundle:
            options["verify"] = self._ca_bundle
        return super().send(request, *args, **options)


class GCSAdapter(TrustingAdapter):
    """An adapter of requests that returns only answers of `GCS's JSON API`_, errors included.

    Raises Misanswered for any other answer. ``read_timeout`` is the most seconds of silence.
    ``ca_bundle`` is :class:`TrustingAdapter`'s.

    .. _GCS's JSON API: https://cloud.google.com/storage/docs/json_api/v1/objects
    """

    def __init__(self, read_timeout: float, ca_bundle: str | None) -> None:
        self._read_timeout = read_timeout
        super().__init__(ca_bundle, pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **options | {"socket_options": socket_options()})
        self._make_patient(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the pools of connections to a proxy."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options | {"socket_options": socket_options()})
        if is_new:
            self._make_patient(manager)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send the request. Return the answer, or raise Misanswered if the answer isn't the store's."""
        try:
            answer = super().send(request, *args, **options)
        except requests.ConnectionError as exc:
            if speaks_tls(request.url or ""):
                raise Misanswered(ENCRYPTED) from exc
            raise
        try:
            _check_answer(request, answer)
        except BaseException:
            answer.close()
            raise
        return answer

    def _make_patient(self, manager: urllib3.PoolManager) -> None:
        manager.pool_classes_by_scheme = patient_pools(manager.pool_classes_by_scheme, self._read_timeout)


def _check_answer(request: requests.PreparedRequest, answer: requests.Response) -> None:
    status, kind = answer.status_code, answer.headers.get("Content-Type", "")
    if 300 <= status < 400:
        raise Misanswered(
            f"the store redirects to {quote(answer.headers.get('Location', 'elsewhere'))} ({status}), which pgstow doesn't follow; "
            "set endpoint to where the bucket is"
        )
    if status >= 400:
        _check_refusal(answer)
        return
    what = quote(kind) or "something else"
    url = urlsplit(request.url or "")
    if "alt=media" in str(url.query) and "X-Goog-Generation" in answer.headers:
        if "Range" in request.headers and status != requests.codes.partial:
            raise Misanswered("pgstow asked for a part of the object, but the store gives the whole")
        return
    said = _json(answer)
    if isinstance(said, dict) and "error" in said:
        raise Misanswered("the store answers with an error, and says 200", status=500)
    if "alt=media" in str(url.query):
        raise Misanswered(f"the answer is no object, but {what}; {REMEDY}")
    if request.method == "DELETE":
        if answer.content.strip() not in (b"", b"null"):  # fake-gcs-server answers null
            raise Misanswered(f"the answer is no confirmation, but {what}; {REMEDY}")
        return
    is_listing = request.method == "GET" and str(url.path).endswith("/o")
    if not isinstance(said, dict) or (is_listing and said.get("kind") != "storage#objects"):
        raise Misanswered(f"the answer is none of Google Cloud Storage's, but {what}; {REMEDY}")
    if is_listing:
        _check_page(said)
    else:
        _check_descriptions([said], needed=_DESCRIPTION if request.method != "PATCH" else _PATCHED)


def _check_refusal(answer: requests.Response) -> None:
    """Raise Misanswered for an error that the SDK couldn't turn into an exception."""
    said = _json(answer)
    if said is _NO_JSON and answer.status_code == requests.codes.bad and speaks_tls(answer.url):
        raise Misanswered(ENCRYPTED)
    error = said.get("error", {}) if isinstance(said, dict) else said
    if said is _NO_JSON or (isinstance(error, dict) and isinstance(error.get("errors", []), list)):
        return
    raise Misanswered(
        f"the store answers {answer.status_code} in words that aren't its own; {REMEDY}", answer.status_code
    )


def _check_page(page: Mapping[str, Any]) -> None:
    items, token = page.get("items", []), page.get("nextPageToken")
    if not isinstance(items, list):
        raise Misanswered("a page of the listing has no list of objects")
    if "nextPageToken" in page and not (isinstance(token, str) and token):
        raise Misanswered("a page of the listing doesn't say how it goes on")
    _check_descriptions(items)


def _check_descriptions(items: Iterable[Any], needed: Sequence[str] = _DESCRIPTION) -> None:
    for item in items:
        if not (isinstance(item, dict) and all(isinstance(item.get(name), str) for name in needed)):
            raise Misanswered("the store describes an object without its name, size, time or generation")
        if not re.fullmatch("[0-9]+", item["size"]):
            raise Misanswered("the store describes an object whose size is no number")


_NO_JSON = object()


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return _NO_JSON


class Related:
    """A multipart/related body of JSON and bytes, sent part by part: joined, it would be a second copy in memory."""

    def __init__(self, metadata: bytes, body: Body) -> None:
        boundary = uuid.uuid4().hex.encode()
        self.content_type = f"multipart/related; boundary={boundary.decode()}"
        self._parts = (
            b"--%b\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%b\r\n"
            b"--%b\r\nContent-Type: application/octet-stream\r\n\r\n" % (boundary, metadata, boundary),
            memoryview(body).cast("B"),
            b"\r\n--%b--\r\n" % boundary,
        )

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self._parts)
