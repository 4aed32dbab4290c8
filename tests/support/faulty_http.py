"""A proxy in front of a real store. By rule, it fails as networks and stores fail."""

import base64
import hashlib
import http.client
import itertools
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Fault(Enum):
    """The fault that happens to a request if a rule matches."""

    RESET = auto()
    """The connection is reset; the store never hears of the request."""
    RESET_AFTER = auto()
    """The store does what it was asked; the client sees a reset."""
    STALL = auto()
    """Nothing is answered until the proxy closes."""
    TRUNCATE = auto()
    """The answer's headers announce the whole length. Half of the body follows, then the connection closes."""
    INTERNAL_ERROR = auto()
    """The answer is 500. The store never hears of a request that the proxy refuses, here and below."""
    SLOW_DOWN = auto()
    """The answer is 503."""
    FORBIDDEN = auto()
    """The answer is 403."""
    CONDITION_REQUIRED = auto()
    """The answer is 403 without If-None-Match, as by a bucket's policy. With If-None-Match, the store does what it is asked."""
    NO_OBJECT_LOCK = auto()
    """The answer is 404, as S3 answers if an object has no retention or legal hold."""
    NO_BUCKET_LOCK = auto()
    """The answer is 400, as S3 answers a question about an object's lock if the bucket has no Object Lock."""
    BAD_DIGEST = auto()
    """The answer is 400, as a store answers if it received other bytes than the checksum says."""
    ERROR_IN_200 = auto()
    """The answer is 200, with the error document of a 500."""
    FLIP_SENT = auto()
    """One bit of the request's body is flipped on its way to the store."""
    WITHOUT_END = auto()
    """The answer to a GET has no Content-Length and 64 MiB more than the store's."""
    FLIP_RECEIVED = auto()
    """One bit of the answer's body is flipped."""
    WRONG_CHECKSUM = auto()
    """The store does what it was asked, and answers with the checksum of other bytes."""
    NO_CHECKSUM = auto()
    """The store does what it was asked, and answers with no checksum and an opaque ETag."""
    NO_CONDITION = auto()
    """The store does what it was asked, without regard to If-None-Match."""
    NO_CONDITIONS = auto()
    """The answer to If-None-Match is 501, as of a store without conditional puts. Without it, the store does what it is asked."""
    SLOW_READ = auto()
    """The request's body is read at about 1 MiB/s, with a pause of half a second after each half MiB. Then it is forwarded."""
    SLOW_WRITE = auto()
    """The answer's body comes in five parts, with a pause of half a second before each."""
    DEAF = auto()
    """The proxy reads the first half MiB of the request's body, and then neither reads nor answers until it closes."""


@dataclass(frozen=True)
class Answer:
    """An answer of the proxy. The store never hears of the request."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/html; charset=utf-8"
    """The answer's Content-Type."""
    headers: tuple[tuple[str, str], ...] = ()


LOGIN_PAGE = Answer(body=b"<!DOCTYPE html><html><head><title>Log in<br></title></head><body>Welcome!</body></html>")
XHTML_PAGE = Answer(
    body=b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body/></html>", kind="text/xml"
)


class Request(NamedTuple):
    """One request that reached the proxy."""

    method: str
    path: str
    """The path with its query, as sent."""


