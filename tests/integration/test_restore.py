"""Restores: what they fetch, where they restore to, and what they refuse."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from support.faulty_http import FaultyProxy
from support.object_stores import StoreBucket
from support.pgstow import assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import StoredSample

from demo import compare
from pipeline.catalog.find import BackupSelector
from pipeline.errors import LocalResourceExhausted, ProgramMissing
from pipeline.events import Event, Started
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.restore.extract import ExtractRequest, extract

ODD = '"odd names/日本 %41"'


@pytest.fixture
def s3_sample(stored_sample: StoredSample, s3_bucket: StoreBucket) -> Iterator[tuple[str, FaultyProxy]]:
    """Copy the sample's backup to S3. Yield its URL behind a proxy that records requests, and the proxy."""
    for path in sorted(stored_sample.folder.rglob("*")):
        key = path.relative_to(stored_sample.folder).as_posix()
        if path.is_file() and not key.startswith("."):
            s3_bucket.client.put_object(
                Bucket=s3_bucket.bucket, Key=f"{s3_bucket.prefix}/{key}", Body=path.read_bytes()
            )
    with FaultyProxy(s3_bucket.endpoint) as proxy:
        yield s3_bucket.url_at(proxy.url), proxy


def restored(*arguments: object, **options: Any) -> dict[str, Any]:
    """Restore, and return the output of ``--json``."""
    result = run_pgstow("restore", *arguments, "--json", **options)
    assert result.exit_code == 0, result
    return json.loads(result.stdout)


REGULAR_FILES_ONLY = """\
#!/bin/sh
for last; do :; done
for file in "$last"/*; do
    if [ -d "$last" ] && { [ ! -f "$file" ] || [ -h "$file" ]; }; then
        echo "pg_restore: error: \\"$file\\" is not a regular file" >&2
        exit 1
    fi
done
exec %s/pg_restore "$@"
"""
"""A pg_restore that reads only regular files in an archive's folder, as the releases of November 2026 do."""


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_pg_restore_that_reads_only_regular_files(
    stored_sample: StoredSample,
    empty_target: Database,
    postgres: ThrowawayCluster,
    tmp_path: Path,
    spool_dir: Path,
    jobs: int,
) -> None:
    program = tmp_path / "pg_restore"
    program.write_text(REGULAR_FILES_ONLY % postgres.bin_dir)
    program.chmod(0o755)
    where = ("--bin-dir", tmp_path, "--spool-dir", spool_dir, "--jobs", jobs)
    restored("--from", stored_sample.folder, "--into", empty_target.conninfo, *where)
    assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)


@pytest.mark.parametrize("table", ["shop.product", "telemetry.scratch"])
def test_a_table_fetches_that_tables_objects(
    stored_sample: StoredSample,
    s3_sample: tuple[str, FaultyProxy],
    empty_target: Database,
    table: str,
    spool_dir: Path,
) -> None:
    url, proxy = s3_sample
    manifest = stored_sample.manifest
    wanted = {stored.key for stored in stored_sample.objects_of(table)}
    structure = {
        manifest.objects[segment.object].key
        for file in manifest.files
        if file.kind == "toc"
        for segment in file.segments
    }
    slices = {stored.key for stored in stored_sample.objects_of("telemetry.reading")}
    assert len(slices) > 2
    assert slices.isdisjoint(wanted | structure), "otherwise the test would prove nothing"

    told = restored("--from", url, "--into", empty_target.conninfo, "-t", table, "--spool-dir", spool_dir)

    gets = [request.path for request in proxy.requests if request.method == "GET" and "/data/" in request.path]
    fetched = [re.sub(r"^.*?/(data/[^?]*).*$", r"\1", path) for path in gets]
    assert sorted(fetched) == sorted([*wanted, *structure]), "no other data is fetched, and nothing twice"
    sizes = {stored.key: stored.size for stored in manifest.objects}
    assert told["fetched"] == sum(sizes[key] for key in fetched)
    assert (told["tables"], told["rows"]) == (1, stored_sample.table(table).rows)


