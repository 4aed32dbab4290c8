"""Restores of a partition without its partitioned table. pgstow attaches the partition to the target's table, or says that it stands alone."""

from pathlib import Path

import psycopg
import pytest
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker

TREE = "SELECT relid::regclass::text FROM pg_partition_tree('{}') ORDER BY 1"
ALONE = "{} stands alone: it was a partition of "


@pytest.fixture
def partitioned(database: Database) -> Database:
    database.execute(
        "CREATE TABLE kind (i integer PRIMARY KEY); INSERT INTO kind VALUES (0), (1);"
        "CREATE TABLE m (k integer REFERENCES kind, day date, v integer, PRIMARY KEY (day, k)) PARTITION BY RANGE (day); CREATE INDEX ON m (v);"
        "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');"
        "CREATE SCHEMA \"o'd d\"; CREATE TABLE \"o'd d\".\"m.2\" PARTITION OF m FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') "
        "PARTITION BY LIST (k);"
        'CREATE TABLE m20 PARTITION OF "o\'d d"."m.2" FOR VALUES IN (0); CREATE TABLE m21 PARTITION OF "o\'d d"."m.2" FOR VALUES IN (1);'
        "INSERT INTO m SELECT i % 2, date '2026-01-01' + i, i FROM generate_series(0, 57) AS i"
    )
    return database


def test_it_is_attached_where_its_table_is(
    partitioned: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    work = ("--spool-dir", spool_dir, "-q")
    assert run_pgstow("backup", partitioned.conninfo, "--to", tmp_path, *work).exit_code == 0
    target = make_database()

    def restore(*what: object) -> Result:
        return run_pgstow("restore", "--from", tmp_path, "--into", target.conninfo, *what, *work)

    assert restore().exit_code == 0
    tree = target.fetch(TREE.format("m"))
    indexes = target.fetch(TREE.format("m_pkey")) + target.fetch(TREE.format("m_v_idx"))
    constraints = target.fetch("SELECT conrelid::regclass::text, conname FROM pg_constraint ORDER BY 1, 2")

    def assert_as_before() -> None:
        assert target.fetch("SELECT count(*) FROM m") == [(58,)]
        assert target.fetch(TREE.format("m")) == tree
        assert target.fetch(TREE.format("m_pkey")) + target.fetch(TREE.format("m_v_idx")) == indexes
        assert target.fetch("SELECT conrelid::regclass::text, conname FROM pg_constraint ORDER BY 1, 2") == constraints

    for dropped, what in (("m1", ("-t", "m1")), ("m21", ("-t", "m21")), ('"o\'d d"."m.2"', ("-n", '"o\'d d"'))):
        target.execute(f"DROP TABLE {dropped}")
        result = restore(*what)
        assert (result.exit_code, result.stderr) == (0, ""), result
        assert_as_before()
    target.execute("ALTER TABLE m DETACH PARTITION m1")
    result = restore("-t", "m1", "--clean")
    assert (result.exit_code, result.stderr) == (0, ""), result
    assert_as_before()

    target.execute("DROP TABLE m1")
    with psycopg.connect(target.conninfo) as session:
        session.execute("LOCK TABLE m IN SHARE UPDATE EXCLUSIVE MODE")
        result = restore("-t", "m1", "--lock-wait-timeout", 1)
    assert_one_sentence(result, 5, r"m1 is restored, but can't become a partition of public\.m again.*lock timeout")

    target.execute("DROP TABLE m1; CREATE TABLE other PARTITION OF m FOR VALUES FROM ('2026-01-15') TO ('2026-01-20')")
    assert_one_sentence(
        restore("-t", "m1"), 5, r"public\.m1 is restored, but can't become a partition of public\.m again.*overlap"
    )
    assert target.fetch("SELECT count(*) FROM m1") == [(31,)]
    target.execute("DROP TABLE m1")
    committed = restore("-t", "m1", "--single-transaction", "--jobs", 1)
    assert_one_sentence(committed, 5, "overlap.* may hold a part of the backup now")
    assert target.fetch("SELECT count(*) FROM m1") == [(31,)]
    target.execute("DROP TABLE m1, m CASCADE; CREATE TABLE m (k integer)")
    assert_one_sentence(restore("-t", "m1"), 5, "isn't partitioned")
    assert target.fetch("SELECT to_regclass('m1')") == [(None,)]


def test_it_stands_alone_otherwise(
    partitioned: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    work = ("--spool-dir", spool_dir)
    assert run_pgstow("backup", partitioned.conninfo, "--to", tmp_path, *work, "-q").exit_code == 0
    target = make_database()
    target.execute("CREATE TABLE kind (i integer PRIMARY KEY); INSERT INTO kind VALUES (0), (1)")
    for what in (("-t", "m1"), ("-t", "m20", "--section", "pre-data")):
        result = run_pgstow("restore", "--from", tmp_path, "--into", target.conninfo, *what, *work)
        assert result.exit_code == 0, result
        assert ALONE.format(f"public.{what[1]}") in result.stderr
    copied = run_pgstow("restore", "--from", tmp_path, "--into", partitioned.conninfo, "-t", "m1", "--as", "m0", *work)
    assert copied.exit_code == 0, copied
    assert ALONE.format("public.m1") in copied.stderr
    assert partitioned.fetch("SELECT count(*) FROM m") == [(58,)]
    for command in (("export", "--file", tmp_path / "m1.sql"), ("restore", "--to-directory", tmp_path / "m1")):
        told = run_pgstow(command[0], "--from", tmp_path, *command[1:], "-t", "m1", *work)
        assert told.exit_code == 0, told
        assert ALONE.format("public.m1") in told.stderr
    toc = run_pgstow("show", "--from", tmp_path, "--toc").stdout
    listed = tmp_path / "list"
    listed.write_text(
        "\n".join(
            line for line in toc.splitlines() if " m21 " in f"{line} " and " TABLE " in line and "ATTACH" not in line
        )
    )
    result = run_pgstow("restore", "--from", tmp_path, "--into", target.conninfo, "-L", listed, *work)
    assert result.exit_code == 0, result
    assert ALONE.format("public.m21") in result.stderr
