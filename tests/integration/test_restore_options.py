"""pg_restore's options. pgstow restores what stock pg_restore restores from the extracted archive of the same backup."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import StoredSample

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster

OBJECTS = """
CREATE SCHEMA lib AUTHORIZATION lib_owner;
CREATE TYPE lib.state AS ENUM ('new', 'old');
CREATE FUNCTION lib.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not by hand'; END $$;
CREATE TABLE lib.author (id integer PRIMARY KEY, name text, state lib.state DEFAULT 'new');
CREATE TABLE lib.album (id serial PRIMARY KEY, author integer NOT NULL REFERENCES lib.author) TABLESPACE lib_space;
CREATE INDEX author_name ON lib.author (name);
CREATE MATERIALIZED VIEW lib.names AS SELECT name FROM lib.author;
INSERT INTO lib.author SELECT i, md5(i::text) FROM generate_series(1, 500) AS i;
INSERT INTO lib.album (author) SELECT 1 + i % 500 FROM generate_series(1, 900) AS i;
CREATE TRIGGER refuse BEFORE INSERT ON lib.author FOR EACH ROW EXECUTE FUNCTION lib.refuse();
REFRESH MATERIALIZED VIEW lib.names;
SELECT lo_from_bytea(4711, 'large');
ALTER TABLE lib.author OWNER TO lib_owner;
COMMENT ON TABLE lib.author IS 'who';
GRANT SELECT ON lib.author TO lib_reader;
CREATE PUBLICATION lib_out FOR TABLE lib.author;
ALTER DATABASE library OWNER TO lib_owner;
ALTER DATABASE library SET work_mem TO '5MB';
COMMENT ON DATABASE library IS 'all of it';
GRANT CONNECT ON DATABASE library TO lib_reader;
CREATE SUBSCRIPTION lib_in CONNECTION 'dbname=nowhere' PUBLICATION lib_out WITH (connect = false);
"""
FORGET_SUBSCRIPTION = """
DO $$ BEGIN IF EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()) THEN
ALTER SUBSCRIPTION lib_in DISABLE; ALTER SUBSCRIPTION lib_in SET (slot_name = NONE); DROP SUBSCRIPTION lib_in; END IF; END $$
"""


@dataclass(frozen=True)
class Library:
    """A backup of a database with something for each option to omit, and the backup's extracted archive."""

    store: Path
    archive: Path
    postgres: ThrowawayCluster
    spool_dir: Path

    def pgstow(self, target: Database, *options: object) -> Result:
        """Restore with pgstow."""
        arguments = ("--from", self.store, "--into", target.conninfo, "--spool-dir", self.spool_dir, "--json")
        return run_pgstow("restore", *arguments, *options)

    def pg_restore(self, target: Database, *options: object, exit_code: int = 0) -> str:
        """Restore with stock pg_restore. Return its messages."""
        command = [self.postgres.bin_dir / "pg_restore", "-d", target.conninfo, *options, self.archive]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == exit_code, done
        return done.stderr

    def toc(self, *matching: str) -> list[str]:
        """Return the lines of the table of contents that match a pattern, or all lines if no pattern is given."""
        shown = run_pgstow("show", "--from", self.store, "--toc")
        assert shown.exit_code == 0, shown
        lines = [line for line in shown.stdout.splitlines() if line[:1].isdigit()]
        return [line for line in lines if not matching or any(re.search(words, line) for words in matching)]

    def dump(self, database: Database) -> list[str]:
        """Return pg_dump's script of a database."""
        command = [self.postgres.bin_dir / "pg_dump", "-d", database.conninfo]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line for line in text.splitlines() if not line.startswith(("\\restrict ", "\\unrestrict "))]


