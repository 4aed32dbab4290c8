"""Copies between stores of all kinds, over HTTP."""

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from support.faulty_backups import FaultyStore
from support.faulty_http import Fault
from support.object_stores import StoreBucket
from support.pgstow import assert_one_sentence, committed_backups, finish, run_pgstow, start_pgstow, wait_until
from support.postgres_fixtures import Database
from support.shelf import BackupBuilder
from support.signing import make_key
from support.stored_sample import OBJECT_SIZE, StoredSample

from cli.errors import ExitCode
from demo import compare
from storage_backends.local import LocalBackend


def test_a_sealed_and_signed_backup_from_s3_over_gcs_and_a_folder_back_to_s3(
    stored_sample: StoredSample,
    s3_bucket: StoreBucket,
    gcs_bucket: StoreBucket,
    empty_target: Database,
    tmp_path: Path,
    spool_dir: Path,
) -> None:
    s3_bucket.client.put_bucket_versioning(Bucket=s3_bucket.bucket, VersioningConfiguration={"Status": "Enabled"})
    identity, key = tmp_path / "owner.key", make_key(tmp_path)
    assert run_pgstow("keygen", "--output", identity).exit_code == 0
    recipient = next(word for word in identity.read_text().split() if word.startswith("age1"))
    states = ("--writer", "db1", "--state-dir", tmp_path / "states")
    sign = ("--sign-with", f"file:{key.private}", *states, "--recipient", recipient, "--object-size", OBJECT_SIZE)
    made = run_pgstow("backup", stored_sample.source, "--to", s3_bucket.url, "--cluster", "prod", "--json", *sign)
    assert made.exit_code == 0, made
    backup_id, trusted = json.loads(made.stdout)["backup_id"], ("--trusted-key", key.public)
    last = s3_bucket.url.replace("some/prefix", "another/prefix")
    stores = [s3_bucket.url, gcs_bucket.url, tmp_path / "copy", last]
    for source, target in pairwise(stores):
        copied = run_pgstow("copy", "--all", "--from", source, "--to", target, "--json", *trusted)
        assert (copied.exit_code, copied.stderr) == (0, "")
        assert [(one["backup_id"], one["state"]) for one in json.loads(copied.stdout)] == [(backup_id, "copied")]
        levels = ("objects", "bytes", "archive") if target == last else ("objects",)
        for level in levels:
            verify = run_pgstow("verify", "--from", target, "--level", level, "--identity", identity, *trusted)
            assert verify.exit_code == 0, verify
        assert run_pgstow("chain", "--from", target, *trusted).exit_code == 0
    restored = run_pgstow(
        "restore",
        "--from",
        last,
        "--into",
        empty_target.conninfo,
        "--identity",
        identity,
        *trusted,
        "--spool-dir",
        spool_dir,
    )
    assert restored.exit_code == 0, restored
    assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)


def test_a_copy_that_was_killed_goes_on(stored_sample: StoredSample, s3: FaultyStore) -> None:
    objects = len(stored_sample.manifest.objects)
    done = objects // 2
    s3.proxy.fail(with_=Fault.STALL, method="PUT", path="/data/", skip=done, times=math.inf)
    command = ("copy", "latest", "--from", stored_sample.folder, "--to", s3.url, "--transfers", 2)
    with start_pgstow(*command) as process:
        wait_until(lambda: s3.proxy.count("PUT", "/data/") == done + 2, "two objects are on their way")
        process.kill()
        finish(process)
    assert committed_backups(s3.bucket.url) == []
    assert len(s3.keys) == done
    s3.proxy.heal()
    before = s3.proxy.count("PUT")
    result = run_pgstow(*command, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)[0]["objects"] == objects - done
    assert s3.proxy.count("PUT") - before == objects - done + 1, "the rest, and the manifest"
    assert committed_backups(s3.bucket.url) == [stored_sample.manifest.backup_id]
    requests = len(s3.proxy.requests)
    assert run_pgstow(*command).exit_code == 0
    again = s3.proxy.requests[requests:]
    assert not Counter(request.method for request in again)["PUT"]
    assert not any("/data/" in request.path for request in again)
    assert {request.method for request in s3.proxy.requests} == {"GET", "HEAD", "PUT"}, "nothing is deleted"