def test_listing_and_showing_read_no_data(s3_sample: tuple[str, FaultyProxy]) -> None:
    url, proxy = s3_sample
    for command in ("list", "show"):
        assert run_pgstow(command, "--from", url).exit_code == 0
    assert proxy.count("GET", "/data/") == 0


@pytest.mark.parametrize(
    ("choice", "matching"),
    [
        (("-t", "Product"), r"^shop\.product$"),
        (("-t", "shop.p?o*|nothing"), r"^shop\.product$"),
        (("-t", "telemetry.*"), r"^telemetry\."),
        (("-n", "tele*"), r"^telemetry\."),
        (("-n", ODD), r'^"odd names'),
        (("-t", f'{ODD}."with space"'), r'"with space"$'),
        (("-t", f'{ODD}."new\nline"'), r'"new\nline"$'),
        (("-t", f'{ODD}."it\'s ""quoted"""'), r'"it\'s ""quoted"""$'),
        (("-t", f'{ODD}."-leading dash"'), r'"-leading dash"$'),
        (("-t", f'{ODD}."dot.ted.name"'), r'"dot\.ted\.name"$'),
        (("-t", f'{ODD}."wild*card?[a-z]|(x)"'), r'"wild\*card\?\[a-z\]\|\(x\)"$'),
        (("-t", f'{ODD}."$HOME `id`; rm -rf %s {{}}"'), r'"\$HOME'),
        (("-t", '"UPPER"'), r'"UPPER"$'),
        (("-t", "UPPER"), r"\.upper$"),
        (("-t", "shop.product", "-n", "telemetry", "-t", '"größe*"*'), None),
    ],
)
def test_what_is_chosen_comes_back_as_it_was_and_nothing_else(
    stored_sample: StoredSample, database: Database, choice: tuple[str, ...], matching: str | None, spool_dir: Path
) -> None:
    if matching is None:
        choice, matching = choice[:4], r"^shop\.product$|^telemetry\."
    original = compare.contents(stored_sample.source)
    expected = {name: content for name, content in original.items() if re.search(matching, name)}
    assert expected

    told = restored("--from", stored_sample.folder, "--into", database.conninfo, *choice, "--spool-dir", spool_dir)

    found = compare.contents(database.conninfo)
    del found["large objects"]
    assert found == expected
    assert told["rows"] == sum(content.rows for content in expected.values())


def test_a_table_brings_what_is_part_of_it(
    stored_sample: StoredSample, sample_database: Database, spool_dir: Path
) -> None:
    """A dropped and restored table is as before: columns, defaults, indexes, triggers, policies and comments."""
    before = compare.definitions(sample_database.conninfo)
    sample_database.execute("DROP TABLE shop.review")
    assert compare.definitions(sample_database.conninfo) != before

    into = ("--into", sample_database.conninfo, "-t", "shop.review", "--spool-dir", spool_dir)
    restored("--from", stored_sample.folder, *into)

    after = compare.definitions(sample_database.conninfo)
    statistics = [line for line in before if line.startswith("statistics")]
    assert [line for line in before if line not in after and line not in statistics] == []
    assert compare.contents(sample_database.conninfo) == compare.contents(stored_sample.source)


def test_foreign_keys_of_other_tables_are_named(
    stored_sample: StoredSample, sample_database: Database, spool_dir: Path
) -> None:
    sample_database.execute("DROP TABLE shop.product CASCADE")
    into = ("--into", sample_database.conninfo, "-t", "shop.product", "--spool-dir", spool_dir, "-q")
    result = run_pgstow("restore", "--from", stored_sample.folder, *into)
    assert result.exit_code == 0
    assert "foreign key shop.review review_sku_fkey" in result.stderr


def test_a_schema_may_be_there_already(stored_sample: StoredSample, database: Database, spool_dir: Path) -> None:
    database.execute("CREATE SCHEMA telemetry; CREATE TABLE public.mine ()")
    restored("--from", stored_sample.folder, "--into", database.conninfo, "-n", "telemetry", "--spool-dir", spool_dir)
    [(count,)] = database.fetch("SELECT count(*) FROM telemetry.reading")
    assert count == 5000