@pytest.fixture(scope="module")
def _library(postgres: ThrowawayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("library")
    server, source = Database("postgres", postgres.conninfo()), Database("library", postgres.conninfo("library"))
    server.execute("CREATE ROLE lib_owner SUPERUSER; CREATE ROLE lib_reader; CREATE ROLE lib_heir")
    in_place = postgres.conninfo() + " options='-c allow_in_place_tablespaces=on'"
    Database("postgres", in_place).execute("CREATE TABLESPACE lib_space LOCATION ''")
    server.execute("CREATE DATABASE library TEMPLATE template0")
    source.execute(OBJECTS)
    made = run_pgstow("backup", source.conninfo, "--to", folder / "store", "--spool-dir", folder, "-q")
    assert made.exit_code == 0, made
    extracted = run_pgstow("restore", "--from", folder / "store", "--to-directory", folder / "archive", "-q")
    assert extracted.exit_code == 0, extracted
    source.execute(FORGET_SUBSCRIPTION)
    server.execute("DROP DATABASE library")
    yield Library(folder / "store", folder / "archive", postgres, folder)
    server.execute("DROP TABLESPACE lib_space")
    server.execute("DROP ROLE lib_owner; DROP ROLE lib_reader; DROP ROLE lib_heir")


@pytest.fixture
def targets(make_database: DatabaseMaker) -> Iterator[list[Database]]:
    """Yield a target for pgstow and one for stock pg_restore. Then drop their subscriptions, so that the databases can be dropped."""
    made = [make_database(), make_database()]
    yield made
    for database in made:
        database.execute(FORGET_SUBSCRIPTION)


@pytest.fixture
def library(_library: Library, spool_dir: Path) -> Library:
    return Library(_library.store, _library.archive, _library.postgres, spool_dir)


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("options", "rows", "jobs"),
    [
        (["--schema-only"], 0, 2),
        (["--section", "pre-data"], 0, 1),
        (["--section=data", "--section=pre-data"], 1400, 1),
        (["--section=data", "--section=pre-data"], 1400, 2),
        (["--no-owner"], 1400, 2),
        (["--no-owner", "--role", "lib_owner"], 1400, 1),
        (["--no-owner", "--role", "lib_owner"], 1400, 2),
        (["-x"], 1400, 1),
        (["--no-comments"], 1400, 2),
        (["--no-publications"], 1400, 1),
        (["--no-subscriptions"], 1400, 2),
        (["--no-tablespaces"], 1400, 1),
        (["--no-security-labels"], 1400, 2),
        (["--no-table-access-method"], 1400, 2),
        (["--use-set-session-authorization"], 1400, 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_option_leaves_out_what_pg_restore_leaves_out(
    library: Library, targets: list[Database], options: list[str], rows: int, jobs: int
) -> None:
    ours, theirs = targets
    assert told(library.pgstow(ours, *options, "--jobs", jobs))["rows"] == rows
    library.pg_restore(theirs, *options, "--jobs", jobs)
    assert library.dump(ours) == library.dump(theirs)


def test_each_of_these_options_matters(library: Library, targets: list[Database]) -> None:
    """Otherwise the test above would prove nothing."""
    whole, _ = targets
    library.pg_restore(whole)
    text = "\n".join(library.dump(whole))
    for words in (
        "OWNER TO lib_owner",
        "GRANT SELECT",
        "COMMENT ON TABLE",
        "CREATE PUBLICATION",
        "CREATE SUBSCRIPTION",
        "default_tablespace = lib_space",
        "CREATE INDEX",
        "COPY lib.author",
    ):
        assert words in text


def test_definitions_then_data_then_the_rest_make_the_whole(library: Library, targets: list[Database]) -> None:
    ours, theirs = targets
    for section in ("pre-data", "data", "post-data"):
        assert told(library.pgstow(ours, "--section", section))["rows"] == (1400 if section == "data" else 0)
    library.pg_restore(theirs)
    assert library.dump(ours) == library.dump(theirs)
    ours.execute("DROP INDEX lib.author_name; CREATE INDEX author_name ON lib.author (id)")
    told(library.pgstow(ours, "--section", "post-data", "--clean", "--no-subscriptions"))
    assert library.dump(ours) == library.dump(theirs)


@pytest.mark.parametrize("jobs", [1, 2])
def test_data_into_tables_that_are_there(library: Library, targets: list[Database], jobs: int) -> None:
    ours, theirs = targets
    for target in targets:
        library.pg_restore(target, "--schema-only")
    result = library.pgstow(ours, "--data-only", "--jobs", jobs)
    assert result.exit_code == 5
    assert "not by hand" in result.stderr or "violates foreign key" in result.stderr
    ours.execute("TRUNCATE lib.author, lib.album")
    ours.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    untriggered = ("--data-only", "--disable-triggers", "--superuser", "postgres", "--jobs", jobs)
    assert told(library.pgstow(ours, *untriggered))["rows"] == 1400
    library.pg_restore(theirs, *untriggered)
    assert library.dump(ours) == library.dump(theirs)


def test_data_is_not_added_to_rows_unless_told(library: Library, targets: list[Database]) -> None:
    ours, _ = targets
    library.pg_restore(ours, "--section=pre-data")
    ours.execute("INSERT INTO lib.album VALUES (1000, 7), (1001, 7)")
    before = library.dump(ours)
    only = ("--data-only", "-t", "lib.album", "-t", "lib.author")
    assert_one_sentence(library.pgstow(ours, *only), 5, r"lib\.album already holds rows.*--allow-nonempty")
    assert library.dump(ours) == before

    told(library.pgstow(ours, *only, "--allow-nonempty"))

    assert ours.fetch("SELECT count(*), count(*) FILTER (WHERE id >= 1000) FROM lib.album") == [(902, 2)]


def test_rows_that_did_not_come_are_missed_beside_those_that_were_there(
    library: Library, targets: list[Database]
) -> None:
    ours, _ = targets
    library.pg_restore(ours, "--section=pre-data")
    ours.execute("INSERT INTO lib.album VALUES (1000, 7), (1001, 7)")
    ours.execute(
        "CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN new.id > 2 THEN new END; END';"
        "CREATE TRIGGER drop_some BEFORE INSERT ON lib.album FOR EACH ROW EXECUTE FUNCTION drop_some()"
    )
    result = library.pgstow(ours, "--data-only", "-t", "lib.album", "--allow-nonempty")
    assert_one_sentence(result, 5, r"lib\.album has 898 rows more than before, but the backup has 900")


def test_data_without_its_table(library: Library, database: Database) -> None:
    for options in (["--data-only"], ["--section", "data"], ["--data-only", "-t", "lib.author"]):
        assert_one_sentence(library.pgstow(database, *options), 5, r"has no table lib\.\w+\.")


@pytest.mark.parametrize("more", [[], ["--if-exists"]], ids=" ".join)
def test_what_is_there_is_dropped_first(library: Library, targets: list[Database], more: list[str]) -> None:
    """Only the subscription isn't dropped, since the server would ask the publisher."""
    options = ["--clean", *more, "--no-subscriptions"]
    ours, theirs = targets
    for target in targets:
        library.pg_restore(target)
        target.execute("DELETE FROM lib.album; ALTER TABLE lib.author ADD COLUMN more integer; CREATE TABLE mine ()")
    assert_one_sentence(library.pgstow(ours), 5, "not empty.*--clean")
    assert told(library.pgstow(ours, *options))["rows"] == 1400
    library.pg_restore(theirs, *options)
    assert library.dump(ours) == library.dump(theirs)
    assert "mine" in compare.contents(ours.conninfo)


def test_one_table_is_dropped_and_made_anew(library: Library, targets: list[Database]) -> None:
    ours, theirs = targets
    for target in targets:
        library.pg_restore(target)
    ours.execute("DELETE FROM lib.album")
    assert told(library.pgstow(ours, "-t", "lib.album", "--clean"))["rows"] == 900
    assert library.dump(ours) == library.dump(theirs)


def test_clean_needs_what_it_drops_unless_told(library: Library, targets: list[Database]) -> None:
    ours, _ = targets
    assert_one_sentence(library.pgstow(ours, "--clean"), 5, "pg_restore failed.*does not exist")
    assert told(library.pgstow(ours, "--clean", "--if-exists"))["rows"] == 1400


def test_all_or_nothing(library: Library, targets: list[Database]) -> None:
    ours, theirs = targets
    ours.execute("CREATE TABLE public.names (); CREATE SCHEMA lib; CREATE TABLE lib.album ()")
    before = library.dump(ours)
    failed = ("--single-transaction", "--allow-nonempty", "-t", "lib.author", "-t", "lib.names", "-n", "lib")
    line = assert_one_sentence(library.pgstow(ours, *failed), 5, "already exists")
    assert "may hold a part" not in line
    assert library.dump(ours) == before

    ours.execute("DROP SCHEMA lib CASCADE; DROP TABLE public.names")
    told(library.pgstow(ours, "--single-transaction"))
    library.pg_restore(theirs)
    assert library.dump(ours) == library.dump(theirs)


def test_a_new_database_belongs_to_the_role(library: Library, postgres: ThrowawayCluster) -> None:
    server = Database("postgres", postgres.conninfo())
    server.execute("ALTER ROLE lib_heir CREATEDB; GRANT lib_heir TO lib_reader; ALTER ROLE lib_reader LOGIN NOINHERIT")
    into = Database("inherited", make_conninfo(postgres.conninfo("inherited"), user="lib_reader"))
    try:
        options = ("--create", "-O", "-x", "--no-publications", "--no-subscriptions", "--no-tablespaces")
        assert_one_sentence(library.pgstow(into, *options), 3, "permission denied to create database")
        # Even to count rows, pgstow acts as lib_heir: the login role lib_reader may not read these tables.
        assert told(library.pgstow(into, *options, "--role", "lib_heir", "-n", "lib"))["rows"] == 1400
        owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'lib'::regnamespace"
        assert Database("", postgres.conninfo("inherited")).fetch(owners) == [("lib_heir",)]
        assert server.fetch("SELECT datdba::regrole::text FROM pg_database WHERE datname = 'inherited'") == [
            ("lib_heir",)
        ]
    finally:
        server.execute("DROP DATABASE IF EXISTS inherited")
        server.execute("ALTER ROLE lib_heir NOCREATEDB; REVOKE lib_heir FROM lib_reader; ALTER ROLE lib_reader NOLOGIN")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ("lib_owner", True, "all of it")),
        (["--no-owner"], ("postgres", True, "all of it")),
        (["--no-privileges"], ("lib_owner", False, "all of it")),
        (["--no-comments"], ("lib_owner", True, None)),
        (["--map-role", "lib_owner=lib_heir"], ("lib_heir", True, "all of it")),
    ],
    ids=str,
)
def test_options_hold_for_a_new_database_as_a_whole(
    library: Library, postgres: ThrowawayCluster, options: list[str], expected: tuple[Any, ...]
) -> None:
    server = Database("postgres", postgres.conninfo())
    try:
        told(library.pgstow(Database("copy", postgres.conninfo("copy")), "--create", "--no-subscriptions", *options))
        [found] = server.fetch(
            "SELECT datdba::regrole::text, datacl::text LIKE '%lib_reader=c%', shobj_description(oid, 'pg_database'), "
            "(SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = 'copy'"
        )
        assert (found[0], bool(found[1]), found[2]) == expected
        assert found[3] == ["work_mem=5MB"], "settings are always restored, since no option leaves them out"
    finally:
        server.execute("DROP DATABASE IF EXISTS copy")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_list_says_what_and_in_which_order(
    library: Library, targets: list[Database], jobs: int, tmp_path: Path
) -> None:
    ours, theirs = targets
    chosen = library.toc(
        " SCHEMA - lib ", " TYPE ", r"\d TABLE lib ", " TABLE DATA lib author ", "CONSTRAINT lib author "
    )
    tables = [line for line in chosen if " TABLE DATA " in line]
    assert len(tables) == 1
    path = tmp_path / "list"
    path.write_text("; a comment\n\n" + "\n".join(line + " ; and another" for line in chosen) + "\n;1; not this\n")

    answer = told(library.pgstow(ours, "-L", path, "--jobs", jobs))

    library.pg_restore(theirs, "-L", path, "--jobs", jobs)
    assert library.dump(ours) == library.dump(theirs)
    assert (answer["rows"], answer["tables"]) == (500, 1)


