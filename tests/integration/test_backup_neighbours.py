"""A backup beside others who want the same server, processors and network."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from support.faulty_backups import FILL_LARGE, SMALL, FaultyStore, dumps, wait_for_backpressure
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
from support.postgres_fixtures import Database

from pipeline.postgres.throwaway import ThrowawayCluster

BAD_INPUT, DUMP = 2, 4


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def run_backup(database: Database, store: object, spool_dir: Path, *more: object) -> Result:
    return run_pgstow("backup", database.conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet", *more)


def slow_backup(conninfo: str, s3: FaultyStore, spool_dir: Path, *more: object) -> list[object]:
    command: list[object] = ["backup", conninfo, "--to", s3.url, "--spool-dir", spool_dir, "--quiet"]
    return [*command, "-o", "read_timeout=1", *SMALL, *more]


class TestLocks:
    """Another session locks a table that pgstow has to dump."""

    @contextmanager
    def connected(self, database: Database) -> Iterator[psycopg.Connection]:
        with closing(psycopg.connect(database.conninfo, application_name="migration")) as connection:
            yield connection

    def wait_for_a_queue(self, database: Database) -> None:
        wait_until(lambda: database.fetch("SELECT FROM pg_locks WHERE NOT granted"), "a session waits for a lock")

    def test_one_that_is_held(self, sample_database: Database, store: Path, spool_dir: Path) -> None:
        with self.connected(sample_database) as holder:
            holder.execute("LOCK TABLE shop.customer")
            result = run_backup(sample_database, store, spool_dir, "--lock-wait-timeout", 1)
            who = f"process {holder.info.backend_pid} of the server, role postgres, application migration"
        assert_one_sentence(
            result,
            DUMP,
            rf"Another session \({who}\) holds a lock on shop\.customer, for which pg_dump waited 1 s: "
            "wait until that transaction has ended, or end it, or raise --lock-wait-timeout",
        )
        assert_nothing_left(spool_dir, sample_database, store)
        assert committed_backups(store) == []

    def test_one_that_is_waited_for(self, sample_database: Database, store: Path, spool_dir: Path) -> None:
        """An ALTER TABLE that waits for a reader lets no other reader pass."""
        with self.connected(sample_database) as reader, self.connected(sample_database) as alter:
            reader.execute("SELECT FROM shop.customer LIMIT 1")
            alter.pgconn.send_query(b"ALTER TABLE shop.customer ADD COLUMN note text")
            self.wait_for_a_queue(sample_database)
            result = run_backup(sample_database, store, spool_dir, "--lock-wait-timeout", 1)
            who = f"process {alter.info.backend_pid} of the server"
            assert_one_sentence(result, DUMP, rf"\({who}, .*\) waits for a lock on shop\.customer, for which pg_dump")

    def test_one_that_a_worker_meets(self, large_database: Database, stuck_s3: FaultyStore, spool_dir: Path) -> None:
        """Somebody queues for a table that pg_dump's leader has locked already, and a worker has not."""
        large_database.execute(
            "CREATE TABLE large_too AS SELECT * FROM large; CREATE TABLE last AS SELECT * FROM large LIMIT 10; ANALYZE"
        )
        with (
            self.connected(large_database) as other,
            start_pgstow(*slow_backup(large_database.conninfo, stuck_s3, spool_dir)) as process,
        ):
            wait_for_backpressure(spool_dir)  # the two workers are at the two large tables
            other.pgconn.send_query(b"DROP TABLE last")
            self.wait_for_a_queue(large_database)
            stuck_s3.proxy.heal()
            result = finish(process)
        assert_one_sentence(
            result,
            DUMP,
            r"Another session asked for a lock on public\.last during the dump, so the dump could not lock",
        )

    def test_with_0_it_is_waited_for(self, sample_database: Database, store: Path, spool_dir: Path) -> None:
        command = ("backup", sample_database.conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet")
        with self.connected(sample_database) as holder:
            holder.execute("LOCK TABLE shop.customer")
            with start_pgstow(*command, "--lock-wait-timeout", 0) as process:
                self.wait_for_a_queue(sample_database)
                [dump] = dumps(spool_dir)
                assert not any("lock-wait-timeout" in argument for argument in dump.command)
                holder.rollback()
                result = finish(process)
        assert (result.exit_code, result.stderr) == (0, "")

    def test_a_dry_run_does_not_queue_either(self, sample_database: Database, store: Path, spool_dir: Path) -> None:
        with self.connected(sample_database) as holder:
            holder.execute("LOCK TABLE shop.customer")
            result = run_backup(sample_database, store, spool_dir, "--lock-wait-timeout", 1, "--dry-run")
        assert_one_sentence(result, DUMP, r"holds a lock on shop\.customer")


class TestStatements:
    """A statement of pg_dump runs for a long time."""

    def test_one_that_runs_too_long(self, large_database: Database, stuck_s3: FaultyStore, spool_dir: Path) -> None:
        result = run_pgstow(*slow_backup(large_database.conninfo, stuck_s3, spool_dir, "--statement-timeout", 1))
        assert_one_sentence(
            result, DUMP, r"pg_dump ran for longer than 1 s, .*\(COPY public\.large .*\): raise --statement-timeout"
        )
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)
        assert committed_backups(stuck_s3.bucket.url) == []

    def test_within_the_limit_nothing_happens(self, sample_database: Database, store: Path, spool_dir: Path) -> None:
        result = run_backup(sample_database, store, spool_dir, "--statement-timeout", 600)
        assert (result.exit_code, result.stderr) == (0, "")

    def test_a_server_that_does_not_show_them(self, database: Database, store: Path, spool_dir: Path) -> None:
        database.execute(f"ALTER DATABASE {database.name} SET track_activities = off")
        result = run_backup(database, store, spool_dir, "--statement-timeout", 1)
        assert_one_sentence(result, BAD_INPUT, "track_activities")