def test_a_pattern_that_matches_nothing_is_an_error(stored_sample: StoredSample, database: Database) -> None:
    into = ("--into", database.conninfo, "-q")
    result = run_pgstow("restore", "--from", stored_sample.folder, *into, "-t", "shop.nothing")
    assert_one_sentence(result, 2, r"no table that matches shop\.nothing")
    result = run_pgstow("restore", "--from", stored_sample.folder, *into, "-n", "shop", "-n", "nothing")
    assert_one_sentence(result, 2, "no schema that matches nothing")


@pytest.mark.parametrize(
    "something",
    [
        "CREATE TABLE mine ()",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE SEQUENCE mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "SELECT lo_create(0)",
    ],
)
def test_a_target_that_holds_something_is_refused(
    stored_sample: StoredSample, database: Database, something: str
) -> None:
    database.execute(something)
    result = run_pgstow("restore", "--from", stored_sample.folder, "--into", database.conninfo, "-q")
    assert_one_sentence(result, 5, "not empty.*--allow-nonempty")


def test_unless_told(stored_sample: StoredSample, database: Database, spool_dir: Path) -> None:
    database.execute("CREATE TABLE mine AS SELECT 1 AS kept")
    into = ("--into", database.conninfo, "--spool-dir", spool_dir, "--allow-nonempty")
    restored("--from", stored_sample.folder, *into)
    found = compare.contents(database.conninfo)
    assert found.pop("mine").rows == 1
    assert found == compare.contents(stored_sample.source)


def test_a_chosen_table_that_is_there_is_not_touched(stored_sample: StoredSample, sample_database: Database) -> None:
    sample_database.execute("DELETE FROM shop.product WHERE price > 500")
    before = compare.contents(sample_database.conninfo)
    into = ("--into", sample_database.conninfo, "-t", "shop.product", "-q")
    assert_one_sentence(run_pgstow("restore", "--from", stored_sample.folder, *into), 5, r"already has shop\.product")
    assert compare.contents(sample_database.conninfo) == before


def test_what_collides_fails_although_allowed(stored_sample: StoredSample, database: Database, spool_dir: Path) -> None:
    database.execute("CREATE SCHEMA shop; CREATE TABLE shop.product ()")
    into = ("--into", database.conninfo, "--allow-nonempty", "--spool-dir", spool_dir, "-q")
    assert_one_sentence(run_pgstow("restore", "--from", stored_sample.folder, *into), 5, 'schema "shop" already exists')


def test_create_refuses_a_database_that_is_there(stored_sample: StoredSample, sample_database: Database) -> None:
    before = compare.contents(sample_database.conninfo)
    into = ("--into", sample_database.conninfo, "--create", "-q")
    result = run_pgstow("restore", "--from", stored_sample.folder, *into)
    assert_one_sentence(result, 5, f'database "{sample_database.name}" already exists')
    assert compare.contents(sample_database.conninfo) == before, (
        "pgstow must not drop the existing database after the failure"
    )


def test_a_target_that_is_not_there(stored_sample: StoredSample, postgres: ThrowawayCluster, tmp_path: Path) -> None:
    restore = ("restore", "--from", stored_sample.folder, "-q", "--into")
    assert_one_sentence(
        run_pgstow(*restore, postgres.conninfo("absent")), 3, 'database "absent" does not exist.*with --create'
    )
    assert_one_sentence(run_pgstow(*restore, f"host={tmp_path} dbname=x"), 3, "Cannot connect")


def test_a_role_that_may_not_create_databases(
    stored_sample: StoredSample, postgres: ThrowawayCluster, database: Database
) -> None:
    database.execute("CREATE ROLE humble LOGIN")
    try:
        into = make_conninfo(postgres.conninfo("humble_copy"), user="humble")
        result = run_pgstow("restore", "--from", stored_sample.folder, "--into", into, "--create", "-q")
        assert_one_sentence(result, 3, "permission denied to create database. The role needs CREATEDB")
        # If a role may not create objects in an existing database, pgstow quotes pg_restore's error.
        into = make_conninfo(database.conninfo, user="humble")
        result = run_pgstow("restore", "--from", stored_sample.folder, "--into", into, "-q")
        assert_one_sentence(result, 5, "permission denied")
    finally:
        database.execute("DROP ROLE humble")


