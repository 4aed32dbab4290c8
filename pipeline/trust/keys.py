"""Public keys in PEM files, and the IDs by which envelopes name keys."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from securesystemslib.signer import SSlibKey

from pipeline.errors import InvalidRequest
from pipeline.trust.secret_text import may_be_secret

_LONGEST_FILE = 64 * 1024  # bytes
_LEAST_RSA = 2048  # bits, as NIST SP 800-131A demands


def read_key_file(path: Path) -> bytes:
    """Return the content of a small file. Raises InvalidRequest if the file can't be read, or has more than 64 KiB."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_FILE + 1)
    except (OSError, ValueError) as exc:
        if may_be_secret(str(path)):
            # The cause repeats the name.
            raise InvalidRequest(
                "A key file can't be read, and its name, which may be a secret key, isn't shown."
            ) from None
        raise InvalidRequest(f"The key file {path} can't be read: {getattr(exc, 'strerror', None) or exc}.") from exc
    if len(data) > _LONGEST_FILE:
        raise InvalidRequest(f"{path} is too long for a key file.")
    return data


def read_public_key(path: Path) -> SSlibKey:
    """Return the public key in a PEM file. Raises InvalidRequest if there is none, or if pgstow doesn't know its kind."""
    data = read_key_file(path)
    try:
        key = serialization.load_pem_public_key(data)
    except Exception as exc:  # cryptography has several exceptions for keys that it can't load
        raise InvalidRequest(f"{path} holds no public key in PEM: make one with openssl pkey -pubout.") from exc
    return describe_key(key, str(path))


def describe_key(key: PublicKeyTypes, name: str) -> SSlibKey:
    """Return the key with its scheme for signatures and its ID. ``name`` stands for the key in errors.

    RSA keys sign by RSASSA-PSS with SHA-256. The ID is the SHA-256 of the key in DER, in hexadecimal. Anybody can compute it by
    ``openssl pkey -pubin -outform DER | sha256sum``. Raises InvalidRequest if pgstow doesn't know the kind of key.
    """
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA:
        raise InvalidRequest(f"The key {name} is too short: an RSA key needs at least {_LEAST_RSA} bits.")
    try:
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return SSlibKey.from_crypto(key, keyid=hashlib.sha256(der).hexdigest())
    except ValueError as exc:
        raise InvalidRequest(f"The key {name} can't sign: use a key for Ed25519, ECDSA (P-256, P-384) or RSA.") from exc
