"""Backups of a hot standby, whose recovery comes before the queries of its clients."""

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from support.faulty_backups import FILL_LARGE, SMALL, FaultyStore, wait_for_backpressure
from support.pgstow import (
    assert_nothing_left,
    assert_one_sentence,
    committed_backups,
    finish,
    run_pgstow,
    sessions,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database
from support.standby import Standby

from pipeline.postgres.throwaway import ThrowawayCluster

DUMP, BUSY = 4, 11
REMEDIES = (
    "turn on the standby's hot_standby_feedback, raise its max_standby_streaming_delay, or back up from the primary"
)

# Each makes the standby choose at once between recovery and its clients' queries.
OLD_ROWS = ("UPDATE small SET id = id", "VACUUM small")
LOCKS = ("ALTER TABLE large ADD COLUMN note text; ALTER TABLE large DROP COLUMN note",)


class StandbyDatabase(Database):
    """A database on a standby. Recovery may also cancel the tests' own queries, so ``fetch`` repeats a cancelled query."""

    def fetch(self, query: str) -> list[tuple]:
        answers: list[list[tuple]] = []

        def answered() -> bool:
            with suppress(psycopg.OperationalError):
                answers.append(Database.fetch(self, query))
            return bool(answers)

        wait_until(answered, "recovery lets a query pass")
        return answers[0]


@pytest.fixture(scope="module")
def primary_cluster() -> Iterator[ThrowawayCluster]:
    with ThrowawayCluster(settings={"autovacuum": "off"}) as cluster:  # it might hold back the tests' VACUUM
        with closing(psycopg.connect(cluster.conninfo(), autocommit=True)) as connection:
            connection.execute(FILL_LARGE.encode())
        yield cluster


@pytest.fixture(scope="module")
def primary(primary_cluster: ThrowawayCluster) -> Database:
    return Database("postgres", primary_cluster.conninfo())


@pytest.fixture(scope="module")
def standby(primary_cluster: ThrowawayCluster) -> Iterator[Database]:
    """A standby of the primary. Its recovery waits for no client's query."""
    with Standby(primary_cluster, settings={"max_standby_streaming_delay": "0"}) as cluster:
        yield StandbyDatabase("postgres", cluster.conninfo())


def slow_backup(database: Database, s3: FaultyStore, spool_dir: Path, *more: object) -> list[object]:
    command: list[object] = ["backup", database.conninfo, "--to", s3.url, "--spool-dir", spool_dir, "--quiet"]
    return [*command, "-o", "read_timeout=1", *SMALL, *more]


def provoke(primary: Database, standby: Database, statements: tuple[str, ...]) -> None:
    """Bring the standby's recovery into conflict with the sessions of a dump. Return once recovery waits for a session, or has ended one.

    While a session's client takes no data, the standby can't end the session, and recovery waits.
    """
    before = len(sessions(standby))
    for statement in statements:
        primary.execute(statement)
    wait_until(
        lambda: recovery_waits(standby) or len(sessions(standby)) < before, "recovery is in conflict with a session"
    )


def recovery_waits(standby: Database) -> bool:
    """True if the title of the standby's startup process says that recovery waits."""
    [(process,)] = standby.fetch("SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'")
    return b"waiting" in Path(f"/proc/{process}/cmdline").read_bytes()


@pytest.mark.parametrize(
    ("statements", "detail"),
    [(OLD_ROWS, "row versions that must be removed"), (LOCKS, "holding a relation lock for too long")],
    ids=["old rows", "locks"],
)
def test_a_conflict_with_recovery_is_named(
    primary: Database,
    standby: Database,
    stuck_s3: FaultyStore,
    spool_dir: Path,
    statements: tuple[str, ...],
    detail: str,
) -> None:
    with start_pgstow(*slow_backup(standby, stuck_s3, spool_dir)) as process:
        wait_for_backpressure(spool_dir)
        provoke(primary, standby, statements)
        stuck_s3.proxy.heal()
        result = finish(process)
    assert_one_sentence(result, DUMP, rf"in conflict with recovery \(.*{detail}\): {REMEDIES}\.$")
    assert_nothing_left(spool_dir, standby, stuck_s3.bucket.url)
    assert committed_backups(stuck_s3.bucket.url) == []


def test_a_conflict_with_sessions_that_dump_ranges_is_named(
    primary: Database, standby: Database, stuck_s3: FaultyStore, spool_dir: Path
) -> None:
    primary.execute("ANALYZE")
    dumping = "SELECT FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT%'"
    with start_pgstow(*slow_backup(standby, stuck_s3, spool_dir, "--split-tables", 1)) as process:
        wait_until(lambda: len(standby.fetch(dumping)) == 2, "two sessions dump ranges")
        provoke(primary, standby, OLD_ROWS)
        stuck_s3.proxy.heal()
        result = finish(process)
    assert_one_sentence(result, DUMP, rf"in conflict with recovery.*: {REMEDIES}\.$")
    assert_nothing_left(spool_dir, standby, stuck_s3.bucket.url)
    assert committed_backups(stuck_s3.bucket.url) == []


def test_a_new_backup_succeeds_once_the_conflict_is_over(
    primary: Database, standby: Database, stuck_s3: FaultyStore, spool_dir: Path
) -> None:
    with start_pgstow(*slow_backup(standby, stuck_s3, spool_dir, "--retries", 1)) as process:
        wait_for_backpressure(spool_dir)
        provoke(primary, standby, OLD_ROWS)
        stuck_s3.proxy.heal()
        result = finish(process)
    assert result.exit_code == 0, result
    [notice] = result.stderr_lines
    assert "in conflict with recovery" in notice
    assert notice.endswith("A new backup begins in 5 s (retry 1 of 1).")
    assert_nothing_left(spool_dir, standby, stuck_s3.bucket.url)
    [backup_id] = committed_backups(stuck_s3.bucket.url)
    assert backup_id in result.stdout
    tries = {key.partition("/data/")[2].split("/")[2] for key in stuck_s3.keys if "/data/" in key}
    assert len(tries) == 2
    assert max(tries) == backup_id


def test_a_second_backup_of_a_standby_is_refused_and_one_of_its_primary_is_not(
    primary: Database, standby: Database, stuck_s3: FaultyStore, spool_dir: Path, tmp_path: Path
) -> None:
    elsewhere = ("--to", tmp_path / "store", "--spool-dir", spool_dir, "--quiet")
    with start_pgstow(*slow_backup(standby, stuck_s3, spool_dir)) as process:
        wait_for_backpressure(spool_dir)
        second = run_pgstow("backup", standby.conninfo, *elsewhere)
        assert_one_sentence(second, BUSY, "Another backup of postgres is running")
        assert run_pgstow("backup", primary.conninfo, *elsewhere).exit_code == 0
        stuck_s3.proxy.heal()
        result = finish(process)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.fixture
def unlogged(primary_cluster: ThrowawayCluster, primary: Database, standby: Database) -> Iterator[StandbyDatabase]:
    """A database on the standby with unlogged tables, which are empty there, and a large object."""
    primary.execute("CREATE DATABASE unlogged TEMPLATE template0")
    Database("unlogged", primary_cluster.conninfo("unlogged")).execute(
        """CREATE UNLOGGED TABLE cache AS SELECT i FROM generate_series(1, 10) AS i;
           CREATE UNLOGGED TABLE "Sess ion" AS SELECT 1 AS i;
           CREATE TABLE kept AS SELECT i FROM generate_series(1, 5) AS i;
           SELECT lo_from_bytea(4711, decode(repeat('ab', 100000), 'hex'))"""
    )
    copy = StandbyDatabase("unlogged", standby.conninfo.replace("dbname=postgres", "dbname=unlogged"))
    wait_until(lambda: copy.fetch("SELECT FROM pg_largeobject_metadata"), "the standby has it")
    yield copy
    primary.execute("DROP DATABASE unlogged WITH (FORCE)")


def test_what_a_standby_does_not_have_is_told(
    unlogged: StandbyDatabase, primary_cluster: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    """On a standby, pg_dump silently leaves out the rows of unlogged tables. The backup is as good as it can be there, so it isn't partial."""
    store, both = tmp_path / "store", ['public."Sess ion"', "public.cache"]
    where = ("--to", store, "--spool-dir", spool_dir)
    examined = json.loads(run_pgstow("check", unlogged.conninfo, *where, "--json").stdout)
    assert examined["ready"]
    [finding] = [found for found in examined["findings"] if found["subject"] == "unlogged tables"]
    assert finding["outcome"] == "warning"
    assert ", ".join(both) in finding["sentence"]

    for format_ in ("directory", "plain"):
        made = run_pgstow("backup", unlogged.conninfo, *where, "--format", format_, "--quiet")
        assert made.exit_code == 0
        [notice] = made.stderr_lines
        assert f"leaves out the rows and values of {', '.join(both)}." in notice
        shown = json.loads(run_pgstow("show", "--from", store, "--json").stdout)
        assert (shown["dump"]["format"], shown["dump"]["unlogged_left_out"]) == (format_, both)
        assert f"{', '.join(both)}" in run_pgstow("show", "--from", store).stdout
        proven = run_pgstow("verify", "--from", store, "--level", "restore", "--checksums", "--spool-dir", spool_dir)
        assert proven.exit_code == 0, proven

    for command in ("backup", "check"):
        refused = run_pgstow(command, unlogged.conninfo, *where, "--serializable-deferrable", "--quiet")
        assert_one_sentence(refused, 2, "needs a primary, but the server is a standby")
    for *chosen, left_out in (
        ("--no-unlogged-table-data", []),
        ("-t", "cache", both[1:]),
        ("-t", "kept", []),
        ("--exclude-table-data", "c*", both[:1]),
    ):
        made = run_pgstow("backup", unlogged.conninfo, *where, *chosen, "--quiet")
        assert (made.exit_code, bool(made.stderr)) == (0, bool(left_out))
        shown = json.loads(run_pgstow("show", "--from", store, "--partial", "--json").stdout)
        assert shown["dump"]["unlogged_left_out"] == left_out
    assert run_pgstow("backup", unlogged.conninfo, *where, "--schema-only", "--quiet").stderr == ""

    whole = run_pgstow("backup", unlogged.conninfo, *where, "--all-databases", "--format", "plain", "--quiet")
    assert whole.exit_code == 0
    assert f"unlogged.{both[0]}, unlogged.{both[1]}" in whole.stderr
    on_primary = run_pgstow("backup", primary_cluster.conninfo("unlogged"), *where, "--quiet")
    assert (on_primary.exit_code, on_primary.stderr) == (0, "")
