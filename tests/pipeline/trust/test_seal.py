"""Tests of the seals of backups."""

import hashlib
import hmac

import pytest

from pipeline.errors import BackupDamaged
from pipeline.trust.age import Identities
from pipeline.trust.seal import UNSEALED, Epoch


def test_an_epoch_is_read_from_its_key_file() -> None:
    epoch = Epoch.new()
    again = Epoch.read(epoch.key_file, epoch.recipient)
    stored = epoch.close(bytearray(b"content"))
    assert again.open(bytes(stored), "the object") == b"content"
    assert again.digest(b"content").hexdigest() == epoch.digest(b"content").hexdigest()


def test_the_key_file_is_an_identity_file_of_age() -> None:
    epoch = Epoch.new()
    identities = Identities.parse(epoch.key_file, "the file")
    assert identities.public == [epoch.recipient]
    assert identities.open(epoch.close(bytearray(b"content"))) == b"content"


def test_checksums_are_keyed() -> None:
    one, other = Epoch.new(), Epoch.new()
    key = bytes.fromhex(one.key_file.decode().partition("checksum key: ")[2].split("\n")[0])
    digest = one.digest()
    digest.update(b"con")
    digest.update(b"tent")
    assert digest.hexdigest() == hmac.new(key, b"content", hashlib.sha256).hexdigest()
    assert digest.hexdigest() != other.digest(b"content").hexdigest()
    assert UNSEALED.digest(b"content").hexdigest() == hashlib.sha256(b"content").hexdigest()


def test_no_secret_is_shown() -> None:
    epoch = Epoch.new()
    shown = f"{epoch!r} {epoch}"
    assert epoch.recipient in shown
    assert "SECRET" not in shown
    assert "checksum key" not in shown


def test_the_object_of_another_epoch_is_not_opened() -> None:
    epoch = Epoch.new()
    for stored in (Epoch.new().close(bytearray(b"content")), b"content", b""):
        with pytest.raises(BackupDamaged, match="data/x can't be opened"):
            epoch.open(bytes(stored), "data/x")


def test_a_key_file_of_another_epoch_is_not_believed() -> None:
    epoch, other = Epoch.new(), Epoch.new()
    own_lines = epoch.key_file.splitlines(keepends=True)
    for data in (
        other.key_file,
        own_lines[-1],  # without the key of the checksums
        epoch.key_file + other.key_file,
        epoch.key_file + own_lines[2],  # two keys of checksums
        b"",
    ):
        with pytest.raises(ValueError, match="epoch"):
            Epoch.read(data, epoch.recipient)
