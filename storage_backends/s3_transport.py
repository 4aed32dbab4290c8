"""boto3's client, and how its requests go over the network: by botocore's own HTTP session, with connections that send in pieces.

pgstow checks each answer before botocore reads it: botocore takes any page for an empty answer, and follows redirects for ever.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.endpoint import EndpointCreator
from botocore.exceptions import ConnectionClosedError, IncompleteReadError
from botocore.httpsession import URLLib3Session
from botocore.utils import parse_timestamp

from storage_backends.connections import REMEDY, Misanswered, patient_pools, socket_options
from storage_backends.errors import quote
from storage_backends.faults import ENCRYPTED, check_bundle, speaks_tls
from storage_backends.s3_signing import sign_known_digests

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


_CONNECTIONS = 64


class _PatientSession(URLLib3Session):
    """botocore's session, with other pools. It takes these only by a dict that the stubs leave out."""

    _pool_classes_by_scheme: dict[str, Any]

    def __init__(self, *, timeout: Any, **options: Any) -> None:
        _, read_timeout = timeout
        super().__init__(timeout=timeout, **options | {"socket_options": list(socket_options())})
        self._pool_classes_by_scheme.update(patient_pools(self._pool_classes_by_scheme, silence=read_timeout))


class S3Transport:
    """Sends all requests of its ``client`` in botocore's place, as a handler of before-send, which may answer a request.

    ``timeout`` has the most seconds to wait for a connection, and the most seconds of silence. The SDK's own retries are off.
    ``path_style`` and ``ca_bundle`` are :class:`S3Backend`'s. Raises BotoCoreError or ValueError for options that boto3 doesn't take, and
    StorageError for a CA bundle that can't be used.
    """

    def __init__(
        self,
        endpoint: str | None,
        region: str | None,
        profile: str | None,
        *,
        ca_bundle: str | None,
        path_style: bool | None,
        timeout: tuple[float, float],
    ) -> None:
        config = Config(
            retries={"total_max_attempts": 1},
            # Every put carries a digest already; another, by default CRC32, would only cost a pass over the body, and
            # stores other than Amazon's often refuse it.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3=None if path_style is None else {"addressing_style": "path" if path_style else "virtual"},
        )
        core = botocore.session.Session(profile=profile)
        if ca_bundle:
            core.set_config_variable("ca_bundle", ca_bundle)
        _forget_other_services(core)
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
        session = boto3.session.Session(region_name=region, botocore_session=core)
        self.client: S3Client = session.client("s3", endpoint_url=endpoint, config=config)
        verify = core.get_config_variable("ca_bundle")
        named = verify or os.environ.get("REQUESTS_CA_BUNDLE")  # as botocore does
        if named and self.client.meta.endpoint_url.startswith("https://"):
            check_bundle(named, "ca_bundle" if ca_bundle else "AWS_CA_BUNDLE" if verify else "REQUESTS_CA_BUNDLE")
        # The creator adds the environment's proxies. The stubs allow less than botocore takes.
        options: dict[str, Any] = {"timeout": timeout, "verify": verify}
        own = EndpointCreator(self.client.meta.events).create_endpoint(
            self.client.meta.service_model,
            self.client.meta.region_name,
            self.client.meta.endpoint_url,
            max_pool_connections=_CONNECTIONS,
            http_session_cls=_PatientSession,
            **options,
        )
        self._session: Any = own.http_session
        sign_known_digests(self.client.meta.events)
        self.client.meta.events.register("before-send.s3", self._send)  # type: ignore[arg-type]  # it may return something

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self.client.close()

    def _send(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        try:
            answer: AWSResponse = self._session.send(request)
        except ConnectionClosedError as exc:
            if speaks_tls(request.url):
                raise Misanswered(ENCRYPTED) from exc
            raise
        try:
            _check_answer(event_name.rpartition(".")[2], answer)
        except BaseException:
            answer.raw.close()
            raise
        return answer


def _forget_other_services(session: botocore.session.Session) -> None:
    """Remove the endpoints of services that pgstow doesn't use. The session's clients would keep them, and they take 7 MiB."""
    endpoints, _ = session.get_component("data_loader").load_data_with_path("endpoints")
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in _SERVICES & services.keys()}


