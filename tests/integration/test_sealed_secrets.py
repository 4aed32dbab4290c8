"""The keys of a sealed backup stay in pgstow's memory. strace shows every byte that pgstow and its programs write or pass on."""

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from support.owners import Owner, new_owner, open_with_age
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends.local import LocalBackend

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace isn't installed")

CALLS = "%file,%network,write,writev,pwrite64,pwritev,pwritev2"
"""The calls that get bytes to a file, a pipe, a socket, a command line or an environment, or that name a file."""
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return new_owner(tmp_path / "owner.key")


def secrets_of(key_file: bytes) -> dict[str, bytes]:
    """Return the secrets in the key file of an epoch, as texts and as bytes, by their names."""
    [identity] = re.findall(rb"^AGE-SECRET-KEY-1[0-9A-Z]+$", key_file, re.MULTILINE)
    [checksums] = re.findall(rb"^# checksum key: ([0-9a-f]{64})$", key_file, re.MULTILINE)
    return {
        "the identity": identity,
        "the identity's bytes": bech32_bytes(identity.decode().lower()),
        "the key of the checksums": checksums,
        "the bytes of this key": bytes.fromhex(checksums.decode()),
    }


def bech32_bytes(text: str) -> bytes:
    """Return the bytes that a Bech32 text holds, without its checksum of six characters (BIP 173)."""
    digits = [BECH32.index(letter) for letter in text.rpartition("1")[2][:-6]]
    number = sum(digit << 5 * place for place, digit in enumerate(reversed(digits)))
    spare = 5 * len(digits) % 8
    return (number >> spare).to_bytes(5 * len(digits) // 8)


class Trace:
    """What pgstow and its programs wrote and passed on in one run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, data: bytes) -> bool:
        """True if a call has the bytes. strace writes each byte as ``\\x`` and two digits."""
        shown = "".join(f"\\x{byte:02x}" for byte in data).encode()
        with self._path.open("rb") as lines:
            return any(shown in line for line in lines)

    def leaks(self, secrets: Mapping[str, bytes]) -> set[str]:
        """Return the names of the secrets of which a half is in a call: a secret may be written in two parts."""
        halves = {name: (secret[: len(secret) // 2], secret[len(secret) // 2 :]) for name, secret in secrets.items()}
        return {name for name, parts in halves.items() if any(map(self.has, parts))}


def traced(folder: Path, *arguments: object) -> Trace:
    """Run pgstow, which must succeed, and return what it did."""
    trace = folder / "trace"
    strace = ("strace", "-f", "-v", "-xx", "-s", str(64 * 2**20), "-e", f"trace={CALLS}", "-o", str(trace))
    result = run_pgstow("--debug", *arguments, within=strace)
    assert result.exit_code == 0, result
    return Trace(trace)


def test_no_file_pipe_command_line_or_environment_has_an_epoch_s_keys(
    database: Database,
    empty_target: Database,
    postgres: ThrowawayCluster,
    owner: Owner,
    tmp_path: Path,
    spool_dir: Path,
) -> None:
    database.execute("CREATE TABLE item AS SELECT i, md5(i::text) FROM generate_series(1, 1000) AS i")
    store, config, spool = tmp_path / "store", tmp_path / "pgstow.toml", ("--spool-dir", spool_dir)
    store.mkdir()
    config.write_text(
        f"""
        [defaults]
        spool_dir = "{spool_dir}"
        verify = "restore"
        scratch = "{postgres.conninfo()}"
        [databases.shop]
        conninfo = "{database.conninfo}"
        [destinations.here]
        url = "{store}"
        [encryption]
        recipients = ["{owner.recipient}"]
        """
    )
    backup = traced(tmp_path, "run", "--config", config)
    manifest = find_backup(LocalBackend(store), BackupSelector())
    assert manifest.encryption
    [key_object] = (store / "keys").rglob("*.age")
    secrets = secrets_of(open_with_age(owner.identity, key_object))
    assert backup.has(manifest.encryption.recipient.encode()), "the manifest has the public key"
    assert backup.leaks(secrets) == set()

    stored = ("--from", store, "--identity", owner.identity, *spool)
    scratch = ("--level", "restore", "--scratch", postgres.conninfo(), "--checksums")
    assert traced(tmp_path, "verify", *stored, *scratch).leaks(secrets) == set()
    command = ("--from", store, "--identity-command", f"cat {owner.identity}", *spool)
    restore = traced(tmp_path, "restore", *command, "--into", empty_target.conninfo)
    assert restore.has(owner.identity.read_bytes().split()[-1]), "cat writes the owner's identity into a pipe"
    assert restore.has(hashlib.md5(b"1000", usedforsecurity=False).hexdigest().encode()), "pg_restore gets the rows"
    assert restore.leaks(secrets) == set()


def test_the_bytes_of_an_identity(owner: Owner) -> None:
    key = X25519PrivateKey.from_private_bytes(bech32_bytes(owner.identity.read_text().split()[-1].lower()))
    assert key.public_key().public_bytes_raw() == bech32_bytes(owner.recipient)
