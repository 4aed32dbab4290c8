"""What is wrong with a connection, in words, and whether a later attempt may go better."""

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from urllib3.exceptions import NewConnectionError, ProxyError
from urllib3.util.ssl_match_hostname import CertificateError

from storage_backends.errors import StorageError, quote

_PROBE_TIMEOUT = 5.0  # seconds
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"}
"""OpenSSL's reasons for an answer that is no TLS. An HTTP server answers so."""
_REFUSED = {
    "NO_PROTOCOLS_AVAILABLE",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "TLSV1_UNRECOGNIZED_NAME",
    "UNSUPPORTED_PROTOCOL",
}
"""OpenSSL's reasons for two sides that can't agree. Other alerts, such as an internal error, may pass."""
# X509_V_ERR_… in https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_HOST = (62, 63, 64)
_UNKNOWN_ISSUER = (2, 7, 18, 19, 20, 21)  # 7: a bad signature, from another CA of the same name


def check_bundle(path: str, name: str) -> None:
    """Raise StorageError if the file isn't a CA bundle. ``name`` is the option or variable that names the file."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as exc:
        why = "it has no certificate in PEM format" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise StorageError(
            f"the CA bundle {path} can't be used ({why}); let {name} name a PEM file with CAs' certificates"
        ) from exc


def describe_failure(error: Exception) -> str:
    """Return a clause on a failure that may pass: the host and port that gave no connection, or else the error's own words."""
    for exc in _chain(error):
        if isinstance(exc, NewConnectionError):
            why = exc.__cause__.strerror if isinstance(exc.__cause__, OSError) else exc
            return f"no connection to {exc.conn.host}:{exc.conn.port} ({quote(why)})"
    return quote(error)


def lasting_fault(error: Exception) -> str | None:
    """Return a clause that says what is wrong with TLS, and what to do. None if ``error`` isn't about TLS, or may pass."""
    chain = tuple(_chain(error))
    side, place = (
        ("proxy", "HTTPS_PROXY, the proxy's URL")
        if any(isinstance(exc, ProxyError) for exc in chain)
        else ("store", "the endpoint")
    )
    for exc in chain:
        match exc:
            case ssl.SSLCertVerificationError():
                return _describe_certificate(exc, side, place)
            case CertificateError():
                return _describe_other_host(str(exc), side, place)
            case ssl.SSLError(reason=str(reason)) if reason in _NO_TLS:
                return f"the {side} doesn't speak TLS on this port; check {place}: does it need another port, or http:// instead of https://?"
            case ssl.SSLError(reason=str(reason)) if reason in _REFUSED:
                return f"the {side} and this machine can't agree on TLS ({reason.lower().replace('_', ' ')}); check {place}"
            case _:
                pass
    return None


def speaks_tls(url: str) -> bool:
    """True if the server at the ``http://`` URL speaks TLS. Such a server drops plain requests, or answers with 400."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return False
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 80), timeout=_PROBE_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False


ENCRYPTED = "the store speaks TLS on this port; write https:// instead of http:// in the endpoint"
"""A clause on a store for which :func:`speaks_tls` is true."""


def _describe_certificate(exc: ssl.SSLCertVerificationError, side: str, place: str) -> str:
    match exc.verify_code:
        case code if code in _OTHER_HOST:
            return _describe_other_host(exc.verify_message.rstrip("."), side, place)
        case code if code == _EXPIRED:
            return f"the {side}'s certificate has expired; renew it, or set this machine's clock right"
        case code if code == _NOT_YET_VALID:
            return f"the {side}'s certificate isn't valid yet; set this machine's clock right"
        case code if code in _UNKNOWN_ISSUER:
            trust = "let ca_bundle name a PEM file with the CA's certificate, or " if side == "store" else ""
            return f"this machine doesn't trust the CA of the {side}'s certificate ({exc.verify_message}); {trust}check {place}"
        case _:
            return f"the {side}'s certificate isn't valid ({exc.verify_message})"


def _describe_other_host(said: str, side: str, place: str) -> str:
    return f"the {side}'s certificate is another host's ({said}); check {place}, or give the {side} a certificate for this name"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what caused it. SDKs and urllib3 chain some causes, and have others among the arguments."""
    seen = set[int]()
    todo = [error]
    while todo:
        exc = todo.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        yield exc
        todo += [arg for arg in exc.args if isinstance(arg, BaseException)]
        todo += [exc.__context__, exc.__cause__]
