"""A restore applies the database's settings before anything depends on them. It reads each value in the format in which it was written."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.locales import server_with_locales
from support.pgstow import Result, assert_one_sentence, run_pgstow, sessions, wait_until
from support.postgres_fixtures import Database

from demo import compare
from pipeline.archive.reader import open_archive
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.trust.seal import Keys
from pipeline.verify.views import compare_views
from storage_backends.local import LocalBackend

PRICES = r"""
CREATE TABLE price (id int PRIMARY KEY, amount money DEFAULT '5,50'::money, since timestamptz, tags text[], body text, tenant text);
INSERT INTO price SELECT i, (i || ',99')::money, '2026-01-01 23:30:00+00'::timestamptz + i * interval '1 day', ARRAY[NULL, 'a'], 'the cats',
    'tenant ' || i % 2 FROM generate_series(1, 100) AS i;
CREATE DOMAIN fee AS money CHECK (VALUE > '0,10'::money);
CREATE TYPE pair AS (a fee, b int);
CREATE TABLE paid (pair pair); INSERT INTO paid VALUES (ROW('1,10', 1)::pair);
CREATE TABLE unpriced AS SELECT 1 AS "money", 'x AS money'::text AS t;
"""
VIEWS = r"""
CREATE MATERIALIZED VIEW shown AS
    SELECT id, amount::text AS amount, since::date AS day, since::text AS at, to_tsvector(body) AS words FROM price;
CREATE MATERIALIZED VIEW own AS SELECT id FROM price WHERE tenant = current_setting('app.tenant');
"""
FIRST = {
    "lc_monetary": "'es_AR.UTF-8'",
    "timezone": "'Asia/Tokyo'",
    "default_text_search_config": "'pg_catalog.english'",
    "app.tenant": "'tenant 1'",
}
LAST = {
    "search_path": "nowhere, public",
    "default_transaction_isolation": "serializable",
    "array_nulls": "off",
    "default_transaction_read_only": "on",
}
"""They would be in the way of a restore."""


@pytest.fixture(scope="module")
def server() -> Iterator[ThrowawayCluster]:
    """A server that knows the locale es_AR, which writes 19.99 as 19,99."""
    with server_with_locales("es_AR") as cluster:
        yield cluster


def make(server: ThrowawayCluster, name: str) -> Database:
    Database("", server.conninfo()).execute(f"CREATE DATABASE {name}")
    return Database(name, server.conninfo(name))


def configure(database: Database, settings: dict[str, str]) -> None:
    with closing(psycopg.connect(make_conninfo(database.conninfo, dbname="postgres"), autocommit=True)) as connection:
        for setting, value in settings.items():
            connection.execute(f'ALTER DATABASE {database.name} SET "{setting}" TO {value}'.encode())


@pytest.fixture(scope="module")
def configured(server: ThrowawayCluster) -> Database:
    """A database with settings that its content depends on, and with some that would be in the way of a restore."""
    database = make(server, "configured")
    configure(database, FIRST)
    database.execute(PRICES)
    database.execute(VIEWS)
    configure(database, LAST)
    return database


@pytest.fixture(scope="module")
def store(configured: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a backup of the configured database, in the directory format."""
    store = tmp_path_factory.mktemp("store")
    made = run_pgstow("backup", configured.conninfo, "--to", store, "-q")
    assert (made.exit_code, made.stderr) == (0, "")
    return store


@pytest.fixture
def pgstow(spool_dir: Path) -> Callable[..., Result]:
    return lambda command, *arguments: run_pgstow(command, *arguments, "--spool-dir", spool_dir, "-q")


def settings_of(database: Database) -> list[tuple[object, ...]]:
    return database.fetch(
        "SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase "
        "WHERE datname = current_database() ORDER BY 1"
    )


@pytest.mark.parametrize(("format_", "jobs"), [("directory", 4), ("custom", 1)])
def test_what_depends_on_the_settings_comes_back_as_it_was(
    server: ThrowawayCluster,
    configured: Database,
    store: Path,
    pgstow: Callable[..., Result],
    tmp_path: Path,
    format_: str,
    jobs: int,
) -> None:
    if format_ != "directory":
        store = tmp_path
        assert pgstow("backup", configured.conninfo, "--format", format_, "--to", store).exit_code == 0
    assert find_backup(LocalBackend(store), BackupSelector()).source.lc_monetary == "es_AR.UTF-8"

    target = Database("", server.conninfo(f"copy_{format_}_{jobs}"))
    restored = pgstow("restore", "--from", store, "--into", target.conninfo, "--create", "--jobs", jobs)
    assert (restored.exit_code, restored.stderr) == (0, "")

    assert settings_of(target) == settings_of(configured)
    assert target.fetch("SELECT amount::numeric FROM price WHERE id = 19") == [(Decimal("19.99"),)]
    assert target.fetch("SELECT count(*) FROM price WHERE tags[1] IS NULL") == [(100,)]
    assert compare.contents(target.conninfo) == compare.contents(configured.conninfo)
    assert compare.definitions(target.conninfo) == compare.definitions(configured.conninfo)
    assert target.fetch("SELECT count(*) FROM own") == [(50,)]


