"""A pattern chooses from an archive what pg_dump chooses by the same pattern from a database."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.postgres_fixtures import Database

from pipeline.archive.selection import EntrySelection
from pipeline.catalog.manifest import TOC_NAME
from pipeline.errors import InvalidRequest
from pipeline.postgres.patterns import choose_entries
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import Section, Toc, TocEntry
from pipeline.postgres.toc_format import read_toc

SQL = r"""
CREATE SCHEMA a; CREATE SCHEMA "A"; CREATE SCHEMA "a.b"; CREATE SCHEMA ab; CREATE SCHEMA "ÄB";
CREATE TABLE a.t (id serial PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> ''));
CREATE TABLE a."T" (id integer);
CREATE TABLE a.t1 (id integer REFERENCES a.t);
CREATE TABLE a."t*" (id integer);
CREATE TABLE a."t?x" (id integer);
CREATE TABLE a."t.u" (id integer);
CREATE TABLE a."t""q" (id integer);
CREATE TABLE a."t$" (id integer);
CREATE TABLE a."t|t1" (id integer);
CREATE TABLE a."tx[1]" (id integer);
CREATE TABLE a."grÖsse" (id integer);
CREATE TABLE "A".t (id integer);
CREATE TABLE "a.b".t (id integer);
CREATE TABLE ab.t (id integer);
CREATE TABLE "ÄB".t (id integer);
CREATE TABLE a."t v" (id integer REFERENCES a.t);
CREATE VIEW a.tv AS SELECT * FROM a.t;
CREATE MATERIALIZED VIEW a.tm AS SELECT * FROM a.t;
CREATE INDEX tm_index ON a.tm (id);
CREATE SEQUENCE a.ts;
CREATE INDEX "t index" ON a.t (v);
COMMENT ON INDEX a."t index" IS 'indexed';
COMMENT ON COLUMN a.t.v IS 'column';
CREATE FUNCTION a.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER "t trigger" BEFORE INSERT ON a.t FOR EACH ROW EXECUTE FUNCTION a.f();
CREATE RULE "t rule" AS ON DELETE TO a.t DO INSTEAD NOTHING;
ALTER TABLE a.t ENABLE ROW LEVEL SECURITY;
CREATE POLICY "t policy" ON a.t USING (true);
GRANT SELECT ON a.t TO PUBLIC;
"""

TABLE_PATTERNS = [
    "a.t",
    "A.T",
    '"A".t',
    'a."T"',
    "a.t*",
    "a.t?",
    'a."t*"',
    'a."t?x"',
    'a."t.u"',
    'a."t""q"',
    "a.t$",
    'a."t$"',
    "a.t|t1",
    'a."t|t1"',
    "a.(t|t1)",
    "a.t[0-9]",
    'a."tx[1]"',
    "a.gr*",
    "a.grÖsse",
    'a."grÖsse"',
    '"a.b".t',
    "a*.t",
    "?.t",
    "(a|ab).t",
    'a."t v"',
    '"a".t""v',
    "*.t",
    "a.t.*",
]
SCHEMA_PATTERNS = ["a", "A", '"A"', "a*", '"a.b"', "?", "(a|ab)", "ÄB", '"ÄB"', "?b*"]
IN_EVERY_ARCHIVE = {"ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE"}


@pytest.fixture(scope="module")
def filled(postgres: ThrowawayCluster) -> Database:
    Database("postgres", postgres.conninfo()).execute("CREATE DATABASE patterns TEMPLATE template0")
    made = Database("patterns", postgres.conninfo("patterns"))
    made.execute(SQL)
    return made


Dump = Callable[..., Toc | None]


@pytest.fixture(scope="module")
def dump(postgres: ThrowawayCluster, filled: Database, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """A function that returns the table of contents of a dump with these options; None if pg_dump finds nothing to dump."""

    def run(*options: str) -> Toc | None:
        folder: Path = tmp_path_factory.mktemp("dump") / "archive"
        pg_dump = [postgres.bin_dir / "pg_dump", "-Fd", "--schema-only", "--no-sync", f"--file={folder}", *options]
        done = subprocess.run([*pg_dump, f"--dbname={filled.conninfo}"], capture_output=True, text=True, check=False)
        if done.returncode:
            assert "no matching" in done.stderr or "cross-database" in done.stderr, done.stderr
            return None
        return read_toc((folder / TOC_NAME).read_bytes())

    return run


@pytest.fixture(scope="module")
def whole(dump: Dump) -> Toc:
    toc = dump()
    assert toc
    return toc


def names(toc: Toc, chosen: Sequence[int] | set[int] | None = None) -> set[tuple[str, str, str]]:
    """Return kind, schema and name of all entries, or of the chosen entries."""
    return {
        (entry.description, entry.namespace, entry.tag)
        for entry in toc.entries
        if (chosen is None or entry.dump_id in chosen) and entry.description not in IN_EVERY_ARCHIVE
    }


@pytest.mark.parametrize("pattern", TABLE_PATTERNS)
def test_a_table_pattern_chooses_what_pg_dump_chooses(dump: Dump, whole: Toc, pattern: str) -> None:
    by_pg_dump = dump(f"--table={pattern}")
    if by_pg_dump is None:
        with pytest.raises(InvalidRequest):
            choose_entries(whole, [pattern], [])
    else:
        assert names(whole, choose_entries(whole, [pattern], [])) == names(by_pg_dump)


@pytest.mark.parametrize("pattern", SCHEMA_PATTERNS)
def test_a_schema_pattern_chooses_what_pg_dump_chooses(dump: Dump, whole: Toc, pattern: str) -> None:
    by_pg_dump = dump(f"--schema={pattern}")
    if by_pg_dump is None:
        with pytest.raises(InvalidRequest):
            choose_entries(whole, [], [pattern])
    else:
        assert names(whole, choose_entries(whole, [], [pattern])) == names(by_pg_dump)


@pytest.mark.parametrize(
    ("option", "choice"),
    [
        ("--exclude-table=a.t", EntrySelection(exclude_tables=("a.t",))),
        ("--exclude-table=a.t1", EntrySelection(exclude_tables=("a.t1",))),
        ("--exclude-table=a.t*", EntrySelection(exclude_tables=("a.t*",))),
        ('--exclude-table="A".*', EntrySelection(exclude_tables=('"A".*',))),
        ("--exclude-table=nothing", EntrySelection(exclude_tables=("nothing",))),
        ("--exclude-schema=a", EntrySelection(exclude_schemas=("a",))),
        ("--exclude-schema=a*", EntrySelection(exclude_schemas=("a*",))),
        ("--exclude-schema=nothing", EntrySelection(exclude_schemas=("nothing",))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_exclusions_leave_out_what_pg_dump_leaves_out(
    dump: Dump, whole: Toc, option: str, choice: EntrySelection
) -> None:
    """pgstow also leaves out foreign keys to an excluded table, which the server would refuse, and sequences of an excluded table."""
    by_pg_dump = dump(option)
    assert by_pg_dump
    kept, lost = choice.select(whole)
    assert {one.description for one in lost} <= {"FK CONSTRAINT"}
    more = {(one.description, one.namespace, one.tag) for one in lost}
    if option == "--exclude-table=a.t":
        more.add(("SEQUENCE", "a", "t_id_seq"))
    assert names(whole, kept) | more == names(by_pg_dump)


def test_a_view_of_an_excluded_table_is_refused_for_a_new_database(whole: Toc) -> None:
    with pytest.raises(InvalidRequest, match=r"The (materialized )?view a\.t[mv] needs the table a\.t, which is excl"):
        EntrySelection(exclude_tables=("a.t",)).check_new(whole)
    EntrySelection(exclude_tables=("a.t", "a.t[mv]")).check_new(whole)
    EntrySelection(exclude_schemas=("a",)).check_new(whole)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (EntrySelection(indexes=("t index",)), {"INDEX t index", 'COMMENT INDEX "t index"'}),
        (EntrySelection(indexes=("a.tm_index",)), {"INDEX tm_index"}),
        (EntrySelection(functions=("f()",), triggers=("a.t t trigger",)), {"FUNCTION f()", "TRIGGER t t trigger"}),
        (EntrySelection(tables=("a.t1",), triggers=("t t trigger",)), {"TRIGGER t t trigger", "TABLE t1"}),
        (EntrySelection(tables=("a.t",), exclude_tables=("a.t",)), set()),
    ],
    ids=lambda value: str(value) if not isinstance(value, set) else "",
)
def test_names_choose_what_pg_restore_chooses(whole: Toc, choice: EntrySelection, expected: set[str]) -> None:
    found = {f"{kind} {tag}" for kind, _, tag in names(whole, choice.select(whole)[0]) if kind != "FK CONSTRAINT"}
    assert found == expected


@pytest.mark.parametrize("choice", [{"indexes": ("t_pkey",)}, {"functions": ("f",)}, {"triggers": ("t trigger",)}])
def test_a_name_that_is_not_in_the_archive_is_refused(whole: Toc, choice: dict[str, tuple[str]]) -> None:
    with pytest.raises(InvalidRequest, match=r"holds no \w+ .*as pgstow show --toc does"):
        EntrySelection(**choice).select(whole)


def test_a_table_pattern_without_a_schema_matches_every_schema(whole: Toc) -> None:
    """pg_dump would take only tables on the search path, but an archive has no search path."""
    chosen = names(whole, choose_entries(whole, ["t"], []))
    assert {schema for kind, schema, name in chosen if (kind, name) == ("TABLE", "t")} == {"a", "A", "a.b", "ab", "ÄB"}


PARTITIONED = """
CREATE SCHEMA p; CREATE SCHEMA q;
CREATE TABLE p.m (k integer, v integer) PARTITION BY LIST (k);
CREATE TABLE q.m1 PARTITION OF p.m FOR VALUES IN (1) PARTITION BY RANGE (v);
CREATE TABLE p.m1_low PARTITION OF q.m1 FOR VALUES FROM (0) TO (10);
CREATE TABLE p.m2 PARTITION OF p.m DEFAULT;
CREATE INDEX m_index ON p.m (v);
CREATE TABLE p.parent (i integer); CREATE TABLE p.child () INHERITS (p.parent);
"""


@pytest.fixture(scope="module")
def partitioned(filled: Database, dump: Dump) -> Toc:
    filled.execute(PARTITIONED)
    toc = dump("--schema=p", "--schema=q")
    filled.execute("DROP SCHEMA p, q CASCADE")
    assert toc
    return toc


@pytest.mark.parametrize(
    ("pattern", "tables"),
    [
        ("p.m", {"m", "m1", "m1_low", "m2"}),
        ("q.m1", {"m1", "m1_low"}),
        ("p.m2", {"m2"}),
        ("p.parent", {"parent"}),
        ("p.child", {"child"}),
    ],
)
def test_a_partitioned_table_brings_its_partitions(partitioned: Toc, pattern: str, tables: set[str]) -> None:
    chosen = names(partitioned, choose_entries(partitioned, [pattern], []))
    assert {name for kind, _, name in chosen if kind == "TABLE"} == tables
    attached = {name for kind, _, name in chosen if kind == "TABLE ATTACH"}
    assert attached == ({"m1", "m1_low", "m2"} if "m" in tables else tables & {"m1_low"})
    indexes = {name for kind, _, name in chosen if kind == "INDEX"}
    own = {"m": "m_index", "m1": "m1_v_idx", "m1_low": "m1_low_v_idx", "m2": "m2_v_idx"}
    assert indexes == {own[table] for table in tables & own.keys()}


@pytest.mark.parametrize(
    ("pattern", "tables"),
    [
        ("p.m", {"parent", "child"}),
        ("q.m1", {"m", "m2", "parent", "child"}),
        ("p.m2", {"m", "m1", "m1_low", "parent", "child"}),
    ],
)
def test_an_excluded_partition_is_attached_to_nothing(partitioned: Toc, pattern: str, tables: set[str]) -> None:
    kept = EntrySelection(exclude_tables=(pattern,)).select(partitioned)[0]
    assert {name for kind, _, name in names(partitioned, kept) if kind == "TABLE"} == tables
    attached = {name for kind, _, name in names(partitioned, kept) if kind == "TABLE ATTACH"}
    assert attached == tables - {"m", "parent", "child"}
    joined = {name.removesuffix("_v_idx") for kind, _, name in names(partitioned, kept) if kind == "INDEX ATTACH"}
    assert joined == attached


def test_the_tables_of_a_publication_are_left_out_of_the_choice(filled: Database, dump: Dump) -> None:
    """A table can't be in a publication that isn't restored."""
    filled.execute("CREATE PUBLICATION pub FOR TABLE a.t")
    toc = dump()
    filled.execute("DROP PUBLICATION pub")
    assert toc
    assert "PUBLICATION TABLE" in {entry.description for entry in toc.entries}
    for chosen in (choose_entries(toc, ["a.t"], []), choose_entries(toc, [], ["a"])):
        assert "PUBLICATION TABLE" not in {kind for kind, _, _ in names(toc, chosen)}


def test_a_schema_pattern_with_a_dot_is_refused(whole: Toc) -> None:
    with pytest.raises(InvalidRequest, match="needs double quotes"):
        choose_entries(whole, [], ["a.b"])


def test_several_patterns_add_up(whole: Toc) -> None:
    both = choose_entries(whole, ["a.t1", "ab.t"], ['"A"'])
    assert both == (
        choose_entries(whole, ["a.t1"], []) | choose_entries(whole, ["ab.t"], []) | choose_entries(whole, [], ['"A"'])
    )


@pytest.mark.parametrize("pattern", ["", "a.b.c", 'a."t', "a.(t", "a.t[", "a.*)"])
def test_an_invalid_pattern_is_refused(whole: Toc, pattern: str) -> None:
    with pytest.raises(InvalidRequest):
        choose_entries(whole, [pattern], [])


def test_a_pattern_that_matches_nothing_is_refused(whole: Toc) -> None:
    with pytest.raises(InvalidRequest, match=r"no table that matches a\.nothing"):
        choose_entries(whole, ["a.t", "a.nothing"], [])


CHAIN = 100_000
"""The number of entries in a chain. If the time grew with its square, the test would take hours."""


@pytest.mark.parametrize("description", ["COMMENT", "TABLE ATTACH"])
def test_the_time_for_a_chain_of_entries_grows_with_its_length(description: str) -> None:
    def entry(dump_id: int, description: str, tag: str, *dependencies: int) -> TocEntry:
        return TocEntry(dump_id, 0, description, Section.PRE_DATA, "s", tag, "", dependencies, "", "", "", "")

    chain = [entry(0, "TABLE", "t 0")]
    for number in range(1, CHAIN):
        if description == "TABLE ATTACH":
            chain.append(entry(number, "TABLE", f"t {number}"))
            chain.append(entry(CHAIN + number, description, f"t {number}", number, number - 1))
        else:
            chain.append(entry(number, description, f"t {number}", number - 1))
    chain.append(entry(2 * CHAIN, description, "many", *range(CHAIN)))
    chosen = choose_entries(Toc("15", tuple(reversed(chain))), ['s."t 0"'], [])
    assert len(chosen) == len(chain)
