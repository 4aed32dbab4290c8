"""Backups in the formats custom, tar and plain, each of which is a single file. pgstow promises the same for them as for directories."""

import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.faulty_backups import SMALL, FaultyStore
from support.pgstow import (
    PGSTOW,
    Result,
    assert_nothing_left,
    assert_one_sentence,
    committed_backups,
    finish,
    run_pgstow,
    sessions,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import OBJECT_SIZE, StoredSample

from demo import compare
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import Manifest, dump_manifest
from pipeline.postgres.programs import find_program
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends.local import LocalBackend

INPUT, DUMP, RESTORE, DAMAGED = 2, 4, 5, 7
FORMATS = ("custom", "tar", "plain")
ARCHIVES = FORMATS[:2]


@dataclass(frozen=True)
class Stored:
    """A store that holds one backup of the sample."""

    format: str
    folder: Path

    @property
    def manifest(self) -> Manifest:
        return find_backup(LocalBackend(self.folder), BackupSelector())

    def run(self, command: str, *arguments: object) -> Result:
        """Run pgstow on this store."""
        return run_pgstow(command, "--from", self.folder, *arguments, "-q")


def back_up(conninfo: str, format_: str, store: object, spool_dir: Path, *more: object) -> Result:
    return run_pgstow("backup", conninfo, "-F", format_, "--to", store, "--spool-dir", spool_dir, "-q", *more)


@pytest.fixture(scope="module")
def stored_once(
    postgres: ThrowawayCluster, _sample_template: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Stored]:
    """Return a backup of the sample for each format."""
    made = {}
    for format_ in FORMATS:
        made[format_] = Stored(format_, tmp_path_factory.mktemp(format_))
        source, spool_dir = postgres.conninfo(_sample_template), tmp_path_factory.mktemp("spool")
        done = back_up(source, format_, made[format_].folder, spool_dir, "--object-size", OBJECT_SIZE)
        assert (done.exit_code, done.stderr) == (0, "")
    return made


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, stored_once: dict[str, Stored]) -> Stored:
    """Return the backup in each format in turn. All tests share it, so a test must not change it."""
    return stored_once[request.param]


@pytest.fixture(params=ARCHIVES)
def stored_archive(request: pytest.FixtureRequest, stored_once: dict[str, Stored]) -> Stored:
    """Return the backup in each format that pg_restore reads. All tests share it, so a test must not change it."""
    return stored_once[request.param]


def test_the_manifest_knows_each_table_as_that_of_a_directory_does(stored: Stored, stored_sample: StoredSample) -> None:
    manifest, directory = stored.manifest, stored_sample.manifest
    assert (manifest.dump.format, manifest.dump.jobs) == (stored.format, 1)
    [file] = manifest.files
    assert file.kind == ("script" if stored.format == "plain" else "archive")
    assert len(manifest.objects) > 5
    files = [file for file in directory.files if file.kind == "table"]
    assert sorted(
        (table.schema_name, table.relation, table.rows, table.checksum) for table in manifest.tables
    ) == sorted((str(file.schema_name), str(file.relation), file.rows or 0, file.checksum) for file in files)
    assert (manifest.totals.tables, manifest.totals.rows) == (directory.totals.tables, directory.totals.rows)


def test_it_comes_back_whole(
    stored: Stored,
    stored_sample: StoredSample,
    postgres: ThrowawayCluster,
    make_database: DatabaseMaker,
    spool_dir: Path,
) -> None:
    empty = make_database()
    for into in ((empty.conninfo,), (postgres.conninfo(f"new_{stored.format}"), "--create")):
        done = stored.run("restore", "--spool-dir", spool_dir, "--into", *into)
        assert (done.exit_code, done.stderr) == (0, "")
        assert compare.contents(into[0]) == compare.contents(stored_sample.source)
        assert compare.definitions(into[0]) == compare.definitions(stored_sample.source)
    assert_nothing_left(spool_dir, empty, stored.folder)
    assert_one_sentence(stored.run("restore", "--into", empty.conninfo), RESTORE, "is not empty")


