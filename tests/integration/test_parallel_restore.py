"""Several jobs of pg_restore restore the same as one job, even if triggers, constraints or grants depend on the order."""

from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from support.loading import AUDITED
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster


@pytest.mark.parametrize("how", ["all", "chosen", "sections"])
def test_no_trigger_fires_and_no_constraint_is_checked_before_the_rows_are_in(
    database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path, how: str
) -> None:
    """The restore also succeeds if an entry depends on entries that aren't restored."""
    database.execute(AUDITED)
    target = make_database()
    where = ("--spool-dir", spool_dir, "-q", "--jobs", 4)
    options: list[tuple[str, ...]] = [()]
    if how == "chosen":  # -t doesn't restore the types and functions that the tables need
        options = [("-t", "*", "--allow-nonempty")]
        target.execute("CREATE TYPE mood AS ENUM ('sad', 'so so', 'glad'); CREATE DOMAIN d AS int")
        for name in ("note", "change"):
            [(definition,)] = database.fetch(f"SELECT pg_get_functiondef('{name}'::regproc)")
            target.execute(definition)
    if how == "sections":
        options = [("--section", section) for section in ("pre-data", "data", "post-data")]
    assert run_pgstow("backup", database.conninfo, "--to", tmp_path / "store", *where).exit_code == 0
    for more in options:
        restored = run_pgstow("restore", "--from", tmp_path / "store", "--into", target.conninfo, *more, *where)
        assert (restored.exit_code, restored.stderr) == (0, "")
    was, came = compare.contents(database.conninfo), compare.contents(target.conninfo)
    for partition in ("mooded_0", "mooded_1"):  # an enum's hashes differ from database to database
        del was[partition], came[partition]
    assert came == was
    if how != "chosen":
        assert compare.definitions(target.conninfo) == compare.definitions(database.conninfo)


def test_rows_alone_come_in_the_order_of_the_foreign_keys_that_are_there(
    database: Database, empty_target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    tables = (
        "CREATE TABLE z (id int PRIMARY KEY, t text); CREATE TABLE y (id int PRIMARY KEY REFERENCES z);"
        "CREATE TABLE a (id int REFERENCES y)"
    )
    database.execute(tables)
    database.execute(
        "INSERT INTO z SELECT i, repeat('z', 300) FROM generate_series(1, 5000) AS i; INSERT INTO y SELECT id FROM z;"
        "INSERT INTO a SELECT id FROM y"
    )
    empty_target.execute(tables)
    where = ("--spool-dir", spool_dir, "-q", "--jobs", 4)
    assert run_pgstow("backup", database.conninfo, "--data-only", "--to", tmp_path / "store", *where).exit_code == 0
    into = ("--into", empty_target.conninfo, "--data-only", "--partial")
    restored = run_pgstow("restore", "--from", tmp_path / "store", *into, *where)
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert compare.contents(empty_target.conninfo) == compare.contents(database.conninfo)


def test_a_table_is_loaded_before_a_grant_takes_that_right_from_its_owner(
    postgres: ThrowawayCluster, database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    """The restore runs as the owner, a role that isn't a superuser."""
    server, target = Database("postgres", postgres.conninfo()), make_database()
    server.execute("CREATE ROLE loader LOGIN")
    try:
        database.execute(
            "CREATE TABLE t AS SELECT i FROM generate_series(1, 100) AS i; CREATE TABLE u (); ALTER TABLE t OWNER TO loader"
        )
        database.execute("REVOKE ALL ON t FROM loader; GRANT SELECT ON t TO loader; DROP TABLE u")
        target.execute("GRANT CREATE ON SCHEMA public TO loader")
        where = ("--spool-dir", spool_dir, "-q", "--jobs", 2)
        assert run_pgstow("backup", database.conninfo, "--to", tmp_path / "store", *where).exit_code == 0
        into = make_conninfo(target.conninfo, user="loader")
        result = run_pgstow("restore", "--from", tmp_path / "store", "--into", into, "-t", "t", *where)
        assert (result.exit_code, result.stderr) == (0, "")
        assert target.fetch("SELECT count(*) FROM t") == [(100,)]
        assert compare.definitions(target.conninfo) == compare.definitions(database.conninfo)
    finally:
        for one in (database, target):
            one.execute("DROP TABLE IF EXISTS t; DROP OWNED BY loader")
        server.execute("DROP ROLE loader")
