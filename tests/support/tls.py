"""Stores behind TLS, with certificates of a CA that no machine trusts by itself."""

import contextlib
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)
_HANDSHAKE = b"\x16"
_GOS_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
"""https://go.dev/src/net/http/server.go"""


class Authority:
    """A CA. Its files are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A private CA")])
        self._certificate = (
            _builder(self._name, self._key.public_key(), expired=False)
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = folder / "ca.pem"
        """The CA's certificate."""
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def certify(self, host: str, *, expired: bool = False) -> Path:
        """Return a file with a key and a certificate for the host, which is a name or an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A store")])
        try:
            subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            subject = x509.DNSName(host)
        certificate = (
            _builder(name, key.public_key(), expired=expired)
            .issuer_name(self._name)
            .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{host}{'-expired' if expired else ''}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path


def _builder(name: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * _DAY)
        .not_valid_after(now - _DAY if expired else now + _DAY)
    )


@contextmanager
def tls_in_front_of(upstream: str, certificate: Path, *, answers_plain: bool = False) -> Iterator[int]:
    """Accept TLS on 127.0.0.1, and forward the decrypted bytes to the server at the URL ``upstream``. Yield the port.

    With ``answers_plain``, answer a plain HTTP request as MinIO and other servers in Go do. Otherwise, drop its connection.
    """
    with _Front(upstream, certificate, answers_plain=answers_plain) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield front.server_address[1]
        finally:
            front.shutdown()
            thread.join()


class _Front(socketserver.ThreadingTCPServer):
    daemon_threads = True
    server_address: tuple[str, int]

    def __init__(self, upstream: str, certificate: Path, *, answers_plain: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.answers_plain = answers_plain
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)


class _Passing(socketserver.BaseRequestHandler):
    server: _Front

    def handle(self) -> None:
        if self.server.answers_plain and self.request.recv(1, socket.MSG_PEEK) != _HANDSHAKE:
            self.request.recv(1 << 16)
            self.request.sendall(_GOS_ANSWER)
            return
        with (
            contextlib.suppress(OSError),  # the client doesn't speak TLS, or doesn't trust the certificate
            self.server.context.wrap_socket(self.request, server_side=True) as client,
            socket.create_connection(self.server.upstream) as upstream,
        ):
            back = threading.Thread(target=_pass_on, args=(upstream, client), daemon=True)
            back.start()
            _pass_on(client, upstream)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
