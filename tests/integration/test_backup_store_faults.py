"""A store that fails during a backup. pgstow retries after a fault that may pass. Any other fault ends the backup, and no manifest is left."""

import math
from pathlib import Path

import psycopg
import pytest
from support.faulty_backups import FaultyStore
from support.faulty_http import LOGIN_PAGE, Answer, Fault, FaultyProxy
from support.object_stores import StoreBucket
from support.pgstow import (
    Result,
    assert_nothing_left,
    assert_one_sentence,
    committed_backups,
    finish,
    run_pgstow,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.archive.destinations import Committed
from pipeline.backup import in_progress
from pipeline.backup.database import back_up
from pipeline.backup.request import BackupRequest
from pipeline.catalog.keys import new_backup_id
from pipeline.config import Limits
from pipeline.postgres.conninfo import Conninfo
from storage_backends import ObjectAlreadyExists
from storage_backends.lazy import LazyBackend
from storage_backends.memory import MemoryBackend

BAD_INPUT, STORE, BUSY = 2, 6, 11
SMALL_OBJECTS = ("--object-size", "64KiB")


def run_backup(database: Database, store: object, spool_dir: Path, *more: object) -> Result:
    return run_pgstow(
        "backup", database.conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet", *SMALL_OBJECTS, *more
    )


def test_what_passes_is_waited_for(sample_database: Database, s3: FaultyStore, spool_dir: Path) -> None:
    faults = [
        *(Fault.INTERNAL_ERROR, Fault.SLOW_DOWN, Fault.RESET, Fault.RESET_AFTER),
        *(Fault.ERROR_IN_200, Fault.TRUNCATE),
    ]
    # The answer to a HEAD has no body, so it can't carry every fault. Any other request can, whatever the order of the requests.
    with_a_body = "(?!HEAD).*"
    for number, fault in enumerate(faults):
        s3.proxy.fail(with_=fault, method=with_a_body, skip=1 + 2 * number)
    for fault in faults:
        s3.proxy.fail(with_=fault, method=with_a_body, path="manifests/")
    result = run_backup(sample_database, s3.url, spool_dir)
    assert (result.exit_code, result.stderr) == (0, "")
    assert_nothing_left(spool_dir, sample_database, s3.bucket.url)
    assert len(committed_backups(s3.bucket.url)) == 1


def test_an_answer_that_does_not_come_is_asked_for_again(
    sample_database: Database, s3: FaultyStore, spool_dir: Path
) -> None:
    s3.proxy.fail(with_=Fault.STALL, skip=2)
    result = run_backup(sample_database, s3.url, spool_dir, "-o", "read_timeout=1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(committed_backups(s3.bucket.url)) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.INTERNAL_ERROR, "gave up after"),
        (Fault.SLOW_DOWN, "gave up after"),
        (Fault.RESET, "gave up after"),
        (Fault.STALL, "gave up after"),
        (Fault.FORBIDDEN, "AccessDenied"),
        (Fault.BAD_DIGEST, "other bytes|checksum"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_does_not_pass_ends_it(
    sample_database: Database, s3: FaultyStore, spool_dir: Path, fault: Fault, words: str
) -> None:
    s3.proxy.fail(with_=fault, method="PUT", skip=3, times=math.inf)
    result = run_backup(sample_database, s3.url, spool_dir, "-o", "read_timeout=0.5", "--give-up-after", "0.1")
    assert_one_sentence(result, STORE, words)
    assert_nothing_left(spool_dir, sample_database, s3.bucket.url)
    assert committed_backups(s3.bucket.url) == []


@pytest.mark.parametrize(("fault", "key"), [(Fault.INTERNAL_ERROR, "manifests/"), (Fault.FORBIDDEN, "SHA256SUMS")])
def test_a_commit_that_fails_leaves_no_backup(
    sample_database: Database, s3: FaultyStore, spool_dir: Path, fault: Fault, key: str
) -> None:
    s3.proxy.fail(with_=fault, method="PUT", path=key, times=math.inf)
    result = run_backup(sample_database, s3.url, spool_dir, "--give-up-after", "0.1")
    assert_one_sentence(result, STORE, key)
    assert_nothing_left(spool_dir, sample_database, s3.bucket.url)
    assert not [stored for stored in s3.keys if "manifests/" in stored]


def test_credentials_that_can_only_create_suffice(sample_database: Database, s3: FaultyStore, spool_dir: Path) -> None:
    s3.proxy.fail(with_=Fault.RESET_AFTER, method="PUT")
    s3.proxy.fail(with_=Fault.FORBIDDEN, method="GET|HEAD|DELETE|POST", times=math.inf)
    for _ in range(2):
        result = run_backup(sample_database, s3.url, spool_dir)
        assert (result.exit_code, result.stderr) == (0, "")
    assert len(committed_backups(s3.bucket.url)) == 2


def test_a_manifest_before_that_cannot_be_read_costs_no_backup(
    sample_database: Database, s3: FaultyStore, spool_dir: Path
) -> None:
    assert run_backup(sample_database, s3.url, spool_dir).exit_code == 0
    s3.proxy.fail(with_=Fault.ERROR_IN_200, method="GET", path=r"\.json", times=math.inf)
    result = run_backup(sample_database, s3.url, spool_dir, "--give-up-after", "0.1")
    assert result.exit_code == 0
    assert "The new manifest names no previous backup" in result.stderr
    s3.proxy.heal()
    assert len(committed_backups(s3.bucket.url)) == 2


def test_a_bucket_that_is_not_there(sample_database: Database, s3: FaultyStore, spool_dir: Path) -> None:
    url = s3.url.replace(s3.bucket.bucket, "no-such-bucket")
    result = run_backup(sample_database, url, spool_dir)
    assert_one_sentence(result, STORE, "no-such-bucket")
    assert_nothing_left(spool_dir, sample_database, s3.bucket.url)


def test_a_store_is_opened_while_pg_dump_runs(sample_database: Database, spool_dir: Path) -> None:
    """Opening takes a while, and so does pg_dump's reading of the catalogs."""
    begun: list[bool] = []

    def open_it() -> MemoryBackend:
        begun.append(bool(list(spool_dir.glob("*/pg_dump-*.log"))))
        return MemoryBackend()

    request = BackupRequest(Conninfo.parse(sample_database.conninfo), limits=Limits(spool_parent=spool_dir))
    [made] = back_up(request, [LazyBackend("memory:", None, open_it)], lambda event: None)
    assert isinstance(made, Committed)
    assert begun == [True]


def test_a_store_that_can_not_be_opened_ends_a_dump_that_waits(sample_database: Database, spool_dir: Path) -> None:
    with psycopg.connect(sample_database.conninfo) as other:
        other.execute("LOCK TABLE shop.review")
        result = run_backup(sample_database, "s3://bucket?profile=no-such-profile", spool_dir)
    assert_one_sentence(result, BAD_INPUT, "no-such-profile")
    assert_nothing_left(spool_dir, sample_database, spool_dir)


def test_a_folder_that_may_not_be_written(sample_database: Database, spool_dir: Path) -> None:
    result = run_backup(sample_database, "/proc/pgstow", spool_dir, "--create-store")
    assert_one_sentence(result, STORE, "/proc/pgstow")
    assert_nothing_left(spool_dir, sample_database, spool_dir)


def test_a_folder_that_is_missing_is_made_only_if_that_is_said(
    database: Database, spool_dir: Path, tmp_path: Path
) -> None:
    """The folder may be the mount point of a disk that isn't mounted. A backup there would fill another disk, and be missed later."""
    folder = tmp_path / "mnt" / "nas"
    for asked in (str(folder), folder.as_uri()):
        assert_one_sentence(run_backup(database, asked, spool_dir), STORE, f"no folder {folder}: .*--create-store")
    assert not folder.parent.exists()
    assert run_backup(database, str(folder), spool_dir, "--create-store").exit_code == 0
    assert len(committed_backups(folder)) == 1


def test_a_url_that_is_none(database: Database, spool_dir: Path) -> None:
    result = run_backup(database, "ftp://host/folder", spool_dir)
    assert_one_sentence(result, BAD_INPUT, "ftp")


def test_gcs(sample_database: Database, gcs_bucket: StoreBucket, spool_dir: Path) -> None:
    with FaultyProxy(gcs_bucket.endpoint) as proxy:
        url = gcs_bucket.url_at(proxy.url)
        proxy.fail(with_=Fault.SLOW_DOWN, skip=1, times=2)
        proxy.fail(with_=Fault.RESET_AFTER, path="manifests")
        result = run_backup(sample_database, url, spool_dir)
        assert (result.exit_code, result.stderr) == (0, "")
        assert len(committed_backups(gcs_bucket.url)) == 1

        proxy.fail(with_=Fault.FORBIDDEN, method="POST", skip=2, times=math.inf)
        result = run_backup(sample_database, url, spool_dir)
        assert_one_sentence(result, STORE)
        assert_nothing_left(spool_dir, sample_database, gcs_bucket.url)
        assert len(committed_backups(gcs_bucket.url)) == 1


def test_a_key_that_is_taken_is_not_overwritten(
    sample_database: Database, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, str] = {}
    monkeypatch.setattr(in_progress, "new_backup_id", lambda now: given.setdefault("first", new_backup_id(now)))
    store = MemoryBackend()
    request = BackupRequest(Conninfo.parse(sample_database.conninfo), cluster="prod")
    [first] = back_up(request, [store], lambda event: None)
    assert isinstance(first, Committed)
    before = {info.key: store.get(info.key) for info in store.list()}
    sample_database.execute("DELETE FROM shop.review")
    with pytest.raises(ObjectAlreadyExists, match=first.manifest.backup_id):
        back_up(request, [store], lambda event: None)
    assert {info.key: store.get(info.key) for info in store.list()} == before


def slow_command(database: Database, s3: FaultyStore, spool_dir: Path) -> list[object]:
    command: list[object] = ["backup", database.conninfo, "--to", s3.url, "--spool-dir", spool_dir, "--quiet"]
    return [*command, *SMALL_OBJECTS, "-o", "read_timeout=1"]


def test_a_second_backup_of_the_same_database_is_refused(
    sample_database: Database, s3: FaultyStore, spool_dir: Path, tmp_path: Path
) -> None:
    """The second backup is refused until the first backup is committed."""
    s3.proxy.fail(with_=Fault.STALL, method="PUT", path="manifests/", times=math.inf)
    with start_pgstow(*slow_command(sample_database, s3, spool_dir)) as first:
        wait_until(lambda: s3.proxy.count("PUT", "manifests/"), "the first one sends its manifest")
        second = run_backup(sample_database, tmp_path / "other store", spool_dir)
        named = r"\(pgstow 2\d+T\d+Z-\w+, process \d+ of the server\)"
        assert_one_sentence(second, BUSY, f"Another backup of {sample_database.name} is running {named}: wait")
        assert list((tmp_path / "other store").iterdir()) == []
        assert run_backup(sample_database, s3.url, spool_dir, "--dry-run").exit_code == 0
        assert run_pgstow("check", sample_database.conninfo, "--to", tmp_path / "other store").exit_code == 0
        s3.proxy.heal()
        result = finish(first)
    assert (result.exit_code, result.stderr) == (0, "")
    assert_nothing_left(spool_dir, sample_database, s3.bucket.url)
    assert len(committed_backups(s3.bucket.url)) == 1
    assert run_backup(sample_database, s3.url, spool_dir).exit_code == 0


def test_backups_of_two_databases_at_once(
    sample_database: Database, make_database: DatabaseMaker, s3: FaultyStore, spool_dir: Path
) -> None:
    another = make_database(template="sample_template")
    s3.proxy.fail(with_=Fault.STALL, method="PUT", times=2)
    with (
        start_pgstow(*slow_command(sample_database, s3, spool_dir)) as one,
        start_pgstow(*slow_command(another, s3, spool_dir)) as other,
    ):
        wait_until(lambda: len(list(spool_dir.iterdir())) == 2, "both have begun")
        results = [finish(one), finish(other)]
    assert [(result.exit_code, result.stderr) for result in results] == [(0, ""), (0, "")]
    assert_nothing_left(spool_dir, sample_database, s3.bucket.url)
    assert len(set(committed_backups(s3.bucket.url))) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(
            404, b"<Error><Code>kms:KeyNotFound</Code><Message>The key is gone</Message></Error>", "application/xml"
        ),
        LOGIN_PAGE,
    ],
    ids=["kms", "login page"],
)
def test_what_the_store_fails_to_read_is_neither_damaged_nor_missing(
    sample_database: Database, s3: FaultyStore, spool_dir: Path, answer: Answer
) -> None:
    assert run_backup(sample_database, s3.url, spool_dir).exit_code == 0
    before = s3.keys
    quick = ("--from", s3.url, "--give-up-after", "0.1")
    for level in ("objects", "bytes", "archive"):
        # If an object's encryption key is lost, MinIO fails GETs only. Level objects sends HEADs only, so there, HEADs fail too.
        s3.proxy.fail(with_=answer, method="GET" if level != "objects" else "GET|HEAD", path="/data/", times=math.inf)
        result = run_pgstow("verify", *quick, "--level", level, "--attest", "--quiet")
        assert_one_sentence(result, STORE, "/data/")
        s3.proxy.heal()
    s3.proxy.fail(with_=answer, method="GET", path=r"/manifests/.*\.json", times=math.inf)
    for command in (("verify", "latest"), ("list",), ("show",), ("prune", "--keep-last", "1", "--yes", "--quiet")):
        assert_one_sentence(run_pgstow(*command, *quick), STORE, r"/manifests/.*\.json")
    s3.proxy.heal()
    s3.proxy.fail(with_=answer, method="GET", path="list-type", times=math.inf)
    for command in (("verify", "latest"), ("list",), ("gc", "--grace", "0h", "--yes", "--quiet")):
        assert_one_sentence(run_pgstow(*command, *quick), STORE, "404|none of S3's")
    assert s3.keys == before
