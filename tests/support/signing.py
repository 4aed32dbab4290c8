"""Keys that sign, and signatures beside manifests."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.trust.envelope import Signer
from pipeline.trust.policy import Trust, TrustedKey
from pipeline.trust.signing import open_signer
from pipeline.trust.statement import Link, Reference, digest_of, make_statement
from storage_backends import StorageBackend

KINDS = {
    "ed25519": ("-algorithm", "ed25519"),
    "p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
}
"""The arguments of ``openssl genpkey``, by the kind of key."""


@dataclass(frozen=True)
class KeyFiles:
    """A private key and its public key, as openssl writes them."""

    private: Path
    public: Path

    @property
    def signer(self) -> Signer:
        """The private key as pgstow opens it."""
        return open_signer(f"file:{self.private}")

    def trusted(self, purposes: str = "") -> TrustedKey:
        """Return the public key as pgstow reads it; trusted for all purposes, or for those in ``purposes``, with commas between them."""
        return TrustedKey.parse(f"{self.public}:{purposes}" if purposes else str(self.public))

    @property
    def trust(self) -> Trust:
        """The trust in this key alone, for all purposes."""
        return Trust((self.trusted(),))


def make_key(folder: Path, name: str = "key", kind: str = "ed25519", *protection: str) -> KeyFiles:
    """Make a key with openssl. ``protection`` are arguments that encrypt it."""
    files = KeyFiles(folder / f"{name}.pem", folder / f"{name}.pub")
    openssl("genpkey", *KINDS[kind], *protection, "-out", files.private)
    openssl(
        "pkey",
        "-in",
        files.private,
        *(("-passin", "pass:secret") if protection else ()),
        "-pubout",
        "-out",
        files.public,
    )
    return files


def openssl(*arguments: object, stdin: bytes = b"") -> bytes:
    """Return the output of ``openssl``. Raises subprocess.CalledProcessError."""
    return subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=True).stdout


@contextmanager
def digests_signed() -> Iterator[None]:
    """Let moto's KMS sign digests as AWS does. moto takes each digest for a message, and hashes it once more."""
    from moto.kms.utils import ECDSAPrivateKey

    def sign(self: ECDSAPrivateKey, message: bytes, _signing_algorithm: str) -> bytes:
        return self.private_key.sign(message, ECDSA(Prehashed(SHA256())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ECDSAPrivateKey, "sign", sign)
        yield


def sign_manifest(store: StorageBackend, ref: BackupRef, signer: Signer, **link: Any) -> Reference:
    """Put a signature beside the manifest of a backup. Return the statement. ``link`` are fields of its place in the chain."""
    fields: dict[str, Any] = {"writer": "db1", "sequence": 1, "predecessor": None} | link
    sha256 = hashlib.sha256(store.get(ref.manifest_key)).hexdigest()
    payload = make_statement(ref.manifest_key, sha256, Link(**fields))
    put(store, ref.manifest_key + SIGNATURE_SUFFIX, signer.sign(payload))
    return Reference(backup_id=ref.backup_id, sequence=fields["sequence"], sha256=digest_of(payload))


def put(store: StorageBackend, key: str, body: bytes) -> None:
    """Create the object."""
    store.put(key, body, sha256=hashlib.sha256(body).digest())
