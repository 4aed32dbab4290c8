"""In the table of contents for parallel pg_restore, each entry that acts on a table waits for the table's data."""

from itertools import pairwise
from pathlib import Path

import pytest
from support.loading import awaited, dumped_toc, early
from support.postgres_fixtures import Database

from pipeline.errors import InvalidRequest
from pipeline.postgres.load_order import missing_dependencies, outside_tables
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import Section, Toc, TocEntry
from pipeline.postgres.toc_format import read_toc, renumber

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
    """Return the table of contents of TREES, with the dependencies that pg_dump left out."""
    database.execute(TREES)
    data = dumped_toc(postgres, database.conninfo, tmp_path / "archive")
    return read_toc(renumber(data, {}, missing_dependencies(read_toc(data))))


def named(toc: Toc, description: str, tag: str) -> TocEntry:
    [entry] = [entry for entry in toc.entries if (entry.description, entry.tag) == (description, tag)]
    return entry


def data_before(toc: Toc, description: str, tag: str) -> set[str]:
    waits = awaited(toc)[named(toc, description, tag).dump_id]
    return {entry.tag for entry in toc.entries if entry.dump_id in waits}


@pytest.mark.parametrize("schema", ["trees", "sample"])
def test_no_entry_acts_on_a_table_before_its_data_are_loaded(
    postgres: ThrowawayCluster, sample_database: Database, database: Database, tmp_path: Path, schema: str
) -> None:
    database.execute(TREES)
    source = database if schema == "trees" else sample_database
    data = dumped_toc(postgres, source.conninfo, tmp_path / "archive")
    toc = read_toc(data)
    assert early(toc, source) != []  # pg_dump's own dependencies aren't enough

    more = missing_dependencies(toc)
    changed = read_toc(renumber(data, {}, more))

    assert early(changed, source) == []
    for before, after in zip(toc.entries, changed.entries, strict=True):
        assert after.dependencies == before.dependencies + more.get(before.dump_id, ())


def test_entries_on_partitioned_tables_wait_for_the_partitions_data(trees: Toc) -> None:
    for description, tag in (
        ("TRIGGER", "p 1 t"),
        ("FK CONSTRAINT", "refers refers_a_b_fkey"),
        ("RULE", "p 1 quiet"),
        ("POLICY", "p 1 own"),
        ("ROW SECURITY", "p 1"),
    ):
        assert data_before(trees, description, tag) >= {"p11", "p_rest"}
    assert data_before(trees, "TRIGGER", "p1 below") == {"p11"}


def test_rows_via_the_partitioned_table_are_loaded_before_any_partition_gets_a_trigger(trees: Toc) -> None:
    assert data_before(trees, "TRIGGER", "mooded_1 one") == {"mooded_0", "mooded_1"}


def test_many_partitions_have_no_more_dependencies_than_entries(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path
) -> None:
    """If each entry on each partition waited for all data, 1,000 partitions with 10 indexes would have 10 million dependencies."""
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE mooded (mood mood PRIMARY KEY, i int) PARTITION BY HASH (mood);"
        "CREATE INDEX ON mooded (i); CREATE INDEX ON mooded (i, mood);"
        "CREATE TABLE ranged (i int PRIMARY KEY, j int) PARTITION BY RANGE (i); CREATE INDEX ON ranged (j); CREATE INDEX ON ranged (j, i);"
    )
    for number in range(30):
        database.execute(
            f"CREATE TABLE mooded_{number} PARTITION OF mooded FOR VALUES WITH (MODULUS 30, REMAINDER {number});"
            f"CREATE TABLE ranged_{number} PARTITION OF ranged FOR VALUES FROM ({number}) TO ({number + 1})"
        )
    data = dumped_toc(postgres, database.conninfo, tmp_path / "archive")
    toc = read_toc(data)
    more = missing_dependencies(toc)
    assert sum(map(len, more.values())) < len(toc.entries)
    waits = awaited(read_toc(renumber(data, {}, more)))
    rows = {entry.dump_id for entry in toc.data_entries if entry.tag.startswith("mooded")}
    indexes = [
        entry for entry in toc.entries if entry.description in {"INDEX", "CONSTRAINT"} and "mooded" in entry.definition
    ]
    assert len(indexes) == 93
    assert all(waits[entry.dump_id] >= rows for entry in indexes)
    attached = [entry for entry in toc.entries if entry.description == "INDEX ATTACH"]
    assert len(attached) == 180
    assert all(len(waits[entry.dump_id]) >= 30 for entry in attached)


def test_constraints_that_are_not_valid_wait_for_the_old_rows(trees: Toc) -> None:
    assert data_before(trees, "CHECK CONSTRAINT", "base large") == {"base", "child", "grandchild"}
    assert data_before(trees, "CHECK CONSTRAINT", "d more than 5") == {"paired"}


