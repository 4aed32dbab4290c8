"""Retention as a person uses it: backup, prune, gc and hold. The backups that are kept can be restored."""

import json
import math
import os
import pty
import re
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.faulty_http import Fault, FaultyProxy
from support.object_stores import StoreBucket
from support.pgstow import PATIENCE, PGSTOW, Result, assert_one_sentence, committed_backups, run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends import open_backend


def back_up(database: Database, store: str | Path, *options: object) -> str:
    """Make a backup, and return its ID."""
    arguments = ("--to", store, "--cluster", "prod", "--jobs", 1, "--json", *options)
    result = run_pgstow("backup", database.conninfo, *arguments)
    assert result.exit_code == 0, result
    backup_id: str = json.loads(result.stdout)["backup_id"]
    return backup_id


def prune(store: str | Path, *options: object) -> dict[str, Any]:
    """Run pgstow prune, and return the output of ``--json``."""
    result = run_pgstow("prune", "--from", store, "--json", *options)
    assert result.exit_code == 0, result
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def reasons(document: dict[str, Any]) -> dict[str, list[str]]:
    return {one["backup_id"]: one["reasons"] for one in document["plan"]}


def keys(store: str | Path) -> list[str]:
    with closing(open_backend(str(store))) as backend:
        return [info.key for info in backend.list()]


def restored_rows(store: str | Path, backup_id: str, target: Database) -> int:
    result = run_pgstow("restore", backup_id, "--from", store, "--into", target.conninfo, "--jobs", 1)
    assert result.exit_code == 0, result
    [(rows,)] = target.fetch("SELECT count(*) FROM t")
    return int(rows)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    match request.param:
        case "s3":
            bucket: StoreBucket = request.getfixturevalue("s3_bucket")
            return bucket.url
        case _:
            return tmp_path / "store"


def test_what_is_kept_can_be_restored_and_nothing_else_is_left(
    store: str | Path, database: Database, make_database: DatabaseMaker
) -> None:
    database.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i")
    first = back_up(database, store, "--tag", "before")
    second = back_up(database, store)
    database.execute("INSERT INTO t SELECT i FROM generate_series(1, 500) AS i")
    third = back_up(database, store)
    interrupted = back_up(database, store)
    with closing(open_backend(str(store))) as backend:
        [manifest] = [info.key for info in backend.list("manifests/") if interrupted in info.key]
        backend.delete([manifest])
    before = keys(store)

    dry = prune(store, "--keep-last", 1, "--keep-tag", "before")
    assert dry["removed"] is None
    assert reasons(dry) == {
        first: ["tagged before"],
        second: ["no rule keeps it"],
        third: ["newest good backup", "last 1"],
    }
    assert keys(store) == before

    done = prune(store, "--keep-last", 1, "--keep-tag", "before", "--yes")
    assert done["removed"]["backups"] == [second]
    assert done["removed"]["objects"] == sum(second in key for key in before) - 1
    assert done["removed"]["locked"] == []
    assert set(committed_backups(store)) == {first, third}

    early = run_pgstow("gc", "--from", store, "--yes")
    assert early.exit_code == 0, early
    assert "perhaps still running" in early.stdout
    assert any(interrupted in key for key in keys(store))
    late = run_pgstow("gc", "--from", store, "--grace", "0h", "--yes")
    assert late.exit_code == 0, late
    assert re.search(r"^[2-9] objects \(.*\) are gone\.$", late.stdout, re.MULTILINE)
    assert {identity for identity in (first, second, third, interrupted) if identity in "".join(keys(store))} == {
        first,
        third,
    }
    assert restored_rows(store, first, make_database()) == 1000
    assert restored_rows(store, third, make_database()) == 1500
    assert prune(store, "--keep-last", 1, "--keep-tag", "before", "--yes")["removed"] is None


def test_the_plan_in_words(tmp_path: Path, database: Database) -> None:
    first, second = back_up(database, tmp_path), back_up(database, tmp_path)
    part = back_up(database, tmp_path, "--schema-only")
    result = run_pgstow("prune", "--from", tmp_path, "--keep-daily", 7)
    assert result.exit_code == 0, result
    assert re.search(rf"prod +{database.name} +{first} .*Z +drop +no rule keeps it", result.stdout)
    assert re.search(
        rf"prod +{database.name} +{second} .*Z +keep +newest good backup, daily \d{{4}}-\d\d-\d\d", result.stdout
    )
    assert re.search(rf"prod +{database.name} +{part} .*Z +partial +keep +newest good backup, daily", result.stdout)
    assert (
        "Nothing was removed: this was a dry run, because pgstow asks only at a terminal, without --json. To remove what is listed, give --yes"
        in result.stderr
    )
    result = run_pgstow("prune", "--from", tmp_path, "--keep-daily", 7, "--dry-run", "--yes")
    assert "Nothing was removed: this was a dry run.\n" in result.stderr
    assert set(committed_backups(tmp_path)) == {first, second, part}
    result = run_pgstow("prune", "--from", tmp_path, "--keep-daily", 7, "--yes", "--quiet")
    assert re.search(r"Removed 1 backup: [1-9] objects \(.*\) are gone\.", result.stdout)
    assert result.stderr == ""
    result = run_pgstow("prune", "--from", tmp_path, "--keep-daily", 7, "--quiet")
    assert result.stdout.endswith("There is nothing to remove.\n")


