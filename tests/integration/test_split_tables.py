"""Several jobs that load one table restore the same rows as one job."""

import re
from pathlib import Path

import pytest
from support.pgstow import assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database

from demo import compare

ODD = r"""
CREATE TABLE odd (
    gone int, id int GENERATED ALWAYS AS IDENTITY, "a ""b\" text, doubled int GENERATED ALWAYS AS (7 * 2) STORED, raw bytea, list text[]
);
ALTER TABLE odd DROP COLUMN gone;
INSERT INTO odd ("a ""b\", raw, list)
SELECT (ARRAY[NULL, '', '\N', '\.', E'\\.\n', E'\n', E'\r\n\t\b', E'x\\', '\\n', E'\\\n\\.', repeat('é', i % 40)])[1 + i % 11],
       decode(md5(i::text), 'hex'), ARRAY[i::text, NULL, E'\n', '\N']
FROM generate_series(1, 6000) AS i;
CREATE TABLE wide (id int, long text) ;
ALTER TABLE wide ALTER long SET STORAGE EXTERNAL;
INSERT INTO wide
SELECT i, (SELECT string_agg(md5((i * j)::text), E'\n') FROM generate_series(1, CASE WHEN i % 10 = 3 THEN 70000 ELSE 100 END) AS j)
FROM generate_series(1, 20) AS i;
CREATE TABLE base (id int, note text);
CREATE TABLE derived (more text) INHERITS (base);
INSERT INTO base SELECT i, md5(i::text) FROM generate_series(1, 5000) AS i;
INSERT INTO derived SELECT i, 'd', md5(i::text) FROM generate_series(1, 5000) AS i;
CREATE TABLE guarded (id int, note text);
INSERT INTO guarded SELECT i, md5(i::text) FROM generate_series(1, 5000) AS i;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY never ON guarded USING (false);
CREATE TABLE node (id int PRIMARY KEY, parent int REFERENCES node, note text);
INSERT INTO node SELECT i, 1 + i / 2, md5(i::text) FROM generate_series(1, 5000) AS i;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a restore fires no trigger'; END $$;
CREATE TABLE parted (id int, note text) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (3000);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT i, md5(i::text) FROM generate_series(1, 6000) AS i;
CREATE TRIGGER fail BEFORE INSERT ON parted FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TABLE nothing (LIKE base);
CREATE TABLE no_columns ();
INSERT INTO no_columns SELECT FROM generate_series(1, 1000);
"""
"""Tables whose text is odd. Some rows of ``wide`` have 2 MB, more than what pgstow deals at once."""


@pytest.fixture
def store(database: Database, tmp_path: Path, spool_dir: Path) -> Path:
    """A backup of the database in objects that are as small as possible."""
    database.execute(ODD)
    back_up(database, tmp_path, spool_dir)
    return tmp_path


def back_up(database: Database, store: Path, spool_dir: Path) -> None:
    where = ("--to", store, "--object-size", 64 * 1024, "--spool-dir", spool_dir, "-q")
    made = run_pgstow("backup", database.conninfo, *where)
    assert (made.exit_code, made.stderr) == (0, "")


