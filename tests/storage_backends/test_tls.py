"""Tests of stores behind TLS. A lasting fault is reported in one sentence and without a second attempt. Users can name their own CA."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.faulty_http import Answer, FaultyProxy
from support.object_stores import StoreBucket
from support.tls import Authority, tls_in_front_of

from storage_backends import StorageError, TransientStorageError, open_backend

BODY = b"body"
SHA256 = hashlib.sha256(BODY).digest()
TOKEN = Answer(200, b'{"access_token": "some", "expires_in": 3600, "token_type": "Bearer"}', "application/json")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def google_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, kind, serialization.NoEncryption()).decode()


@dataclass
class Store:
    """A vendor's store, which speaks plain HTTP. Google's tokens come from it, too."""

    bucket: StoreBucket
    proxy: FaultyProxy
    behind: Callable[..., int]
    """Puts TLS with a certificate in front of the store, and returns the port."""
    variable: str
    """The environment variable that names a CA bundle."""

    def url(self, endpoint: str) -> str:
        return self.bucket.url_at(endpoint)


@pytest.fixture(params=["s3", "gcs"])
def store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, google_key: str
) -> Iterator[Store]:
    bucket: StoreBucket = request.getfixturevalue(f"{request.param}_bucket")
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultyProxy(bucket.endpoint))
        proxy.fail(path="^/token", times=math.inf, with_=TOKEN)

        def behind(certificate: Path, *, answers_plain: bool = False) -> int:
            port = stack.enter_context(tls_in_front_of(proxy.url, certificate, answers_plain=answers_plain))
            let_google_trust(f"https://localhost:{port}/token")
            return port

        def let_google_trust(token_uri: str) -> None:
            account = {"type": "service_account", "client_email": "a@example.com", "token_uri": token_uri}
            account |= {"project_id": "p", "private_key_id": "1", "private_key": google_key}
            (tmp_path / "account.json").write_text(json.dumps(account))
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))

        let_google_trust(f"{proxy.url}/token")
        yield Store(bucket, proxy, behind, "AWS_CA_BUNDLE" if request.param == "s3" else "REQUESTS_CA_BUNDLE")


def put(url: str, **options: str) -> None:
    def sleep(seconds: float) -> None:
        pytest.fail("the backend tried again, although the fault is lasting")

    with closing(open_backend(url, options, sleep=sleep)) as backend:
        backend.put("key", BODY, sha256=SHA256)
        assert backend.get("key") == BODY


def sentence(url: str, **options: str) -> str:
    """Return the error's sentence. Fails if the backend makes a second attempt."""
    with pytest.raises(StorageError) as caught:
        put(url, **options)
    assert not isinstance(caught.value, TransientStorageError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_ca_of_ones_own(store: Store, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = store.url(f"https://localhost:{store.behind(authority.certify('localhost'))}")
    (tmp_path / "other").mkdir()
    monkeypatch.setenv(store.variable, str(Authority(tmp_path / "other").bundle))
    assert "let ca_bundle name a PEM file with the CA's certificate" in sentence(url)
    put(f"{url}&ca_bundle={authority.bundle}")
    monkeypatch.setenv(store.variable, str(authority.bundle))
    with closing(open_backend(url)) as backend:
        assert backend.get("key") == BODY


def test_a_certificate_that_nobody_can_verify(store: Store, authority: Authority) -> None:
    trusting = {"ca_bundle": str(authority.bundle)}
    expired = store.url(f"https://localhost:{store.behind(authority.certify('localhost', expired=True))}")
    assert "the store's certificate has expired; renew it" in sentence(expired, **trusting)
    port = store.behind(authority.certify("store.example.com"))
    for host in ("localhost", "127.0.0.1"):
        said = sentence(store.url(f"https://{host}:{port}"), **trusting)
        assert "the store's certificate is another host's" in said
    port = store.behind(authority.certify("localhost"))
    assert "this machine doesn't trust the CA of the store's certificate" in sentence(
        store.url(f"https://localhost:{port}")
    )


def test_http_and_https_mixed_up(store: Store, authority: Authority) -> None:
    plain = store.proxy.url.rpartition(":")[2]
    assert "the store doesn't speak TLS on this port" in sentence(store.url(f"https://127.0.0.1:{plain}"))
    for answers in (False, True):
        port = store.behind(authority.certify("localhost"), answers_plain=answers)
        assert "the store speaks TLS on this port; write https://" in sentence(store.url(f"http://localhost:{port}"))


@pytest.mark.parametrize("kind", ["missing", "text", "folder"])
def test_a_ca_bundle_that_is_none(
    store: Store, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / kind
    if kind == "text":
        path.write_text("no certificate")
    elif kind == "folder":
        path.mkdir()
    url = store.url(f"https://localhost:{store.behind(authority.certify('localhost'))}")
    why = {"missing": "No such file", "text": "it has no certificate in PEM format", "folder": "Is a directory"}[kind]
    said = sentence(f"{url}&ca_bundle={path}")
    assert said.startswith(f"the CA bundle {path} can't be used ({why}")
    assert "let ca_bundle name a PEM file" in said
    if (store.variable, kind) != ("REQUESTS_CA_BUNDLE", "folder"):  # the requests library takes a folder
        monkeypatch.setenv(store.variable, str(path))
        said = sentence(url)
        assert f"({why}" in said
        assert f"let {store.variable} name a PEM file" in said


def test_a_name_that_nobody_knows_may_be_known_later(store: Store) -> None:
    """A resolver that is still starting gives the same error."""
    with (
        closing(open_backend(store.url("https://store.invalid"), give_up_after=0)) as backend,
        pytest.raises(TransientStorageError, match=r"no connection to \S+:443 \(.*\(gave up after 1 attempt"),
    ):
        backend.get("key")