def test_all_but_some_tables(library: Library, targets: list[Database], postgres: ThrowawayCluster) -> None:
    new = Database("less", postgres.conninfo("less"))
    without_author = ("--exclude-table", "lib.author", "--no-subscriptions")
    assert_one_sentence(
        library.pgstow(new, "--create", *without_author), 2, r"materialized view lib\.names needs the tab"
    )
    try:
        result = library.pgstow(new, "--create", *without_author, "--exclude-table", "names")
        assert told(result)["rows"] == 900
        assert re.search(r"needs an excluded object: fk constraint lib\.album album_author_fkey", result.stderr)
        assert {name for name in compare.contents(new.conninfo) if name.startswith("lib.")} == {"lib.album"}
        [found] = new.fetch(
            "SELECT datdba::regrole::text, obj_description('lib'::regnamespace) FROM pg_database WHERE datname = 'less'"
        )
        assert found == ("lib_owner", None), "the database's own properties are restored, although objects are excluded"
        assert_one_sentence(library.pgstow(new, "-N", "lib"), 5, "not empty")
    finally:
        Database("postgres", postgres.conninfo()).execute("DROP DATABASE IF EXISTS less")
    ours, _ = targets
    assert told(library.pgstow(ours, "--exclude-schema", "lib"))["rows"] == 0
    assert ours.fetch("SELECT to_regnamespace('lib'), lo_get(4711)") == [(None, b"large")]