@pytest.mark.parametrize("level", ["objects", "bytes", "archive", "restore"])
def test_it_is_good_at_every_level(stored: Stored, spool_dir: Path, level: str) -> None:
    more = ("--checksums",) if level == "restore" else ()
    done = stored.run("verify", "--level", level, "--spool-dir", spool_dir, "--no-attest", "--json", *more)
    assert done.exit_code == 0, done
    found = json.loads(done.stdout)
    assert found["objects"] == len(stored.manifest.objects)
    if level == "restore":
        assert found["restored"]["compared"] == stored.manifest.totals.tables


def test_a_table_that_the_manifest_lacks_is_found_at_each_level_that_reads_the_archive(
    stored: Stored, tmp_path: Path, spool_dir: Path
) -> None:
    subprocess.run(["cp", "-r", stored.folder, tmp_path / "copy"], check=True)
    manifest = stored.manifest
    totals = manifest.totals.model_copy(update={"tables": manifest.totals.tables - 1})
    lacking = manifest.model_copy(update={"tables": manifest.tables[1:], "totals": totals})
    [path] = (tmp_path / "copy" / "manifests").rglob("*.json")
    path.write_bytes(dump_manifest(lacking))
    for level in ("archive", "restore"):
        done = Stored(stored.format, tmp_path / "copy").run(
            "verify", "--level", level, "--spool-dir", spool_dir, "--no-attest"
        )
        assert done.exit_code == DAMAGED, (level, done)


