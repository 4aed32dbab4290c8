"""A backup that dumps tables in ranges has the same content as a backup that doesn't."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from integration.test_hostile_settings import HOSTILE
from integration.test_split_tables import ODD
from psycopg.conninfo import make_conninfo
from support.archives import described, split_tables
from support.faulty_backups import SMALL, FaultyStore, wait_for_backpressure
from support.pgstow import (
    assert_nothing_left,
    assert_one_sentence,
    committed_backups,
    finish,
    processes_with,
    run_pgstow,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database, DatabaseMaker

from demo import compare
from pipeline.postgres.programs import find_program
from pipeline.postgres.throwaway import ThrowawayCluster

DUMP = 4
MORE = r"""
CREATE SCHEMA "z.z";
CREATE TABLE "z.z"."b*$ ""Odd""
name" (a int, "select" text);
INSERT INTO "z.z"."b*$ ""Odd""
name" SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 6000) AS i;
CREATE TABLE "z.z".odd AS SELECT 1 AS a;
CREATE TABLE "z.z"."Odd" AS SELECT 2 AS a;
CREATE TABLE "données" AS SELECT 'é' AS "clé";
CREATE TABLE hash (id int) PARTITION BY HASH (id);
CREATE TABLE hash_0 PARTITION OF hash FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO hash SELECT generate_series(1, 1000);
CREATE UNLOGGED TABLE volatile AS SELECT 1 AS a;
CREATE TABLE sparse AS SELECT i AS id, repeat('x', 1000) AS note FROM generate_series(1, 8000) AS i;
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM base;
SELECT lo_from_bytea(0, 'a large object');
"""
CHANGES = (
    "DELETE FROM sparse WHERE id % 3 = 0 OR id BETWEEN 3000 AND 5000 OR id > 7000",
    "VACUUM (TRUNCATE off) sparse",
    "VACUUM ANALYZE",
    "UPDATE sparse SET note = 'new' WHERE id % 5 = 0",
)
"""Afterwards, ``sparse`` has empty pages in the middle and at the end, and dead rows."""
LEFT_WHOLE = {"hash_0", "volatile", "no_columns", "nothing"}
NEVER, ALWAYS = ("--split-tables", "never"), ("--split-tables", 1)


@pytest.fixture(scope="module")
def odd_database(postgres: ThrowawayCluster) -> Iterator[Database]:
    with closing(psycopg.connect(postgres.conninfo(), autocommit=True)) as connection:
        connection.execute("CREATE DATABASE split_dump TEMPLATE template0")
        database = Database("split_dump", postgres.conninfo("split_dump"))
        for statement in (ODD, MORE, *CHANGES):
            database.execute(statement)
        yield database
        connection.execute("DROP DATABASE split_dump WITH (FORCE)")


def back_up(database: Database, folder: Path, spool_dir: Path, *options: object) -> Path:
    """Back up the database, and return the archive that the backup holds."""
    made = run_pgstow("backup", database.conninfo, "--to", folder / "store", "--spool-dir", spool_dir, "-q", *options)
    assert (made.exit_code, made.stderr) == (0, "")
    archive, [backup_id] = folder / "archive", committed_backups(folder / "store")
    where = (backup_id, "--from", folder / "store", "--spool-dir", spool_dir, "-q")
    written = run_pgstow("restore", *where, "--to-directory", archive)
    assert (written.exit_code, written.stderr) == (0, "")
    return archive


@pytest.mark.parametrize(
    "options", [(2,), (5, "--object-size", "64KiB", "--memory", "1MiB"), (3, "--quote-all-identifiers")]
)
def test_the_archive_is_the_same(odd_database: Database, tmp_path: Path, spool_dir: Path, options: tuple) -> None:
    given = ("--jobs", *options)
    whole = back_up(odd_database, tmp_path / "whole", spool_dir, *given, *NEVER)
    split = back_up(odd_database, tmp_path / "split", spool_dir, *given, *ALWAYS)
    assert described(split) == described(whole)
    tables = {entry["tag"].decode() for entry, _, file in described(whole) if entry["description"] == b"TABLE DATA"}
    assert (split_tables(whole), split_tables(split)) == (set(), tables - LEFT_WHOLE)


def test_its_rows_come_back(
    odd_database: Database, postgres: ThrowawayCluster, empty_target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    archive = back_up(odd_database, tmp_path, spool_dir, "--jobs", 2, *ALWAYS)
    subprocess.run(
        [postgres.bin_dir / "pg_restore", "--jobs=2", "--exit-on-error", f"--dbname={empty_target.conninfo}", archive],
        check=True,
    )
    assert compare.contents(empty_target.conninfo) == compare.contents(odd_database.conninfo)
    proof = ("verify", "--from", tmp_path / "store", "--level", "restore", "--checksums", "--spool-dir", spool_dir)
    assert run_pgstow(*proof, "-q", "--jobs", 2).exit_code == 0


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_other_encodings(postgres: ThrowawayCluster, tmp_path: Path, spool_dir: Path, encoding: str) -> None:
    with closing(psycopg.connect(postgres.conninfo(), autocommit=True)) as connection:
        connection.execute(
            f"CREATE DATABASE other ENCODING {encoding} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0".encode()
        )
        try:
            database = Database("other", make_conninfo(postgres.conninfo("other"), client_encoding=encoding))
            database.execute(
                "CREATE TABLE cafe (\"clé\" text); INSERT INTO cafe SELECT 'é' || i FROM generate_series(1, 9000) AS i;"
                'CREATE TABLE "café" AS TABLE cafe; ANALYZE'
            )
            for options in [(), ("--encoding", "UTF8")] if encoding == "LATIN1" else [()]:
                folder, given = tmp_path / f"{len(options)}", ("--jobs", 2, *options)
                whole = back_up(database, folder / "whole", spool_dir, *given, *NEVER)
                split = back_up(database, folder / "split", spool_dir, *given, *ALWAYS)
                assert described(split) == described(whole)
                assert split_tables(split) == {"cafe"}
        finally:
            connection.execute("DROP DATABASE other WITH (FORCE)")


def test_settings_of_the_database_change_nothing(
    odd_database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    hostile = make_database(template=odd_database.name)
    for name, value in HOSTILE.items():
        hostile.execute(f"ALTER DATABASE {hostile.name} SET {name} = '{value}'")
    whole = back_up(hostile, tmp_path / "whole", spool_dir, "--jobs", 2, *NEVER)
    split = back_up(hostile, tmp_path / "split", spool_dir, "--jobs", 2, *ALWAYS)
    assert described(split) == described(whole)


def test_row_security_refuses_the_role(odd_database: Database, tmp_path: Path, spool_dir: Path) -> None:
    odd_database.execute("CREATE ROLE peon LOGIN; GRANT pg_read_all_data TO peon; GRANT peon TO postgres")
    try:
        where = ("--to", tmp_path, "--spool-dir", spool_dir, "-q", "--jobs", 2, "--role", "peon", "--no-large-objects")
        refused = run_pgstow("backup", odd_database.conninfo, *where, *ALWAYS)
        assert_one_sentence(
            refused, DUMP, 'psql failed: query would be affected by row-level security policy for table "guarded"'
        )
    finally:
        odd_database.execute("DROP OWNED BY peon; DROP ROLE peon")


@pytest.mark.parametrize(
    "options", [("--jobs", 2, "-n", "public"), ("--jobs", 2, "-T", "no_columns"), ("--jobs", 1)], ids=str
)
def test_pg_dump_dumps_a_part_of_a_database_alone(
    odd_database: Database, tmp_path: Path, spool_dir: Path, options: tuple
) -> None:
    assert split_tables(back_up(odd_database, tmp_path, spool_dir, *options, *ALWAYS)) == set()


def test_a_stream_has_one_job(odd_database: Database, tmp_path: Path) -> None:
    refused = run_pgstow("backup", odd_database.conninfo, "--to", tmp_path, "-q", "--format", "custom", *ALWAYS)
    assert_one_sentence(refused, 2, "Only the directory format can split tables")


class TestFaults:
    """The sessions fail, or pgstow ends, while the store answers no request."""

    @pytest.fixture
    def command(self, large_database: Database, stuck_s3: FaultyStore, spool_dir: Path) -> list[object]:
        large_database.execute("ANALYZE")
        where = ["--to", stuck_s3.url, "--spool-dir", spool_dir, "--quiet", "-o", "read_timeout=1"]
        return ["backup", large_database.conninfo, *where, *SMALL, *ALWAYS]

    def wait_for_sessions(self, database: Database, spool_dir: Path, number: int = 2) -> list[int]:
        """Wait until this number of sessions dump ranges. Return the process IDs of their psql."""
        dumping = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY (SELECT%'"
        wait_until(lambda: len(database.fetch(dumping)) == number, f"{number} sessions dump ranges")
        return [pid for pid, words in processes_with(spool_dir) if Path(words[0]).name == "psql"]

    def test_rows_that_change_meanwhile(
        self,
        large_database: Database,
        command: list[object],
        stuck_s3: FaultyStore,
        empty_target: Database,
        spool_dir: Path,
    ) -> None:
        before = compare.contents(large_database.conninfo)
        with start_pgstow(*command) as process:
            self.wait_for_sessions(large_database, spool_dir)
            large_database.execute(
                "UPDATE large SET payload = 'new' WHERE id % 2 = 0; DELETE FROM large WHERE id % 3 = 0"
            )
            large_database.execute("INSERT INTO large SELECT 0, 'more' FROM generate_series(1, 10000)")
            stuck_s3.proxy.heal()
            assert finish(process).exit_code == 0
        where = ("--from", stuck_s3.url, "--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
        assert run_pgstow("restore", *where).exit_code == 0
        assert compare.contents(empty_target.conninfo) == before

    def test_a_killed_psql(
        self, large_database: Database, command: list[object], stuck_s3: FaultyStore, spool_dir: Path
    ) -> None:
        with start_pgstow(*command) as process:
            os.kill(self.wait_for_sessions(large_database, spool_dir)[0], signal.SIGKILL)
            result = finish(process)
        assert_one_sentence(result, DUMP, "psql was killed by signal 9")
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)
        assert committed_backups(stuck_s3.bucket.url) == []

    def test_sessions_that_an_administrator_ends(
        self, large_database: Database, command: list[object], stuck_s3: FaultyStore, spool_dir: Path
    ) -> None:
        with start_pgstow(*command) as process:
            self.wait_for_sessions(large_database, spool_dir)
            large_database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'pgstow 2%' AND query LIKE 'COPY%' AND datname = current_database()"
            )
            stuck_s3.proxy.heal()
            result = finish(process)
        assert_one_sentence(result, DUMP, "psql failed: (terminating connection|server closed the connection)")
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    def test_the_end_of_pgstow(
        self, large_database: Database, command: list[object], spool_dir: Path, number: signal.Signals
    ) -> None:
        with start_pgstow(*command) as process:
            self.wait_for_sessions(large_database, spool_dir)
            process.send_signal(number)
            process.wait()
        assert_nothing_left(spool_dir, large_database)

    def test_a_killed_pg_dump(
        self, large_database: Database, command: list[object], stuck_s3: FaultyStore, spool_dir: Path
    ) -> None:
        large_database.execute("CREATE UNLOGGED TABLE whole AS SELECT * FROM large")
        with start_pgstow(*command) as process:
            self.wait_for_sessions(large_database, spool_dir, 1)
            os.kill(wait_for_backpressure(spool_dir)[0].pid, signal.SIGKILL)
            result = finish(process)
        assert_one_sentence(result, DUMP, "pg_dump was killed by signal 9")
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)


@pytest.fixture
def late_pg_dump(tmp_path: Path) -> Path:
    """A folder with a pg_dump that makes its archive, and then waits for the file ``go`` before it hands the archive over."""
    real = find_program("pg_dump", at_least_major=12).path
    (folder := tmp_path / "bin").mkdir()
    (folder / "psql").symlink_to(real.with_name("psql"))
    script = folder / "pg_dump"
    script.write_text(
        f"""#!/bin/sh
        [ "$1" = --version ] && exec {real} --version
        for argument; do
            case $argument in --file=*) place=${{argument#--file=}} ;; esac
        done
        {real} "$@" --file="$place.whole" || exit
        touch {folder}/made; while [ ! -e {folder}/go ]; do sleep 0.02; done
        mv -- "$place.whole"/* "$place"
        """
    )
    script.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("LOCK TABLE large", r"asked for a lock on public\.large during the dump, so the dump could not lock"),
        ("TRUNCATE large; COMMIT", r"truncated, rewrote or replaced the table public\.large"),
        (
            "CREATE TABLE new AS SELECT 'new' AS payload, 1 AS id; ALTER TABLE large RENAME TO old; ALTER TABLE new RENAME TO large; COMMIT",
            r"truncated, rewrote or replaced the table public\.large",
        ),
    ],
)
def test_what_another_session_does_to_a_table(
    large_database: Database, late_pg_dump: Path, tmp_path: Path, spool_dir: Path, statement: str, said: str
) -> None:
    """A table changes before pgstow has locked it, and after pg_dump's lock is gone."""
    large_database.execute("ANALYZE")
    where = ("--to", tmp_path / "store", "--spool-dir", spool_dir, "--quiet", "--bin-dir", late_pg_dump)
    with closing(psycopg.connect(large_database.conninfo)) as other:
        with start_pgstow("backup", large_database.conninfo, *where, "--jobs", 2, *ALWAYS) as process:
            wait_until(lambda: (late_pg_dump / "made").exists(), "pg_dump has made the archive")
            other.execute(statement.encode())
            (late_pg_dump / "go").touch()
            result = finish(process)
        assert_one_sentence(result, DUMP, said)


def test_an_index_that_another_session_keeps_locked(large_database: Database, tmp_path: Path, spool_dir: Path) -> None:
    large_database.execute("CREATE INDEX by_id ON large (id); ANALYZE")
    where = ("--to", tmp_path / "store", "--spool-dir", spool_dir, "--quiet", "--jobs", 2, "--lock-wait-timeout", 1)
    with closing(psycopg.connect(large_database.conninfo)) as other:
        other.execute("REINDEX INDEX by_id")
        result = run_pgstow("backup", large_database.conninfo, *where, *ALWAYS)
    assert_one_sentence(result, DUMP, "held a lock on an index of a large table for longer than 1 s, as REINDEX does")
    assert_nothing_left(spool_dir, large_database)