def test_an_index_a_function_and_a_trigger_by_name(library: Library, targets: list[Database]) -> None:
    ours, theirs = targets
    named = ("-I", "author_name", "-P", "refuse()", "-T", "author refuse")
    for target in targets:
        library.pg_restore(target)
        target.execute("DROP INDEX lib.author_name; DROP FUNCTION lib.refuse CASCADE")
    assert told(library.pgstow(ours, *named))["rows"] == 0
    library.pg_restore(theirs, *named)
    assert library.dump(ours) == library.dump(theirs)
    assert "CREATE TRIGGER refuse" in "\n".join(library.dump(ours))


def test_data_in_the_order_of_a_list(library: Library, targets: list[Database], tmp_path: Path) -> None:
    """With one job, the list's order counts. The list has author before album, which refers to author; the archive has album first."""
    ours, _ = targets
    library.pg_restore(ours, "--schema-only")
    ours.execute("DROP TRIGGER refuse ON lib.author")
    data = library.toc(" TABLE DATA ")
    assert [line.split()[6] for line in data] == ["album", "author"]
    path = tmp_path / "list"
    path.write_text("\n".join(reversed(data)))
    assert told(library.pgstow(ours, "-L", path, "--jobs", 1))["rows"] == 1400


def test_lists_that_are_none(library: Library, database: Database, tmp_path: Path) -> None:
    path = tmp_path / "list"
    assert_one_sentence(library.pgstow(database, "-L", path), 2, "The list .* can't be read: No such file")
    for text, reason in (
        ("999999; 0 0 TABLE public absent x\n", "has no entry 999999.*pgstow show --toc"),
        ("; nothing\n\n", "names no entry"),
        ("; a comment\nnonsense\n", "Line 2 .*begin with a dump ID: nonsense"),
    ):
        path.write_text(text)
        assert_one_sentence(library.pgstow(database, "--use-list", path), 2, reason)
    path.write_text("\n".join(library.toc()))
    assert_one_sentence(library.pgstow(database, "-L", path, "-t", "lib.author"), 2, "leave out names and patterns")


