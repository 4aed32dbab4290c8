"""If the proving server lacks something, that is no evidence against the backup: pgstow attests nothing, and reports no damage."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from support.installation import Installation, own_installation
from support.locales import server_with_locales
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.postgres.throwaway import ThrowawayCluster

INPUT, SERVER, DAMAGED, MACHINE = 2, 3, 7, 9
TRIGRAMS = "CREATE EXTENSION pg_trgm; CREATE VIEW v AS SELECT strict_word_similarity('a', 'b') AS s"


def back_up(database: Database, store: Path, spool_dir: Path, *more: object) -> None:
    made = run_pgstow("backup", database.conninfo, "--to", store, "--spool-dir", spool_dir, "-q", *more)
    assert made.exit_code == 0, made


def prove(store: Path, spool_dir: Path, *more: object) -> Result:
    return run_pgstow("verify", "--from", store, "--level", "restore", "--spool-dir", spool_dir, "-q", *more)


def attested(store: Path) -> bool:
    return (store / "attestations").exists()


@pytest.fixture(scope="module")
def poor() -> Iterator[Installation]:
    """Yield an installation without two libraries, with an older pg_trgm, and with a seg that needs shared_preload_libraries."""
    with own_installation() as installation:
        for library in ("hstore", "auto_explain"):
            (installation.lib / f"{library}.so").unlink()
        preloaded = "DO $$ BEGIN RAISE EXCEPTION 'seg can only be loaded via shared_preload_libraries'; END $$;\n"
        (installation.share / "extension/seg--1.1.sql").write_text(preloaded)
        control = installation.share / "extension/pg_trgm.control"
        control.write_text(control.read_text().replace("'1.6'", "'1.3'"))
        yield installation


@pytest.mark.parametrize(
    ("format_", "has", "lacks"),
    [
        ("plain", "CREATE EXTENSION hstore", "hstore"),
        ("directory", "CREATE EXTENSION seg", "can only be loaded via shared_preload_libraries"),
        ("directory", TRIGRAMS, "strict_word"),
    ],
    ids=["library", "preload", "version"],
)
def test_an_installation_that_lacks_it(
    poor: Installation, database: Database, format_: str, has: str, lacks: str, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute(f"CREATE TABLE t AS SELECT 1 AS i; {has}")
    back_up(database, tmp_path, spool_dir, "-F", format_)
    result = prove(tmp_path, spool_dir, "--bin-dir", poor.bin)
    sentence = assert_one_sentence(result, MACHINE, "PostgreSQL on this machine lacks something .* --scratch")
    assert lacks in sentence
    assert not attested(tmp_path)


def test_a_preloaded_library_keeps_every_session_out(
    poor: Installation, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    database.execute(f"ALTER DATABASE {database.name} SET session_preload_libraries = 'auto_explain'")
    back_up(database, tmp_path, spool_dir)
    result = prove(tmp_path, spool_dir, "--bin-dir", poor.bin, "--checksums")
    assert_one_sentence(result, MACHINE, "auto_explain.*--scratch")
    with ThrowawayCluster(search=[poor.bin]) as cluster:
        scratch = Database("postgres", cluster.conninfo())
        result = prove(tmp_path, spool_dir, "--scratch", scratch.conninfo, "--checksums")
        assert result.exit_code == SERVER, result
        assert "auto_explain" in result.stderr
        assert scratch.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'pgstow%'") == []
    assert not attested(tmp_path)


def test_damage_does_not_hide_behind_it(
    poor: Installation, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 99999) AS i; CREATE EXTENSION hstore")
    back_up(database, tmp_path, spool_dir, "--object-size", "64KiB")
    hurt = max((path for path in (tmp_path / "data").rglob("*.zst")), key=lambda path: path.stat().st_size)
    hurt.write_bytes(hurt.read_bytes()[:-1] + b"?")
    result = prove(tmp_path, spool_dir, "--bin-dir", poor.bin)
    assert result.exit_code == DAMAGED, result
    assert hurt.name in result.stderr
    assert attested(tmp_path)


def test_a_table_that_cannot_be_made_is_evidence(
    poor: Installation, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """The failure is evidence even if an extension has another version, and if the error reads like the error of a missing library."""
    database.execute(
        "CREATE EXTENSION pg_trgm; CREATE FUNCTION f(i integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS "
        "$$BEGIN RETURN i; END$$; CREATE TABLE t (i integer); INSERT INTO t VALUES (1); CREATE INDEX t_f ON t (f(i));"
        "CREATE OR REPLACE FUNCTION f(i integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS "
        "$$BEGIN RAISE EXCEPTION 'the library could not load library'; END$$"
    )
    back_up(database, tmp_path, spool_dir)
    assert_one_sentence(prove(tmp_path, spool_dir, "--bin-dir", poor.bin), DAMAGED, "pg_restore failed")
    assert attested(tmp_path)


@pytest.fixture(scope="module")
def german() -> Iterator[ThrowawayCluster]:
    with server_with_locales("de_DE", lc_messages="de_DE.UTF-8") as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("makes", "has", "lacks", "exit_code"),
    [
        ("", "ALTER DATABASE shop SET lc_monetary = 'de_DE.UTF-8'", "lc_monetary", INPUT),
        ("", "CREATE COLLATION g (LOCALE = 'de_DE.UTF-8'); CREATE TABLE c (x text COLLATE g)", "de_DE", INPUT),
        ("LC_COLLATE 'de_DE.UTF-8'", "CREATE TABLE c (x text)", "de_DE", SERVER),
    ],
    ids=["money", "collation", "database"],
)
def test_a_machine_that_lacks_the_locale(
    german: ThrowawayCluster,
    postgres: ThrowawayCluster,
    makes: str,
    has: str,
    lacks: str,
    exit_code: int,
    tmp_path: Path,
    spool_dir: Path,
) -> None:
    server, shop = Database("postgres", german.conninfo()), Database("shop", german.conninfo("shop"))
    server.execute("DROP DATABASE IF EXISTS shop")
    server.execute(f"CREATE DATABASE shop TEMPLATE template0 {makes}")
    shop.execute(has)
    back_up(shop, tmp_path, spool_dir)
    assert lacks in assert_one_sentence(prove(tmp_path, spool_dir), MACHINE, "--scratch")
    scratch = Database("postgres", postgres.conninfo())
    result = prove(tmp_path, spool_dir, "--scratch", scratch.conninfo)
    assert result.exit_code == exit_code, result
    assert lacks in result.stderr
    assert scratch.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'pgstow%'") == []
    assert not attested(tmp_path)
    assert prove(tmp_path, spool_dir, "--scratch", server.conninfo).exit_code == 0


def test_a_scratch_server_that_speaks_german(
    german: ThrowawayCluster, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    """A missing right of the role is no damage, but a violated constraint is. pgstow can't read the German messages."""
    database = make_database()
    database.execute("CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
    database.execute("CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION e()")
    back_up(database, tmp_path / "events", spool_dir)
    server = Database("postgres", german.conninfo())
    server.execute("CREATE ROLE humble LOGIN CREATEDB; GRANT postgres TO humble")
    humble = make_conninfo(server.conninfo, user="humble")
    assert_one_sentence(prove(tmp_path / "events", spool_dir, "--scratch", humble), INPUT, "scratch server lacks")
    assert not attested(tmp_path / "events")

    broken = make_database()
    broken.execute(
        "CREATE FUNCTION f(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT i';"
        "CREATE TABLE t (i integer CHECK (f(i) > 0)); INSERT INTO t VALUES (1);"
        "CREATE OR REPLACE FUNCTION f(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT -i'"
    )
    back_up(broken, tmp_path / "broken", spool_dir)
    assert_one_sentence(prove(tmp_path / "broken", spool_dir, "--scratch", server.conninfo), DAMAGED, "violates check")
    shutil.rmtree(tmp_path / "broken/attestations")
    assert_one_sentence(prove(tmp_path / "broken", spool_dir, "--scratch", humble), DAMAGED, "pg_restore failed")
    assert server.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'pgstow%'") == []
