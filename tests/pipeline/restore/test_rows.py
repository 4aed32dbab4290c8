"""Tests of the check of rows. Differences that stock pg_dump and pg_restore cause are no errors."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.postgres_fixtures import Database

from pipeline.catalog.manifest import File
from pipeline.concurrency import Workers
from pipeline.errors import RestoreFailed
from pipeline.events import Notice
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.restore.rows import check_rows


def check(conninfo: str, rows: Mapping[str, int]) -> list[str]:
    """Check that tables in ``public`` have these numbers of rows. Return the notices."""
    told: list[str] = []
    files = [
        File(
            path=f"{number}.dat",
            kind="table",
            size=number,
            checksum=hashlib.sha256().hexdigest(),
            segments=[],
            schema_name="public",
            relation=name,
            rows=count,
        )
        for number, (name, count) in enumerate(rows.items())
    ]

    def notify(event: object) -> None:
        assert isinstance(event, Notice)
        told.append(event.text)

    with Workers() as workers:
        check_rows(Conninfo.parse(conninfo), files, workers, 2, notify)
    return told


def test_no_error_if_the_numbers_of_rows_match(database: Database) -> None:
    database.execute('CREATE TABLE a AS SELECT generate_series(1, 3); CREATE TABLE "b c" (); CREATE TABLE d ()')
    assert check(database.conninfo, {"a": 3, "b c": 0, "d": 0}) == []
    with pytest.raises(RestoreFailed, match=r"public\.a has 3 rows, but the backup has 4 \(1 of 2 tables differ"):
        check(database.conninfo, {"a": 4, "d": 0})


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
def test_tables_of_any_name_are_counted_together(postgres: ThrowawayCluster, encoding: str) -> None:
    """Small tables are counted by one query. If one of them is missing, the error names it."""
    names = ["plain", 'it\'s "quoted"', "größe", "a.b", "{x,y}", "%s", "back\\slash", *map(str, range(250))]
    server = Database("postgres", postgres.conninfo())
    server.execute(f"CREATE DATABASE counted TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        conninfo = postgres.conninfo("counted")
        with psycopg.connect(conninfo, client_encoding="UTF8", autocommit=True) as connection:
            for rows, name in enumerate(names):
                query = sql.SQL("CREATE TABLE {} AS SELECT generate_series(1, {})").format(sql.Identifier(name), rows)
                connection.execute(query)
        tables = {name: rows for rows, name in enumerate(names)}
        assert check(conninfo, tables) == []
        with pytest.raises(RestoreFailed, match=r"has no table public\.gone\."):
            check(conninfo, {**tables, "gone": 0})
        with pytest.raises(RestoreFailed, match=r"public\.a\.b has 3 rows, but the backup has 4"):
            check(conninfo, {**tables, "a.b": 4})
    finally:
        server.execute("DROP DATABASE counted")


def test_no_other_table_is_locked_while_one_is_waited_for(database: Database) -> None:
    """Otherwise, a user's transaction that locks both tables in the other order would be in a deadlock, and might fail."""
    database.execute("CREATE TABLE waited (); CREATE TABLE other (); CREATE TABLE larger ()")
    with psycopg.connect(database.conninfo) as user, ThreadPoolExecutor(1) as pool:
        user.execute("LOCK TABLE waited")
        # Of two connections, one counts the largest and the smallest table: "larger" before "waited".
        told = pool.submit(check, database.conninfo, {"waited": 0, "other": 0, "larger": 0})
        while not database.fetch("SELECT FROM pg_locks WHERE relation = 'waited'::regclass AND NOT granted"):
            assert not told.done()
        try:
            user.execute("LOCK TABLE larger NOWAIT")
        finally:
            user.rollback()
        assert told.result() == []


def test_a_view_in_place_of_a_table_is_not_counted(database: Database) -> None:
    """To count a view's rows would run the view's functions."""
    database.execute(
        "CREATE TABLE behind AS SELECT 1 AS i; CREATE MATERIALIZED VIEW kept AS SELECT 1 WHERE false;"
        "CREATE FUNCTION trap() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a view ran''; END';"
        "CREATE VIEW seen AS SELECT i FROM behind WHERE trap() > 0"
    )
    for name in ("seen", "kept", "none"):
        with pytest.raises(RestoreFailed, match=rf"public\.{name}( in the database \w+ is not a table|\.)"):
            check(database.conninfo, {name: 0})


def test_additional_rows_of_an_extension_are_allowed(database: Database) -> None:
    """PostGIS fills spatial_ref_sys when it is created, and pg_dump dumps only the rows that users added."""
    database.execute("CREATE TABLE spatial AS SELECT generate_series(1, 5); ALTER EXTENSION plpgsql ADD TABLE spatial")
    assert check(database.conninfo, {"spatial": 0}) == []
    with pytest.raises(RestoreFailed, match=r"public\.spatial has 5 rows, but the backup has 6"):
        check(database.conninfo, {"spatial": 6})


def test_rows_may_move_to_another_partition(database: Database) -> None:
    """If an enum's hash chooses the partition, rows are loaded through the partitioned table. The enum's new OIDs change the hashes."""
    database.execute(
        "CREATE TABLE parted (i integer) PARTITION BY HASH (i);"
        "CREATE TABLE one PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE two PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "INSERT INTO parted SELECT generate_series(1, 50)"
    )
    [(one,)] = database.fetch("SELECT count(*) FROM one")
    assert check(database.conninfo, {"one": one - 1, "two": 51 - one}) == []
    with pytest.raises(RestoreFailed, match="2 of 2 tables"):
        check(database.conninfo, {"one": one - 1, "two": 50 - one + 2})


def test_tables_with_rows_hidden_from_the_role_are_not_counted(database: Database) -> None:
    database.execute("CREATE ROLE watched LOGIN")
    try:
        database.execute(
            "CREATE TABLE secret AS SELECT generate_series(1, 10) AS i; ALTER TABLE secret OWNER TO watched;"
            "ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            "CREATE FUNCTION trap() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a policy ran''; END';"
            "CREATE POLICY few ON secret USING (i < 3 AND trap())"
        )
        [notice] = check(make_conninfo(database.conninfo, user="watched"), {"secret": 10})
        assert "public.secret can't be counted" in notice
    finally:
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.execute("DROP OWNED BY watched; DROP ROLE watched")
