"""Tests of age files: the real age opens what pgstow seals, and pgstow opens what the real age seals."""

import base64
import subprocess
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.signing import make_key

from pipeline.errors import InvalidRequest
from pipeline.trust.age import CannotOpen, Identities, Recipients
from pipeline.trust.key_files import read_identities, read_recipients
from pipeline.trust.policy import TrustedKey
from pipeline.trust.signing import open_signer

CHUNK = 64 * 1024
"""age encrypts in chunks of this size."""


def run(*command: str | Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def new_identity(folder: Path, kind: str, passphrase: str = "") -> tuple[Path, str]:
    """Return the file of a new identity that age or OpenSSH made, and its public key."""
    path = folder / kind
    if kind == "x25519":
        run("age-keygen", "-o", path)
        return path, run("age-keygen", "-y", path).decode().strip()
    run("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "alice@example.com", "-f", path)
    return path, path.with_suffix(".pub").read_text().strip()


@pytest.mark.parametrize("kind", ["x25519", "ed25519", "rsa"])
def test_age_and_pgstow_open_what_the_other_seals(tmp_path: Path, kind: str) -> None:
    path, recipient = new_identity(tmp_path, kind)
    recipients, identities = Recipients.parse([recipient]), Identities.parse(path.read_bytes(), "the file")
    for size in (0, 1, CHUNK, 3 * CHUNK + 5):
        content = (bytes(range(251)) * (size // 251 + 1))[:size]
        sealed = recipients.seal(content)
        assert run("age", "--decrypt", "--identity", path, stdin=bytes(sealed)) == content
        by_age = run("age", "--encrypt", "--recipient", recipient, stdin=content)
        assert identities.open(by_age) == content


def test_each_of_several_recipients_can_open(tmp_path: Path) -> None:
    files, keys = zip(*(new_identity(tmp_path, kind) for kind in ("x25519", "ed25519")), strict=True)
    recipients = Recipients.parse(keys)
    assert recipients.texts == (keys[0], " ".join(keys[1].split()[:2]))  # the comment may tell a name
    sealed = recipients.seal(b"content")
    for path in files:
        assert Identities.parse(path.read_bytes(), "the file").open(sealed) == b"content"


def test_a_file_may_have_several_identities_and_comments() -> None:
    texts = [Identities.new()[1] for _ in range(2)]
    both = Identities.parse("\n# one\n{}\r\n\n# two\n  {}\n".format(*texts).encode(), "the file")
    assert len(both.public) == 2
    for public in both.public:
        assert both.open(Recipients.parse([public]).seal(b"content")) == b"content"


@given(place=st.integers(0, 3 * CHUNK), change=st.integers(0, 255))
def test_a_damaged_file_is_never_opened(place: int, change: int) -> None:
    identities, _ = Identities.new()
    sealed = Recipients.parse(identities.public).seal(bytes(2 * CHUNK))
    place %= len(sealed)
    if change:
        sealed[place] ^= change
    else:
        del sealed[place:]
    with pytest.raises(CannotOpen):
        identities.open(sealed)


def test_another_identity_opens_nothing() -> None:
    sealed = Recipients.parse(Identities.new()[0].public).seal(b"content")
    for identities in (Identities.new()[0], Identities()):
        with pytest.raises(CannotOpen):
            identities.open(sealed)


@pytest.mark.parametrize(
    "text", ["", "age1qqqq", "ssh-ed25519 AAAA", "ecdsa-sha2-nistp256 AAAA", "alice", "\x1b[2J", "age1\udcff"]
)
def test_an_odd_recipient_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no recipient"):
        Recipients.parse([text])


def test_many_recipients_are_refused() -> None:
    """The key object of a backup must stay small, since readers limit what they read."""
    texts = [Identities.new()[0].public[0] for _ in range(101)]
    assert len(Recipients.parse(texts[:100]).texts) == 100
    for wrong in ([], texts):
        with pytest.raises(InvalidRequest, match="from one to 100 recipients"):
            Recipients.parse(wrong)


def test_no_error_repeats_a_secret(tmp_path: Path) -> None:
    secret = Identities.new()[1]
    for text in (secret, secret.lower(), "AGE-SECRET-KEY-PQ-1QQQ", "AGE-PLUGIN-YUBIKEY-1QQQ"):
        with pytest.raises(InvalidRequest, match="An identity is no recipient") as refused:
            Recipients.parse([text])
        assert text not in str(refused.value)
        for file in (Path(text), tmp_path / text):
            for read in (read_identities, lambda file: read_recipients((), [file])):
                with pytest.raises(InvalidRequest, match="in place of the name of a file") as refused:
                    read(file)
                assert text not in str(refused.value)
    with pytest.raises(
        InvalidRequest, match=r"has a line that is no identity.*of ssh needs a file of its own"
    ) as refused:
        Identities.parse(secret[:-1].encode(), "the file")
    assert secret[:-1] not in str(refused.value)
    assert secret not in repr(Identities.parse(secret.encode(), "the file"))


@pytest.mark.parametrize(
    "data", [b"", b"# only a comment\n", b"\xff\xfe\x00", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", bytes(2**21)]
)
def test_an_odd_identity_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the file"):
        Identities.parse(data, "the file")


def test_an_identity_with_a_passphrase_is_explained(tmp_path: Path) -> None:
    path, _ = new_identity(tmp_path, "ed25519", "secret")
    by_passphrase = pyrage.passphrase.encrypt(b"an identity", "secret")
    for data in (path.read_bytes(), by_passphrase, armored(by_passphrase)):
        with pytest.raises(InvalidRequest, match="is protected by a passphrase"):
            Identities.parse(data, "the file")


def test_an_identity_that_is_sealed_to_a_recipient_is_explained() -> None:
    [recipient] = Identities.new()[0].public
    for armor in ((), ("--armor",)):
        by_age = run("age", "--encrypt", *armor, "--recipient", recipient, stdin=b"an identity")
        with pytest.raises(InvalidRequest, match="is an age file that is sealed to a recipient"):
            Identities.parse(by_age, "the file")


def armored(sealed: bytes) -> bytes:
    """Return the text of an age file, in lines of 48 bytes: https://age-encryption.org/v1"""
    lines = [base64.b64encode(sealed[at : at + 48]) for at in range(0, len(sealed), 48)]
    return b"\n".join([b"-----BEGIN AGE ENCRYPTED FILE-----", *lines, b"-----END AGE ENCRYPTED FILE-----\n"])


def test_no_error_repeats_a_line_of_a_private_key(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    whole = key.private.read_text()
    body = whole.splitlines()[1]
    for text in (whole, body, f"keys/{body}", f"{tmp_path}/{Identities.new()[1]}/x"):
        for read in (
            lambda text: read_identities(Path(text)),
            lambda text: read_recipients((), [Path(text)]),
            lambda text: open_signer(f"file:{text}"),
            lambda text: open_signer(f"file:{key.private}", Path(text)),
            TrustedKey.parse,
        ):
            with pytest.raises(InvalidRequest, match=r"may be a secret key|in place of the name") as refused:
                read(text)
            assert body not in str(refused.value)
            assert refused.value.__cause__ is None
    with pytest.raises(InvalidRequest, match="may be a secret key is no recipient") as refused:
        Recipients.parse([body])
    assert body not in str(refused.value)
    with pytest.raises(InvalidRequest, match=r"/etc/pgstow/backup-2026\.key"):
        read_identities(Path("/etc/pgstow/backup-2026.key"))