def test_a_list_for_an_archive_by_hand(library: Library, targets: list[Database], tmp_path: Path) -> None:
    ours, theirs = targets
    path, folder = tmp_path / "list", tmp_path / "archive"
    path.write_text("\n".join(library.toc(" SCHEMA - lib ", " TYPE ", r"\d TABLE lib author ", "DATA lib author ")))
    made = run_pgstow("restore", "--from", library.store, "--to-directory", folder, "-L", path, "-q")
    assert made.exit_code == 0, made
    assert len(list(folder.glob("*.dat"))) == 2, "the table of contents, and the data of one table"
    for target, archive, entries in ((ours, folder, folder / "pgstow.list"), (theirs, library.archive, path)):
        by_hand = Library(library.store, archive, library.postgres, library.spool_dir)
        by_hand.pg_restore(target, "-L", entries)
    assert library.dump(ours) == library.dump(theirs)


def test_the_table_of_contents_is_as_pg_restore_prints_it(library: Library, postgres: ThrowawayCluster) -> None:
    stock = subprocess.run(
        [postgres.bin_dir / "pg_restore", "--list", library.archive], capture_output=True, text=True, check=True
    ).stdout
    assert run_pgstow("show", "--from", library.store, "--toc").stdout == stock
    assert "TABLE DATA lib author" in stock
    assert_one_sentence(run_pgstow("show", "--from", library.store, "--toc", "--json"), 2, "exclude each other")


