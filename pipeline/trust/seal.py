"""Protects a backup's content: seals its objects, and makes checksums that tell nothing about the content."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from pipeline.errors import BackupDamaged, InvalidRequest
from pipeline.trust.age import CannotOpen, Identities, Recipients

SUFFIX = ".age"
_CHECKSUM_KEY = re.compile(rb"^# checksum key: ([0-9a-f]{64})$", re.MULTILINE)


class Digest(Protocol):
    """A digest of bytes that pass: SHA-256, or HMAC-SHA-256."""

    def update(self, data: bytes, /) -> None:
        """Add the next bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in hexadecimal."""


class Seal(Protocol):
    """How the content of a backup is protected. Every part of pgstow that writes or reads content asks the backup's seal."""

    @property
    def suffix(self) -> str:
        """The end of the names of the objects that have content."""

    @property
    def copies(self) -> int:
        """The number of copies of an object that are in memory while the object is closed or opened, besides the object."""

    def digest(self, data: bytes = b"") -> Digest:
        """Return a new digest of content, which begins with ``data``."""

    def close(self, content: bytearray) -> bytearray:
        """Return the bytes to store for an object with this content."""

    def open(self, stored: bytes, name: str) -> bytes | bytearray:
        """Return the content of a stored object. Raises BackupDamaged, naming ``name``, if it can't be opened."""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The seal of a backup that isn't sealed: objects are stored as they are, and checksums are SHA-256."""

    suffix: str = ""
    copies: int = 0

    def digest(self, data: bytes = b"") -> Digest:
        """Return a SHA-256."""
        return hashlib.sha256(data)

    def close(self, content: bytearray) -> bytearray:
        """Return the content."""
        return content

    def open(self, stored: bytes, name: str) -> bytes:
        """Return the stored bytes."""
        return stored


UNSEALED = Unsealed()


@dataclass(frozen=True, slots=True)
class Epoch:
    """The seal of the backups of one epoch. Its keys are made in memory, and only recipients of its key file can get them.

    Each object is an age file for the epoch's own X25519 key. Checksums of content are HMAC-SHA-256, since a plain SHA-256 would let a
    thief confirm a guess of a small table's content.
    """

    recipient: str
    """The public key to which the objects are sealed, such as ``age1…``."""
    key_file: bytes = field(repr=False)
    """An identity file that ``age --identity`` takes. Its comments have the key of the checksums. A secret."""
    _identities: Identities = field(repr=False, compare=False)
    _recipients: Recipients = field(repr=False, compare=False)
    _checksum_key: bytes = field(repr=False, compare=False)
    suffix: str = SUFFIX
    copies: int = 1

    @classmethod
    def new(cls) -> Self:
        """Return an epoch with new keys."""
        identities, text = Identities.new()
        [recipient] = identities.public
        comments = f"# pgstow: the key of one epoch of backups\n# public key: {recipient}\n# checksum key: {secrets.token_hex(32)}\n"
        return cls.read(f"{comments}{text}\n".encode(), recipient)

    @classmethod
    def read(cls, key_file: bytes, recipient: str) -> Self:
        """Return the epoch whose key file this is. Raises ValueError unless it has the identity of ``recipient``, and a checksum key.

        Whoever knows the public key of an organisation can seal any file for it. Only somebody who had the epoch's identity can make a file
        that has it.
        """
        checksum_key = _CHECKSUM_KEY.findall(key_file)
        try:
            identities = Identities.parse(key_file, "the key file")
        except InvalidRequest as exc:
            raise ValueError("it isn't the key file of any epoch") from exc
        if identities.public != [recipient] or len(checksum_key) != 1:
            raise ValueError("it isn't the key file of this epoch")
        return cls(
            recipient, key_file, identities, Recipients.parse([recipient]), bytes.fromhex(checksum_key[0].decode())
        )

    def digest(self, data: bytes = b"") -> Digest:
        """Return an HMAC-SHA-256 under the epoch's key."""
        return hmac.new(self._checksum_key, data, "sha256")

    def close(self, content: bytearray) -> bytearray:
        """Return the content as an age file."""
        return self._recipients.seal(content)

    def open(self, stored: bytes, name: str) -> bytearray:
        """Return the content of an age file. Raises BackupDamaged if it isn't sealed to this epoch, or isn't whole."""
        try:
            return self._identities.open(stored)
        except CannotOpen as exc:
            raise BackupDamaged(f"{name} can't be opened with the backup's own key: {exc}.") from exc


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys with which sealed backups are opened."""

    identities: Identities = field(default_factory=Identities)
    """The user's identities."""
    epochs: Sequence[Epoch] = ()
    """Epochs whose keys are known already, because this process made them."""
