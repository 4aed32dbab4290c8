"""Reads the documents of one database, each of them once: from the cache, or else from the store."""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.audit.cache import Kept, stamp_of
from pipeline.audit.documents import (
    pack_attestation,
    pack_manifest,
    pack_verified,
    unpack_attestation,
    unpack_manifest,
    unpack_verified,
)
from pipeline.audit.facts import ManifestFacts
from pipeline.catalog.attestation import LONGEST_ATTESTATION, Attestation
from pipeline.catalog.keys import ATTESTATIONS, MANIFESTS, PRUNED, SIGNATURE_SUFFIX
from pipeline.catalog.manifest import LONGEST_MANIFEST
from pipeline.catalog.reading import read_each
from pipeline.errors import ManifestInvalid, Untrusted
from pipeline.trust.statement import LONGEST_ENVELOPE, P, Purpose
from storage_backends import ObjectInfo, ObjectNotFound, ObjectTooLarge, StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Signed, Trust

_LARGE = 2 * 1024 * 1024
"""Documents of more bytes are read one by one, so that only one of them is in memory."""


@dataclass(frozen=True, slots=True)
class _Unusable:
    """A document that can't be used."""

    error: Exception
    sha256: str | None = None
    """SHA-256 of the document's bytes, in hexadecimal; None if they weren't read."""


class Records:
    """The documents of one database. ``known`` is what a cache has of them."""

    def __init__(self, store: StorageBackend, trust: "Trust | None", known: Mapping[str, Kept]) -> None:
        self._store, self._trust, self._known = store, trust, known
        self._said = dict[str, Any]()
        """What each document says, by its key; or why it can't be used."""
        self._found = dict[str, Kept]()
        self.kept = dict[str, Kept]()
        """The documents that a cache may keep: see :meth:`keep`."""

    def read(self, wanted: Iterable[ObjectInfo]) -> None:
        """Read those of these documents that weren't read yet. A document that isn't in the cache costs a request. Raises StorageError."""
        unknown = [info for info in wanted if info.key not in self._said and not self._recall(info)]
        small = [info for info in unknown if info.size <= _LARGE]
        if small:
            for info, found in read_each(self._store, self._get, small, name="record"):
                self._take(info, found)
        for info in unknown:
            if info.size > _LARGE:
                self._take(info, self._get(info))

    def manifest(self, key: str) -> ManifestFacts:
        """Return what a manifest says. Raises ManifestInvalid, ObjectTooLarge or ObjectNotFound."""
        facts: ManifestFacts = self._result(key)
        return facts

    def manifest_sha256(self, key: str) -> str | None:
        """Return the SHA-256 of a manifest's bytes, in hexadecimal, also if they make no sense; None if they weren't read."""
        said = self._said.get(key)
        return said.sha256 if isinstance(said, (_Unusable, ManifestFacts)) else None

    def attestation(self, key: str) -> tuple[Attestation, bytes]:
        """Return an attestation and its bytes. Raises as :meth:`manifest` does."""
        found: tuple[Attestation, bytes] = self._result(key)
        return found

    def statement(self, key: str, subject: str, kind: type[P]) -> "Signed[P]":
        """Return what the envelope ``key`` says about the object ``subject``.

        Raises Untrusted if no key that is trusted for the purpose of ``kind`` says anything about this object, or ObjectNotFound.
        """
        if self._trust is None:
            raise Untrusted("untrusted", "there are no trusted keys")
        try:
            return self._trust.believe(self._result(key), subject, kind)
        except ObjectTooLarge as exc:
            raise Untrusted("untrusted", f"its signature is longer than {LONGEST_ENVELOPE:,} bytes") from exc

    def keep(self, *keys: str) -> None:
        """Let a cache keep these documents, since they were believed.

        Nothing else is kept. Otherwise, a forged document that an attacker stored for a moment would stay in the cache.
        """
        self.kept |= {key: self._found[key] for key in keys if key in self._found}

    def _result(self, key: str) -> Any:
        said = self._said.get(key)
        if said is None:
            raise ObjectNotFound(f"{self._store.url}/{key} was not listed")
        if isinstance(said, _Unusable):
            raise said.error
        return said

    def _recall(self, info: ObjectInfo) -> bool:
        """True if the cache has the document as it is listed, and if what it has makes sense."""
        kept = self._known.get(info.key)
        if kept is None or kept.stamp != stamp_of(info):
            return False
        try:
            said = _unpack(info.key, kept.packed)
        except (ValueError, TypeError, struct.error, zlib.error):
            return False
        purpose = _purpose_of(info.key)
        if purpose and not (self._trust and self._trust.has_id(said.keyid, purpose)):
            return False  # another signature in the envelope may be by a key that is trusted now
        self._said[info.key], self._found[info.key] = said, kept
        return True

    def _get(self, info: ObjectInfo) -> bytes | _Unusable:
        """Return what the document says, packed."""
        try:
            data = self._store.get(info.key, at_most=_at_most(info.key))
        except (ObjectNotFound, ObjectTooLarge) as exc:
            return _Unusable(exc)
        try:
            return self._pack(info.key, data)
        except (ManifestInvalid, Untrusted) as exc:
            return _Unusable(exc, hashlib.sha256(data).hexdigest())

    def _pack(self, key: str, data: bytes) -> bytes:
        purpose = _purpose_of(key)
        if purpose and self._trust:
            return pack_verified(self._trust.verify(data, purpose))
        return pack_manifest(data, key) if key.startswith(MANIFESTS) else pack_attestation(data, key)

    def _take(self, info: ObjectInfo, found: bytes | _Unusable) -> None:
        if isinstance(found, _Unusable):
            self._said[info.key] = found
            return
        self._said[info.key] = _unpack(info.key, found)
        if stamp := stamp_of(info):
            self._found[info.key] = Kept(stamp, found)


def _purpose_of(key: str) -> Purpose | None:
    """Return what an envelope with this key is for; None if the document is no envelope."""
    if key.startswith(PRUNED):
        return Purpose.PRUNE
    if not key.endswith(SIGNATURE_SUFFIX):
        return None
    return Purpose.VERIFY if key.startswith(ATTESTATIONS) else Purpose.BACKUP


def _at_most(key: str) -> int:
    """Return the most bytes of a document with this key."""
    if _purpose_of(key):
        return LONGEST_ENVELOPE
    return LONGEST_MANIFEST if key.startswith(MANIFESTS) else LONGEST_ATTESTATION


def _unpack(key: str, packed: bytes) -> Any:
    if _purpose_of(key):
        return unpack_verified(packed)
    return unpack_manifest(packed) if key.startswith(MANIFESTS) else unpack_attestation(packed)
