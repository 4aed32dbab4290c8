"""Sealed backups: a thief of the store learns no content, and the owner of an identity gets everything back."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from support.manifests import edit_manifest
from support.owners import Owner, new_owner, open_with_age
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database
from support.signing import make_key, put
from support.stored_sample import StoredSample

from cli.errors import ExitCode
from demo import compare
from pipeline.backup.database import back_up as back_up_database
from pipeline.backup.request import BackupRequest
from pipeline.backup.signing import Signing
from pipeline.catalog.chain import read_chains
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.keys import SIGNATURE_SUFFIX
from pipeline.catalog.manifest import Manifest
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.prune.gc import GcRequest, collect, find_leftovers
from pipeline.trust.age import Recipients
from storage_backends import Body, ObjectInfo
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend

FORMATS = ("directory", "custom", "tar", "plain")
NEEDLE = "a-value-that-only-its-owner-may-read"


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


@pytest.fixture
def stored_sealed(secret_database: Database, owner: Owner, tmp_path: Path) -> Path:
    """The folder of a store with a sealed backup."""
    back_up(secret_database, tmp_path / "store", owner)
    return tmp_path / "store"


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


@pytest.mark.parametrize("attack", ["another backup's object", "a cut object", "an object sealed by the attacker"])
def test_a_forged_object_is_damage_even_if_the_manifest_names_it(
    attack: str, secret_database: Database, owner: Owner, tmp_path: Path, spool_dir: Path
) -> None:
    """An attacker may write to the store. The attacker knows the public key of the backup, which is in the manifest."""
    store, other = tmp_path / "store", tmp_path / "other"
    manifest, others = (back_up(secret_database, place, owner) for place in (store, other))
    assert manifest.encryption
    number, stored = next((n, one) for n, one in enumerate(manifest.objects) if "pack-00000" in one.key)
    whole = (store / stored.key).read_bytes()
    opened = (other / others.objects[number].key).read_bytes()
    forged = {
        "another backup's object": opened,
        "a cut object": whole[:-1],
        "an object sealed by the attacker": bytes(Recipients.parse([manifest.encryption.recipient]).seal(b"forged")),
    }[attack]
    (store / stored.key).write_bytes(forged)
    restore = ("restore", "--from", store, "--identity", owner.identity, "--to-directory", tmp_path / "out", "--quiet")
    assert_one_sentence(run_pgstow(*restore), ExitCode.DAMAGED, "pack-00000")
    digest = hashlib.sha256(forged).hexdigest()
    new = {"size": len(forged), "sha256": digest, "checksum": f"sha256:{digest}"}
    edit_manifest(store, lambda content: content["objects"][number].update(new))
    assert_one_sentence(run_pgstow(*restore), ExitCode.DAMAGED, "pack-00000|not valid")


@pytest.mark.parametrize("level", ["objects", "bytes", "archive", "restore"])
@pytest.mark.parametrize("forged", [None, b"not a key object"], ids=["missing", "altered"])
def test_every_level_finds_a_damaged_key_object(
    stored_sealed: Path, forged: bytes | None, level: str, owner: Owner, spool_dir: Path
) -> None:
    [key_object] = (stored_sealed / "keys").rglob("*.age")
    key_object.unlink()
    if forged is not None:
        key_object.write_bytes(forged)
    arguments = ("--level", level, "--identity", owner.identity, "--spool-dir", spool_dir, "--json", "--attest")
    result = run_pgstow("verify", "--from", stored_sealed, *arguments)
    assert result.exit_code == ExitCode.DAMAGED, result
    found = json.loads(result.stdout)
    assert not found["good"]
    assert found["attestation"]
    assert any(key_object.name in problem for problem in found["problems"])


class RecordingStore(MemoryBackend):
    """A store that remembers the order of its objects."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        self.order.append(key)
        return super().put(key, body, sha256=sha256)


def test_a_kill_at_any_moment_leaves_a_whole_signed_backup_or_one_that_gc_removes(
    secret_database: Database, owner: Owner, tmp_path: Path
) -> None:
    store, key = RecordingStore(), make_key(tmp_path)
    request = BackupRequest(
        source=Conninfo.parse(secret_database.conninfo),
        recipients=Recipients.parse([owner.recipient]),
        signing=Signing(key.signer, "db1", tmp_path / "states"),
    )
    back_up_database(request, [store], lambda _: None)
    kinds = [name.partition("/")[0] for name in store.order]
    assert kinds[-3:] == ["keys", "manifests", "manifests"]
    assert store.order[-2] == store.order[-1] + SIGNATURE_SUFFIX
    assert set(kinds[:-3]) == {"data"}
    later = datetime.now(UTC) + timedelta(days=30)
    for length in range(len(store.order) + 1):
        left = MemoryBackend()
        for name in store.order[:length]:
            put(left, name, store.get(name))
        whole = length == len(store.order)
        found = read_chains(left, None, None, key.trust)
        assert ([chain.backups for chain in found.chains], found.findings) == ([1] if whole else [], [])
        doomed = find_leftovers(GcRequest(), left, lambda _: None, later)
        collect(GcRequest(), doomed, left, lambda _: None, later)
        assert {info.key for info in left.list()} == (set(store.order) if whole else set())