def test_bytes_that_change_on_their_way_are_no_copy(stored_sample: StoredSample, s3: FaultyStore) -> None:
    command = ("copy", "latest", "--from", stored_sample.folder, "--to", s3.url, "--quiet")
    s3.proxy.fail(with_=Fault.FLIP_SENT, method="PUT", path="/data/")
    assert_one_sentence(run_pgstow(*command), ExitCode.STORE, "is not copied to s3://.*other bytes")
    assert committed_backups(s3.bucket.url) == []
    s3.proxy.fail(with_=Fault.RESET_AFTER, method="PUT", path="/manifests/")
    assert run_pgstow(*command).exit_code == 0
    assert committed_backups(s3.bucket.url) == [stored_sample.manifest.backup_id]


def test_damage_is_named(stored_sample: StoredSample, tmp_path: Path) -> None:
    stored = stored_sample.manifest.objects[0]
    stored_sample.path(stored).write_bytes(b"x" * stored.size)
    command = ("copy", "--all", "--from", stored_sample.folder, "--to", tmp_path / "copy", "--quiet")
    assert_one_sentence(run_pgstow(*command), ExitCode.DAMAGED, f"is not copied to file://.*{stored.key} is not what")
    assert committed_backups(tmp_path / "copy") == []


def test_a_target_without_credentials_costs_the_others_nothing(stored_sample: StoredSample, tmp_path: Path) -> None:
    command = ("copy", "--all", "--from", stored_sample.folder, "--to", "gs://bucket/copies", "--to", tmp_path / "copy")
    env = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")}
    result = run_pgstow(*command, "--quiet", env=env)
    assert_one_sentence(result, ExitCode.STORE, "is not copied to gs://bucket/copies: .*credentials")
    assert committed_backups(tmp_path / "copy") == [stored_sample.manifest.backup_id]


def test_names_from_a_store_do_not_control_the_terminal(stored_sample: StoredSample, tmp_path: Path) -> None:
    made = run_pgstow(
        "backup", stored_sample.source, "--to", stored_sample.folder, "--cluster", "\x1b[31mred", "--quiet"
    )
    assert made.exit_code == 0, made
    for more in (["--dry-run"], []):
        result = run_pgstow("copy", "--all", "--from", stored_sample.folder, "--to", tmp_path / "copy", *more)
        assert result.exit_code == 0, result
        assert "\x1b" not in result.stdout + result.stderr


def test_the_lock_of_the_original_is_not_shown_for_a_copy_in_a_folder(tmp_path: Path) -> None:
    until = datetime.now(UTC) + timedelta(days=9)
    BackupBuilder(LocalBackend(tmp_path / "original")).add(timedelta(), retained_until=until)
    command = ("copy", "--all", "--from", tmp_path / "original", "--to", tmp_path / "copy")
    assert run_pgstow(*command).exit_code == 0
    listed = run_pgstow("list", "--from", tmp_path / "copy")
    assert (listed.exit_code, "LOCKED" in listed.stdout) == (0, False)


def test_what_to_copy_must_be_clear(tmp_path: Path) -> None:
    stores = ("--from", tmp_path, "--to", tmp_path / "copy")
    for words in ([], ["latest", "--all"], ["--all", "--at-most-age", "1d"]):
        assert_one_sentence(run_pgstow("copy", *stores, *words), ExitCode.BAD_INPUT, "only one of them")
    same = run_pgstow("copy", "--all", "--from", tmp_path, "--to", f"file://{tmp_path}")
    assert_one_sentence(same, ExitCode.BAD_INPUT, "the same store")
    assert_one_sentence(run_pgstow("copy", "--all", *stores, "-q"), ExitCode.NOT_FOUND, "There is no such backup")
