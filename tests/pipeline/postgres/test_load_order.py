"""If pg_restore runs several jobs, some entries must be restored one after another, although the archive gives them no order."""

from itertools import pairwise
from pathlib import Path

import pytest
from support.loading import dumped_toc
from support.postgres_fixtures import Database

from pipeline.postgres.load_order import (
    in_order_of_an_index,
    outside_tables,
    partitions_of_others,
    turns_in_partition_trees,
)
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import Section, Toc, TocEntry
from pipeline.postgres.toc_format import read_toc

TREES = r"""
CREATE SCHEMA app;
CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TABLE app."p 1" (a int, b int) PARTITION BY LIST (a);
CREATE TABLE app.p1 PARTITION OF app."p 1" FOR VALUES IN (1) PARTITION BY LIST (b);
CREATE TABLE app.p11 PARTITION OF app.p1 FOR VALUES IN (1);
CREATE TABLE app.p_rest PARTITION OF app."p 1" DEFAULT;
CREATE UNIQUE INDEX ON app."p 1" (a, b);
CREATE TRIGGER t AFTER INSERT ON app."p 1" FOR EACH ROW EXECUTE FUNCTION app.f();
CREATE TRIGGER below BEFORE INSERT ON app.p1 FOR EACH ROW EXECUTE FUNCTION app.f();
CREATE TABLE app.refers (a int, b int, FOREIGN KEY (a, b) REFERENCES app."p 1" (a, b));
CREATE STATISTICS app.st ON a, b FROM app."p 1";
CREATE POLICY own ON app."p 1"; ALTER TABLE app."p 1" ENABLE ROW LEVEL SECURITY;
CREATE RULE quiet AS ON DELETE TO app."p 1" DO INSTEAD NOTHING;
CREATE TYPE app.mood AS ENUM ('sad', 'glad');
CREATE TABLE app.mooded (mood app.mood PRIMARY KEY) PARTITION BY HASH (mood);
CREATE TABLE app.mooded_0 PARTITION OF app.mooded FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.mooded_1 PARTITION OF app.mooded FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TRIGGER one AFTER INSERT ON app.mooded_1 FOR EACH ROW EXECUTE FUNCTION app.f();
CREATE TABLE app.base (a int); CREATE TABLE app.child () INHERITS (app.base);
CREATE TABLE app.grandchild () INHERITS (app.child);
INSERT INTO app.grandchild VALUES (1);
ALTER TABLE app.base ADD CONSTRAINT large CHECK (a > 5) NOT VALID;
CREATE DOMAIN app.d AS int; CREATE TYPE app.pair AS (a app.d, b int);
CREATE TABLE app.paired (pairs app.pair[]); INSERT INTO app.paired VALUES (ARRAY[(1, 1)::app.pair]);
ALTER DOMAIN app.d ADD CONSTRAINT "more than 5" CHECK (VALUE > 5) NOT VALID;
CREATE TABLE app.alone (a int PRIMARY KEY); CREATE INDEX ON app.alone (a);
"""


@pytest.fixture
def trees(postgres: ThrowawayCluster, database: Database, tmp_path: Path) -> Toc:
    database.execute(TREES)
    return read_toc(dumped_toc(postgres, database.conninfo, tmp_path / "archive"))


def attachments(toc: Toc) -> list[TocEntry]:
    return [entry for entry in toc.entries if entry.description == "INDEX ATTACH"]


def test_indexes_of_one_tree_are_attached_one_after_another(trees: Toc) -> None:
    """Two attachments at once may leave the partitioned table's index invalid."""
    turns = turns_in_partition_trees(trees)
    of_p = [entry for entry in attachments(trees) if not entry.tag.startswith("mooded")]
    of_mooded = [entry for entry in attachments(trees) if entry.tag.startswith("mooded")]
    assert (len(of_p), len(of_mooded)) == (3, 2)
    for first, *others in (of_p, of_mooded):
        assert first.dump_id not in turns
        assert [turns[after.dump_id] for after in others] == [(before.dump_id,) for before in (first, *others[:-1])]