def at_terminal(answer: str, *arguments: object) -> Result:
    """Run pgstow with a terminal as its input, output and error output."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [PGSTOW, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "COLUMNS": "200"}
    )
    os.close(slave)
    os.write(master, answer.encode())
    shown = b""
    while True:
        try:
            read = os.read(master, 4096)
        except OSError:  # on Linux, the error if the other side of the terminal is closed
            break
        if not read:
            break
        shown += read
    os.close(master)
    return Result(process.wait(PATIENCE), shown.decode(), "")


def test_at_a_terminal_it_asks(tmp_path: Path, database: Database) -> None:
    first, second = back_up(database, tmp_path), back_up(database, tmp_path)
    for answer in ("\n", "n\n"):
        result = at_terminal(answer, "prune", "--from", tmp_path, "--keep-last", 1)
        assert result.exit_code == 0, result
        assert "Remove 1 of 2 backups from " in result.stdout
        assert "Nothing was removed." in result.stdout
        assert set(committed_backups(tmp_path)) == {first, second}
    result = at_terminal("y\n", "prune", "--from", tmp_path, "--keep-last", 1)
    assert result.exit_code == 0, result
    assert set(committed_backups(tmp_path)) == {second}


def test_without_a_rule_it_refuses(tmp_path: Path) -> None:
    tmp_path.joinpath("store").mkdir()
    result = run_pgstow("prune", "--from", tmp_path / "store", "--only-verified", "restore", "--yes", "-q")
    assert_one_sentence(result, 2, "Say what to keep, such as --keep-daily 7")


def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path, database: Database) -> None:
    first, second = back_up(database, tmp_path), back_up(database, tmp_path)
    [path] = tmp_path.rglob(f"{first}.json")
    path.write_bytes(path.read_bytes()[:-10])
    result = run_pgstow("prune", "--from", tmp_path, "--keep-last", 1, "--yes")
    assert result.exit_code == 7, result
    assert "its manifest can't be read" in result.stdout
    assert path.exists()
    assert any(tmp_path.rglob(f"{second}.json"))


def test_what_is_verified_is_relied_on(tmp_path: Path, database: Database) -> None:
    first, second = back_up(database, tmp_path), back_up(database, tmp_path)
    rules = ("--keep-last", 1, "--only-verified", "bytes", "--yes")
    assert reasons(prune(tmp_path, *rules)) == {first: ["no good backup yet"], second: ["no good backup yet"]}
    verified = run_pgstow("verify", first, "--from", tmp_path, "--attest")
    assert verified.exit_code == 0, verified
    assert reasons(prune(tmp_path, *rules)) == {
        first: ["newest good backup", "last 1"],
        second: ["newer than the newest good backup"],
    }
    verified = run_pgstow("verify", second, "--from", tmp_path, "--attest")
    assert prune(tmp_path, *rules)["removed"]["backups"] == [first]
    assert not list(tmp_path.joinpath("attestations").rglob(f"*{first}*"))


def test_what_is_locked_stays_until_its_date(s3_locking_bucket: StoreBucket, database: Database) -> None:
    url = s3_locking_bucket.url
    locked = back_up(database, url, "--retain-days", 2)
    free, last = back_up(database, url), back_up(database, url)
    [until] = {until for key, until in retention(s3_locking_bucket).items() if locked in key}
    assert timedelta(days=1) < until - datetime.now(UTC) <= timedelta(days=2, seconds=2)
    assert not any(identity in key for key in retention(s3_locking_bucket) for identity in (free, last))

    listed = {one["backup_id"]: one for one in json.loads(run_pgstow("list", "--from", url, "--json").stdout)}
    assert listed[locked]["retained_until"] == f"{until:%Y-%m-%dT%H:%M:%S}.000000Z"
    assert listed[free]["retained_until"] is None
    assert "LOCKED UNTIL" in run_pgstow("list", "--from", url).stdout
    assert re.search(r"Locked +until \d{4}-", run_pgstow("show", locked, "--from", url).stdout)

    document = prune(url, "--keep-last", 1, "--yes")
    assert reasons(document)[locked] == [f"locked until {until:%Y-%m-%d %H:%M:%SZ}"]
    assert document["removed"]["backups"] == [free]
    assert set(committed_backups(url)) == {locked, last}


def test_a_legal_hold_stays_until_it_is_taken_off(s3_locking_bucket: StoreBucket, database: Database) -> None:
    url = s3_locking_bucket.url
    first, second = back_up(database, url), back_up(database, url)
    result = run_pgstow("hold", "add", first, "--from", url, "--json")
    assert result.exit_code == 0, result
    [told] = json.loads(result.stdout)
    assert told["held"]
    assert told["objects"] == sum(first in key for key in keys(url))
    assert run_pgstow("hold", "list", "--from", url).stdout == f"prod/{database.name} {first}\n"
    assert re.search(r"Locked +by a legal hold", run_pgstow("show", first, "--from", url).stdout)
    document = prune(url, "--keep-last", 1, "--yes")
    assert reasons(document) == {first: ["legal hold"], second: ["newest good backup", "last 1"]}
    with closing(open_backend(url)) as backend:
        assert all(backend.head(key).held for key in keys(url) if first in key)
    result = run_pgstow("hold", "remove", first, "--from", url)
    assert result.exit_code == 0, result
    assert "are no longer under a legal hold" in result.stdout
    assert "No backup in" in run_pgstow("hold", "list", "--from", url).stdout
    removed = prune(url, "--keep-last", 1, "--yes")["removed"]
    assert removed["backups"] == [first]
    assert removed["hidden"]  # a bucket with Object Lock keeps versions


def test_credentials_that_may_not_ask_for_a_legal_hold(s3_locking_bucket: StoreBucket, database: Database) -> None:
    """pgstow reports a legal hold that it can't read as unknown, not as absent."""
    first, second = (back_up(database, s3_locking_bucket.url) for _ in range(2))
    with FaultyProxy(s3_locking_bucket.endpoint) as proxy:
        proxy.fail(with_=Fault.FORBIDDEN, path=r"\?legal-hold", times=math.inf)
        url = s3_locking_bucket.url_at(proxy.url)
        listed = run_pgstow("hold", "list", "--from", url)
        assert listed.exit_code == 0
        assert (
            listed.stdout == "The legal holds of 2 backups can't be read: the credentials need s3:GetObjectLegalHold.\n"
        )
        unknown = json.loads(run_pgstow("hold", "list", "--from", url, "--json").stdout)
        assert {one["backup_id"]: one["held"] for one in unknown} == {first: None, second: None}
        assert {tuple(one["needs"]) for one in unknown} == {("s3:GetObjectLegalHold",)}
        shown = run_pgstow("show", second, "--from", url)
        assert re.search(r"Locked +can't be read: the credentials need s3:GetObjectLegalHold +\n", shown.stdout), shown
        lock = json.loads(run_pgstow("show", second, "--from", url, "--json").stdout)["lock"]
        assert lock == {"retained_until": None, "held": None, "needs": ["s3:GetObjectLegalHold"]}
        told = "its locks can't be read: the credentials need s3:GetObjectLegalHold"
        assert reasons(prune(url, "--keep-last", 1))[first] == ["no rule keeps it", told]