def test_into_a_server_of_a_newer_major_version(
    stored_sample: StoredSample, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    try:
        newer = ThrowawayCluster(at_least_major=postgres.major + 1)
    except ProgramMissing as exc:
        pytest.skip(str(exc))
    with newer:
        into = ("--into", newer.conninfo("moved"), "--create", "--spool-dir", spool_dir)
        told = restored("--from", stored_sample.folder, *into)
        assert (told["database"], told["rows"]) == ("moved", stored_sample.manifest.totals.rows)
        assert compare.contents(newer.conninfo("moved")) == compare.contents(stored_sample.source)


def test_which_backup(
    stored_sample: StoredSample, database: Database, make_database: DatabaseMaker, spool_dir: Path
) -> None:
    """Each of three backups of a database is found by its ID, by the ID's beginning, as the latest, or by a time."""
    store, spool = stored_sample.folder.with_name("three"), ("--spool-dir", spool_dir)
    ids, moments = [], []
    for state in range(3):
        database.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT {state} AS state")
        made = run_pgstow("backup", database.conninfo, "--to", store, "--json", *spool)
        ids.append(json.loads(made.stdout)["backup_id"])
        moments.append(json.loads(made.stdout)["snapshot_at"])

    def state_of(*which: str) -> int:
        target = make_database()
        told = restored(*which, "--from", store, "--into", target.conninfo, *spool)
        [(state,)] = target.fetch("SELECT state FROM t")
        assert told["backup_id"] == ids[state]
        return int(state)

    assert state_of(ids[1]) == 1
    assert state_of() == 2
    assert state_of("latest", "--at", moments[1]) == 1
    unique = next(ids[0][:size] for size in range(1, 30) if sum(id_.startswith(ids[0][:size]) for id_ in ids) == 1)
    assert state_of(unique) == 0

    into = ("--from", store, "--into", database.conninfo, "-q")
    assert_one_sentence(run_pgstow("restore", "2", *into), 2, "3 backups begin with 2")
    assert_one_sentence(run_pgstow("restore", "nonsense", *into), 8, "no backup nonsense")
    assert_one_sentence(run_pgstow("restore", "--at", "2001-01-01", *into), 8, "from 2001-01-01")
    assert_one_sentence(run_pgstow("restore", ids[0], "--at", "2001-01-01", *into), 2, "not by both")


def test_a_store_of_several_databases_has_to_be_told_which(
    stored_sample: StoredSample, database: Database, make_database: DatabaseMaker, spool_dir: Path
) -> None:
    database.execute("CREATE TABLE other AS SELECT 1")
    store = ("--from", stored_sample.folder)
    backup = (
        "backup",
        database.conninfo,
        "--to",
        stored_sample.folder,
        "--cluster",
        "test's",
        "--spool-dir",
        spool_dir,
    )
    assert run_pgstow(*backup, "-q").exit_code == 0
    target = make_database()
    result = run_pgstow("restore", *store, "--into", target.conninfo, "-q")
    assert_one_sentence(result, 2, "several databases.*--cluster 'prod' --database 'sample_template'")
    restored(*store, "--into", target.conninfo, "--cluster", "test's", "--spool-dir", spool_dir)
    assert list(compare.contents(target.conninfo)) == ["large objects", "other"]


@pytest.mark.parametrize("choice", [(), ("-n", "shop")])
def test_a_plain_archive_for_pg_restore_by_hand(
    stored_sample: StoredSample, postgres: ThrowawayCluster, database: Database, tmp_path: Path, choice: tuple[str, ...]
) -> None:
    folder = tmp_path / "deeper" / "archive"
    told = run_pgstow("restore", "--from", stored_sample.folder, "--to-directory", folder, *choice, "--json")
    assert told.exit_code == 0, told
    assert json.loads(told.stdout)["folder"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    listed = [f"--use-list={folder / 'pgstow.list'}"] if choice else []

    pg_restore = [postgres.bin_dir / "pg_restore", "--exit-on-error", "-j", "2", "-d", database.conninfo]
    subprocess.run([*pg_restore, *listed, folder], check=True)

    expected = compare.contents(stored_sample.source)
    if choice:
        expected = {name: content for name, content in expected.items() if name.startswith("shop.")}
        expected["large objects"] = compare.contents(database.conninfo)["large objects"]
        assert expected["large objects"].rows == 0
    assert compare.contents(database.conninfo) == expected
    assert sorted(path.name for path in folder.parent.iterdir()) == ["archive"]


def test_a_folder_that_holds_something_is_not_touched(stored_sample: StoredSample, tmp_path: Path) -> None:
    folder, neighbour = tmp_path / "mine", tmp_path / "out.partial"
    for path in (folder, neighbour):
        path.mkdir()
        (path / "precious").write_text("data")
    restore = ("restore", "--from", stored_sample.folder, "-q", "--to-directory")
    assert_one_sentence(run_pgstow(*restore, folder), 2, "not an empty folder")
    assert_one_sentence(run_pgstow(*restore, folder / "precious"), 2, "not an empty folder")
    assert run_pgstow(*restore, tmp_path / "out").exit_code == 0
    assert (folder / "precious").read_text() == (neighbour / "precious").read_text() == "data"


def test_an_empty_folder_is_filled_where_it_is(stored_sample: StoredSample, tmp_path: Path) -> None:
    """The folder may be a mount point. Then its disk is not its parent's disk."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    before = folder.stat()
    result = run_pgstow("restore", "--from", stored_sample.folder, "--to-directory", folder, "-q")
    assert result.exit_code == 0, result
    assert (folder.stat().st_dev, folder.stat().st_ino) == (before.st_dev, before.st_ino)
    assert (folder / "toc.dat").is_file()
    assert not list(folder.glob("*.partial"))


def test_a_link_that_waits_in_the_folder_leads_nowhere(stored_sample: StoredSample, tmp_path: Path) -> None:
    """Somebody who may write to the folder can guess the names of the files, and make links with these names."""
    victim, folder = tmp_path / "victim", tmp_path / "archive"
    victim.write_text("precious")

    def plant(event: Event) -> None:
        if isinstance(event, Started):
            for file in stored_sample.manifest.files:
                (folder / f"{file.path}.partial").symlink_to(victim)

    with pytest.raises(LocalResourceExhausted, match="File exists"):
        extract(ExtractRequest(BackupSelector(), folder), stored_sample.store, plant)
    assert victim.read_text() == "precious"
    assert not folder.exists()


def test_a_created_database_is_like_the_original_as_a_whole(
    postgres: ThrowawayCluster, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    """pgstow restores owner, settings, comment and grants. pg_restore restores them only into a new database with the old name."""
    server = Database("postgres", postgres.conninfo())
    original = make_database('odd "name" of; DATABASE x')
    name, copy = original.name.replace('"', '""'), "like the original"
    server.execute('CREATE ROLE landlord; CREATE ROLE "Gu est"')
    try:
        for statement in (
            f'ALTER DATABASE "{name}" OWNER TO landlord',
            f'ALTER DATABASE "{name}" SET search_path TO a, "B c"',
            f'ALTER DATABASE "{name}" CONNECTION LIMIT 7',
            f'ALTER ROLE "Gu est" IN DATABASE "{name}" SET work_mem TO \'5MB\'',
            f"COMMENT ON DATABASE \"{name}\" IS 'it''s; ON DATABASE \"{name}\" \n x\nCOMMENT ON DATABASE \"{name}\" IS ''y'';\n'",
            f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC; GRANT CONNECT ON DATABASE "{name}" TO "Gu est"',
        ):
            server.execute(statement)
        backup = ("backup", original.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
        assert run_pgstow(*backup).exit_code == 0
        restored("--from", tmp_path / "store", "--into", postgres.conninfo(copy), "--create", "--spool-dir", spool_dir)

        def whole(database: str) -> list[tuple[Any, ...]]:
            quoted = database.replace("'", "''")
            return server.fetch(
                "SELECT pg_get_userbyid(datdba), datconnlimit, "
                "ARRAY(SELECT acl::text FROM unnest(datacl) AS acl ORDER BY 1), shobj_description(d.oid, 'pg_database'), "
                "array_agg((pg_get_userbyid(setrole), setconfig)::text ORDER BY setrole) "
                f"FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid WHERE datname = '{quoted}' GROUP BY d.oid, d.*"
            )

        assert whole(copy) == whole(original.name)
        assert whole(copy)[0][:2] == ("landlord", 7)
    finally:
        server.execute(f'DROP DATABASE IF EXISTS "{copy}"')
        server.execute(f'DROP DATABASE "{name}"')
        server.execute('DROP ROLE landlord; DROP ROLE "Gu est"')


@pytest.mark.parametrize(
    ("format_", "more", "comment"),
    [
        ("directory", (), "ours"),
        ("plain", (), "ours"),
        ("plain", ("-t", "item"), "standard public schema"),  # with -t, pg_dump omits the schema itself
        ("plain", ("-t", "item", "-N", "public"), "standard public schema"),
    ],
)
def test_a_backup_of_the_schema_public_comes_back_into_a_new_database(
    format_: str,
    more: tuple[str, ...],
    comment: str,
    postgres: ThrowawayCluster,
    make_database: DatabaseMaker,
    tmp_path: Path,
    spool_dir: Path,
) -> None:
    """The dump contains CREATE SCHEMA public, but every new database already has this schema."""
    original = make_database()
    original.execute(
        "CREATE TABLE public.item AS SELECT 1 AS n; CREATE SCHEMA other; COMMENT ON SCHEMA public IS 'ours'"
    )
    where = ("--spool-dir", spool_dir, "-q")
    backup = ("backup", original.conninfo, "--to", tmp_path / "store", "-n", "pub*", "--format", format_, *more, *where)
    assert run_pgstow(*backup).exit_code == 0
    copy = Database("public_copy", postgres.conninfo("public_copy"))
    restore = ("--from", tmp_path / "store", "--partial", "--into", copy.conninfo, "--create", *where)
    try:
        assert restored(*restore)["rows"] == 1
        assert copy.fetch(
            "SELECT nspname, obj_description(oid) FROM pg_namespace WHERE nspname IN ('public', 'other')"
        ) == [("public", comment)]
    finally:
        Database("postgres", postgres.conninfo()).execute("DROP DATABASE IF EXISTS public_copy")


def test_owners_that_are_not_there_fail_it_and_leave_no_database(
    postgres: ThrowawayCluster, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    server, original = Database("postgres", postgres.conninfo()), make_database()
    server.execute(f"CREATE ROLE passing; GRANT CONNECT ON DATABASE {original.name} TO passing")
    backup = ("backup", original.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
    assert run_pgstow(*backup).exit_code == 0
    server.execute(f"REVOKE CONNECT ON DATABASE {original.name} FROM passing; DROP ROLE passing")
    into = ("--into", postgres.conninfo("orphan"), "--create", "--spool-dir", spool_dir, "-q")
    result = run_pgstow("restore", "--from", tmp_path / "store", *into)
    assert_one_sentence(result, 5, 'settings and grants could not be restored.*role "passing" does not exist')
    assert server.fetch("SELECT FROM pg_database WHERE datname = 'orphan'") == []


def test_a_pg_restore_that_the_server_does_not_understand(
    stored_sample: StoredSample, postgres: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    """Since 17, pg_restore sets transaction_timeout. pgstow refuses such a pg_restore before it creates a database."""
    program = tmp_path / "pg_restore"
    program.write_text("#!/bin/sh\necho 'pg_restore (PostgreSQL) 18.1'\n")
    program.chmod(0o755)
    if postgres.major >= 17:
        pytest.skip("the server understands every pg_restore")
    into = ("--into", postgres.conninfo("never"), "--create", "--bin-dir", tmp_path, "--spool-dir", spool_dir, "-q")
    result = run_pgstow("restore", "--from", stored_sample.folder, *into)
    assert_one_sentence(
        result,
        9,
        r"pg_restore of PostgreSQL 15 to 16 .newer versions can't restore into a server this old. is needed, but there is only 18\.1",
    )
    server = Database("postgres", postgres.conninfo())
    assert server.fetch("SELECT FROM pg_database WHERE datname = 'never'") == []


def test_a_partitioned_table_comes_with_its_rows(
    database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute(
        "CREATE TABLE m (k integer, v integer) PARTITION BY LIST (k); CREATE INDEX ON m (v);"
        "CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1); CREATE TABLE m2 PARTITION OF m DEFAULT;"
        "INSERT INTO m SELECT i % 2, i FROM generate_series(1, 200) AS i"
    )
    backup = ("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
    assert run_pgstow(*backup).exit_code == 0
    for table, rows in (("m", 200), ("m1", 100)):
        target = make_database()
        told = restored("--from", tmp_path / "store", "--into", target.conninfo, "-t", table, "--spool-dir", spool_dir)
        assert told["rows"] == rows
        assert target.fetch(f"SELECT count(*) FROM {table}") == [(rows,)]


def test_packs_are_not_fetched_again_and_again(
    database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    """The many small tables are in more packs than fit into memory."""
    database.execute(
        "DO $$ BEGIN FOR i IN 1..400 LOOP EXECUTE format('CREATE TABLE t%s AS SELECT md5(random()::text) || md5(random()::text) AS noise "
        "FROM generate_series(1, %s)', i, 1 + (i * 7919) % 97); END LOOP; END $$"
    )
    backup = ("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "--json")
    made = run_pgstow(*backup, "--object-size", "64KiB")
    stored = json.loads(made.stdout)["totals"]["stored_size"]
    assert json.loads(made.stdout)["totals"]["objects"] > 8
    arguments = ("--from", tmp_path / "store", "--memory", "256KiB", "--spool-dir", spool_dir, "--jobs", 2)
    into = restored("--into", make_database().conninfo, *arguments)
    assert into["fetched"] < 2 * stored


def test_say_where(stored_sample: StoredSample, database: Database, tmp_path: Path) -> None:
    for where in ((), ("--into", database.conninfo, "--to-directory", tmp_path / "x")):
        result = run_pgstow("restore", "--from", stored_sample.folder, *where)
        assert_one_sentence(result, 2, "either --into or --to-directory")


@pytest.mark.parametrize("only", ["schema", "data"])
def test_latest_is_no_partial_backup_unless_asked(
    database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path, only: str
) -> None:
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 5) AS i; CREATE INDEX ON t (i)")
    store, spool = tmp_path / "store", ("--spool-dir", spool_dir)
    backup = ("backup", database.conninfo, "--to", store, *spool, "--json")
    part = json.loads(run_pgstow(*backup, f"--{only}-only").stdout)
    assert part["dump"]["only"] == only
    assert part["totals"]["rows"] == (5 if only == "data" else 0)
    assert re.search(rf"{only} only$", run_pgstow("list", "--from", store).stdout, re.MULTILINE)
    target = make_database()
    into = ("--from", store, "--into", target.conninfo, *spool)
    assert_one_sentence(run_pgstow("restore", *into, "-q"), 8, f"only partial backups.*{part['backup_id']}.*--partial")

    whole = json.loads(run_pgstow(*backup).stdout)
    assert json.loads(run_pgstow(*backup, f"--{only}-only").stdout)["dump"]["only"] == only
    assert json.loads(run_pgstow("show", "--from", store, "--json").stdout)["backup_id"] == whole["backup_id"]

    if only == "data":
        target.execute("CREATE TABLE t (i integer)")
        told = restored(*into, "--partial", "--allow-nonempty")
    else:
        told = restored(*into, "--partial")
    assert told["backup_id"] != whole["backup_id"]
    assert target.fetch("SELECT count(*) FROM t") == [(told["rows"],)]