@pytest.mark.parametrize("jobs", [2, 5])
def test_the_rows_are_those_of_the_original(
    database: Database, store: Path, empty_target: Database, spool_dir: Path, jobs: int
) -> None:
    where = ("--from", store, "--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
    restored = run_pgstow("restore", *where, "--jobs", jobs, "--split-tables", 1)
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert compare.contents(empty_target.conninfo) == compare.contents(database.conninfo)


@pytest.mark.parametrize(
    ("options", "new_names"),
    [
        (("--clean", "--if-exists"), {"odd": "odd", "wide": "wide", "node": "node"}),
        (("-t", "wide"), {"wide": "wide"}),
        (("-t", "wide", "--as", "broad"), {"wide": "broad"}),
        (("-t", "odd", "--to-schema", "elsewhere"), {"odd": "elsewhere.odd"}),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_with_other_options(
    database: Database,
    store: Path,
    empty_target: Database,
    spool_dir: Path,
    options: tuple[str, ...],
    new_names: dict[str, str],
) -> None:
    if "--clean" in options:
        empty_target.execute("CREATE TABLE wide (old int); INSERT INTO wide VALUES (1)")
    where = ("--from", store, "--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
    restored = run_pgstow("restore", *where, "--jobs", 2, "--split-tables", 1, *options)
    assert (restored.exit_code, restored.stderr) == (0, "")
    was, came = compare.contents(database.conninfo), compare.contents(empty_target.conninfo)
    assert {new: came[new] for new in new_names.values()} == {new: was[old] for old, new in new_names.items()}


def test_a_proof_compares_the_content(store: Path, spool_dir: Path) -> None:
    where = ("--from", store, "--spool-dir", spool_dir, "-q", "--jobs", 3)
    proven = run_pgstow("verify", "--level", "restore", "--checksums", "--split-tables", 1, *where)
    assert (proven.exit_code, proven.stderr) == (0, "")


def test_an_error_in_one_row_ends_the_restore(
    database: Database, empty_target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """The error is in the rows that one session loads."""
    database.execute(
        "CREATE TABLE picky (id int, note text, CHECK (id <> 4321 OR current_setting('app.lax', true) IS NOT DISTINCT FROM 'on'))"
    )
    database.execute("SET app.lax = 'on'; INSERT INTO picky SELECT i, md5(i::text) FROM generate_series(1, 9000) AS i")
    back_up(database, tmp_path, spool_dir)
    where = ("--from", tmp_path, "--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
    failed = run_pgstow("restore", *where, "--jobs", 3, "--split-tables", 1)
    assert_one_sentence(failed, 5, "picky.*check constraint.*may hold a part of the backup")


@pytest.mark.parametrize("option", ["--keep-going", "--disable-triggers"])
def test_what_goes_on_after_errors_excludes_it(
    store: Path, empty_target: Database, spool_dir: Path, option: str
) -> None:
    more = ("--data-only",) if option == "--disable-triggers" else ()
    where = ("--from", store, "--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
    refused = run_pgstow("restore", *where, "--jobs", 3, "--split-tables", 1, option, *more)
    assert_one_sentence(refused, 2, f"--split-tables with a size and {option} exclude each other")


def test_a_missing_object_ends_the_restore(store: Path, empty_target: Database, spool_dir: Path) -> None:
    lost = max((store / "data").rglob("*.dat.00002.zst"))
    lost.unlink()
    where = ("--from", store, "--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
    failed = run_pgstow("restore", *where, "--jobs", 3, "--split-tables", 1)
    assert_one_sentence(failed, 7, f"{lost.name} is missing")


def test_partitions_of_an_older_table_are_loaded_in_turn(
    database: Database, empty_target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """They get the older table's foreign key before their rows, so a row must not come before the row that it refers to."""
    tree = "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, note text) PARTITION BY RANGE (id)"
    parts = (
        "CREATE TABLE low PARTITION OF tree FOR VALUES FROM (0) TO (4000); CREATE TABLE rest PARTITION OF tree DEFAULT"
    )
    rows = "INSERT INTO tree SELECT i, nullif(i - 1, 0), repeat(md5(i::text), 20) FROM generate_series(1, 8000) AS i"
    database.execute(f"{tree}; {parts}; {rows}")
    empty_target.execute(tree)
    back_up(database, tmp_path, spool_dir)
    contents = run_pgstow("show", "--from", tmp_path, "--toc").stdout.splitlines()
    listed = tmp_path / "list"
    listed.write_text("\n".join(line for line in contents if re.search(" TABLE.* public (low|rest) ", line)))
    where = ("--from", tmp_path, "--into", empty_target.conninfo, "--spool-dir", spool_dir, "-q")
    restored = run_pgstow("restore", *where, "-L", listed, "--allow-nonempty", "--jobs", 4, "--split-tables", 1)
    assert (restored.exit_code, restored.stderr) == (0, "")
    was, came = compare.contents(database.conninfo), compare.contents(empty_target.conninfo)
    assert [came[name] for name in ("low", "rest")] == [was[name] for name in ("low", "rest")]