@dataclass
class _Rule:
    method: re.Pattern[str]
    path: re.Pattern[str]
    skip: int
    times: float
    fault: Fault | Answer
    message: str

    def takes(self, request: Request) -> bool:
        """True if the rule matches. Counts down ``skip`` and ``times``."""
        if not (self.times and self.method.fullmatch(request.method) and self.path.search(request.path)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class FaultyProxy:
    """``with FaultyProxy(upstream_url) as proxy``: the upstream store answers requests to ``proxy.url``, or they fail by rule.

    With ``verify_digests``, the proxy refuses a PUT whose body doesn't match its x-amz-checksum-sha256 or Content-MD5. S3 refuses such a
    PUT, too, but moto doesn't.
    """

    def __init__(self, upstream: str, *, verify_digests: bool = False) -> None:
        self.upstream = urlsplit(upstream)
        self.verify_digests = verify_digests
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The URL of the proxy: ``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(
        self,
        *,
        with_: Fault | Answer,
        method: str = ".*",
        path: str = "",
        times: float = 1,
        skip: int = 0,
        message: str = "Injected by the test.",
    ) -> None:
        """Let ``skip`` requests whose method and path match pass, and then fail the next ``times`` of them.

        ``method`` is a regular expression for the whole method. ``path`` is a regular expression to find in path and query. Rules are tried
        in the order in which they were made, and the first match decides. ``times`` may be ``math.inf``. ``message`` is the text of a refusal.
        """
        with self._lock:
            self._rules.append(_Rule(re.compile(method), re.compile(path), skip, times, with_, message))

    def heal(self) -> None:
        """Drop all rules."""
        with self._lock:
            self._rules.clear()

    def count(self, method: str, path: str = "") -> int:
        """Return the number of requests so far with this method, in whose path the regular expression ``path`` is found."""
        with self._lock:
            return sum(request.method == method and bool(re.search(path, request.path)) for request in self.requests)

    def rule_for(self, request: Request) -> tuple[Fault | Answer | None, str]:
        """Log the request. Return its fault, or None, and the text of a refusal."""
        with self._lock:
            self.requests.append(request)
            return next(((rule.fault, rule.message) for rule in self._rules if rule.takes(request)), (None, ""))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._open.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        # Clients keep idle connections open, whose threads would wait for the next request without end.
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the error: clients may hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the proxy keeps its own log."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        fault, message = proxy.rule_for(Request(self.command, self.path))
        if fault in (Fault.SLOW_READ, Fault.DEAF):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        body = b"".join(self._body(fault))
        match fault:
            case Answer(status, answer, kind, headers):
                self._answer(status, {"Content-Type": kind, **dict(headers)}, answer, None)
            case Fault.RESET:
                self._reset()
            case Fault.STALL:
                proxy.closing.wait()
                self._reset()
            case Fault.INTERNAL_ERROR:
                self._refuse(500, "InternalError", message)
            case Fault.SLOW_DOWN:
                self._refuse(503, "SlowDown", message)
            case Fault.FORBIDDEN:
                self._refuse(403, "AccessDenied", message)
            case Fault.CONDITION_REQUIRED if "If-None-Match" not in self.headers:
                self._refuse(403, "AccessDenied", message)
            case Fault.NO_OBJECT_LOCK:
                self._refuse(404, "NoSuchObjectLockConfiguration", message)
            case Fault.NO_BUCKET_LOCK:
                self._refuse(400, "InvalidRequest", message)
            case Fault.BAD_DIGEST:
                self._refuse(400, "BadDigest", "Provided CRC32C doesn't match calculated CRC32C.")
            case Fault.NO_CONDITIONS if "If-None-Match" in self.headers:
                self._refuse(
                    501, "NotImplemented", "A header you provided implies functionality that is not implemented."
                )
            case Fault.ERROR_IN_200:
                self._refuse(200, "InternalError", message)
            case _:
                self._forward(_flip(body) if fault is Fault.FLIP_SENT else body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815  (http.server's names)

    def _body(self, fault: Fault | Answer | None) -> Iterator[bytes]:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            left = int(self.headers.get("Content-Length", 0))
            while left and fault in (Fault.SLOW_READ, Fault.DEAF):
                yield self.rfile.read(size := min(left, _READ_AT_ONCE))
                left -= size
                self.server.proxy.closing.wait(_PAUSE if fault is Fault.SLOW_READ else None)
            yield self.rfile.read(left)
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _forward(self, body: bytes, fault: Fault | Answer | None) -> None:
        proxy = self.server.proxy
        if proxy.verify_digests and self.command == "PUT" and not self._digests_match(body):
            self._refuse(400, "BadDigest", "The digest did not match.")
            return
        upstream = http.client.HTTPConnection(proxy.upstream.hostname or "", proxy.upstream.port)
        try:
            sent = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            if body or self.command in ("PUT", "POST"):
                sent["Content-Length"] = str(len(body))
            if fault is Fault.NO_CONDITION:
                sent = {name: value for name, value in sent.items() if name.lower() != "if-none-match"}
            # Signatures cover the Host that the client saw, but the upstream store routes by its own.
            sent["Host"] = proxy.upstream.netloc
            upstream.request(self.command, self.path, body or None, sent)
            answer = upstream.getresponse()
            received = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            length = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else None
            status = answer.status
        finally:
            upstream.close()
        match fault:
            case Fault.RESET_AFTER:
                self._reset()
                return
            case Fault.FLIP_RECEIVED:
                received = _flip(received)
            case Fault.WRONG_CHECKSUM:
                headers, received = _checksum_replaced(headers, received, base64.b64encode(bytes(32)).decode())
            case Fault.NO_CHECKSUM:
                headers, received = _checksum_replaced(headers, received, None)
            case _:
                pass
        if fault is Fault.WITHOUT_END:
            self._answer_without_end(status, headers, received)
            return
        self._answer(
            status, headers, received, length, truncate=fault is Fault.TRUNCATE, slow=fault is Fault.SLOW_WRITE
        )

    def _answer_without_end(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):  # the client has read enough
            for part in (body, *[bytes(1 << 20)] * 64):
                self.wfile.write(part)

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes,
        length: str | None,
        *,
        truncate: bool = False,
        slow: bool = False,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != http.client.NO_CONTENT:
            self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        step = len(body) // 5 + 1
        for start in range(0, len(body), step) if slow else ():
            self.server.proxy.closing.wait(_PAUSE)
            self.wfile.write(body[start : start + step])
        if self.command != "HEAD" and not slow:
            self.wfile.write(body[: len(body) // 2] if truncate else body)
        self.close_connection = self.close_connection or truncate

    def _refuse(self, status: int, code: str, message: str) -> None:
        if "/storage/v1/" in self.path:
            body = b'{"error": {"code": %d, "message": "%s: %s"}}' % (status, code.encode(), message.encode())
            headers = {"Content-Type": "application/json"}
        else:
            body = (
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
            ).encode()
            headers = {"Content-Type": "application/xml"}
        self._answer(status, headers, body, None)

    def _reset(self) -> None:
        # A lingering time of 0 makes close send RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def _digests_match(self, body: bytes) -> bool:
        expected = itertools.compress(
            (
                ("x-amz-checksum-sha256", hashlib.sha256(body).digest()),
                ("Content-MD5", hashlib.md5(body, usedforsecurity=False).digest()),
            ),
            ("x-amz-checksum-sha256" in self.headers, "Content-MD5" in self.headers),
        )
        return all(self.headers[name] == base64.b64encode(digest).decode() for name, digest in expected)


_SMALL_BUFFER = 64 * 1024
_READ_AT_ONCE = 512 * 1024
_PAUSE = 0.5  # seconds
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "host"}


def _flip(body: bytes) -> bytes:
    """Return the body with a bit flipped after three quarters of its bytes. In a multipart upload, this is past the metadata."""
    at = len(body) * 3 // 4
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :] if body else body


def _checksum_replaced(headers: dict[str, str], body: bytes, checksum: str | None) -> tuple[dict[str, str], bytes]:
    kept = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum")}
    if any(name.lower() == "etag" for name in kept):
        kept = {name: value for name, value in kept.items() if name.lower() != "etag"} | {"ETag": '"opaque"'}
    if checksum:
        kept["x-amz-checksum-sha256"] = checksum
    return kept, re.sub(rb'"crc32c":\s*"[^"]*"', b'"crc32c":"AAAAAA=="' if checksum else b'"crc32c":""', body)