def test_entries_that_lock_a_tree_from_above_wait_for_its_last_attachment(trees: Toc) -> None:
    """An attachment locks the partition first. A foreign key locks the partitioned table first. If both ran at once, they could deadlock."""
    turns = turns_in_partition_trees(trees)
    *_, last = [entry for entry in attachments(trees) if not entry.tag.startswith("mooded")]
    tags = {entry.tag for entry in trees.entries if turns.get(entry.dump_id) == (last.dump_id,)}
    assert tags == {"p 1 t", "p1 below", "refers refers_a_b_fkey", "p 1 quiet", "p 1 own", "p 1"}


def test_entries_of_other_tables_wait_for_nothing_more(trees: Toc) -> None:
    turns = turns_in_partition_trees(trees)
    assert [entry.tag for entry in trees.entries if entry.dump_id in turns and entry.tag.startswith("alone")] == []


def test_data_of_tables_that_the_archive_does_not_make_come_in_the_order_of_the_foreign_keys(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path
) -> None:
    """An archive of data alone makes no table. pg_dump orders the data by the foreign keys, but writes no dependencies for them."""
    database.execute(
        "CREATE TABLE z (id int PRIMARY KEY); CREATE TABLE y (id int PRIMARY KEY REFERENCES z); CREATE TABLE x (id int REFERENCES y)"
    )
    toc = read_toc(dumped_toc(postgres, database.conninfo, tmp_path / "archive", "--data-only"))
    assert [entry.tag for entry in outside_tables(toc)] == ["z", "y", "x"]


LONG = 100_000
"""The number of entries in a chain. If time and memory grew with its square, the test would take hours and gigabytes."""


def made(dump_id: int, description: str, *dependencies: int) -> TocEntry:
    return TocEntry(dump_id, 0, description, Section.PRE_DATA, "s", f"t{dump_id}", "", dependencies, "", "", "", "")


def test_the_time_for_a_chain_of_partitions_grows_with_its_length() -> None:
    tables = [made(number, "TABLE") for number in range(LONG)]
    partitions = [made(LONG + number, "TABLE ATTACH", number, number - 1) for number in range(1, LONG)]
    indexes = [made(2 * LONG + number, "INDEX ATTACH", number) for number in range(1, LONG)]
    turns = turns_in_partition_trees(Toc("15", (*tables, *partitions, *indexes)))
    assert turns == {one.dump_id: (before.dump_id,) for before, one in pairwise(indexes)}


def test_tables_whose_rows_an_index_needs_in_their_order(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path
) -> None:
    database.execute(
        "CREATE TABLE plain (i int PRIMARY KEY, t text); CREATE INDEX ON plain (t);"
        "CREATE TABLE ranged (i int PRIMARY KEY); CREATE INDEX ON ranged USING brin (i);"
        "CREATE TABLE by_key (i int PRIMARY KEY); ALTER TABLE by_key CLUSTER ON by_key_pkey;"
        "CREATE TABLE by_index (i int); CREATE INDEX by_i ON by_index (i); ALTER TABLE by_index CLUSTER ON by_i;"
        "CREATE TABLE parts (i int) PARTITION BY RANGE (i); CREATE TABLE part PARTITION OF parts DEFAULT;"
        "CREATE INDEX ON parts USING brin (i)"
    )
    toc = read_toc(dumped_toc(postgres, database.conninfo, tmp_path / "archive"))
    found = in_order_of_an_index(toc)
    tables = {entry.tag for entry in toc.entries if entry.description == "TABLE" and entry.dump_id in found}
    assert tables == {"ranged", "by_key", "by_index", "part", "parts"}


def test_partitions_below_a_table_that_is_not_made(trees: Toc) -> None:
    tables = {entry.tag: entry.dump_id for entry in trees.entries if entry.description == "TABLE"}
    names = {dump_id: name for name, dump_id in tables.items()}

    def found(*left_out: str) -> set[str]:
        made = set(names) - {tables[name] for name in left_out}
        return {names[dump_id] for dump_id in partitions_of_others(trees.entries, made)}

    assert found() == set()
    assert found("p1") == {"p11"}
    assert found("p 1") == {"p1", "p11", "p_rest"}
    assert found("base", "mooded_0") == set()
