"""A server or a pg_dump that fails during a backup: a failed dump never looks like a backup."""

import os
import signal
from collections.abc import Iterator
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

from pipeline.postgres.programs import find_program
from pipeline.postgres.throwaway import ThrowawayCluster

SERVER, DUMP, MACHINE = 3, 4, 9


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def run_backup(conninfo: str, store: object, spool_dir: Path, *more: object) -> Result:
    return run_pgstow("backup", conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet", *more)


def slow_backup(conninfo: str, s3: FaultyStore, spool_dir: Path) -> list[object]:
    """Return a command that repeats an upload if the store doesn't answer within a second."""
    command: list[object] = ["backup", conninfo, "--to", s3.url, "--spool-dir", spool_dir, "--quiet"]
    return [*command, "-o", "read_timeout=1", *SMALL]


def test_a_server_that_is_not_there(database: Database, store: Path, spool_dir: Path) -> None:
    result = run_backup("host=127.0.0.1 port=1 dbname=x", store, spool_dir)
    assert_one_sentence(result, SERVER, "Cannot connect .*Connection refused")
    assert_nothing_left(spool_dir, database, store)


def test_a_database_that_is_not_there(database: Database, store: Path, spool_dir: Path) -> None:
    result = run_backup(f"{database.conninfo} dbname=nowhere", store, spool_dir)
    assert_one_sentence(result, SERVER, 'database "nowhere" does not exist')


@pytest.fixture
def reader(sample_database: Database) -> Iterator[str]:
    """The sample database's conninfo as a role that may read all of it but one table."""
    sample_database.execute(
        "CREATE TABLE shop.secret (id integer); CREATE ROLE reader LOGIN BYPASSRLS; GRANT pg_read_all_data TO reader"
    )
    for (number,) in sample_database.fetch("SELECT oid FROM pg_largeobject_metadata"):
        sample_database.execute(f"GRANT SELECT ON LARGE OBJECT {number} TO reader")
    yield sample_database.conninfo.replace("user=postgres", "user=reader")
    sample_database.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_a_table_that_the_role_may_not_read(
    sample_database: Database, reader: str, store: Path, spool_dir: Path
) -> None:
    assert run_backup(reader, store, spool_dir).exit_code == 0

    sample_database.execute("REVOKE pg_read_all_data FROM reader")
    schemas = sample_database.fetch(
        "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information)'"
    )
    for (schema,) in schemas:
        sample_database.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        sample_database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
        sample_database.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO reader")
    sample_database.execute("REVOKE SELECT ON shop.secret FROM reader")
    result = run_backup(reader, store, spool_dir)
    assert_one_sentence(result, DUMP, r"pg_dump failed: .*permission denied for table secret.* Run pgstow check")
    assert_nothing_left(spool_dir, sample_database, store)
    assert len(committed_backups(store)) == 1


class TestKilled:
    """pg_dump meets its end midway."""

    def test_the_leader(self, large_database: Database, stuck_s3: FaultyStore, spool_dir: Path) -> None:
        with start_pgstow(*slow_backup(large_database.conninfo, stuck_s3, spool_dir)) as process:
            leader, *workers = wait_for_backpressure(spool_dir)
            assert len(workers) == 2
            os.kill(leader.pid, signal.SIGKILL)
            result = finish(process)
        assert_one_sentence(result, DUMP, "pg_dump was killed by signal 9")
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)
        assert committed_backups(stuck_s3.bucket.url) == []
        assert not dumps(spool_dir)

    def test_a_worker(self, large_database: Database, stuck_s3: FaultyStore, spool_dir: Path) -> None:
        with start_pgstow(*slow_backup(large_database.conninfo, stuck_s3, spool_dir)) as process:
            for worker in wait_for_backpressure(spool_dir)[1:]:
                os.kill(worker.pid, signal.SIGKILL)
            stuck_s3.proxy.heal()
            result = finish(process)
        assert_one_sentence(result, DUMP, "pg_dump failed: a worker process died unexpectedly")
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)
        assert committed_backups(stuck_s3.bucket.url) == []

    def test_its_sessions_by_an_administrator(
        self, large_database: Database, stuck_s3: FaultyStore, spool_dir: Path
    ) -> None:
        with start_pgstow(*slow_backup(large_database.conninfo, stuck_s3, spool_dir)) as process:
            wait_for_backpressure(spool_dir)
            large_database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'pgstow 2%' AND datname = current_database()"
            )
            stuck_s3.proxy.heal()
            result = finish(process)
        assert_one_sentence(result, DUMP, "terminating connection due to administrator command|server closed")
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)
        assert committed_backups(stuck_s3.bucket.url) == []

    def test_the_whole_server(self, stuck_s3: FaultyStore, spool_dir: Path) -> None:
        with ThrowawayCluster() as cluster:
            with psycopg.connect(cluster.conninfo()) as connection:
                connection.execute(FILL_LARGE.encode())
            with start_pgstow(*slow_backup(cluster.conninfo(), stuck_s3, spool_dir)) as process:
                wait_for_backpressure(spool_dir)
                cluster.__exit__(None, None, None)
                stuck_s3.proxy.heal()
                result = finish(process)
        assert_one_sentence(result, DUMP, "server closed the connection|terminating connection")
        wait_until(lambda: not list(spool_dir.iterdir()), "the spool is empty")
        assert committed_backups(stuck_s3.bucket.url) == []


