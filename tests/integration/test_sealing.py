"""Sealed backups: a thief of the store learns no content, and the owner of an identity gets everything back."""

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database

from cli.errors import ExitCode
from demo import compare
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import Manifest
from storage_backends.local import LocalBackend

FORMATS = ("directory", "custom", "tar", "plain")
NEEDLE = "a-value-that-only-its-owner-may-read"


@dataclass(frozen=True)
class Owner:
    """Somebody with an identity of age's."""

    identity: Path
    recipient: str


def new_owner(path: Path) -> Owner:
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    made = subprocess.run(["age-keygen", "-y", path], check=True, capture_output=True, text=True)
    return Owner(path, made.stdout.strip())


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return new_owner(tmp_path / "owner.key")


@pytest.fixture
def stranger(tmp_path: Path) -> Owner:
    return new_owner(tmp_path / "stranger.key")


@pytest.fixture
def secret_database(sample_database: Database) -> Database:
    """The sample database, with a table whose content must not leak."""
    with psycopg.connect(sample_database.conninfo) as connection:
        connection.execute("CREATE TABLE secret AS SELECT %s::text AS value", [NEEDLE])
    return sample_database


def run_well(*arguments: object) -> Result:
    result = run_pgstow(*arguments, "--quiet")
    assert result.exit_code == 0, result
    return result


def back_up(database: Database, store: Path, owner: Owner, *options: object) -> Manifest:
    run_well(
        "backup", database.conninfo, "--to", store, "--cluster", "prod", "--recipient", owner.recipient,
        "--object-size", 64 * 1024, *options,
    )  # fmt: skip
    return find_backup(LocalBackend(store), BackupSelector())


def open_with_age(identity: Path, sealed: Path) -> bytes:
    return subprocess.run(["age", "--decrypt", "--identity", identity, sealed], check=True, capture_output=True).stdout


@pytest.mark.parametrize("format_", FORMATS)
def test_a_sealed_backup_comes_back(
    format_: str, secret_database: Database, empty_target: Database, owner: Owner, tmp_path: Path, spool_dir: Path
) -> None:
    store, spool = tmp_path / "store", ("--spool-dir", spool_dir)
    back_up(secret_database, store, owner, "--format", format_, *spool)
    keys = ("--from", store, "--identity", owner.identity)
    run_well("restore", *keys, "--into", empty_target.conninfo, *spool)
    assert compare.contents(empty_target.conninfo) == compare.contents(secret_database.conninfo)
    for level in ("objects", "bytes", "archive"):
        run_well("verify", *keys, "--level", level, *spool)
    assert NEEDLE in run_well("export", *keys, *spool).stdout
    if format_ != "plain":
        assert "TABLE DATA public secret" in run_pgstow("show", *keys, "--toc").stdout
    run_well("restore", *keys, "--to-directory", tmp_path / "folder")


def test_age_alone_opens_every_object(secret_database: Database, owner: Owner, tmp_path: Path) -> None:
    store = tmp_path / "store"
    manifest = back_up(secret_database, store, owner)
    [key_object] = (store / "keys").rglob("*.age")
    epoch = tmp_path / "epoch.key"
    epoch.write_bytes(open_with_age(owner.identity, key_object))
    for stored in manifest.objects:
        path = store / stored.key
        if path.name != "SHA256SUMS":
            assert path.suffix == ".age"
            subprocess.run(["zstd", "--test"], input=open_with_age(epoch, path), check=True, capture_output=True)


def test_a_thief_learns_no_content(secret_database: Database, owner: Owner, tmp_path: Path) -> None:
    sealed, plain = tmp_path / "sealed", tmp_path / "plain"
    back_up(secret_database, sealed, owner)
    run_well("backup", secret_database.conninfo, "--to", plain, "--cluster", "prod")
    guess = hashlib.sha256(f"{NEEDLE}\n\\.\n\n\n".encode()).hexdigest()
    assert leaks(plain, guess), "this is how a thief confirms a guess of a table's content"
    assert not leaks(sealed, guess)
    assert not leaks(sealed, NEEDLE)


def leaks(store: Path, text: str) -> bool:
    """True if a file of the store has the text, compressed or not."""
    files = [path for path in store.rglob("*") if path.is_file()]
    shown = [subprocess.run(["zstd", "-dcf", path], check=False, capture_output=True).stdout for path in files]
    return any(text.encode() in content for content in [*shown, *(path.read_bytes() for path in files)])


def test_without_a_fitting_identity_the_error_names_the_recipients(
    secret_database: Database, owner: Owner, stranger: Owner, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    back_up(secret_database, store, owner)
    commands: list[tuple[object, ...]] = [
        ("restore", "--into", secret_database.conninfo, "--allow-nonempty"),
        ("restore", "--to-directory", tmp_path / "folder"),
        ("export",),
        ("verify", "--level", "archive"),
        ("verify", "--level", "restore", "--no-attest"),
    ]
    for command, *options in commands:
        for keys in ((), ("--identity", stranger.identity)):
            result = run_pgstow(command, "--from", store, *options, *keys, "--quiet")
            sentence = assert_one_sentence(result, ExitCode.BAD_INPUT, re.escape(owner.recipient))
            assert "--identity" in sentence
    for level in ("objects", "bytes"):
        run_well("verify", "--from", store, "--level", level)
    shown = run_pgstow("show", "--from", store)
    assert owner.recipient in shown.stdout
    assert_one_sentence(run_pgstow("show", "--from", store, "--toc"), ExitCode.BAD_INPUT, re.escape(owner.recipient))


def test_an_identity_can_come_from_a_command(secret_database: Database, owner: Owner, tmp_path: Path) -> None:
    store = tmp_path / "store"
    back_up(secret_database, store, owner)
    shown = run_well("export", "--from", store, "--identity-command", f"cat {owner.identity}")
    assert NEEDLE in shown.stdout
    failed = run_pgstow("export", "--from", store, "--identity-command", "false", "--quiet")
    assert_one_sentence(failed, ExitCode.BAD_INPUT, "false failed with exit code 1")


def test_an_identity_that_others_may_read_draws_a_warning(
    secret_database: Database, owner: Owner, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    back_up(secret_database, store, owner)
    owner.identity.chmod(0o644)
    result = run_pgstow("export", "--from", store, "--identity", owner.identity, "--file", tmp_path / "shop.sql")
    assert result.exit_code == 0
    assert f"chmod 0600 {owner.identity}" in result.stderr