def test_a_directory_has_neither_locks_nor_holds(tmp_path: Path, database: Database) -> None:
    locking = ("--to", tmp_path, "--retain-days", 3, "-q")
    assert_one_sentence(run_pgstow("backup", database.conninfo, *locking), 2, "no option of a local directory")
    past = ("--to", "s3://bucket", "--retain-until", "2020-01-01", "-q")
    assert_one_sentence(run_pgstow("backup", database.conninfo, *past), 2, "which has passed")
    backup_id = back_up(database, tmp_path, "--tag", "a tag", "--tag", "another")
    manifest = json.loads(run_pgstow("show", "--from", tmp_path, "--json").stdout)
    assert manifest["tags"] == ["a tag", "another"]
    result = run_pgstow("hold", "add", backup_id, "--from", tmp_path, "-q")
    assert_one_sentence(result, 6, "has no legal holds; use S3 with Object Lock, or Google Cloud Storage")


def retention(bucket: StoreBucket) -> dict[str, datetime]:
    """Return the time until which each locked object is locked, by key. Ask with the store's own client."""
    found = {}
    for entry in bucket.client.list_objects_v2(Bucket=bucket.bucket)["Contents"]:
        answer = bucket.client.head_object(Bucket=bucket.bucket, Key=entry["Key"])
        if until := answer.get("ObjectLockRetainUntilDate"):
            found[entry["Key"]] = until.astimezone(UTC)
    return found


def test_a_whole_server_goes_and_stays_as_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with ThrowawayCluster() as source:
        conninfo = source.conninfo("postgres")
        Database("postgres", conninfo).execute("CREATE TABLE t AS SELECT 1 AS i")
        for _ in range(2):
            arguments = ("--all-databases", "--to", store, "--cluster", "prod", "--jobs", 1, "--tag", "all", "-q")
            made = run_pgstow("backup", conninfo, *arguments)
            assert made.exit_code == 0, made
        listed = json.loads(run_pgstow("list", "--from", store, "--json").stdout)
        assert sorted((one["database"], *one["tags"]) for one in listed) == [
            (name, "all") for name in ("@cluster", "@globals", "postgres", "template1") for _ in range(2)
        ]
        records = [one for one in listed if one["database"] == "@cluster"]
        old, new = (one["backup_id"] for one in sorted(records, key=lambda one: one["snapshot_at"]))
        document = prune(store, "--keep-last", 1, "--yes")
        assert len(document["removed"]["backups"]) == 4
        assert document["removed"]["backups"][-1] == old
        assert len(committed_backups(store)) == 4
    verified = run_pgstow("verify", new, "--from", store, "--level", "archive", "-q")
    assert verified.exit_code == 0, verified
    assert new in reasons(prune(store, "--keep-last", 1))
