"""Opens private keys: in a PEM file, in AWS KMS, or in Google Cloud KMS."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from securesystemslib.signer import AWSSigner, CryptoSigner, GCPSigner

from pipeline.errors import InvalidRequest, ProgramMissing, SigningFailed
from pipeline.trust.envelope import Signer
from pipeline.trust.keys import describe_key, read_key_file
from storage_backends.errors import quote

logging.getLogger("securesystemslib").addHandler(logging.NullHandler())  # it would print what SigningFailed says

_KMS: dict[str, Any] = {"awskms": AWSSigner, "gcpkms": GCPSigner}


def open_signer(uri: str, passphrase_file: Path | None = None) -> Signer:
    """Return the signer at ``file:PATH``, ``awskms:KEY`` or ``gcpkms:KEY``. A KMS is asked for the public key.

    ``passphrase_file`` holds the passphrase of an encrypted file, perhaps with a newline at its end. Raises InvalidRequest if the URI or the
    key isn't valid, ProgramMissing if a library is missing, and SigningFailed if the service fails.
    """
    scheme, _, place = uri.partition(":")
    if scheme == "file" and place:
        return _open_file(uri, Path(place), passphrase_file)
    if scheme in _KMS and place:
        return _open_service(uri, place, _KMS[scheme])
    # The text may be a private key that was pasted by mistake.
    raise InvalidRequest("The key that signs needs a scheme: give file:PATH, awskms:KEY or gcpkms:KEY.")


def _open_file(uri: str, path: Path, passphrase_file: Path | None) -> Signer:
    data = read_key_file(path)
    passphrase = None if passphrase_file is None else read_key_file(passphrase_file).removesuffix(b"\n")
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError as exc:  # a passphrase is missing, or is given for a key that isn't encrypted
        if passphrase is None:
            hint = "is encrypted: give --sign-passphrase-file, or passphrase_file in pgstow.toml"
        else:
            hint = "isn't encrypted: give no passphrase"
        raise InvalidRequest(f"The private key {path} {hint}.") from exc
    except Exception as exc:  # cryptography has several exceptions for keys that it can't load
        wrong = "The passphrase is wrong, or " if passphrase is not None else ""
        raise InvalidRequest(f"{wrong}{path} holds no private key in PEM.") from exc
    return Signer(uri, public := describe_key(key.public_key(), str(path)), CryptoSigner(key, public))


def _open_service(uri: str, place: str, kind: Any) -> Signer:
    if kind is GCPSigner and find_spec("google.cloud.kms") is None:
        raise ProgramMissing(f"{uri} needs Google's library for its KMS: pip install 'pgstow[gcpkms]'.")
    try:
        _, found = kind.import_(place)
        public = describe_key(serialization.load_pem_public_key(found.keyval["public"].encode()), uri)
        signer = kind(place, public)
    except InvalidRequest:
        raise
    except Exception as exc:  # each KMS has exceptions of its own
        raise SigningFailed(f"{uri} can't be used to sign: {quote(exc).rstrip('.')}.") from exc
    if found.scheme != public.scheme:
        raise InvalidRequest(f"{uri} signs by {found.scheme}, but a key of its kind must sign by {public.scheme}.")
    return Signer(uri, public, signer)