def _parse_time(value: Any) -> datetime:
    """Return the time in an answer. S3 writes ``2026-11-23T02:00:00.000Z`` in listings; botocore parses its other forms.

    botocore takes 0.1 ms for each time, which is more than half of the time for a listing.
    """
    if isinstance(value, str) and _IN_A_LISTING.fullmatch(value):
        return datetime.fromisoformat(value)
    moment: datetime = parse_timestamp(value)
    return moment


_IN_A_LISTING = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_SERVICES = frozenset({"s3", "sts", "portal.sso", "oidc"})
"""S3, and the services that give credentials, by their names in botocore's list of endpoints."""
_ROOTS: Mapping[str, str] = {
    "ListObjectsV2": "ListBucketResult",
    "DeleteObjects": "DeleteResult",
    "GetObjectLockConfiguration": "ObjectLockConfiguration",
    "GetObjectLegalHold": "LegalHold",
    "GetObjectRetention": "Retention",
}
"""The root element of each operation's answer. The other operations' answers have no body, except GetObject's, whose body is the object."""
_ABOUT_AN_OBJECT = ("GetObjectLegalHold", "GetObjectRetention")
"""Requests that a store may take for a GET of the object, if it doesn't know them."""
_XML = ("application/xml", "text/xml")
_PAGES = ("text/html", "application/xhtml+xml", *_XML)
"""Types that no object of pgstow's has."""


def _check_answer(operation: str, answer: AWSResponse) -> None:
    """Raise Misanswered if the answer isn't S3's, and IncompleteReadError if some of it is missing.

    S3's own errors pass, even with status 200.
    """
    status = answer.status_code
    if 300 <= status < 400 and "x-amz-bucket-region" not in answer.headers:
        # If the answer names the region, botocore asks there once. Otherwise it would ask for the region, and be redirected again.
        raise Misanswered(
            f"the store redirects to {quote(answer.headers.get('Location', 'elsewhere'))} ({status}), which pgstow doesn't follow; "
            "set endpoint and region to where the bucket is"
        )
    if status == 400 and _kind(answer) not in _XML and speaks_tls(answer.url):
        raise Misanswered(ENCRYPTED)
    if status >= 300:
        return
    if operation in ("GetObject", "HeadObject"):
        _check_object(operation, answer)
    elif operation in _ABOUT_AN_OBJECT and "etag" in answer.headers:
        answer.status_code = 501  # Not Implemented, as another store would say
    else:
        _check_document(operation, answer)


def _check_object(operation: str, answer: AWSResponse) -> None:
    kind = _kind(answer)
    if operation == "GetObject" and kind in _PAGES:
        root = _root_of(answer.content)
        if root is not None and _local_name(root) == "Error":
            answer.status_code = 500  # botocore does the same with an error that has status 200
            return
    if kind in _PAGES or not {"etag", "last-modified"} <= {name.lower() for name in answer.headers}:
        raise Misanswered(f"the answer is no object, but {kind or 'something else'}; {REMEDY}")


def _check_document(operation: str, answer: AWSResponse) -> None:
    body, expected = answer.content, int(answer.headers.get("Content-Length") or 0)
    if len(body) < expected:
        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=expected)
    wanted = _ROOTS.get(operation)
    if not (body or wanted):
        return
    root = _root_of(body)
    name = None if root is None else _local_name(root)
    if root is None or name not in ("Error", wanted):
        what = f"{_kind(answer) or 'data'} of {len(body):,} bytes" if body else "empty"
        raise Misanswered(f"the answer to {operation} is none of S3's, but {what}; {REMEDY}")
    # botocore ends the listing at any value but “true”.
    if name == "ListBucketResult" and root.findtext("{*}IsTruncated", "").strip() not in ("true", "false"):
        raise Misanswered("a page of the listing doesn't say whether it is the last one")


def _root_of(body: bytes) -> ET.Element | None:
    """Return the root of the XML; None if the body isn't XML."""
    try:
        return ET.fromstring(body)  # noqa: S314  (botocore parses the same bytes in the same way)
    except (ET.ParseError, ValueError):
        return None


def _local_name(element: ET.Element) -> str:
    """Return the name without its namespace."""
    return element.tag.rpartition("}")[2]


def _kind(answer: AWSResponse) -> str:
    kind: str = answer.headers.get("Content-Type", "")
    return kind.partition(";")[0].strip().lower()