def test_a_server_that_restarts_in_the_middle(stuck_s3: FaultyStore, spool_dir: Path) -> None:
    """If one of the server's processes crashes, the server ends all sessions, recovers, and takes new sessions."""
    with ThrowawayCluster() as cluster:
        database = Database("postgres", cluster.conninfo())
        database.execute(FILL_LARGE)
        with start_pgstow(*slow_backup(cluster.conninfo(), stuck_s3, spool_dir, "--retries", 2)) as process:
            wait_for_backpressure(spool_dir)
            with closing(psycopg.connect(cluster.conninfo())) as victim:
                os.kill(victim.info.backend_pid, signal.SIGKILL)
            stuck_s3.proxy.heal()
            result = finish(process)
    assert result.exit_code == 0, result
    assert "pg_dump failed: " in result.stderr_lines[0]
    assert "(retry 1 of 2)" in result.stderr_lines[0]
    [backup_id] = committed_backups(stuck_s3.bucket.url)
    assert backup_id in result.stdout


def niceness(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])


def test_niceness_is_raised_for_all_of_it(large_database: Database, stuck_s3: FaultyStore, spool_dir: Path) -> None:
    own = os.nice(0)
    with start_pgstow(*slow_backup(large_database.conninfo, stuck_s3, spool_dir, "--nice", 7)) as process:
        programs = wait_for_backpressure(spool_dir)
        assert [niceness(pid) for pid in (process.pid, *(program.pid for program in programs))] == [own + 7] * 4
        process.terminate()
        finish(process)


def test_no_more_bytes_a_second_than_allowed(sample_database: Database, store: Path, spool_dir: Path) -> None:
    rate = 64 * 1024
    begun = time.monotonic()
    result = run_backup(sample_database, store, spool_dir, "--limit-rate", "64KiB", "--object-size", "64KiB", "--json")
    seconds = time.monotonic() - begun
    assert result.exit_code == 0, result
    stored = json.loads(result.stdout)["totals"]["stored_size"]
    assert stored > rate, "the limit makes a difference"
    assert seconds >= stored / rate

    for command in (["verify"], ["restore", "--to-directory", store.parent / "archive"]):
        begun = time.monotonic()
        read = run_pgstow(*command, "--from", store, "--limit-rate", rate, "--nice", 1)
        assert read.exit_code == 0, read
        assert time.monotonic() - begun >= (stored - 2 * 64 * 1024) / rate, "restore doesn't read SHA256SUMS"


@pytest.mark.parametrize(
    "option",
    [
        ("--nice", "-1"),
        ("--nice", "20"),
        ("--nice", "x"),
        ("--limit-rate", "0"),
        ("--limit-rate", "fast"),
        ("--lock-wait-timeout", "-1"),
        ("--lock-wait-timeout", "2147484"),
        ("--statement-timeout", "-1"),
        ("--retries", "-1"),
    ],
    ids=" ".join,
)
def test_what_is_no_limit_ends_with_2(store: Path, option: tuple[str, str]) -> None:
    result = run_pgstow("backup", "x", "--to", store, *option)
    assert result.exit_code == BAD_INPUT, result
    assert option[0] in result.stderr
    assert "Traceback" not in result.stderr
    assert not store.exists() or list(store.iterdir()) == []
