"""The proxy of the benchmarks passes requests on, and counts each by its kind."""

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.proxy import CountingProxy, kind_of


class _Echo(BaseHTTPRequestHandler):
    """Answers each request with its own body, or with its target if it has none."""

    protocol_version = "HTTP/1.1"
    timeout = 0.5  # seconds until an idle connection is closed

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("method", "target", "kind"),
    [
        ("GET", "/bucket?list-type=2&prefix=manifests%2F", "LIST"),
        ("GET", "/bucket/manifests/a.json", "GET"),
        ("HEAD", "/bucket/manifests/a.json", "HEAD"),
        ("PUT", "/bucket/data/a", "PUT"),
        ("DELETE", "/bucket/data/a", "DELETE"),
        ("POST", "/bucket?delete", "DELETE"),
        ("GET", "/bucket?object-lock", "LOCK"),
        ("GET", "/bucket/data/a?legal-hold", "LOCK"),
        ("GET", "/bucket/data/a?retention", "LOCK"),
        ("POST", "/bucket/data/a?uploads", "POST"),
    ],
)
def test_kinds_of_requests(method: str, target: str, kind: str) -> None:
    assert kind_of(method, target) == kind


def test_requests_of_one_connection_are_passed_on_and_counted(endpoint: str, tmp_path: Path) -> None:
    large = bytes(range(256)) * 8192
    with CountingProxy(endpoint, tmp_path / "requests.log") as proxy:
        connection = http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"))
        answers = []
        for method, target, body in (
            ("PUT", "/bucket/a", large),
            ("GET", "/bucket/a?object-lock", None),
            ("GET", "/bucket/a", None),
        ):
            connection.request(method, target, body)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()))
        connection.close()
        counts, answered = proxy.counts(), proxy.answered()
    assert answers[0] == (200, large)
    assert answers[1][0] == 404
    assert b"ObjectLockConfigurationNotFoundError" in answers[1][1]
    assert answers[2] == (200, b"/bucket/a")
    assert counts == {"PUT": 1, "LOCK": 1, "GET": 1}
    assert 0 < answered - len(large) - len(b"/bucket/a") < 1000  # the headers


def test_the_proxy_closes_a_connection_that_the_store_closed(endpoint: str, tmp_path: Path) -> None:
    with CountingProxy(endpoint, tmp_path / "requests.log") as proxy:
        connection = http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"), timeout=60)
        connection.request("GET", "/bucket/a")
        connection.getresponse().read()
        assert connection.sock.recv(1) == b""
        connection.close()
