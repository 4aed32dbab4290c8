"""Servers without the database postgres. pgstow connects to template1 instead, as createdb does, or to the database that the user names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database

from pipeline.postgres.throwaway import ThrowawayCluster

SHOP = "CREATE TABLE t (i integer PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)"


@pytest.fixture
def managed() -> Iterator[ThrowawayCluster]:
    """Yield a server like those of some managed services: it has the database defaultdb, but no database postgres."""
    with ThrowawayCluster() as cluster:
        template = Database("template1", cluster.conninfo("template1"))
        template.execute("CREATE DATABASE defaultdb")
        template.execute("DROP DATABASE postgres")
        Database("defaultdb", cluster.conninfo("defaultdb")).execute(SHOP)
        yield cluster


def databases(cluster: ThrowawayCluster) -> set[str]:
    rows = Database("", cluster.conninfo("defaultdb")).fetch("SELECT datname FROM pg_database")
    return {name for (name,) in rows}


def test_what_concerns_the_whole_server(managed: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    nowhere = make_conninfo(managed.conninfo(), dbname="")
    default = Database("defaultdb", managed.conninfo("defaultdb"))
    work, source = ("--spool-dir", spool_dir, "-q"), ("--from", tmp_path, "--cluster", "prod")
    here = ("--to", tmp_path, "--cluster", "prod", *work)
    for what in ("--globals-only", "--all-databases"):
        done = run_pgstow("backup", nowhere, what, *here)
        assert (done.exit_code, done.stderr) == (0, ""), done
    assert run_pgstow("restore", "--globals-only", *source, "--into", nowhere, *work).exit_code == 0

    shop = (*source, "--database", "defaultdb")
    assert run_pgstow("restore", *shop, "--into", managed.conninfo("shop"), "--create", *work).exit_code == 0
    renamed = run_pgstow("restore", *shop, "--into", default.conninfo, "-t", "t", "--as", "u", *work)
    assert renamed.exit_code == 0, renamed
    before = databases(managed)
    assert before == {"template0", "template1", "defaultdb", "shop"}
    proof = ("verify", *shop, "--level", "restore", *work)
    assert run_pgstow(*proof, "--scratch", nowhere).exit_code == 0

    default.execute("UPDATE pg_database SET datallowconn = false WHERE datname = 'template1'")
    assert run_pgstow(*proof, "--scratch", default.conninfo).exit_code == 0
    assert databases(managed) == before
    another = ("restore", *shop, "--into", managed.conninfo("another"), "--create", *work)
    assert_one_sentence(run_pgstow(*another), 3, "postgres, template1, another.*--maintenance-db")
    assert run_pgstow(*another, "--maintenance-db", "defaultdb").exit_code == 0
    assert databases(managed) == {*before, "another"}
    default.execute("UPDATE pg_database SET datallowconn = true WHERE datname = 'template1'")

    Database("", managed.conninfo("template1")).execute("CREATE DATABASE postgres")
    script = ("--to", tmp_path / "script", "--cluster", "prod", *work, "-F", "plain")
    assert run_pgstow("backup", managed.conninfo(), "--all-databases", *script).exit_code == 0
    with ThrowawayCluster() as fresh:
        Database("", fresh.conninfo("template1")).execute("DROP DATABASE postgres")
        into = (
            "--from",
            tmp_path / "script",
            "--cluster",
            "prod",
            "--into",
            make_conninfo(fresh.conninfo(), dbname=""),
        )
        whole = run_pgstow("restore", "--all-databases", *into, *work)
        assert whole.exit_code == 0, whole
        assert {"postgres", "defaultdb"} < databases(fresh)

    with ThrowawayCluster() as fresh:
        Database("", fresh.conninfo("template1")).execute("DROP DATABASE postgres")
        target = make_conninfo(fresh.conninfo(), dbname="")
        whole = run_pgstow("restore", "--all-databases", *source, "--into", target, *work)
        assert whole.exit_code == 0, whole
        assert databases(fresh) == {"template0", "template1", "defaultdb"}
