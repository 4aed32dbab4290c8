"""Decides which signatures to believe."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from securesystemslib.signer import SSlibKey

from pipeline.errors import InvalidRequest, Untrusted
from pipeline.trust.envelope import Verified, verify_envelope
from pipeline.trust.keys import read_public_key
from pipeline.trust.statement import P, Purpose, digest_of, parse_statement


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, and what it is trusted for."""

    key: SSlibKey
    purposes: frozenset[Purpose]

    @classmethod
    def parse(cls, text: str) -> "TrustedKey":
        """Return the key that ``FILE`` or ``FILE:PURPOSE,…`` names. Without purposes, it is trusted for all of them.

        Raises InvalidRequest if the file holds no public key, or if a purpose is unknown.
        """
        file, colon, listed = text.rpartition(":")
        if not colon or "/" in listed:
            return cls(read_public_key(Path(text)), frozenset(Purpose))
        try:
            purposes = frozenset(map(Purpose, listed.split(",")))
        except ValueError as exc:
            known = ", ".join(Purpose)
            raise InvalidRequest(
                f"A trusted key in {file} has the purposes {listed!r}: write some of {known}, with commas."
            ) from exc
        return cls(read_public_key(Path(file)), purposes)


@dataclass(frozen=True, slots=True)
class Signed(Generic[P]):
    """What a trusted key says about an object."""

    predicate: P
    subject_sha256: str
    """SHA-256 of the object's bytes, in hexadecimal."""
    sha256: str
    """SHA-256 of the statement's bytes, in hexadecimal."""

    def check(self, data: bytes) -> None:
        """Raise Untrusted unless ``data`` are the object's bytes."""
        self.check_digest(hashlib.sha256(data).hexdigest())

    def check_digest(self, sha256: str) -> None:
        """Raise Untrusted unless the object's bytes have this SHA-256, in hexadecimal."""
        if sha256 != self.subject_sha256:
            raise Untrusted("swapped", "its signature is about other bytes")


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted keys. Without any, nothing is trusted."""

    keys: tuple[TrustedKey, ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Trust":
        """Return the trust in the keys that the texts name. Raises InvalidRequest as :meth:`TrustedKey.parse` does."""
        return cls(tuple(map(TrustedKey.parse, texts)))

    def including(self, key: SSlibKey, purpose: Purpose) -> "Trust":
        """Return the trust in one more key, for one purpose."""
        return Trust((*self.keys, TrustedKey(key, frozenset({purpose}))))

    def has(self, key: SSlibKey, purpose: Purpose) -> bool:
        """True if the key is trusted for the purpose."""
        return self.has_id(key.keyid, purpose)

    def has_id(self, keyid: str, purpose: Purpose) -> bool:
        """True if the key with this ID is trusted for the purpose."""
        return any(one.key.keyid == keyid and purpose in one.purposes for one in self.keys)

    def read(self, envelope: bytes, key: str, kind: type[P]) -> Signed[P]:
        """Return the statement of a trusted key about the object ``key``, from the bytes of its envelope.

        Raises Untrusted unless a key that is trusted for the purpose of ``kind`` signed such a statement. The caller compares the object's
        bytes with the statement: see :meth:`Signed.check`.
        """
        return self.believe(self.verify(envelope, kind.purpose), key, kind)

    def verify(self, envelope: bytes, purpose: Purpose) -> Verified:
        """Return what a key that is trusted for the purpose signed. The result may be kept. Raises Untrusted if no such key signed."""
        return verify_envelope(envelope, [one.key for one in self.keys if purpose in one.purposes])

    def believe(self, verified: Verified, key: str, kind: type[P]) -> Signed[P]:
        """Return the statement about the object ``key`` that :meth:`verify` found, perhaps in an earlier run with other trusted keys.

        Raises Untrusted if its key isn't trusted for the purpose of ``kind``, or if the statement isn't of this kind or about this object.
        """
        if not self.has_id(verified.keyid, kind.purpose):
            raise Untrusted("untrusted", "no trusted key signed it")
        statement = parse_statement(verified.payload)
        predicate, [subject] = statement.says(kind), statement.subject
        if subject.name != key:
            raise Untrusted("swapped", f"its signature is that of {subject.name[:200]!r}")
        return Signed(predicate, subject.digest.sha256, digest_of(verified.payload))
