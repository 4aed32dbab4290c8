"""Faults while a restore is certainly running: the restore ends, says why, and leaves nothing behind."""

import json
import math
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from support.faulty_http import Fault, FaultyProxy
from support.object_stores import StoreBucket
from support.pgstow import (
    Result,
    assert_nothing_left,
    assert_one_sentence,
    finish,
    processes_naming,
    processes_with,
    run_pgstow,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster

COPY = "made_by_restore"
ON_ITS_WAY = r"/data/.*\.dat\.00001\.zst"
"""Matches the second object of the largest table. When pgstow asks for it, pg_restore has read the first."""


@dataclass(frozen=True)
class FaultySample:
    """The sample's backup in S3 behind a proxy, and how to restore from it."""

    url: str
    proxy: FaultyProxy
    arguments: tuple[object, ...]

    def restore(self, *more: object) -> Result:
        """Run a restore to its end."""
        return run_pgstow("restore", "--from", self.url, *self.arguments, *more)


@pytest.fixture
def faulty(
    stored_sample: StoredSample, s3_bucket: StoreBucket, postgres: ThrowawayCluster, spool_dir: Path
) -> Iterator[FaultySample]:
    for path in sorted((stored_sample.folder).rglob("*")):
        key = path.relative_to(stored_sample.folder).as_posix()
        if path.is_file() and not key.startswith("."):
            s3_bucket.client.put_object(
                Bucket=s3_bucket.bucket, Key=f"{s3_bucket.prefix}/{key}", Body=path.read_bytes()
            )
    arguments = ("--into", postgres.conninfo(COPY), "--create", "--spool-dir", spool_dir, "-q", "--jobs", 2)
    server = Database("postgres", postgres.conninfo())
    with FaultyProxy(s3_bucket.endpoint) as proxy:
        yield FaultySample(s3_bucket.url_at(proxy.url), proxy, arguments)
    server.execute(f"DROP DATABASE IF EXISTS {COPY} WITH (FORCE)")


def files_in(folder: Path) -> list[str]:
    return [file for _, _, files in os.walk(folder) for file in files]


def databases(cluster: ThrowawayCluster) -> set[str]:
    return {name for (name,) in Database("postgres", cluster.conninfo()).fetch("SELECT datname FROM pg_database")}


def assert_nothing_came(cluster: ThrowawayCluster, spool_dir: Path) -> None:
    """Assert that no program, working folder, session or database of the restore is left."""
    assert_nothing_left(spool_dir, Database("postgres", cluster.conninfo()))
    assert COPY not in databases(cluster)


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.TRUNCATE, Fault.SLOW_DOWN], ids=str)
def test_what_passes_is_retried(
    faulty: FaultySample, fault: Fault, stored_sample: StoredSample, postgres: ThrowawayCluster
) -> None:
    faulty.proxy.fail(method="GET", path="/data/", with_=fault, times=2, skip=1)
    result = faulty.restore()
    assert result.exit_code == 0, result
    assert compare.contents(postgres.conninfo(COPY)) == compare.contents(stored_sample.source)


@pytest.mark.parametrize(
    ("fault", "exit_code", "reason"),
    [
        (Fault.RESET, 6, ""),
        (Fault.TRUNCATE, 6, ""),
        (Fault.INTERNAL_ERROR, 6, ""),
        (Fault.FORBIDDEN, 6, "Injected by the test|403|denied|not allow"),
        (Fault.FLIP_RECEIVED, 7, r"\.dat\.00001\.zst"),
    ],
    ids=str,
)
def test_what_stays_ends_it(
    faulty: FaultySample,
    fault: Fault,
    exit_code: int,
    reason: str,
    postgres: ThrowawayCluster,
    spool_dir: Path,
) -> None:
    faulty.proxy.fail(method="GET", path=ON_ITS_WAY, with_=fault, times=math.inf)
    result = faulty.restore("--give-up-after", "1")
    assert_one_sentence(result, exit_code, reason)
    assert_nothing_came(postgres, spool_dir)


def test_a_store_that_refuses_to_list(faulty: FaultySample, postgres: ThrowawayCluster, spool_dir: Path) -> None:
    faulty.proxy.fail(method="GET", with_=Fault.FORBIDDEN, times=math.inf)
    assert_one_sentence(faulty.restore(), 6)
    assert_nothing_came(postgres, spool_dir)