def test_a_proof_has_them_too_and_compares_materialized_views(
    server: ThrowawayCluster, store: Path, pgstow: Callable[..., Result]
) -> None:
    proof = ("verify", "--from", store, "--level", "restore", "--checksums", "--scratch", server.conninfo())
    proven = pgstow(*proof)
    assert (proven.exit_code, proven.stderr) == (0, "")


def test_a_materialized_view_that_is_not_what_its_query_gives(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    database = make(server, "viewed")
    database.execute(
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i; CREATE MATERIALIZED VIEW good AS SELECT i * 2 FROM t;"
        "CREATE MATERIALIZED VIEW chance AS SELECT i, random() FROM t; CREATE MATERIALIZED VIEW unfilled AS SELECT i FROM t WITH NO DATA;"
        "CREATE MATERIALIZED VIEW moment AS SELECT i FROM t WHERE now() > 'epoch'; CREATE MATERIALIZED VIEW of_view AS SELECT * FROM good;"
        "CREATE MATERIALIZED VIEW names AS SELECT oid::regclass::text FROM pg_class WHERE relname IN ('t', 'good');"
        "CREATE MATERIALIZED VIEW asker AS SELECT current_setting('application_name'); CREATE MATERIALIZED VIEW none AS SELECT"
    )
    assert pgstow("backup", database.conninfo, "--to", tmp_path).exit_code == 0
    scratch = ("--level", "restore", "--scratch", server.conninfo())
    assert pgstow("verify", "--from", tmp_path, *scratch).exit_code == 0
    result = pgstow("verify", "--from", tmp_path, *scratch, "--checksums", "--json")
    assert result.exit_code == 7
    [problem] = json.loads(result.stdout)["problems"]
    assert problem.startswith("The materialized view public.asker doesn't have the rows that its query returns")
    assert "public.chance can't be compared: its query doesn't return the same rows each time" in result.stderr
    assert "public.good" not in result.stderr


def test_a_materialized_view_whose_rows_another_plan_orders_otherwise(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    """Autovacuum may bring another plan between the restore and the comparison."""
    database = make(server, "planned")
    database.execute(
        "CREATE TABLE t AS SELECT 5000 - i AS id, repeat('x', 500) AS pad FROM generate_series(1, 5000) AS i; CREATE INDEX ON t (id);"
        "CREATE MATERIALIZED VIEW ids AS SELECT array_agg(id) FROM t"
    )
    store = LocalBackend(tmp_path)
    assert pgstow("backup", database.conninfo, "--to", tmp_path).exit_code == 0
    wait_until(lambda: not sessions(database), "no snapshot keeps the pages from being all-visible")

    def another_plan_is_cheaper() -> bool:
        database.execute("VACUUM ANALYZE t")
        return "Index Only Scan" in str(database.fetch("EXPLAIN SELECT array_agg(id) FROM t"))

    wait_until(another_plan_is_cheaper, "all pages are all-visible")
    told: list[object] = []
    with Workers() as workers:
        archive = open_archive(store, find_backup(store, BackupSelector()), Keys(), workers, Limits())
    assert compare_views(Conninfo.parse(database.conninfo), archive, told.append) == []
    assert "public.ids can't be compared" in str(told)


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_money_is_read_in_the_format_in_which_it_was_written(
    server: ThrowawayCluster, postgres: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path, format_: str
) -> None:
    """A role or a server may set the format of money, and no dump names it. pgstow refuses a server that lacks the locale of this format."""
    name = f"money_{format_}"
    database = make(server, name)
    argentine = make_conninfo(database.conninfo, options="-c lc_monetary=es_AR.UTF-8")
    Database(name, argentine).execute(PRICES)
    assert pgstow("backup", argentine, "--format", format_, "--to", tmp_path / "store").exit_code == 0
    target = Database("", server.conninfo(f"{name}_copy"))
    into = ("restore", "--from", tmp_path / "store", "--create", "--into")
    result = pgstow(*into, target.conninfo)
    assert result.exit_code == 0, result
    assert target.fetch(
        "SELECT amount::numeric, (SELECT (pair).a::money::numeric FROM paid) FROM price WHERE id = 19"
    ) == [(Decimal("19.99"), Decimal("1.10"))]
    target.execute("INSERT INTO price (id) VALUES (0)")
    assert target.fetch("SELECT amount::numeric FROM price WHERE id = 0") == [(Decimal("5.50"),)]
    assert target.fetch("SELECT current_setting('lc_monetary')") == [("C.UTF-8",)]
    scratch = ("--level", "restore", "--checksums", "--scratch", server.conninfo())
    result = pgstow("verify", "--from", tmp_path / "store", *scratch)
    assert result.exit_code == 0, result

    elsewhere = postgres.conninfo(f"{name}_copy")
    assert_one_sentence(
        pgstow(*into, elsewhere), 5, r"money is written in the locale es_AR\.UTF-8, which the server doesn't know"
    )
    assert Database("", postgres.conninfo()).fetch(f"SELECT FROM pg_database WHERE datname = '{name}_copy'") == []
    if format_ != "plain":
        assert pgstow(*into, elsewhere, "-t", "unpriced").exit_code == 0
        Database("", postgres.conninfo()).execute(f"DROP DATABASE {name}_copy")


@pytest.mark.parametrize("partial", [False, True])
def test_money_whose_type_is_not_among_what_is_restored(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path, *, partial: bool
) -> None:
    """The type of a column may be a domain of money. The table's definition names the domain, and the entry of its rows names no type."""
    name = f"hidden_{partial}".lower()
    argentine = make_conninfo(make(server, name).conninfo, options="-c lc_monetary=es_AR.UTF-8")
    database = Database(name, argentine)
    database.execute("CREATE DOMAIN fee AS money; CREATE TYPE fees AS (a fee[]); CREATE TABLE paid (id int, fees fees)")
    database.execute("INSERT INTO paid SELECT 1, ROW(ARRAY['19,99'::fee])::fees")
    assert pgstow("backup", argentine, "--to", tmp_path / "store", *(["-t", "paid"] if partial else [])).exit_code == 0

    target = make(server, f"{name}_copy")
    target.execute("CREATE DOMAIN fee AS money; CREATE TYPE fees AS (a fee[])")
    stored = ("--from", tmp_path / "store", *(["--partial"] if partial else []))
    into = ("restore", *stored, "--into", target.conninfo)
    assert pgstow(*into, "-t", "paid").exit_code == 0
    rows = "SELECT ((fees).a)[1]::money::numeric FROM paid"
    assert target.fetch(rows) == [(Decimal("19.99"),)]

    entries = run_pgstow("show", *stored, "--toc").stdout.splitlines()
    (tmp_path / "list").write_text("".join(f"{line}\n" for line in entries if "TABLE DATA" in line))
    result = pgstow(*into, "--use-list", tmp_path / "list", "--allow-nonempty")
    assert result.exit_code == 0, result
    assert target.fetch(rows) == 2 * [(Decimal("19.99"),)]


@pytest.mark.parametrize(("format_", "jobs"), [("directory", 4), ("custom", 1)])
def test_a_text_search_configuration_of_the_database_itself(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path, format_: str, jobs: int
) -> None:
    """A session that begins before the configuration is there doesn't have it."""
    name = f"words_{format_}_{jobs}"
    database = make(server, name)
    database.execute("CREATE TEXT SEARCH CONFIGURATION mine (COPY = german)")
    configure(database, {"default_text_search_config": "'public.mine'"})
    database.execute(
        "CREATE TABLE t AS SELECT 'die Katzen' AS body; CREATE MATERIALIZED VIEW words AS SELECT to_tsvector(body) AS words FROM t;"
        "CREATE MATERIALIZED VIEW long AS SELECT length(words) FROM words"
    )
    assert pgstow("backup", database.conninfo, "--format", format_, "--to", tmp_path).exit_code == 0
    target = Database("", server.conninfo(f"{name}_copy"))
    restored = pgstow("restore", "--from", tmp_path, "--into", target.conninfo, "--create", "--jobs", jobs)
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert target.fetch("SELECT words::text, length FROM words, long") == [("'katz':2", 1)]
    proof = ("verify", "--from", tmp_path, "--level", "restore", "--checksums", "--scratch", server.conninfo())
    assert pgstow(*proof, "--jobs", jobs).exit_code == 0


def test_backslashes_are_read_as_they_were_written(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    """pg_dump doubles them where ``standard_conforming_strings`` is off."""
    database = make(server, "backslashes")
    configure(database, {"standard_conforming_strings": "off"})
    database.execute(
        r"COMMENT ON DATABASE backslashes IS E'it''s a\\b'; CREATE TABLE p (t text) PARTITION BY LIST (t);"
        r"CREATE TABLE p1 PARTITION OF p FOR VALUES IN (E'a\\b'); INSERT INTO p VALUES (E'a\\b')"
    )
    database.execute(r"ALTER DATABASE backslashes SET app.path = E'a\\b'")
    assert pgstow("backup", database.conninfo, "--to", tmp_path).exit_code == 0
    target = Database("", server.conninfo("backslashes_copy"))
    into = ("restore", "--from", tmp_path, "--into", target.conninfo)
    assert pgstow(*into, "--create").exit_code == 0
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    assert target.fetch(comment) == [("it's a\\b",)]
    assert target.fetch("SHOW app.path") == [("a\\b",)]
    target.execute("DROP TABLE p1")
    result = pgstow(*into, "-t", "p1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert target.fetch("SELECT * FROM p") == [("a\\b",)]


def test_a_table_elsewhere_has_the_values_that_it_had(
    server: ThrowawayCluster, store: Path, pgstow: Callable[..., Result]
) -> None:
    target = make(server, "elsewhere")
    into = ("restore", "--from", store, "--into", target.conninfo, "-t", "price", "-t", "shown", "--to-schema", "aside")
    target.execute("CREATE SCHEMA aside")
    restored = pgstow(*into)
    assert (restored.exit_code, restored.stderr) == (0, "")
    target.execute("INSERT INTO aside.price (id) VALUES (0)")
    assert target.fetch("SELECT id, amount::numeric FROM aside.price WHERE id IN (0, 19) ORDER BY 1") == [
        (0, Decimal("5.50")),
        (19, Decimal("19.99")),
    ]


def test_a_setting_that_is_refused(server: ThrowawayCluster, store: Path, pgstow: Callable[..., Result]) -> None:
    Database("", server.conninfo()).execute("CREATE ROLE maker LOGIN CREATEDB")
    into = make_conninfo(server.conninfo("refused"), user="maker")
    result = pgstow("restore", "--from", store, "--into", into, "--create", "--no-owner")
    assert_one_sentence(
        result, 5, r"The server refuses the database's setting app\.tenant\. .* permission denied to set parameter"
    )
    assert Database("", server.conninfo()).fetch("SELECT FROM pg_database WHERE datname = 'refused'") == []

    more = ("--no-owner", "-t", "unpriced", "--keep-going", "--allow-error", r"setting app\.tenant")
    result = pgstow("restore", "--from", store, "--into", into, "--create", *more)
    assert result.exit_code == 0, result
    assert Database("", server.conninfo("refused")).fetch("SELECT count(*) FROM unpriced") == [(1,)]


def test_a_script_says_the_format_of_its_money(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    database = make(server, "exported")
    argentine = make_conninfo(database.conninfo, options="-c lc_monetary=es_AR.UTF-8")
    Database("exported", argentine).execute(PRICES)
    assert pgstow("backup", argentine, "--to", tmp_path / "store").exit_code == 0
    script, target = tmp_path / "script.sql", make(server, "from_script")
    assert pgstow("export", "--from", tmp_path / "store", "--file", script).exit_code == 0
    psql = [server.bin_dir / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", target.conninfo, "-f", script]
    subprocess.run(psql, check=True, capture_output=True)
    assert target.fetch("SELECT amount::numeric FROM price WHERE id = 19") == [(Decimal("19.99"),)]

    creating = pgstow("export", "--from", tmp_path / "store", "--file", script, "--create")
    assert "PGOPTIONS='-c lc_monetary=es_AR.UTF-8'" in creating.stderr
    assert pgstow("export", "--from", tmp_path / "store", "--file", script, "--create", "-t", "unpriced").stderr == ""


@pytest.fixture(scope="module")
def argentine() -> Iterator[ThrowawayCluster]:
    """A server whose money is in the format of es_AR, with a database that would be in the way of a restore."""
    with server_with_locales("es_AR", lc_monetary="es_AR.UTF-8") as source:
        configure(make(source, "aside"), {"lc_monetary": "'C'"})
        database = make(source, "shop")
        database.execute(PRICES)
        configure(database, LAST)
        yield source


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_a_whole_server(
    argentine: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path, format_: str
) -> None:
    """Stock programs can't restore a read-only database. They also can't read a NULL in an array if the database turns off ``array_nulls``."""
    made = pgstow("backup", argentine.conninfo(), "--all-databases", "--format", format_, "--to", tmp_path)
    assert (made.exit_code, made.stderr) == (0, "")
    with server_with_locales("es_AR") as new:
        restored = pgstow("restore", "--from", tmp_path, "--all-databases", "--into", new.conninfo())
        assert (restored.exit_code, restored.stderr) == (0, "")
        target = Database("shop", new.conninfo("shop"))
        assert target.fetch("SELECT amount::numeric FROM public.price WHERE id = 19") == [(Decimal("19.99"),)]
        assert target.fetch("SELECT count(*) FROM public.price WHERE tags[1] IS NULL") == [(100,)]
        assert target.fetch("SELECT current_setting('default_transaction_read_only')") == [("on",)]
