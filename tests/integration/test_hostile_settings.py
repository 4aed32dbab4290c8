"""Settings of a database, a role or the environment that change what a session reads or writes, or that end it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database

from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

READ_ONLY = {"default_transaction_read_only": "on"}
HOSTILE = {
    "datestyle": "SQL, DMY",
    "timezone": "Asia/Kathmandu",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "statement_timeout": "200ms",  # it also limits pg_dump's first statements
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "100ms",
    "idle_session_timeout": "1s",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "array_nulls": "off",
    "xmloption": "document",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "force_parallel_mode": "on",
    "parallel_setup_cost": "0",
    "min_parallel_table_scan_size": "0",
    "exit_on_error": "on",
} | READ_ONLY
USUAL = "-c DateStyle=ISO -c TimeZone=UTC -c IntervalStyle=postgres -c extra_float_digits=1 -c bytea_output=hex -c client_encoding=UTF8"
CONTENT = "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM pay t"


def content(database: Database) -> list[tuple]:
    return Database(database.name, make_conninfo(database.conninfo, options=USUAL)).fetch(CONTENT)


@pytest.fixture
def source(database: Database) -> Database:
    """Return a database whose values look different under other settings."""
    database.execute(
        """CREATE TABLE pay AS SELECT i AS id, timestamptz '2026-02-01 12:00Z' + i * interval '1 day' AS at, i * interval '1 day 2:03' AS span,
               i / 3.0::float8 AS share, decode(md5(i::text), 'hex') AS raw, 'Götz "' || i AS name, xmlparse(CONTENT 'a<b/>') AS x
           FROM generate_series(1, 2000) AS i;
           CREATE TABLE "Select" (id integer); CREATE VIEW pays AS SELECT id FROM pay;
           ALTER TABLE pay ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_them ON pay USING (id > 0)"""
    )
    database.execute("SELECT lo_from_bytea(0, 'large')")
    return database


@pytest.fixture(params=["database", "role", "environment"])
def hostile(request: pytest.FixtureRequest, source: Database) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield a conninfo of the source and environment variables. With both, every session has the hostile settings."""
    if request.param == "database":
        for name, value in HOSTILE.items():
            source.execute(f"ALTER DATABASE {source.name} SET {name} = '{value}'")
        yield source.conninfo, {}
    elif request.param == "role":
        source.execute("CREATE ROLE hostile LOGIN SUPERUSER")
        for name, value in HOSTILE.items():
            source.execute(f"ALTER ROLE hostile SET {name} = '{value}'")
        yield make_conninfo(source.conninfo, user="hostile"), {}
        source.execute("DROP OWNED BY hostile; DROP ROLE hostile")
    else:
        options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in HOSTILE.items())
        yield (
            source.conninfo,
            {"PGOPTIONS": options, "PGDATESTYLE": "SQL, DMY", "PGTZ": "Asia/Kathmandu", "PGCLIENTENCODING": "LATIN1"},
        )


def test_a_backup_and_its_way_back(
    source: Database,
    empty_target: Database,
    hostile: tuple[str, Mapping[str, str]],
    tmp_path: Path,
    spool_dir: Path,
) -> None:
    conninfo, env = hostile
    to = ("--to", tmp_path, "--spool-dir", spool_dir, "--quiet")
    examined = run_pgstow("check", conninfo, "--to", tmp_path, "--spool-dir", spool_dir, "--json", env=env)
    assert json.loads(examined.stdout)["ready"], examined
    planned = run_pgstow("backup", conninfo, *to, "--dry-run", env=env)
    assert (planned.exit_code, planned.stderr) == (0, "")
    made = run_pgstow("backup", conninfo, *to, "--jobs", 2, env=env)
    assert (made.exit_code, made.stderr) == (0, "")
    stored = json.loads(run_pgstow("show", "--from", tmp_path, "--json").stdout)
    assert (stored["source"]["time_zone"], stored["source"]["bytea_output"]) == ("Asia/Kathmandu", "escape")

    proof = ("verify", "--from", tmp_path, "--level", "restore", "--checksums", "--spool-dir", spool_dir, "--json")
    proven = run_pgstow(*proof, env=env)
    assert proven.exit_code == 0, proven
    assert json.loads(proven.stdout)["restored"]["compared"] == 2

    writable = {name: value.replace("-c default_transaction_read_only=on", "") for name, value in env.items()}
    into = ("--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
    result = run_pgstow("restore", "--from", tmp_path, *into, env=writable)
    assert (result.exit_code, result.stderr) == (0, "")
    assert content(empty_target) == content(source)


def test_what_a_session_reads_and_writes(source: Database, hostile: tuple[str, Mapping[str, str]]) -> None:
    """pgstow's sessions read exact values and may write. But an assertion sees values as the database's users see them."""
    conninfo, env = hostile
    if env:
        conninfo = make_conninfo(conninfo, options=env["PGOPTIONS"])
    with Server(Conninfo.parse(conninfo)) as server:
        [row] = server.fetch("SELECT at, span, share, quote_ident('id') FROM public.pay WHERE id = 1")
        assert [str(value) for value in row] == [
            "2026-02-02 17:45:00+05:45",
            "1 day, 2:03:00",
            "0.3333333333333333",
            "id",
        ]
        server.execute("CREATE TABLE public.made ()")
    with Server(Conninfo.parse(conninfo), users_settings=True) as server:
        assert server.run_script("SELECT at, true, NULL, span FROM pay WHERE id = 1") == [
            [("02/02/2026 17:45:00 +0545", True, None, "1 2:03:00")]
        ]
        assert server.run_script("SELECT date 'infinity', date '9999-12-31' + 1, date '0044-03-15 BC'") == [
            [("infinity", "01/01/10000", "15/03/0044 BC")]
        ]


def test_the_very_first_statement_is_under_the_timeout(source: Database) -> None:
    """A busy server may need longer than the timeout even for the first statement."""
    source.execute(f"ALTER DATABASE {source.name} SET statement_timeout = 1")
    for _ in range(20):
        with Server(Conninfo.parse(source.conninfo)) as server:
            assert server.fetch("SELECT 1 FROM pg_sleep(0.01)") == [(1,)]
