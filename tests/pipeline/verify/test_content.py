"""Tests of the comparison of restored content with the archive. It finds changed values. It ignores the rows' order and partitions."""

import json
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import StoredSample

from pipeline.archive.reader import open_archive
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.events import Notice
from pipeline.postgres.conninfo import Conninfo
from pipeline.trust.seal import Keys
from pipeline.verify.content import LineDigest, compare_content
from storage_backends import StorageBackend
from storage_backends.local import LocalBackend


def compare(conninfo: str, store: StorageBackend) -> tuple[int, list[str], list[str]]:
    """Compare the database with its backup. Return the number of compared tables, the problems, and the notices."""
    told: list[str] = []
    limits = Limits(jobs=2)
    with Workers() as workers:
        archive = open_archive(store, find_backup(store, BackupSelector()), Keys(), workers, limits)
    comparison = compare_content(
        Conninfo.parse(conninfo),
        archive,
        store,
        limits,
        lambda event: told.append(event.text) if isinstance(event, Notice) else None,
    )
    return comparison.compared, comparison.problems, told


def test_unchanged_content_has_no_problems(stored_sample: StoredSample, sample_database: Database) -> None:
    assert compare(sample_database.conninfo, stored_sample.store) == (27, [], [])


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("UPDATE shop.product SET title = title || '.' WHERE sku = 'SKU-00007'", "shop.product"),
        ("UPDATE telemetry.reading SET at = at + interval '1 microsecond' WHERE ctid = '(0,1)'", "telemetry.reading"),
        ('UPDATE "odd names/日本 %41"."größe ∑ 名前 🐘" SET naïve = \'\' WHERE naïve IS NULL', '"?odd names'),
        ("UPDATE shop.review SET id = -id WHERE id IN (3, 4)", "shop.review"),
    ],
)
def test_a_changed_value_is_found_even_if_the_number_of_rows_is_the_same(
    stored_sample: StoredSample, sample_database: Database, change: str, table: str
) -> None:
    sample_database.execute(change)
    compared, [problem], _ = compare(sample_database.conninfo, stored_sample.store)
    assert compared == 27
    assert problem.startswith(table.replace('"?', ""))
    assert "content" in problem


def test_another_order_of_rows_is_no_problem(stored_sample: StoredSample, sample_database: Database) -> None:
    for table in ("shop.product", "telemetry.reading", "shop.order_item"):
        sample_database.execute(
            f"UPDATE {table} SET {'sku = sku' if 'reading' not in table else 'note = note'} WHERE ctid < '(1,1)'"
        )
    assert compare(sample_database.conninfo, stored_sample.store) == (27, [], [])


def test_settings_that_change_how_values_are_written_do_not_matter(
    stored_sample: StoredSample, sample_database: Database
) -> None:
    """A database's or a role's settings may change how the server writes times, dates, floats and bytea."""
    for setting in (
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'German'",
        "extra_float_digits = -3",
        "bytea_output = 'escape'",
        "IntervalStyle = 'iso_8601'",
    ):
        sample_database.execute(f"ALTER DATABASE {sample_database.name} SET {setting}")
    assert compare(sample_database.conninfo, stored_sample.store) == (27, [], [])


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_dump_with_other_settings_can_be_compared(
    encoding: str, format_: str, make_database: DatabaseMaker, postgres_admin: Database, tmp_path: Path, spool_dir: Path
) -> None:
    names = [f"settled_{encoding.lower()}_{number}" for number in (1, 2)]
    fill = (
        'CREATE TABLE "tä" ("ö" timestamptz, "a,(b" bytea, "c" text); '
        "INSERT INTO \"tä\" VALUES ('2024-07-01 12:00Z', '\\x00ff', 'grün'), (NULL, '', E'\\\\N')"
    )
    try:
        made = []
        for name in names:
            postgres_admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'")
            made.append(Database(name, make_conninfo(postgres_admin.conninfo, dbname=name, client_encoding="UTF8")))
            made[-1].execute(fill)
        made[0].execute(f"ALTER DATABASE {names[0]} SET TimeZone = '-05:45'")
        made[0].execute(f"ALTER DATABASE {names[0]} SET bytea_output = 'escape'")
        store = tmp_path / "store"
        where = ("--to", store, "--spool-dir", spool_dir, "--json")
        backup = run_pgstow("backup", made[0].conninfo, "-F", format_, *where)
        assert backup.exit_code == 0, backup
        assert json.loads(backup.stdout)["source"]["bytea_output"] == "escape"
        assert compare(made[1].conninfo, LocalBackend(store)) == (1, [], [])
        made[1].execute("UPDATE \"tä\" SET c = 'grun' WHERE c LIKE 'gr%'")
        assert len(compare(made[1].conninfo, LocalBackend(store))[1]) == 1
    finally:
        for name in names:
            postgres_admin.execute(f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture
def postgres_admin(database: Database) -> Database:
    """Return a connection to the server, to make databases with special properties."""
    return Database("postgres", make_conninfo(database.conninfo, dbname="postgres"))


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_rows_in_another_partition_are_no_problem(
    database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path, format_: str
) -> None:
    """If an enum's hash chooses the partition, rows may move, because the enum's OIDs change in a restore."""
    tables = (
        "CREATE TABLE parted (i integer, note text) PARTITION BY LIST (i);"
        "CREATE TABLE one PARTITION OF parted FOR VALUES IN ({});"
        "CREATE TABLE two PARTITION OF parted DEFAULT;"
        "INSERT INTO parted SELECT i % 3, 'row ' || i FROM generate_series(1, 50) AS i"
    )
    database.execute(tables.format(0))
    backup = ("backup", database.conninfo, "-F", format_, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
    assert run_pgstow(*backup).exit_code == 0
    restored = make_database()
    restored.execute(tables.format(1))
    assert compare(restored.conninfo, LocalBackend(tmp_path / "store")) == (2, [], [])
    restored.execute("UPDATE parted SET note = 'row' WHERE note = 'row 7'")
    _, [problem], _ = compare(restored.conninfo, LocalBackend(tmp_path / "store"))
    assert "public.one" in problem or "public.two" in problem


def test_a_table_with_rows_of_an_extension_cannot_be_compared(
    database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    database.execute("CREATE TABLE spatial AS SELECT 1 AS i")
    backup = ("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
    assert run_pgstow(*backup).exit_code == 0
    restored = make_database()
    restored.execute(
        "CREATE TABLE spatial AS SELECT generate_series(1, 5) AS i; ALTER EXTENSION plpgsql ADD TABLE spatial"
    )
    compared, problems, [notice] = compare(restored.conninfo, LocalBackend(tmp_path / "store"))
    assert (compared, problems) == (0, [])
    assert "public.spatial can't be compared" in notice


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_digest_of_lines_does_not_depend_on_order_or_parts(size: int) -> None:
    def digest(text: bytes, size: int = size) -> int:
        made = LineDigest()
        made.update_all(text[at : at + size] for at in range(0, len(text), size))
        return made.value

    lines = [b"one", b"", b"two", b"two", b"three" * 100]
    forwards = digest(b"".join(line + b"\n" for line in lines))
    assert forwards == digest(b"".join(line + b"\n" for line in reversed(lines)), 3)
    for others in (lines[:-1], [*lines, b""], [*lines, b"two"], [b"tw", b"otwo", *lines[:2], lines[4]]):
        assert digest(b"".join(line + b"\n" for line in others)) != forwards