class TestIncomplete:
    """A pg_dump that exits 0, but has not written all of the archive that its table of contents announces."""

    @pytest.fixture
    def broken_pg_dump(self, tmp_path: Path) -> Path:
        """A folder with a pg_dump that writes its archive elsewhere, runs the script ``damage`` in it, and moves the files into place."""
        real = find_program("pg_dump", at_least_major=12).path
        path = tmp_path / "bin" / "pg_dump"
        path.parent.mkdir()
        path.write_text(
            f"""#!/bin/sh
            [ "$1" = --version ] && exec {real} --version
            for argument; do
                case $argument in --file=*) place=${{argument#--file=}} ;; esac
            done
            {real} "$@" --file="$place.whole" || exit
            cd "$place.whole" && . {path.with_name("damage")} || exit
            for file in *; do mv -- "$file" "$place" || exit; done  # mv of several files would look again at files that pgstow has taken
            """
        )
        path.chmod(0o755)
        return path.parent

    def run(self, database: Database, store: Path, spool_dir: Path, bin_dir: Path, damage: str) -> Result:
        (bin_dir / "damage").write_text(damage)
        return run_pgstow(
            *("backup", database.conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet", "--bin-dir", bin_dir)
        )

    def test_the_wrapper_itself_does_no_harm(
        self, sample_database: Database, store: Path, spool_dir: Path, broken_pg_dump: Path
    ) -> None:
        assert self.run(sample_database, store, spool_dir, broken_pg_dump, ":").exit_code == 0

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            ("rm toc.dat", "toc.dat"),
            ("rm $(ls -S [0-9]*.dat | head -1)", r"did not write \d+\.dat \(1 file missing in all\)"),
            ("f=$(ls -S [0-9]*.dat | head -1); head -c 10000 $f > x; mv x $f", "cut short"),
            ("f=$(ls -S [0-9]*.dat | head -1); : > $f", "cut short"),
            (r"f=$(ls -S [0-9]*.dat | head -1); printf 'a row\n\\\\.\n\n\n' > $f", "cut short"),
            ("rm $(ls blob_*.dat | head -1)", "large objects"),
            ("rm $(ls blob_*.dat | head -1); sed -i 1d blobs*.toc", r"dumped \d+ of \d+ large objects"),
            (
                "f=$(ls -S blob_*.dat | head -1); head -c 10 $f > x; mv x $f",
                r"dumped 10 bytes of the large object \d+, which has",
            ),
            ("rm blob_*.dat; : > $(ls blobs*.toc)", r"dumped 0 of \d+ large objects"),
            ("f=$(ls blob_*.dat | head -1); echo more >> $f", r"bytes of the large object \d+, which has"),
            ("rm blobs*.toc", r"did not write blobs.*\.toc"),
            ("head -c 3000 toc.dat > x; mv x toc.dat", "toc.dat is cut short"),
            (": > toc.dat", "toc.dat"),
            ("echo > 9999.dat", "large objects"),
        ],
    )
    def test_it_is_no_backup(
        self,
        sample_database: Database,
        store: Path,
        spool_dir: Path,
        broken_pg_dump: Path,
        damage: str,
        words: str,
    ) -> None:
        result = self.run(sample_database, store, spool_dir, broken_pg_dump, damage)
        assert_one_sentence(result, DUMP, words)
        assert_nothing_left(spool_dir, sample_database, store)
        assert committed_backups(store) == []

    def test_nor_what_a_failing_one_leaves(
        self, sample_database: Database, store: Path, spool_dir: Path, broken_pg_dump: Path
    ) -> None:
        damage = "mv -- * $place; echo pg_dump: error: out of luck >&2; exit 1"
        result = self.run(sample_database, store, spool_dir, broken_pg_dump, damage)
        assert_one_sentence(result, DUMP, r"pg_dump failed: out of luck\.")
        assert committed_backups(store) == []


def test_a_pg_dump_that_cannot_be_run(database: Database, store: Path, spool_dir: Path, tmp_path: Path) -> None:
    result = run_backup(database.conninfo, store, spool_dir, "--bin-dir", tmp_path)
    assert_one_sentence(result, MACHINE, "pg_dump of PostgreSQL .* is needed")
    assert_nothing_left(spool_dir, database, store)