@pytest.fixture
def servers() -> Iterator[tuple[ThrowawayCluster, ThrowawayCluster]]:
    with ThrowawayCluster() as source, ThrowawayCluster() as target:
        yield source, target


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_a_whole_server_comes_back(
    format_: str, servers: tuple[ThrowawayCluster, ThrowawayCluster], owner: Owner, tmp_path: Path, spool_dir: Path
) -> None:
    source, target = servers
    store, spool = tmp_path / "store", ("--spool-dir", spool_dir)
    with psycopg.connect(source.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE ROLE alice")
        connection.execute("CREATE DATABASE shop")
    with psycopg.connect(source.conninfo("shop")) as connection:
        connection.execute("CREATE TABLE secret AS SELECT %s::text AS value", [NEEDLE])
    run_well(
        "backup", source.conninfo(), "--all-databases", "--to", store, "--format", format_,
        "--recipient", owner.recipient, *spool,
    )  # fmt: skip
    assert not leaks(store, NEEDLE)
    assert not leaks(store, "CREATE ROLE alice")
    keys = ("--identity", owner.identity)
    run_well("verify", "--from", store, "--database", "@cluster", "--level", "archive", *keys, *spool)
    everything = ("restore", "--from", store, "--all-databases", "--into", target.conninfo(), *spool)
    assert_one_sentence(run_pgstow(*everything, "--quiet"), ExitCode.BAD_INPUT, re.escape(owner.recipient))
    run_well(*everything, *keys)
    with psycopg.connect(target.conninfo("shop")) as connection:
        assert connection.execute("SELECT value FROM secret").fetchall() == [(NEEDLE,)]


@pytest.mark.parametrize(
    "settings", ['verify = "restore"', 'format = "custom"', "all_databases = true"], ids=["restore", "custom", "server"]
)
def test_a_run_seals_and_verifies_without_any_identity(
    settings: str, secret_database: Database, owner: Owner, tmp_path: Path, spool_dir: Path
) -> None:
    store, config = tmp_path / "store", tmp_path / "pgstow.toml"
    (tmp_path / "team.txt").write_text(f"# the team\n{owner.recipient}\n")
    store.mkdir()
    config.write_text(
        f"""
        [defaults]
        verify = "archive"
        spool_dir = "{spool_dir}"
        [encryption]
        recipients_file = "{tmp_path}/team.txt"
        [destinations.local]
        url = "{store}"
        [databases.shop]
        conninfo = "{secret_database.conninfo}"
        {settings}
        """
    )
    result = run_pgstow("run", "--config", config, "--json")
    assert result.exit_code == 0, result
    assert not leaks(store, NEEDLE)
    exported = run_well("export", "--from", store, "--identity", owner.identity, "--database", secret_database.name)
    assert NEEDLE in exported.stdout
    (tmp_path / "team.txt").write_text("# nobody\n")
    result = run_pgstow("run", "--config", config, "--quiet")
    assert_one_sentence(result, ExitCode.BAD_INPUT, r"encryption: The file of recipients .*team\.txt has no recipient")


def test_rewrap_gives_all_backups_to_others_and_touches_no_data(
    secret_database: Database, owner: Owner, stranger: Owner, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    back_up(secret_database, store, owner)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    run_well("rewrap", "--all", "--from", store, "--identity", owner.identity, "--recipient", stranger.recipient)
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    [added] = after.keys() - before.keys()
    assert added.is_relative_to(store / "keys")
    for who in (owner, stranger):  # rewrap revokes nothing
        assert NEEDLE in run_well("export", "--from", store, "--identity", who.identity).stdout
    for level in ("bytes", "archive"):
        run_well("verify", "--from", store, "--level", level, "--identity", stranger.identity)


def test_rewrap_needs_a_fitting_identity(
    secret_database: Database, owner: Owner, stranger: Owner, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    back_up(secret_database, store, owner)
    arguments = ("rewrap", "latest", "--from", store, "--recipient", stranger.recipient, "--quiet")
    for identity in ((), ("--identity", stranger.identity)):
        result = run_pgstow(*arguments, *identity)
        assert_one_sentence(result, ExitCode.BAD_INPUT, re.escape(owner.recipient))
    assert len(list((store / "keys").rglob("*.age"))) == 1


def test_an_identity_for_a_backup_that_is_not_sealed_draws_a_notice(
    stored_sample: StoredSample, owner: Owner, tmp_path: Path
) -> None:
    """Somebody may have replaced a sealed backup by a forged one, which needs no identity."""
    from_ = ("--from", stored_sample.folder, "--identity", owner.identity)
    for command in (
        ("export", *from_, "--file", tmp_path / "sample.sql"),
        ("restore", *from_, "--to-directory", tmp_path / "there"),
        ("verify", *from_, "--level", "archive"),
    ):
        assert "isn't sealed, so it needs no identity." in run_well(*command).stderr
    assert "isn't sealed, so it needs no identity." in run_pgstow("show", *from_, "--toc").stderr


def test_keygen_makes_a_key_that_seals_and_opens(secret_database: Database, tmp_path: Path) -> None:
    key, store = tmp_path / "new.key", tmp_path / "store"
    public = run_pgstow("keygen", "--output", key).stdout.strip()
    assert key.stat().st_mode & 0o777 == 0o600
    made = subprocess.run(["age-keygen", "-y", key], check=True, capture_output=True, text=True)
    assert made.stdout.strip() == public
    back_up(secret_database, store, Owner(key, public))
    assert NEEDLE in run_well("export", "--from", store, "--identity", key).stdout
    again = run_pgstow("keygen", "--output", key)
    assert_one_sentence(again, ExitCode.BAD_INPUT, "Cannot make")
    printed = run_pgstow("keygen")
    assert printed.stdout.splitlines()[-1].startswith("AGE-SECRET-KEY-1")
    assert printed.stderr.startswith("Public key: age1")