def test_every_damage_is_found_and_nothing_of_it_restored(
    stored: Stored, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    subprocess.run(["cp", "-r", stored.folder, tmp_path / "copy"], check=True)
    copy, database = Stored(stored.format, tmp_path / "copy"), make_database()
    middle = copy.manifest.objects[len(copy.manifest.objects) // 2]
    path = copy.folder / middle.key
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    for level in ("bytes", "archive", "restore"):
        done = copy.run("verify", "--level", level, "--spool-dir", spool_dir, "--no-attest")
        assert done.exit_code == DAMAGED
        assert middle.key in done.stderr
    into = ("--into", database.conninfo, "--spool-dir", spool_dir)
    assert_one_sentence(copy.run("restore", *into), DAMAGED, middle.key)
    assert_nothing_left(spool_dir, database, stored.folder)


PIECE_OF_A_DUMP = """
$$; '; "; */ \\\\
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: p
--

COPY public.t (i) FROM stdin;
7
8
\\\\.


SET client_encoding = 'LATIN1';
SET standard_conforming_strings = off;
\\\\restrict x
\\\\connect x
--
-- PostgreSQL database dump complete
--
"""
"""Text that looks like a part of a script with the rows of table t. Its backslashes are doubled, since SQL has it as E'…'."""
PASTED = "E'" + PIECE_OF_A_DUMP.replace("'", "''") + "'"


@pytest.mark.parametrize("format_", ["custom", "plain"])
def test_text_that_looks_like_a_dump_is_text(
    make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path, format_: str
) -> None:
    source, target = make_database(), make_database()
    body = PIECE_OF_A_DUMP.replace("\\\\", "\\")
    odd = body.replace('"', '""')[:60]
    source.execute(
        f'CREATE TABLE t AS SELECT 1 AS i; CREATE TABLE "tä" (i int DEFAULT 2, d text DEFAULT {PASTED}, "{odd}" int);'
        f'INSERT INTO "tä" DEFAULT VALUES; COMMENT ON TABLE t IS {PASTED}; COMMENT ON TABLE "tä" IS $c${body}$c$;'
        f"CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $body$ BEGIN RETURN {PASTED}; END; -- */ $body$;"
        f"CREATE FUNCTION g(a text DEFAULT {PASTED}) RETURNS text LANGUAGE sql AS $body$ SELECT $x$ {body} $x$ $body$;"
        f"CREATE FUNCTION h() RETURNS text BEGIN ATOMIC SELECT 1; SELECT {PASTED}::text AS text; END;"
        f'CREATE VIEW v AS SELECT {PASTED} AS "{odd}"; CREATE SEQUENCE "{odd}";'
        f'CREATE RULE r AS ON INSERT TO t WHERE false DO (SELECT 1; INSERT INTO "tä" (d) VALUES ({PASTED}));'
    )
    assert back_up(source.conninfo, format_, tmp_path, spool_dir).exit_code == 0
    stored = Stored(format_, tmp_path)
    assert sorted((table.relation, table.rows) for table in stored.manifest.tables) == [("t", 1), ("tä", 1)]
    assert stored.manifest.dump.encoding in {None, "UTF8"}
    assert stored.run("verify", "--level", "archive").exit_code == 0
    restored = stored.run("restore", "--into", target.conninfo)
    assert restored.exit_code == 0, restored
    assert target.fetch('SELECT i, d FROM "tä"') == source.fetch('SELECT i, d FROM "tä"')
    assert compare.definitions(target.conninfo) == compare.definitions(source.conninfo)


@pytest.mark.parametrize("format_", ["custom", "plain"])
def test_characters_that_end_in_a_backslash(
    make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path, format_: str
) -> None:
    r"""The second byte of \u8868 in SJIS is a backslash, but it doesn't escape a quote that follows."""
    source, target = make_database(), make_database()
    source.execute(
        f"ALTER DATABASE {source.name} SET client_encoding = 'SJIS'; CREATE TABLE t AS SELECT 1 AS i, 'x\u8868' AS \"\u8868\";"
        f"COMMENT ON TABLE t IS '\u8868'; COMMENT ON COLUMN t.i IS {PASTED[:-1]}\u8868'; COMMENT ON COLUMN t.\"\u8868\" IS '; \u8868'"
    )
    with_password = make_conninfo(source.conninfo, password="secret")
    assert back_up(with_password, format_, tmp_path, spool_dir).exit_code == 0
    stored = Stored(format_, tmp_path)
    assert [(table.relation, table.columns, table.rows) for table in stored.manifest.tables] == [
        ("t", '(i, "\u8868")', 1)
    ]
    assert format_ != "plain" or stored.manifest.dump.encoding == "SJIS"
    restored = stored.run("restore", "--into", target.conninfo)
    assert restored.exit_code == 0, restored
    assert compare.contents(target.conninfo) == compare.contents(source.conninfo)
    assert compare.definitions(target.conninfo) == compare.definitions(source.conninfo)


COMMENT_ON_DATABASE = (
    b"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
)
ANY_BYTES = (
    b'CREATE SCHEMA "s\xe9"; CREATE TABLE "s\xe9"."caf\xe9 ""x" ("pr\xe9is" integer PRIMARY KEY, t text); '
    b'INSERT INTO "s\xe9"."caf\xe9 ""x" SELECT i, E\'gar\xe7on\' FROM generate_series(1, 9) i; '
    b'CREATE TABLE "na\xc3\xafve" AS SELECT 1 AS i; CREATE TABLE "\xe9" AS SELECT 1 AS "\xe9"; '
    rb'CREATE TABLE "\xe9" AS SELECT i AS "\xe9" FROM generate_series(1, 2) i'
)
"""Names and text in LATIN1 and in UTF-8, and a name that looks like the name that pgstow shows for a name in LATIN1."""


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_a_database_that_takes_any_bytes(
    postgres: ThrowawayCluster, tmp_path: Path, spool_dir: Path, format_: str
) -> None:
    ascii_like = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    names = [f"any_bytes_{format_}", f"any_bytes_{format_}_restored"]
    source, target = (Database(name, postgres.conninfo(name)) for name in names)
    maintenance = Database("postgres", postgres.conninfo())
    maintenance.execute(f"CREATE DATABASE {source.name} {ascii_like}")
    try:
        with psycopg.connect(source.conninfo, client_encoding="SQL_ASCII") as connection:
            connection.execute(ANY_BYTES)
            connection.execute(f"COMMENT ON DATABASE {source.name} IS ".encode() + b"'caf\xe9'")
        assert back_up(source.conninfo, format_, tmp_path, spool_dir).exit_code == 0
        stored = Stored(format_, tmp_path)
        assert stored.run("verify", "--level", "restore", "--checksums").exit_code == 0
        assert stored.run("restore", "--into", target.conninfo, "--create").exit_code == 0
        with psycopg.connect(target.conninfo, client_encoding="SQL_ASCII") as connection:
            [row] = connection.execute(
                b'SELECT count(*), min(t), max("pr\xe9is") FROM "s\xe9"."caf\xe9 ""x"'
            ).fetchall()
            [comment] = connection.execute(COMMENT_ON_DATABASE).fetchall()
        assert row == (9, b"gar\xe7on", 9)
        if format_ != "plain":  # a script has no comment on the database
            assert comment == (b"caf\xe9",)
            done = stored.run("restore", "--into", target.conninfo, "--data-only", "-t", "na*", "--allow-nonempty")
            assert done.exit_code == 0, done
        tables = stored.manifest.tables or [file for file in stored.manifest.files if file.kind == "table"]
        shown = {(table.schema_name, table.relation) for table in tables}
        assert {("s\\xe9", 'caf\\xe9 "x'), ("public", "\\xe9"), ("public", "\\x5cxe9")} <= shown
        if format_ == "directory":
            done = stored.run("restore", "--into", target.conninfo, "-t", "*.caf*", "--to-schema", "elsewhere")
            assert done.exit_code == 0, done
            with psycopg.connect(target.conninfo, client_encoding="SQL_ASCII") as connection:
                assert connection.execute(b'SELECT count(*) FROM elsewhere."caf\xe9 ""x"').fetchall() == [(9,)]
    finally:
        for database in (source, target):
            maintenance.execute(f"DROP DATABASE IF EXISTS {database.name}")


def test_roles_and_tablespaces_of_any_bytes(tmp_path: Path, spool_dir: Path) -> None:
    with ThrowawayCluster(encoding="SQL_ASCII") as cluster:
        with psycopg.connect(cluster.conninfo(), client_encoding="SQL_ASCII", autocommit=True) as connection:
            connection.execute(b'CREATE ROLE "r\xe9"')
            connection.execute(b'CREATE TABLESPACE "t\xe9" LOCATION ' + f"'{cluster.make_folder()}'".encode())
            connection.execute(b'CREATE TABLE t TABLESPACE "t\xe9" AS SELECT 1 AS i; ALTER TABLE t OWNER TO "r\xe9"')
        for format_ in ("directory", "custom", "plain"):
            store = tmp_path / format_
            assert back_up(cluster.conninfo(), format_, store, spool_dir).exit_code == 0
            done = Stored(format_, store).run("verify", "--level", "restore")
            assert done.exit_code == 0, done


class TestPart:
    """pg_restore reads an archive that is a single file from start to end, and restores the chosen entries as they come."""

    def test_a_table(
        self, stored_archive: Stored, stored_sample: StoredSample, make_database: DatabaseMaker, spool_dir: Path
    ) -> None:
        database = make_database()
        done = stored_archive.run(
            "restore", "--into", database.conninfo, "-t", "telemetry.reading", "--spool-dir", spool_dir
        )
        assert done.exit_code == 0, done
        assert list(compare.contents(database.conninfo)) == ["large objects", "telemetry.reading"]
        assert (
            compare.contents(database.conninfo)["telemetry.reading"]
            == compare.contents(stored_sample.source)["telemetry.reading"]
        )

    def test_definitions_and_then_rows(
        self, stored_archive: Stored, stored_sample: StoredSample, make_database: DatabaseMaker
    ) -> None:
        database = make_database()
        into = ("restore", "--into", database.conninfo)
        for sections in (("pre-data",), ("data",), ("post-data",)):
            done = stored_archive.run(*into, *(word for section in sections for word in ("--section", section)))
            assert done.exit_code == 0, done
        assert compare.contents(database.conninfo) == compare.contents(stored_sample.source)
        assert compare.definitions(database.conninfo) == compare.definitions(stored_sample.source)

    def test_a_list_that_somebody_edited(
        self, stored_archive: Stored, make_database: DatabaseMaker, tmp_path: Path
    ) -> None:
        database = make_database()
        database.execute("CREATE SCHEMA shop")
        listed = run_pgstow("show", "--from", stored_archive.folder, "--toc").stdout
        chosen = [line for line in listed.splitlines() if " shop product " in line and ("TABLE " in line)]
        (tmp_path / "list").write_text("\n".join(chosen))
        done = stored_archive.run("restore", "--into", database.conninfo, "-L", tmp_path / "list")
        assert done.exit_code == 0, done
        assert list(compare.contents(database.conninfo)) == ["large objects", "shop.product"]

    def test_a_list_has_the_data_in_the_archive_s_order(
        self, stored_archive: Stored, database: Database, tmp_path: Path
    ) -> None:
        listed = run_pgstow("show", "--from", stored_archive.folder, "--toc").stdout.splitlines()
        definitions = [line for line in listed if "TABLE DATA" not in line]
        data = [line for line in listed if "TABLE DATA" in line]
        (tmp_path / "list").write_text("\n".join([*definitions, *reversed(data)]))
        done = stored_archive.run("restore", "--into", database.conninfo, "-L", tmp_path / "list")
        assert_one_sentence(done, INPUT, "The list has the data of .* from its start")
        assert database.fetch("SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'") == [(0,)]

        (tmp_path / "list").write_text("\n".join([*data, *definitions][:2]))
        create = ("--section", "pre-data")
        assert stored_archive.run("restore", "--into", database.conninfo, *create).exit_code == 0
        done = stored_archive.run("restore", "--into", database.conninfo, "-L", tmp_path / "list", "--data-only")
        assert done.exit_code == 0, done

    def test_its_table_of_contents_may_be_long(
        self, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
    ) -> None:
        """pgstow reads more of the file if the table of contents is longer than the part that it read first."""
        source, target = make_database(), make_database()
        comment = "x" * 3000
        source.execute(
            f"DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (i integer); COMMENT ON TABLE t%s IS %L', i, i, '{comment}'); "
            "END LOOP; END $$; INSERT INTO t1000 VALUES (7)"
        )
        assert back_up(source.conninfo, "custom", tmp_path, spool_dir).exit_code == 0
        done = Stored("custom", tmp_path).run("restore", "--into", target.conninfo, "-t", "t1000")
        assert done.exit_code == 0, done
        assert target.fetch("SELECT * FROM t1000") == [(7,)]

    @pytest.mark.parametrize(
        "part", [("-t", "shop.product"), ("--schema-only",), ("--no-owner",), ("--clean",), ("--keep-going",)]
    )
    def test_a_script_is_all_or_nothing(
        self, stored_once: dict[str, Stored], empty_target: Database, part: tuple[str, ...]
    ) -> None:
        result = stored_once["plain"].run("restore", "--into", empty_target.conninfo, *part)
        assert_one_sentence(result, INPUT, "script, which psql runs")
        assert list(compare.contents(empty_target.conninfo)) == ["large objects"]


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_rows_alone_are_not_added_to_others_unasked(
    make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path, format_: str
) -> None:
    """An archive without definitions has no entries for its tables, so the tables must exist in the target."""
    source, target = make_database(), make_database()
    source.execute("CREATE TABLE t AS SELECT generate_series(1, 3) AS i")
    assert back_up(source.conninfo, format_, tmp_path, spool_dir, "--data-only").exit_code == 0
    target.execute("CREATE TABLE t AS SELECT 9 AS i")
    how = ("--allow-nonempty",) if format_ == "plain" else ("--data-only",)
    restore = ("restore", "--partial", "--into", target.conninfo, *how)
    if format_ != "plain":
        assert_one_sentence(Stored(format_, tmp_path).run(*restore), RESTORE, r"public\.t already holds rows")
        assert target.fetch("SELECT count(*) FROM t") == [(1,)]
    done = Stored(format_, tmp_path).run(*restore, *(() if format_ == "plain" else ("--allow-nonempty",)))
    assert done.exit_code == 0, done
    assert target.fetch("SELECT count(*) FROM t") == [(4,)]


class TestScript:
    """psql runs a script in one transaction if the database exists, unless the script has transactions of its own."""

    def test_what_the_server_refuses_leaves_nothing(
        self, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
    ) -> None:
        source, target = make_database(), make_database()
        source.execute(
            "CREATE TABLE a AS SELECT 1 AS i; CREATE TABLE b AS SELECT 2 AS i; CREATE PUBLICATION p FOR TABLE a;"
            "GRANT SELECT (i) ON a TO pg_monitor; REVOKE ALL ON a FROM postgres"
        )
        target.execute("CREATE TABLE b (other text)")
        restore = ("restore", "--into", target.conninfo, "--allow-nonempty")
        assert back_up(source.conninfo, "plain", tmp_path / "one", spool_dir).exit_code == 0
        whole = run_pgstow(
            *("restore", "--from", tmp_path / "one", "--into", make_database().conninfo, "-q"),
            env={"PG_COLOR": "always"},
        )
        assert (whole.exit_code, whole.stderr) == (0, ""), whole  # a publication's WARNING has an error's SQLSTATE
        result = Stored("plain", tmp_path / "one").run(*restore)
        assert_one_sentence(result, RESTORE, r'^pgstow: psql failed: relation "b" already exists\.$')
        assert tables_of(target) == ["b"]

        source.execute("SELECT lo_from_bytea(0, 'large')")
        assert back_up(source.conninfo, "plain", tmp_path / "two", spool_dir).exit_code == 0
        with_large_objects = Stored("plain", tmp_path / "two")
        assert_one_sentence(with_large_objects.run(*restore), RESTORE, f"The database {target.name} may hold a part")
        assert_one_sentence(
            with_large_objects.run(*restore, "--single-transaction"), INPUT, "transactions for large objects"
        )

    def test_what_a_server_lacks_is_no_damage(self, database: Database, tmp_path: Path, spool_dir: Path) -> None:
        database.execute("CREATE ROLE gone")
        try:
            database.execute("CREATE TABLE t AS SELECT 1 AS i; ALTER TABLE t OWNER TO gone")
            assert back_up(database.conninfo, "plain", tmp_path, spool_dir).exit_code == 0
            database.execute("DROP TABLE t")
        finally:
            database.execute("DROP ROLE gone")
        stored, prove = Stored("plain", tmp_path), ("verify", "--level", "restore", "--spool-dir", spool_dir)
        assert_one_sentence(stored.run(*prove, "--scratch", database.conninfo), INPUT, "lacks roles .*gone")
        assert not (tmp_path / "attestations").exists()
        assert stored.run(*prove).exit_code == 0

    def test_nor_does_damage(
        self, large_database: Database, empty_target: Database, tmp_path: Path, spool_dir: Path
    ) -> None:
        assert back_up(large_database.conninfo, "plain", tmp_path, spool_dir, "--object-size", "256KiB").exit_code == 0
        stored = Stored("plain", tmp_path)
        [*_, last, _sums] = stored.manifest.objects
        (tmp_path / last.key).write_bytes(b"!")
        assert_one_sentence(stored.run("restore", "--into", empty_target.conninfo), DAMAGED, last.key)
        assert tables_of(empty_target) == []
        assert sessions(empty_target) == []


def tables_of(database: Database) -> list[str]:
    return [
        name for (name,) in database.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    ]


class TestExport:
    def test_every_format_makes_the_same_script(self, stored: Stored, stored_sample: StoredSample) -> None:
        scripts = [
            [line for line in script.splitlines() if "restrict" not in line]
            for script in (
                stored.run("export").stdout,
                run_pgstow("export", "--from", stored_sample.folder, "-q").stdout,
            )
        ]
        assert scripts[0] == scripts[1]

    def test_the_archive_as_it_was(self, stored_archive: Stored, postgres: ThrowawayCluster, tmp_path: Path) -> None:
        done = stored_archive.run("export", "-F", stored_archive.format[0], "-f", tmp_path / "archive")
        assert (done.exit_code, done.stderr) == (0, "")
        listed = subprocess.run(
            [postgres.bin_dir / "pg_restore", "--list", tmp_path / "archive"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert listed.stdout == run_pgstow("show", "--from", stored_archive.folder, "--toc").stdout
        result = stored_archive.run("export", "-F", "directory")
        assert_one_sentence(result, INPUT, f"has the format {stored_archive.format}")

    def test_a_directory_as_a_stream(
        self, stored_sample: StoredSample, postgres: ThrowawayCluster, empty_target: Database, tmp_path: Path
    ) -> None:
        export = ("export", "--from", stored_sample.folder, "-F", "directory", "-q")
        refused = run_pgstow(*export, "-f", tmp_path / "folder")
        assert_one_sentence(refused, INPUT, "pgstow restore --to-directory")
        written = run_pgstow("restore", "--from", stored_sample.folder, "--to-directory", tmp_path / "folder", "-q")
        assert written.exit_code == 0, written
        stream = subprocess.run([PGSTOW, *export], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
            tar.extractall(tmp_path / "streamed", filter="data")
        folders = [
            {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("folder", "streamed")
        ]
        assert folders[0] == folders[1]
        restore = [postgres.bin_dir / "pg_restore", "-j2", "-d", empty_target.conninfo, tmp_path / "streamed"]
        subprocess.run(restore, check=True)
        assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)

    def test_what_a_script_cannot_become(self, stored_once: dict[str, Stored]) -> None:
        plain = stored_once["plain"]
        assert_one_sentence(plain.run("export", "--schema-only"), INPUT, "already has the format plain")
        assert_one_sentence(plain.run("export", "-F", "custom"), INPUT, "has the format plain")
        shown = run_pgstow("show", "--from", plain.folder, "--toc")
        assert_one_sentence(shown, INPUT, "has no table of contents")


class TestFaults:
    @pytest.fixture
    def short_pg_dump(self, tmp_path: Path) -> Path:
        """Return a folder with the real pg_restore, and with a pg_dump that cuts its output to the bytes that the file ``keep`` says."""
        real = find_program("pg_dump", at_least_major=12).path
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "pg_restore").symlink_to(real.with_name("pg_restore"))
        (folder / "pg_dump").write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {real} --version\n{real} "$@" | head -c "$(cat {folder}/keep)"\n'
        )
        (folder / "pg_dump").chmod(0o755)
        return folder

    @pytest.mark.parametrize(
        ("format_", "keep"),
        [
            *(("custom", keep) for keep in (0, 100, 100_000, -2000)),
            ("tar", -2000),
            ("plain", 100_000),
            ("plain", -2000),
        ],
    )
    def test_a_dump_that_is_cut_short_is_no_backup(
        self, sample_database: Database, tmp_path: Path, spool_dir: Path, short_pg_dump: Path, format_: str, keep: int
    ) -> None:
        command = (
            "backup",
            sample_database.conninfo,
            "-F",
            format_,
            "--to",
            tmp_path / "store",
            "--spool-dir",
            spool_dir,
        )
        (short_pg_dump / "keep").write_text(str(keep))
        result = run_pgstow(*command, "-q", "--bin-dir", short_pg_dump)
        assert_one_sentence(result, DUMP, "cut short|can't read pg_dump's output|ended before it wrote")
        assert_nothing_left(spool_dir, sample_database, tmp_path / "store")
        assert committed_backups(tmp_path / "store") == []

    @pytest.mark.parametrize("format_", ["custom", "plain"])
    def test_its_sessions_are_ended(
        self, large_database: Database, stuck_s3: FaultyStore, spool_dir: Path, format_: str
    ) -> None:
        with self.stuck(large_database, stuck_s3, spool_dir, format_) as process:
            large_database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgstow 2%' "
                "AND datname = current_database()"
            )
            stuck_s3.proxy.heal()
            result = finish(process)
        assert_one_sentence(result, DUMP, "terminating connection due to administrator command|server closed")
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)
        assert committed_backups(stuck_s3.bucket.url) == []

    @pytest.mark.parametrize(("format_", "number"), [("plain", signal.SIGTERM), ("custom", signal.SIGKILL)])
    def test_pgstow_is_stopped(
        self,
        large_database: Database,
        stuck_s3: FaultyStore,
        spool_dir: Path,
        tmp_path: Path,
        format_: str,
        number: signal.Signals,
    ) -> None:
        with self.stuck(large_database, stuck_s3, spool_dir, format_) as process:
            os.kill(process.pid, number)
            finish(process)
        assert_nothing_left(spool_dir, large_database, stuck_s3.bucket.url)
        assert committed_backups(stuck_s3.bucket.url) == []
        assert back_up(large_database.conninfo, format_, tmp_path / "store", spool_dir).exit_code == 0

    @contextmanager
    def stuck(
        self, database: Database, s3: FaultyStore, spool_dir: Path, format_: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Yield a backup that can't end, since the store answers no PUT."""
        limits = [*SMALL[:-2], "-o", "read_timeout=1"]
        command = ["backup", database.conninfo, "-F", format_, "--to", s3.url, "--spool-dir", spool_dir, "-q", *limits]
        with start_pgstow(*command) as process:
            wait_until(lambda: s3.proxy.count("PUT", "/data/"), "the first object is on its way")
            yield process
