"""A database that is backed up and restored has the same content and the same definitions."""

from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from support.object_stores import StoreBucket
from support.pgstow import Result, disk_use, finish, run_pgstow, sessions, start_pgstow, wait_until
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import OBJECT_SIZE, StoredSample

from demo import compare
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import Manifest
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends.local import LocalBackend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of this test's store."""
    return tmp_path / "store"


@pytest.fixture(params=["local", "s3", "gcs"])
def store_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the URL of an empty store, of each kind in turn."""
    if request.param == "local":
        folder.mkdir()
        return str(folder)
    bucket: StoreBucket = request.getfixturevalue(f"{request.param}_bucket")
    return bucket.url


def run_well(*arguments: object) -> Result:
    """Run pgstow, and assert that it succeeds."""
    result = run_pgstow(*arguments, "--quiet")
    assert result.exit_code == 0, result
    return result


def assert_same(copy: str, original: str) -> None:
    """Assert that both databases have the same content and the same definitions."""
    assert compare.contents(copy) == compare.contents(original)
    assert compare.definitions(copy) == compare.definitions(original)


def assert_comes_back(
    database: Database, make_database: DatabaseMaker, folder: Path, spool_dir: Path, *options: object
) -> Manifest:
    """Back up the database, restore it into an empty database of the same encoding, and compare. Return the manifest."""
    target = make_database()
    run_well("backup", database.conninfo, "--to", folder, "--spool-dir", spool_dir, *options)
    run_well("restore", "--from", folder, "--into", target.conninfo, "--spool-dir", spool_dir)
    assert_same(target.conninfo, database.conninfo)
    return find_backup(LocalBackend(folder), BackupSelector())


def test_the_sample_comes_back_from_every_store(
    store_url: str, sample_database: Database, empty_target: Database, spool_dir: Path
) -> None:
    spool = ("--spool-dir", spool_dir)
    run_well("backup", sample_database.conninfo, "--to", store_url, "--object-size", OBJECT_SIZE, *spool)
    run_well("restore", "--from", store_url, "--into", empty_target.conninfo, *spool)
    assert_same(empty_target.conninfo, sample_database.conninfo)


@pytest.mark.parametrize("jobs", [1, 5])
def test_it_comes_back_with_any_number_of_jobs(
    jobs: int, stored_sample: StoredSample, empty_target: Database, spool_dir: Path
) -> None:
    run_well(
        "restore", "--from", stored_sample.folder, "--into", empty_target.conninfo, "-j", jobs, "--spool-dir", spool_dir
    )
    assert_same(empty_target.conninfo, stored_sample.source)


def test_the_sample_fills_every_form_of_object(stored_sample: StoredSample) -> None:
    """The other tests rely on slices, packs, and segments of files that share a pack."""
    manifest = stored_sample.manifest
    names = [stored.key.rpartition("/")[2] for stored in manifest.objects]
    assert len([name for name in names if ".dat.0" in name]) > 3
    assert any(name.startswith("pack-") for name in names)
    assert len(stored_sample.objects_of("telemetry.reading")) > 2
    sharing = [file for file in manifest.files for segment in file.segments if segment.offset > 0]
    assert len(sharing) > 10


@pytest.mark.parametrize("name", ['it\'s "quoted" \\ with space', "slash/../up\nnew line größe 🐘", "--jobs=9 a=b %41"])
def test_a_database_may_have_any_name(
    name: str, postgres: ThrowawayCluster, make_database: DatabaseMaker, folder: Path, spool_dir: Path
) -> None:
    original = make_database(name)
    original.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
    run_well("backup", original.conninfo, "--to", folder, "--spool-dir", spool_dir)
    before = compare.contents(original.conninfo)
    original_definitions = compare.definitions(original.conninfo)
    Database("postgres", postgres.conninfo()).execute(f"DROP DATABASE {quoted(name)}")
    server = postgres.conninfo().replace("dbname=postgres", "")

    run_well("restore", "--from", folder, "--database", name, "--into", server, "--create", "--spool-dir", spool_dir)

    assert compare.contents(original.conninfo) == before
    assert compare.definitions(original.conninfo) == original_definitions


def quoted(name: str) -> str:
    """Return the name quoted as an identifier."""
    return '"{}"'.format(name.replace('"', '""'))


def test_a_created_database_has_the_encoding_and_locale_of_the_original(
    postgres: ThrowawayCluster, make_database: DatabaseMaker, folder: Path, spool_dir: Path
) -> None:
    server = Database("postgres", postgres.conninfo())
    server.execute("CREATE DATABASE western TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    original = Database("western", make_conninfo(postgres.conninfo("western"), client_encoding="UTF8"))
    copy = Database("western_copy", make_conninfo(postgres.conninfo("western_copy"), client_encoding="UTF8"))
    try:
        original.execute('CREATE SCHEMA "schön"; CREATE TABLE "schön"."größe" AS SELECT \'naïve\'::text AS "é"')
        run_well("backup", postgres.conninfo("western"), "--to", folder, "--spool-dir", spool_dir)
        into = postgres.conninfo("western_copy")
        run_well("restore", "--from", folder, "--into", into, "--create", "--spool-dir", spool_dir)

        [made] = server.fetch(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = 'western_copy'"
        )
        assert made == ("LATIN1", "C", "C")
        assert_same(copy.conninfo, original.conninfo)
        assert copy.fetch('SELECT "é" FROM "schön"."größe"') == [("naïve",)]
        [file] = [file for file in find_backup(LocalBackend(folder), BackupSelector()).files if file.kind == "table"]
        assert (file.schema_name, file.relation, file.rows) == ("schön", "größe", 1)
    finally:
        server.execute("DROP DATABASE IF EXISTS western")
        server.execute("DROP DATABASE IF EXISTS western_copy")


def test_a_database_without_an_encoding_comes_back(postgres: ThrowawayCluster, folder: Path, spool_dir: Path) -> None:
    server = Database("postgres", postgres.conninfo())
    server.execute("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    original = Database("ascii", postgres.conninfo("ascii"))
    copy = Database("ascii_copy", postgres.conninfo("ascii_copy"))
    count = "SELECT count(*)::int4, sum(length(b))::int4 FROM t"
    try:
        original.execute(r"CREATE TABLE t (b text); INSERT INTO t VALUES (E'\xff\xfe not UTF-8'), ('plain')")
        run_well("backup", original.conninfo, "--to", folder, "--spool-dir", spool_dir)
        run_well("restore", "--from", folder, "--into", copy.conninfo, "--create", "--spool-dir", spool_dir)
        assert copy.fetch(count) == original.fetch(count) == [(2, 17)]
    finally:
        server.execute("DROP DATABASE IF EXISTS ascii")
        server.execute("DROP DATABASE IF EXISTS ascii_copy")


def test_an_empty_database_comes_back(
    database: Database, make_database: DatabaseMaker, folder: Path, spool_dir: Path
) -> None:
    manifest = assert_comes_back(database, make_database, folder, spool_dir)
    assert (manifest.totals.tables, manifest.totals.rows) == (0, 0)


def test_five_thousand_tables_come_back(
    database: Database, make_database: DatabaseMaker, folder: Path, spool_dir: Path
) -> None:
    # Each transaction makes a thousand tables, since every new table holds a lock until its end.
    for start in range(0, 5000, 1000):
        database.execute(
            f"DO $$ BEGIN FOR i IN {start}..{start + 999} LOOP EXECUTE format("
            "'CREATE TABLE %I (i integer); INSERT INTO %I SELECT generate_series(1, %s)', 't ' || i, 't ' || i, i % 4);"
            " END LOOP; END $$"
        )
    target = make_database()
    run_well("backup", database.conninfo, "--to", folder, "--spool-dir", spool_dir)
    run_well("restore", "--from", folder, "--into", target.conninfo, "--spool-dir", spool_dir, "-j", 2)

    manifest = find_backup(LocalBackend(folder), BackupSelector())
    assert (manifest.totals.tables, manifest.totals.rows) == (5000, 7500)
    assert manifest.totals.objects < 10
    sums = "SELECT sum((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %I', relname), false, true, '')))[1]::text::int)"
    per_table = f"{sums}, count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 't %'"
    assert target.fetch(per_table) == database.fetch(per_table) == [(7500, 5000)]


def test_ten_thousand_large_objects_come_back(
    database: Database, make_database: DatabaseMaker, folder: Path, spool_dir: Path
) -> None:
    for start in range(0, 10000, 5000):
        database.execute(
            "SELECT count(lo_from_bytea(0, convert_to(repeat(i::text, i % 7), 'UTF8'))) "
            f"FROM generate_series({start}, {start + 4999}) AS i"
        )
    manifest = assert_comes_back(database, make_database, folder, spool_dir, "-j", 2)
    assert len([file for file in manifest.files if file.kind == "large_object"]) == 10000
    assert manifest.totals.objects < 10


def test_what_tables_can_be_comes_back(
    database: Database, make_database: DatabaseMaker, folder: Path, spool_dir: Path
) -> None:
    database.execute(
        """
        CREATE TABLE nothing ();
        INSERT INTO nothing SELECT FROM generate_series(1, 7);
        CREATE TABLE computed (a integer, twice integer GENERATED ALWAYS AS (a * 2) STORED);
        INSERT INTO computed SELECT generate_series(1, 9);
        CREATE TABLE part (k text, v integer) PARTITION BY LIST (k);
        CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a') PARTITION BY RANGE (v);
        CREATE TABLE part_a_low PARTITION OF part_a FOR VALUES FROM (0) TO (10);
        CREATE TABLE part_rest PARTITION OF part DEFAULT;
        INSERT INTO part SELECT (ARRAY['a', 'b'])[1 + i % 2], i % 10 FROM generate_series(1, 50) AS i;
        CREATE TABLE parent (id integer);
        CREATE TABLE child (more text) INHERITS (parent);
        INSERT INTO parent SELECT generate_series(1, 3);
        INSERT INTO child SELECT i, 'child' FROM generate_series(1, 4) AS i;
        CREATE TABLE "dropped column" (a integer, b integer);
        INSERT INTO "dropped column" SELECT i, i FROM generate_series(1, 5) AS i;
        ALTER TABLE "dropped column" DROP COLUMN b;
        CREATE TABLE one (id integer PRIMARY KEY, other integer);
        CREATE TABLE two (id integer PRIMARY KEY, other integer REFERENCES one);
        ALTER TABLE one ADD FOREIGN KEY (other) REFERENCES two;
        INSERT INTO one VALUES (1, NULL); INSERT INTO two VALUES (1, 1); UPDATE one SET other = 1;
        """
    )
    manifest = assert_comes_back(database, make_database, folder, spool_dir)
    rows = {file.relation: file.rows for file in manifest.files if file.kind == "table"}
    assert rows == {
        "nothing": 7,
        "computed": 9,
        "part_a_low": 25,
        "part_rest": 25,
        "parent": 3,
        "child": 4,
        "dropped column": 5,
        "one": 1,
        "two": 1,
    }


def test_a_table_larger_than_the_spool_and_the_memory_streams_through(
    database: Database, empty_target: Database, folder: Path, spool_dir: Path
) -> None:
    """A restore stores no data on the local disk: the archive's files are pipes."""
    database.execute(
        "CREATE TABLE big AS SELECT i, md5(i::text) || md5((-i)::text) || md5((i * 7)::text) AS noise "
        "FROM generate_series(1, 420000) AS i"
    )
    small = ("--memory", "4MiB", "--object-size", "1MiB", "--spool-limit", "16MiB")
    run_well("backup", database.conninfo, "--to", folder, "--spool-dir", spool_dir, *small)
    manifest = find_backup(LocalBackend(folder), BackupSelector())
    assert manifest.totals.size > 40 * 2**20
    assert max(stored.size for stored in manifest.objects) <= 2**20 * 1.01

    largest = 0
    arguments = ("--into", empty_target.conninfo, "--spool-dir", spool_dir, "--memory", "64MiB", "--quiet")
    with start_pgstow("restore", "--from", folder, *arguments) as process:
        wait_until(lambda: sessions(empty_target) or process.poll() is not None, "pg_restore has begun")
        while process.poll() is None:
            largest = max(largest, disk_use(spool_dir))
        result = finish(process)
    assert result.exit_code == 0, result
    assert largest < 100_000
    assert empty_target.fetch("SELECT count(*), sum(i) FROM big") == database.fetch("SELECT count(*), sum(i) FROM big")
