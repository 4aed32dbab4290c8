"""Seals bytes as age files, and opens them. Only this module imports pyrage. The format: https://age-encryption.org/v1

pyrage holds the interpreter's lock while it works. But it calls our ``read`` and ``write`` for each 64 KiB, and there other threads get a
turn. Its functions that take all bytes at once give no turns, and take more processor time.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import pyrage

from pipeline.errors import InvalidRequest
from pipeline.trust.secret_text import is_secret, may_be_secret

_SECRET_KEY = "AGE-SECRET-KEY-1"  # noqa: S105 - the beginning of every key
_OPENSSH_KEY = b"-----BEGIN "
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_SEALED = (b"age-encryption.org/", _ARMOR)
_MOST_RECIPIENTS = 100
_LONGEST_IDENTITY_FILE = 1024 * 1024
"""Bytes. An identity has about a hundred bytes, and an RSA key has some thousands."""


class CannotOpen(Exception):
    """An age file is sealed to other recipients, cut short or altered."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """Public keys. Whoever has the identity of one of them can open what is sealed to them."""

    texts: tuple[str, ...]
    """The keys as the user gave them, without comments for ssh keys."""
    _keys: Sequence[object] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Return the recipients: each is ``age1…``, or a line of an OpenSSH public key.

        Raises InvalidRequest, also if there are none or too many.
        """
        found = dict[str, object]()
        for text in texts:
            words = " ".join(text.split()[:2])  # without the comment of an ssh key, which may tell a name
            found[words] = _parse_recipient(words)
        if not 0 < len(found) <= _MOST_RECIPIENTS:
            raise InvalidRequest(f"Sealing needs from one to {_MOST_RECIPIENTS} recipients, not {len(found)}.")
        return cls(tuple(found), tuple(found.values()))

    def seal(self, data: bytes | bytearray | memoryview) -> bytearray:
        """Return the data as an age file."""
        sealed = _Output()
        pyrage.encrypt_io(_Input(data), sealed, self._keys)
        return sealed


@dataclass(frozen=True, slots=True)
class Identities:
    """Secret keys."""

    _keys: Sequence[object] = field(default=(), repr=False, compare=False)

    @classmethod
    def parse(cls, data: bytes, name: str) -> Self:
        """Return the identities in a file of age's, or in an OpenSSH private key. ``name`` is for errors. Raises InvalidRequest.

        A file may have several identities, comments and empty lines.
        """
        if len(data) > _LONGEST_IDENTITY_FILE:
            raise InvalidRequest(f"{name} has no identity: it is longer than {_LONGEST_IDENTITY_FILE:,} bytes.")
        if data.startswith(_SEALED):
            if _has_passphrase(data):
                raise InvalidRequest(
                    f"{name} is protected by a passphrase: give --identity-command 'age --decrypt FILE', which asks for the passphrase."
                )
            raise InvalidRequest(
                f"{name} is an age file that is sealed to a recipient. If it holds an identity, give --identity-command "
                "'age --decrypt --identity KEY FILE'."
            )
        if data.startswith(_OPENSSH_KEY):
            return cls((_parse_ssh(data, name),))
        try:
            lines = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
            keys = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
        except pyrage.IdentityError:
            # pgstow never repeats a line, which may be a secret with a typing error.
            raise InvalidRequest(
                f"{name} has a line that is no identity: each line must be a comment, or a key that begins with {_SECRET_KEY}; "
                "a private key of ssh needs a file of its own."
            ) from None
        if not keys:
            raise InvalidRequest(f"{name} has no identity.")
        return cls(tuple(keys))

    @classmethod
    def new(cls) -> tuple[Self, str]:
        """Return a new X25519 identity, and its text, which is a secret."""
        identity = pyrage.x25519.Identity.generate()
        return cls((identity,)), str(identity)

    def __add__(self, other: "Identities") -> "Identities":
        return Identities((*self._keys, *other._keys))

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def public(self) -> list[str]:
        """The public keys of the X25519 identities. pyrage doesn't tell the public keys of ssh keys."""
        return [str(key.to_public()) for key in self._keys if isinstance(key, pyrage.x25519.Identity)]

    def open(self, sealed: bytes | bytearray | memoryview) -> bytearray:
        """Return the content of an age file. Raises CannotOpen if no identity opens it, or if it isn't whole."""
        opened = _Output()
        try:
            pyrage.decrypt_io(_Input(sealed), opened, self._keys)
        except (pyrage.DecryptError, OSError) as exc:
            raise CannotOpen(str(exc)) from exc
        return opened


def _has_passphrase(data: bytes) -> bool:
    """True if an age file is sealed by a passphrase. Its header then has one line for a passphrase, and none for recipients."""
    if data.startswith(_ARMOR):
        try:
            data = base64.b64decode(data.split(b"\n", 2)[1])
        except (binascii.Error, IndexError):
            return False
    _, _, header = data.partition(b"\n")
    return header.startswith(b"-> scrypt ")


def _parse_recipient(text: str) -> object:
    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        return kind.from_str(text)
    except (pyrage.RecipientError, UnicodeEncodeError) as exc:
        if is_secret(text):
            raise InvalidRequest("An identity is no recipient: give its public key, which begins with age1.") from None
        shown = "A text that may be a secret key" if may_be_secret(text) else repr(text[:80])
        raise InvalidRequest(
            f"{shown} is no recipient: give a public key of age (age1…), or a line of an ssh key (ssh-ed25519 or ssh-rsa)."
        ) from exc


def _parse_ssh(data: bytes, name: str) -> object:
    try:
        return pyrage.ssh.Identity.from_buffer(data)
    except pyrage.IdentityError as exc:
        if "decrypted" in str(exc):
            raise InvalidRequest(
                f"{name} is protected by a passphrase, for which pgstow can't ask: write an unprotected copy with ssh-keygen -p, "
                "or use an identity of age."
            ) from None
        raise InvalidRequest(
            f"{name} is no private key that age can use: give a key of the type ed25519 or rsa."
        ) from None


class _Input:
    """Bytes that pyrage reads in parts."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        return bytes(part)


class _Output(bytearray):
    """Bytes that pyrage writes in parts."""

    def write(self, part: bytes) -> int:
        self.extend(part)
        return len(part)

    def flush(self) -> None:
        """Do nothing. pyrage calls this method."""
