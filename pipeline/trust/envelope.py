"""Envelopes: signed bytes in the format DSSE, the `Dead Simple Signing Envelope`_.

An envelope is a JSON object with the payload, the payload's type and the signatures. A signature covers the exact bytes of the payload and
its type. So pgstow parses a payload only after a trusted key has signed it.

.. _Dead Simple Signing Envelope: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/envelope.md
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from pipeline.errors import SigningFailed, Untrusted
from storage_backends.errors import quote

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""The type of all payloads: `in-toto Statements`_.

.. _in-toto Statements: https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md
"""
_MOST_SIGNATURES = 16


class _Signature(BaseModel):
    model_config = ConfigDict(strict=True)

    keyid: str
    sig: str


class _Envelope(BaseModel):
    """The form of an envelope. Fields that pgstow doesn't know are dropped: no signature covers them."""

    model_config = ConfigDict(strict=True)

    payload: str
    payload_type: Annotated[str, Field(alias="payloadType")]
    signatures: Annotated[list[_Signature], Field(max_length=_MOST_SIGNATURES)]


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key that signs."""

    uri: str
    """Where the key is, such as ``awskms:alias/backups``."""
    public_key: SSlibKey
    _signer: Any

    def sign(self, payload: bytes) -> bytes:
        """Return the bytes of an envelope around the payload. Raises SigningFailed."""
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        try:
            envelope.sign(self._signer)
        except Exception as exc:  # each KMS has exceptions of its own
            raise SigningFailed(f"{self.uri} did not sign: {quote(exc).rstrip('.')}.") from exc
        return json.dumps(envelope.to_dict(), separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Verified:
    """The payload of an envelope, and the key that signed it."""

    payload: bytes
    keyid: str
    """The key's ID: see :func:`pipeline.trust.keys.describe_key`."""


def verify_envelope(data: bytes, keys: Sequence[SSlibKey]) -> Verified:
    """Return the payload of the envelope ``data``. Raises Untrusted if ``data`` is no envelope, or if none of the keys signed it.

    The error's text is a clause, such as ``no trusted key signed it``.
    """
    try:
        form = _Envelope.model_validate_json(data)
        envelope = Envelope.from_dict(form.model_dump(by_alias=True))
    except (ValidationError, ValueError) as exc:
        raise Untrusted("untrusted", "its signature is not a valid envelope") from exc
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Untrusted("untrusted", "its signature is for another type of payload")
    try:
        [keyid] = envelope.verify(list(keys), 1)
    except (VerificationError, ValueError) as exc:  # ValueError: there are no keys
        raise Untrusted("untrusted", "no trusted key signed it") from exc
    return Verified(envelope.payload, keyid)
