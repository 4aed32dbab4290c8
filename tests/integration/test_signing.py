"""Signed backups: pgstow signs while it backs up, and believes only trusted keys."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.pgstow import assert_one_sentence, run_pgstow
from support.signing import KeyFiles, make_key
from support.stored_sample import StoredSample

BAD_INPUT, DAMAGED, NOT_FOUND = 2, 7, 8


@pytest.fixture
def key(tmp_path: Path) -> KeyFiles:
    return make_key(tmp_path)


def test_a_signed_backup_is_trusted_and_an_unsigned_one_is_not(
    stored_sample: StoredSample, key: KeyFiles, tmp_path: Path
) -> None:
    store, states = stored_sample.folder, tmp_path / "states"
    trusted = ("--from", store, "--trusted-key", key.public)
    unsigned = stored_sample.manifest.backup_id
    assert "is not believed: it is not signed. If such a backup is yours, name it by its ID, and add --unsigned." in (
        assert_one_sentence(run_pgstow("restore", *trusted, "--to-directory", tmp_path / "none", "-q"), NOT_FOUND)
    )
    sign = ("--sign-with", f"file:{key.private}", "--writer", "db1", "--state-dir", states)
    made = run_pgstow("backup", stored_sample.source, "--to", store, "--cluster", "prod", "--json", *sign)
    assert (made.exit_code, made.stderr) == (0, "")
    signed = json.loads(made.stdout)["backup_id"]

    listed = run_pgstow("list", *trusted, "--json")
    assert listed.exit_code == DAMAGED
    problems = {one["backup_id"]: "problem" in one for one in json.loads(listed.stdout)}
    assert problems == {unsigned: True, signed: False}
    assert "UNSIGNED" in run_pgstow("list", *trusted).stdout
    assert run_pgstow("list", "--from", store).exit_code == 0
    shown = json.loads(run_pgstow("show", *trusted, "--json").stdout)
    assert shown["backup_id"] == signed
    keys = [key.trusted().key.keyid]
    assert shown["signature"] == {"key_ids": keys, "trusted": True, "writer": "db1", "sequence": 1, "problem": None}
    for options, words in (
        ((signed, *trusted), f"by the trusted key {keys[0]}, writer db1, sequence 1"),
        ((signed, "--from", store), f"perhaps, by {keys[0]}; --trusted-key checks the signature"),
        ((unsigned, *trusted, "--unsigned"), "no"),
    ):
        printed = run_pgstow("show", *options, env={"COLUMNS": "250"}).stdout
        assert re.search(rf"^Signed +{re.escape(words)} *$", printed, re.MULTILINE)
    for command in (["show"], ["verify"], ["export"], ["restore", "--to-directory", tmp_path / "there"]):
        refused = run_pgstow(*command, unsigned, *trusted)
        assert refused.exit_code == DAMAGED
        assert "it is not signed. To use the backup all the same, add --unsigned." in refused.stderr
    for level in ("objects", "bytes"):
        assert run_pgstow("verify", *trusted, "--level", level).exit_code == 0
    insisted = run_pgstow("restore", unsigned, *trusted, "--unsigned", "--to-directory", tmp_path / "there")
    assert insisted.exit_code == 0
    assert "it is not signed" in insisted.stderr


def test_a_key_that_cannot_sign_is_found_before_the_backup_begins(key: KeyFiles, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        return assert_one_sentence(run_pgstow("backup", "dbname=none", "--to", tmp_path, "-q", *arguments), BAD_INPUT)

    assert "holds no private key" in refused("--sign-with", f"file:{key.public}")
    assert "--writer and --state-dir need --sign-with" in refused("--writer", "db1")
    assert "needs --sign-with" in refused("--sign-passphrase-file", key.public)
    key.private.chmod(0o644)
    warned = run_pgstow("backup", "dbname=none", "--to", tmp_path, "-q", "--sign-with", f"file:{key.private}")
    assert f"chmod 0600 {key.private}" in warned.stderr


def test_chain_shows_what_is_wrong(stored_sample: StoredSample, key: KeyFiles, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    trusted = ("--from", store, "--trusted-key", key.public)
    assert "No signed backups" in run_pgstow("chain", *trusted).stdout
    sign = ("--sign-with", f"file:{key.private}", "--writer", "db1", "--state-dir", tmp_path / "states")
    for _ in range(3):
        made = run_pgstow("backup", stored_sample.source, "--to", store, "--cluster", "prod", "--schema-only", *sign)
        assert made.exit_code == 0, made

    whole = run_pgstow("chain", *trusted, "--json")
    assert (whole.exit_code, whole.stderr) == (0, "")
    [chain] = json.loads(whole.stdout)["chains"]
    assert (chain["writer"], chain["backups"], chain["removed"], chain["head"]["sequence"]) == ("db1", 3, 0, 3)
    head = chain["head"]["statement_sha256"]
    shown = run_pgstow("chain", *trusted, "--expect-head", head)
    assert shown.exit_code == 0
    assert "Nothing is wrong" in shown.stdout

    kept = ("--keep-last", 2, "--yes", "--sign-with", f"file:{key.private}")
    shutil.copytree(store / "manifests", tmp_path / "before")
    assert run_pgstow("prune", *trusted, *kept).exit_code == 0
    pruned = run_pgstow("chain", *trusted, "--json", "--expect-head", head)
    assert pruned.exit_code == 0, pruned
    assert json.loads(pruned.stdout)["chains"][0]["removed"] == 1

    shutil.rmtree(store / "manifests")
    shutil.copytree(tmp_path / "before", store / "manifests")
    unfinished = run_pgstow("chain", *trusted)
    assert unfinished.exit_code == 0, unfinished
    assert "db1: 1 backup is still in the store, although it has a tombstone." in " ".join(unfinished.stdout.split())
    assert json.loads(run_pgstow("chain", *trusted, "--json").stdout)["chains"][0]["unfinished"] == 1
    assert run_pgstow("prune", *trusted, *kept).exit_code == 0

    # Two backups may begin in the same second. Then their IDs don't tell which one is newer.
    middle, newest = sorted(
        (store / "manifests").rglob("*.json"), key=lambda path: path.stem == chain["head"]["backup_id"]
    )
    middle.unlink()
    gap = run_pgstow("chain", *trusted)
    assert gap.exit_code == DAMAGED
    assert f"gap: prod/sample_template: {middle.stem} is gone without a tombstone" in " ".join(gap.stdout.split())
    newest.unlink()
    lost = json.loads(run_pgstow("chain", *trusted, "--json", "--expect-head", head).stdout)
    assert [finding["fault"] for finding in lost["findings"]] == ["head-lost"]
    assert "give --trusted-key" in assert_one_sentence(run_pgstow("chain", "--from", store), BAD_INPUT)


def test_a_run_signs_what_it_makes_proves_and_removes(
    stored_sample: StoredSample, key: KeyFiles, tmp_path: Path
) -> None:
    store, config = tmp_path / "store", tmp_path / "pgstow.toml"
    store.mkdir()
    other = make_key(tmp_path, "other")
    text = f"""
        [databases.shop]
        conninfo = "{stored_sample.source}"
        cluster = "prod"
        only = "schema"
        verify = "objects"
        [destinations.here]
        url = "{store}"
        [retention.default]
        keep_last = 1
        [signing]
        key = "file:{key.private}"
        writer = "nightly"
        state_dir = "{tmp_path / "states"}"
        """
    config.write_text(text)
    refused = assert_one_sentence(run_pgstow("config", "check", "--config", config), BAD_INPUT)
    assert f"{config}:1: [signing] with [retention.NAME] needs keys in [trust]" in refused
    for keys in (other.public, f"{key.public}:verify"):
        config.write_text(text + f'[trust]\nkeys = ["{keys}"]')
        assert "add its public key" in assert_one_sentence(run_pgstow("config", "check", "--config", config), BAD_INPUT)
    config.write_text(text.replace("file:", "file:/nowhere") + f'[trust]\nkeys = ["{key.public}"]')
    assert "can't be read" in assert_one_sentence(run_pgstow("run", "--config", config, "-q"), BAD_INPUT)

    config.write_text(text + f'[trust]\nkeys = ["{key.public}"]')
    for _ in range(2):
        made = run_pgstow("run", "--config", config, "--json")
        assert made.exit_code == 0, made
    found = run_pgstow("chain", "--from", store, "--trusted-key", key.public, "--json")
    assert found.exit_code == 0
    [chain] = json.loads(found.stdout)["chains"]
    assert (chain["writer"], chain["backups"], chain["removed"]) == ("nightly", 1, 1)
    [kept] = json.loads(run_pgstow("list", "--from", store, "--trusted-key", key.public, "--json").stdout)
    assert kept["proven"]["level"] == "objects"

    config.write_text(config.read_text().replace("[databases.shop]", '[databases.shop]\nbefore = ["false"]'))

    def newest_before() -> str | None:
        [refused] = json.loads(run_pgstow("run", "--config", config, "--json").stdout)["backups"]
        assert not refused["good"]
        found: str | None = refused["newest_before"]
        return found

    assert newest_before() == kept["snapshot_at"].replace("Z", "+00:00")
    [signature] = (store / "manifests").rglob("*.sig")
    signature.unlink()
    assert newest_before() is None, "a backup that no trusted key signed is no comfort"