def test_indexes_of_a_plain_table_wait_only_for_its_own_data(trees: Toc) -> None:
    for description, tag in (("INDEX", "alone_a_idx"), ("CONSTRAINT", "alone alone_pkey")):
        assert data_before(trees, description, tag) == {"alone"}


def test_data_of_tables_that_the_archive_does_not_make_are_loaded_one_after_another(
    postgres: ThrowawayCluster, database: Database, tmp_path: Path
) -> None:
    """An archive of data alone makes no table. pg_dump orders the data by the foreign keys, but writes no dependencies for them."""
    database.execute(
        "CREATE TABLE z (id int PRIMARY KEY); CREATE TABLE y (id int PRIMARY KEY REFERENCES z); CREATE TABLE x (id int REFERENCES y)"
    )
    data = dumped_toc(postgres, database.conninfo, tmp_path / "archive", "--data-only")
    toc = read_toc(data)
    assert [entry.tag for entry in outside_tables(toc)] == ["z", "y", "x"]
    more = missing_dependencies(toc)
    changed = read_toc(renumber(data, {}, more))
    assert [len(awaited(changed)[entry.dump_id]) for entry in outside_tables(changed)] == [0, 1, 2]
    for before, after in zip(toc.entries, changed.entries, strict=True):
        # The first dependency of a table's data must stay the table (buildTocEntryArrays).
        assert after.dependencies[:1] == before.dependencies[:1]
    assert missing_dependencies(toc, triggers_fire=False) == {}


def test_added_dependencies_are_renumbered_too(postgres: ThrowawayCluster, database: Database, tmp_path: Path) -> None:
    database.execute(TREES)
    data = dumped_toc(postgres, database.conninfo, tmp_path / "archive")
    toc = read_toc(data)
    ids = sorted(entry.dump_id for entry in toc.data_entries)
    new_ids = dict(zip(ids, ids[::-1], strict=True))
    more = missing_dependencies(toc)
    changed = read_toc(renumber(data, new_ids, more))
    for before, after in zip(toc.entries, changed.entries, strict=True):
        wanted = before.dependencies + more.get(before.dump_id, ())
        assert after.dependencies == tuple(new_ids.get(other, other) for other in wanted)
    assert any(entry.section == Section.POST_DATA and entry.dump_id in more for entry in toc.entries)


def test_indexes_of_one_tree_are_attached_one_after_another(trees: Toc) -> None:
    """Two attachments at once may leave the partitioned table's index invalid."""
    attachments = [entry for entry in trees.entries if entry.description == "INDEX ATTACH"]
    of_p = [entry for entry in attachments if not entry.tag.startswith("mooded")]
    of_mooded = [entry for entry in attachments if entry.tag.startswith("mooded")]
    assert (len(of_p), len(of_mooded)) == (3, 2)
    for tree in (of_p, of_mooded):
        assert all(before.dump_id in after.dependencies for before, after in pairwise(tree))
    assert of_p[-1].dump_id not in of_mooded[0].dependencies


LONG = 100_000
"""Entries of a chain in an archive made by hand. If time and memory grew with the square, they would be hours and gigabytes."""


def made(dump_id: int, description: str, *dependencies: int) -> TocEntry:
    section = Section.DATA if description == "TABLE DATA" else Section.PRE_DATA
    return TocEntry(dump_id, 0, description, section, "s", f"t{dump_id}", "", dependencies, "", "", "", "")


def test_more_dependencies_than_any_dump_has_are_refused() -> None:
    """In the archive, the entries of each table would wait for the data of all tables below it."""
    tables = [made(number, "TABLE", number - 1) for number in range(LONG)]
    data = [made(LONG + number, "TABLE DATA", number) for number in range(LONG)]
    with pytest.raises(InvalidRequest, match="--jobs 1, which needs none of these"):
        missing_dependencies(Toc("15", (*tables, *data)))


def test_the_time_for_a_chain_of_partitions_grows_with_its_length() -> None:
    tables = [made(number, "TABLE") for number in range(LONG)]
    attachments = [made(LONG + number, "TABLE ATTACH", number, number - 1) for number in range(1, LONG)]
    indexes = [made(2 * LONG + number, "INDEX ATTACH", number) for number in range(1, LONG)]
    missing = missing_dependencies(Toc("15", (*tables, *attachments, *indexes)))
    assert missing == {one.dump_id: (before.dump_id,) for before, one in pairwise(indexes)}


def test_statistics_wait_for_the_rows_of_their_table() -> None:
    """pg_restore 18 truncates the table before it loads the rows, and sets the number of rows to unknown."""
    entries = (made(1, "TABLE"), made(2, "VIEW"), made(3, "TABLE DATA", 1), made(4, "STATISTICS DATA", 1))
    toc = Toc("18", (*entries, made(5, "STATISTICS DATA", 2)))
    assert {dump_id: waits for dump_id, waits in missing_dependencies(toc).items() if waits} == {4: (3,)}