def test_the_table_of_contents_is_all_that_is_fetched_for_it(stored_sample: StoredSample) -> None:
    manifest = stored_sample.manifest
    [toc] = [file for file in manifest.files if file.kind == "toc"]
    needed = {segment.object for segment in toc.segments}
    others = [stored for index, stored in enumerate(manifest.objects) if index not in needed]
    assert len(others) > 5
    for stored in others:
        stored_sample.path(stored).unlink()
    shown = run_pgstow("show", "--from", stored_sample.folder, "--toc")
    assert shown.exit_code == 0, shown
    assert "TABLE DATA shop product" in shown.stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--schema-only", "--data-only"], "one of"),
        (["--data-only", "--section", "data"], "one of"),
        (["--section", "data", "--section", "nonsense"], "'nonsense' is not a section"),
        (["--data-only", "--clean"], "--clean"),
        (["--if-exists"], "say both"),
        (["--disable-triggers"], "--data-only"),
        (["--superuser", "x", "--data-only"], "say both"),
        (["--schema-only", "--no-schema"], "one of them"),
        (["--data-only", "--no-data"], "one of them"),
        (["--statistics-only", "--no-statistics"], "one of them"),
        (["--schema-only", "--statistics"], "one of them"),
        (["--clean", "--no-schema"], "makes no objects"),
        (["--transaction-size", "3", "-1"], "one of them"),
        (["--transaction-size", "3", "--keep-going"], "first error"),
        (["-t", "lib.album", "--as", "x", "-N", "other"], "options that exclude objects"),
        (["-s", "-a"], "one of"),
        (["-a", "-c"], "makes no objects"),
        (["-1", "--jobs", "2"], "--jobs 1"),
        (["--single-transaction", "--keep-going"], "first error"),
        (["--allow-error", "x"], "give both"),
        (["--keep-going", "--allow-error", "("], "not a regular expression"),
        (["--create", "--clean"], "leave out --clean"),
        (["--create", "--data-only"], "lacks the tables"),
        (["--create", "--section", "post-data"], "lacks the tables"),
        (["--map-role", "x"], "OLD=NEW"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_that_contradict_each_other(
    library: Library, database: Database, options: list[str], reason: str
) -> None:
    assert_one_sentence(library.pgstow(database, *options), 2, reason)


def test_options_for_pg_restore_do_not_go_with_a_plain_archive(library: Library, tmp_path: Path) -> None:
    for options in (["--no-owner"], ["--map-role", "a=b"], ["--keep-going", "--allow-error", "x"]):
        result = run_pgstow("restore", "--from", library.store, "--to-directory", tmp_path / "out", *options)
        assert_one_sentence(result, 2, "--to-directory only writes files")
    assert not (tmp_path / "out").exists()