@pytest.fixture
def stuck(faulty: FaultySample) -> FaultySample:
    """Return a store that doesn't send one object, so that a restore waits in the middle of the largest table as long as the test wants."""
    faulty.proxy.fail(method="GET", path=ON_ITS_WAY, with_=Fault.STALL, times=math.inf)
    return faulty


def wait_for_the_middle(stuck: FaultySample, spool_dir: Path) -> list[int]:
    """Wait until pg_restore waits for data that doesn't come. Return the process IDs of all its processes."""
    wait_until(lambda: stuck.proxy.count("GET", ON_ITS_WAY), "the object is asked for")
    wait_until(lambda: pg_restores(spool_dir), "pg_restore runs")
    return pg_restores(spool_dir)


def pg_restores(spool_dir: Path) -> list[int]:
    return [process for process, [name, *_] in processes_with(spool_dir) if name.endswith("/pg_restore")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(
    stuck: FaultySample, number: signal.Signals, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    with start_pgstow("restore", "--from", stuck.url, *stuck.arguments) as process:
        wait_for_the_middle(stuck, spool_dir)
        process.send_signal(number)
        result = finish(process)
    assert_one_sentence(result, 128 + number, f"Stopped by {number.name}; the new database is dropped")
    assert_nothing_came(postgres, spool_dir)


def test_a_stop_says_that_a_part_may_be_there(stuck: FaultySample, database: Database, spool_dir: Path) -> None:
    arguments = ("--into", database.conninfo, "--spool-dir", spool_dir, "-q", "--jobs", 2)
    with start_pgstow("restore", "--from", stuck.url, *arguments) as process:
        wait_for_the_middle(stuck, spool_dir)
        process.terminate()
        result = finish(process)
    assert_one_sentence(result, 143, "Stopped by SIGTERM; the database may hold a part of the backup now")


def test_a_stop_says_that_a_transaction_is_whole(stuck: FaultySample, database: Database, spool_dir: Path) -> None:
    arguments = ("--into", database.conninfo, "--spool-dir", spool_dir, "-q", "--single-transaction")
    with start_pgstow("restore", "--from", stuck.url, *arguments) as process:
        wait_for_the_middle(stuck, spool_dir)
        process.terminate()
        result = finish(process)
    assert_one_sentence(result, 143, "Stopped by SIGTERM; the database holds either all of the backup or nothing of it")


def test_a_stop_of_a_command_that_only_reads(stuck: FaultySample) -> None:
    with start_pgstow("verify", "--from", stuck.url, "--quiet") as process:
        wait_until(lambda: stuck.proxy.count("GET", ON_ITS_WAY), "the object is asked for")
        process.terminate()
        result = finish(process)
    assert_one_sentence(result, 143, "Stopped by SIGTERM; no backup was changed")


def test_a_lock_of_another_session(stored_sample: StoredSample, sample_database: Database, spool_dir: Path) -> None:
    arguments = ("--into", sample_database.conninfo, "--clean", "-t", "shop.product", "--spool-dir", spool_dir, "-q")
    with psycopg.connect(sample_database.conninfo, application_name="reports") as reader:
        reader.execute("SELECT FROM shop.product")
        result = run_pgstow("restore", "--from", stored_sample.folder, *arguments, "--lock-wait-timeout", 1)
        words = r"application reports\) holds a lock on shop\.product, for which the restore waited 1 s"
        assert_one_sentence(result, 5, words)
        assert reader.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,)
        rows = reader.execute("SELECT count(*) FROM shop.product").fetchone()
    assert rows == (stored_sample.table("shop.product").rows,)


def test_a_server_without_a_free_session(stored_sample: StoredSample, empty_target: Database, spool_dir: Path) -> None:
    """pgstow's own session takes the only session of the role."""
    name = empty_target.name
    empty_target.execute(f"CREATE ROLE crowded LOGIN CONNECTION LIMIT 1; ALTER DATABASE {name} OWNER TO crowded")
    try:
        arguments = (
            "--into",
            f"{empty_target.conninfo} user=crowded",
            "-t",
            "shop.product",
            "--spool-dir",
            spool_dir,
            "-q",
        )
        result = run_pgstow("restore", "--from", stored_sample.folder, *arguments)
    finally:
        empty_target.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER; DROP ROLE crowded")
    assert_one_sentence(result, 3, 'too many connections for role "crowded".* Give fewer --jobs, end other sessions')


def test_a_failure_says_that_a_part_may_be_there(faulty: FaultySample, database: Database, spool_dir: Path) -> None:
    faulty.proxy.fail(method="GET", path=ON_ITS_WAY, with_=Fault.FORBIDDEN, times=math.inf)
    arguments = ("--into", database.conninfo, "--spool-dir", spool_dir, "-q")
    result = run_pgstow("restore", "--from", faulty.url, *arguments)
    assert_one_sentence(result, 6, f"The database {database.name} may hold a part of the backup now")


def test_kill_9_leaves_no_program_and_no_spool(
    stuck: FaultySample, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    """The new database stays, since no process is left to drop it. pgstow never reported it as restored."""
    with start_pgstow("restore", "--from", stuck.url, *stuck.arguments) as process:
        wait_for_the_middle(stuck, spool_dir)
        process.kill()
        assert finish(process).exit_code == -signal.SIGKILL
    wait_until(lambda: not pg_restores(spool_dir), "pg_restore is gone")
    wait_until(lambda: not list(spool_dir.iterdir()), "the spool is gone")
    assert COPY in databases(postgres)
    stuck.proxy.heal()
    assert_one_sentence(stuck.restore(), 5, "already exists")
    Database("postgres", postgres.conninfo()).execute(f"DROP DATABASE {COPY} WITH (FORCE)")
    assert_nothing_came(postgres, spool_dir)


@pytest.mark.parametrize("split", ["never", "1"])
def test_pg_restore_killed(stuck: FaultySample, postgres: ThrowawayCluster, spool_dir: Path, split: str) -> None:
    with start_pgstow("restore", "--from", stuck.url, *stuck.arguments, "--split-tables", split) as process:
        os.kill(wait_for_the_middle(stuck, spool_dir)[-1], signal.SIGKILL)
        result = finish(process)
    assert_one_sentence(result, 5, "pg_restore.*killed by signal 9")
    assert_nothing_came(postgres, spool_dir)


def test_pg_restore_killed_while_it_goes_on_after_errors(
    stuck: FaultySample, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    """The restore fails even with --keep-going. The database stays, and pgstow says that it may hold a part of the backup."""
    arguments = (*stuck.arguments, "--keep-going", "--allow-error", ".")
    with start_pgstow("restore", "--from", stuck.url, *arguments) as process:
        os.kill(wait_for_the_middle(stuck, spool_dir)[0], signal.SIGKILL)
        result = finish(process)
    assert_one_sentence(result, 5, f"pg_restore.*The database {COPY} may hold a part of the backup now")
    wait_until(lambda: not pg_restores(spool_dir), "pg_restore is gone")


def test_the_sessions_of_pg_restore_ended_by_the_server(
    stuck: FaultySample, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgstow %'"
    with start_pgstow("restore", "--from", stuck.url, *stuck.arguments, "-o", "read_timeout=1") as process:
        wait_for_the_middle(stuck, spool_dir)
        assert Database(COPY, postgres.conninfo(COPY)).fetch(f"{ended} AND datname = current_database()")
        stuck.proxy.heal()
        result = finish(process)
    assert_one_sentence(result, 5, "pg_restore failed: .*(terminating|closed)")
    assert_nothing_came(postgres, spool_dir)


def test_all_sessions_ended_by_the_server_while_it_goes_on_after_errors(
    stuck: FaultySample, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    """pgstow's own session ended too, so pgstow says that the server went away. The database stays, although the server is reachable again."""
    sessions = f"FROM pg_stat_activity WHERE datname = '{COPY}'"
    server = Database("postgres", postgres.conninfo())
    arguments = (*stuck.arguments, "--keep-going", "--allow-error", ".")
    with start_pgstow("restore", "--from", stuck.url, *arguments) as process:
        wait_for_the_middle(stuck, spool_dir)
        wait_until(
            lambda: len(server.fetch(f"SELECT 1 {sessions}")) > 1, "pg_restore has a session beside pgstow's own"
        )
        server.fetch(f"SELECT pg_terminate_backend(pid) {sessions}")
        stuck.proxy.heal()
        result = finish(process)
    assert_one_sentence(result, 3, f"went away: .*The database {COPY} may hold a part of the backup now")
    assert COPY in databases(postgres)


def test_the_server_stopped(stuck: FaultySample, postgres: ThrowawayCluster, spool_dir: Path) -> None:
    with ThrowawayCluster(search=[postgres.bin_dir]) as own:
        arguments = ("--into", own.conninfo(COPY), *stuck.arguments[2:])
        with start_pgstow("restore", "--from", stuck.url, *arguments) as process:
            wait_for_the_middle(stuck, spool_dir)
            own.__exit__(None, None, None)
            result = finish(process)
    assert result.exit_code == 3, result
    failure, *notices = sorted(result.stderr_lines, key=lambda line: "could not be dropped" in line)
    assert re.search("The server went away: .*(terminating|closed|connection)", failure)
    assert len(notices) == 1, "pgstow says that the database could not be dropped"
    wait_until(lambda: not processes_naming(spool_dir), "pg_restore is gone")


def test_a_plain_archive_that_is_not_finished_is_not_there(stuck: FaultySample, tmp_path: Path) -> None:
    arguments = ("--from", stuck.url, "--to-directory", tmp_path / "out" / "archive", "-q")
    with start_pgstow("restore", *arguments) as process:
        wait_until(lambda: stuck.proxy.count("GET", ON_ITS_WAY), "the object is asked for")
        process.send_signal(signal.SIGTERM)
        assert_one_sentence(finish(process), 143, "Stopped")
    assert list((tmp_path / "out").iterdir()) == []


def test_verify_that_is_stopped(stuck: FaultySample, spool_dir: Path) -> None:
    arguments = ("--from", stuck.url, "--level", "archive", "--spool-dir", spool_dir, "-q")
    with start_pgstow("verify", *arguments) as process:
        wait_until(lambda: stuck.proxy.count("GET", ON_ITS_WAY), "the object is asked for")
        process.send_signal(signal.SIGTERM)
        assert_one_sentence(finish(process), 143, "Stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("where", ["own", "scratch"])
def test_a_proof_that_is_stopped_leaves_no_server_and_no_database(
    stuck: FaultySample, number: signal.Signals, where: str, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    """After kill -9, the database stays on a scratch server, since no process is left to drop it."""
    before = databases(postgres)
    arguments = ("--from", stuck.url, "--level", "restore", "--spool-dir", spool_dir, "--jobs", 2, "-q")
    scratch = ("--scratch", postgres.conninfo()) if where == "scratch" else ()
    with start_pgstow("verify", *arguments, *scratch) as process:
        wait_for_the_middle(stuck, spool_dir)
        made = databases(postgres) - before
        assert len(made) == (where == "scratch")
        process.send_signal(number)
        result = finish(process)
    if number == signal.SIGTERM:
        assert_one_sentence(result, 143, "Stopped by SIGTERM")
    wait_until(lambda: not processes_naming(spool_dir), "pg_restore and the server are gone")
    if number == signal.SIGKILL and made:
        [name] = made
        assert name.startswith("pgstow_proof_")
        Database("postgres", postgres.conninfo()).execute(f"DROP DATABASE {name} WITH (FORCE)")
    wait_until(lambda: not files_in(spool_dir), "the spool and the server's files are gone")
    for empty in spool_dir.iterdir():  # a throwaway server's own user may not remove its empty folder
        empty.rmdir()
    assert databases(postgres) == before
    assert stuck.proxy.count("PUT", "/attestations/") == 0


def test_a_proof_whose_server_dies_says_nothing_about_the_backup(stuck: FaultySample, spool_dir: Path) -> None:
    arguments = ("--from", stuck.url, "--level", "restore", "--spool-dir", spool_dir, "--jobs", 2, "-q")
    with start_pgstow("verify", *arguments) as process:
        wait_for_the_middle(stuck, spool_dir)
        [folder] = spool_dir.glob("pgstow-*/data")
        os.kill(int((folder / "postmaster.pid").read_text().splitlines()[0]), signal.SIGQUIT)
        result = finish(process)
    assert result.exit_code == 9, result
    assert result.stderr_lines[-1].startswith(
        "pgstow: The throwaway server failed. This is no evidence against the backup. "
    )
    assert all("could not be dropped" in line for line in result.stderr_lines[:-1])
    wait_until(lambda: not files_in(spool_dir), "the server's files are gone")
    for empty in spool_dir.iterdir():
        empty.rmdir()


@pytest.mark.parametrize("fault", [Fault.FORBIDDEN, Fault.INTERNAL_ERROR], ids=str)
def test_an_attestation_that_cannot_be_written(faulty: FaultySample, fault: Fault, spool_dir: Path) -> None:
    """If the credentials may not write it, pgstow only gives a notice. If the store fails, pgstow fails too."""
    faulty.proxy.fail(method="PUT", path="/attestations/", with_=fault, times=math.inf)
    arguments = ("--from", faulty.url, "--level", "objects", "--attest", "--give-up-after", 1, "--spool-dir", spool_dir)
    result = run_pgstow("verify", *arguments, "-q")
    assert faulty.proxy.count("PUT", "/attestations/") >= 1
    if fault is Fault.FORBIDDEN:
        assert_one_sentence(result, 0, "could not be put into the store")
        assert "is good" in result.stdout
    else:
        assert_one_sentence(result, 6)


def test_an_attestation_is_created_and_never_overwritten(faulty: FaultySample, s3_bucket: StoreBucket) -> None:
    seen: list[str] = []
    for _ in range(2):
        arguments = ("--from", faulty.url, "--level", "objects", "--json")
        result = run_pgstow("verify", *arguments, "--attest")
        assert result.exit_code == 0, result
        seen.append(json.loads(result.stdout)["attestation"])
    listed = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.bucket, Prefix=f"{s3_bucket.prefix}/attestations/")
    assert [entry["Key"].removeprefix(f"{s3_bucket.prefix}/") for entry in listed["Contents"]] == sorted(seen)
    assert len(set(seen)) == 2


def test_an_auditor_reads_manifests_and_attestations_alone(faulty: FaultySample) -> None:
    assert run_pgstow("verify", "--from", faulty.url, "--level", "objects", "--attest", "-q").exit_code == 0
    faulty.proxy.fail(path="[=/]data(/|%2F)", with_=Fault.FORBIDDEN, times=math.inf)
    listed = run_pgstow("list", "--from", faulty.url)
    assert listed.exit_code == 0
    assert listed.stderr == ""
    assert re.search(r"\d objects$", listed.stdout.rstrip())
    assert faulty.proxy.count("GET", "attestations") == 2, "a LIST, and a GET of the backup's newest attestation"


@pytest.mark.parametrize("path", ["prefix=[^&]*attestations", "/attestations/"])
def test_backups_are_listed_where_attestations_cannot_be_read(faulty: FaultySample, path: str) -> None:
    assert run_pgstow("verify", "--from", faulty.url, "--level", "objects", "--attest", "-q").exit_code == 0
    faulty.proxy.fail(method="GET", path=path, with_=Fault.FORBIDDEN, times=math.inf)
    listed = run_pgstow("list", "--from", faulty.url)
    assert listed.exit_code == 0
    assert "13,363" in listed.stdout
    assert "unknown" in listed.stdout
    assert len(listed.stderr_lines) == 1
    assert "can't tell when backups were last proven" in listed.stderr


def test_verify_cannot_tell_what_it_cannot_read(faulty: FaultySample, spool_dir: Path) -> None:
    """A store's error is neither evidence of damage nor a proof of the backup."""
    faulty.proxy.fail(method="GET", path=ON_ITS_WAY, with_=Fault.FORBIDDEN, times=math.inf)
    for level in ("bytes", "archive"):
        arguments = ("--from", faulty.url, "--level", level, "--spool-dir", spool_dir, "--json")
        result = run_pgstow("verify", *arguments)
        assert_one_sentence(result, 6)
        assert result.stdout == ""
