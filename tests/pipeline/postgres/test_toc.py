import dataclasses
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.catalog.manifest import TOC_NAME
from pipeline.errors import DumpFailed, InvalidRequest
from pipeline.postgres.database_entries import database_statements
from pipeline.postgres.load_order import outside_tables, turns_in_partition_trees
from pipeline.postgres.loading import names_money
from pipeline.postgres.partitions import attachments_left_out
from pipeline.postgres.patterns import choose_entries
from pipeline.postgres.prerequisites import named_extensions
from pipeline.postgres.role_names import rename_roles, roles_of
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import Section, Toc, TocEntry
from pipeline.postgres.toc_edit import rewrite, select
from pipeline.postgres.toc_format import read_toc
from pipeline.postgres.toc_head import parse_head


def dump(postgres: ThrowawayCluster, conninfo: str, folder: Path, *options: str) -> bytes:
    """Return a ``toc.dat`` of the installed pg_dump."""
    pg_dump = [postgres.bin_dir / "pg_dump", "--format=directory", "--compress=0", "--no-sync", *options]
    subprocess.run([*pg_dump, f"--file={folder}", f"--dbname={conninfo}"], check=True)
    return (folder / TOC_NAME).read_bytes()


@pytest.fixture
def sample_toc(postgres: ThrowawayCluster, stored_sample: StoredSample, tmp_path: Path) -> bytes:
    """The table of contents of the sample database."""
    return dump(postgres, stored_sample.source, tmp_path / "archive")


def as_listed(entry: TocEntry) -> str:
    """Return the entry as ``PrintTOCSummary`` in pg_backup_archiver.c prints it, without the catalogue's OID and the owner."""
    tag = entry.tag.replace("\n", " ")
    return f"{entry.dump_id}; {entry.oid} {entry.description} {entry.namespace.replace(chr(10), ' ') or '-'} {tag}"


def listed(postgres: ThrowawayCluster, folder: Path) -> list[str]:
    """Return the entries that ``pg_restore --list`` prints, in the same form."""
    pg_restore = [postgres.bin_dir / "pg_restore", "--list", folder]
    printed = subprocess.run(pg_restore, check=True, capture_output=True).stdout.decode()
    lines = [line for line in printed.splitlines() if line[:1].isdigit()]
    found = []
    for line in lines:
        dump_id, _, rest = line.partition("; ")
        _catalog, oid, what = rest.split(" ", 2)
        found.append(f"{dump_id}; {oid} {what.rpartition(' ')[0]}")
    return found


def test_the_entries_are_those_that_pg_restore_reads(
    postgres: ThrowawayCluster, sample_toc: bytes, tmp_path: Path
) -> None:
    toc = read_toc(sample_toc)
    shown = [as_listed(entry) for entry in toc.entries]
    by_pg_restore = listed(postgres, tmp_path / "archive")
    assert len(by_pg_restore) > 100
    assert set(by_pg_restore) <= set(shown)
    # --list leaves out entries that are restored only with --create.
    assert {line.split(" ")[2] for line in set(shown) - set(by_pg_restore)} <= {
        "ENCODING",
        "STDSTRINGS",
        "SEARCHPATH",
        "DATABASE",
    }


def test_data_entries_name_their_files(sample_toc: bytes, tmp_path: Path) -> None:
    toc = read_toc(sample_toc)
    names = {path.name for path in (tmp_path / "archive").iterdir()}
    named = {entry.filename for entry in toc.data_entries}
    assert named <= names
    assert names - named == {TOC_NAME, *(name for name in names if name.startswith("blob_"))}
    tables = {entry.tag for entry in toc.data_entries if entry.description == "TABLE DATA"}
    assert {"reading", "new\nline", 'it\'s "quoted"', "größe ∑ 名前 🐘", "-leading dash"} <= tables


def test_data_and_foreign_keys_depend_on_their_tables(sample_toc: bytes) -> None:
    toc = read_toc(sample_toc)
    by_id = {entry.dump_id: entry for entry in toc.entries}
    [data] = [entry for entry in toc.entries if (entry.description, entry.tag) == ("TABLE DATA", "review")]
    [table] = [entry for entry in toc.entries if (entry.description, entry.tag) == ("TABLE", "review")]
    assert data.dependencies == (table.dump_id,)
    [key] = [entry for entry in toc.entries if entry.tag == "review review_sku_fkey"]
    assert table in [by_id.get(dump_id) for dump_id in key.dependencies]


@pytest.mark.parametrize(
    ("encoding", "client"), [("LATIN1", None), ("EUC_JP", None), ("KOI8R", None), ("UTF8", "WIN1252"), ("UTF8", None)]
)
def test_names_in_any_encoding_are_read(
    postgres: ThrowawayCluster, tmp_path: Path, encoding: str, client: str | None
) -> None:
    name = {"EUC_JP": "日本", "KOI8R": "привет"}.get(encoding, "größe")
    server = Database("postgres", postgres.conninfo())
    server.execute(f"CREATE DATABASE encoded TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        Database("encoded", postgres.conninfo("encoded") + " client_encoding=UTF8").execute(f'CREATE TABLE "{name}" ()')
        options = [f"--encoding={client}"] if client else []
        toc = read_toc(dump(postgres, postgres.conninfo("encoded"), tmp_path / "encoded", *options))
    finally:
        server.execute("DROP DATABASE encoded")
    assert name in {entry.tag for entry in toc.entries}


def test_a_selection_has_only_the_chosen_entries_in_the_chosen_order(sample_toc: bytes) -> None:
    entries = read_toc(sample_toc).entries
    chosen = entries[::-3]

    assert read_toc(select(sample_toc, chosen)).entries == chosen
    assert select(sample_toc, entries) == sample_toc


def test_further_dependencies_come_last(sample_toc: bytes) -> None:
    """The first dependency of a table's data must stay the table (buildTocEntryArrays)."""
    entries = read_toc(sample_toc).entries
    more = {entry.dump_id: (7, 1_234_567_890) for entry in entries[::2]}

    selected = read_toc(select(sample_toc, entries, more))

    for before, after in zip(entries, selected.entries, strict=True):
        assert after.dependencies == before.dependencies + more.get(before.dump_id, ())


def test_entries_get_new_dump_ids_wherever_they_are_named(sample_toc: bytes) -> None:
    entries = read_toc(sample_toc).entries
    ids = {entry.dump_id: 1_000_000 - entry.dump_id for entry in entries[::2]}

    selected = read_toc(select(sample_toc, entries, {entries[3].dump_id: [entries[0].dump_id]}, ids))

    for before, after in zip(entries, selected.entries, strict=True):
        more = (entries[0].dump_id,) if before is entries[3] else ()
        needed = tuple(ids.get(other, other) for other in before.dependencies + more)
        same = dataclasses.replace(after, dump_id=before.dump_id, dependencies=before.dependencies)
        assert (after.dump_id, after.dependencies) == (ids.get(before.dump_id, before.dump_id), needed)
        assert same == before


def test_pg_restore_reads_a_selection(postgres: ThrowawayCluster, sample_toc: bytes, tmp_path: Path) -> None:
    before = listed(postgres, tmp_path / "archive")
    entries = {entry.dump_id: entry for entry in read_toc(sample_toc).entries}
    chosen = [entries[int(line.partition(";")[0])] for line in before][5:-5:2]
    (tmp_path / "archive" / TOC_NAME).write_bytes(select(sample_toc, chosen))
    assert listed(postgres, tmp_path / "archive") == before[5:-5:2]


def test_rewriting_changes_only_what_the_function_changes(sample_toc: bytes) -> None:
    def longer(entry: TocEntry) -> TocEntry:
        return dataclasses.replace(
            entry,
            owner=entry.owner and "größe 日本, longer",
            tag=f"{entry.tag} tag",
            definition=entry.definition.replace("TABLE", "RELATION"),
            drop_statement=entry.drop_statement[5:],
        )

    changed = rewrite(sample_toc, longer)

    assert read_toc(changed).entries == tuple(map(longer, read_toc(sample_toc).entries))
    originals = iter(read_toc(sample_toc).entries)
    assert rewrite(changed, lambda _entry: next(originals)) == sample_toc
    assert rewrite(sample_toc, lambda entry: entry) == sample_toc


def test_a_table_of_contents_that_is_cut_short_is_refused(sample_toc: bytes) -> None:
    for size in [*range(0, 200), *range(200, len(sample_toc), 101), len(sample_toc) - 1]:
        with pytest.raises(DumpFailed, match=r"toc\.dat"):
            read_toc(sample_toc[:size])


@given(data=st.data())
@settings(max_examples=100)
def test_garbage_raises_no_unexpected_error(toc_once: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(toc_once) - 1))
    garbage = toc_once[:at] + data.draw(st.binary(min_size=1, max_size=8)) + toc_once[at + 1 :]
    try:
        use(garbage)
    except InvalidRequest:
        pass  # the garbage may be in a name that "*" doesn't match, or that the archive's encoding can't spell
    except DumpFailed as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017


def use(toc_data: bytes) -> None:
    """Do everything that pgstow does with an archive's text before pg_restore gets it."""
    toc = read_toc(toc_data)
    ids = sorted({entry.dump_id for entry in toc.entries})
    select(toc_data, toc.entries, turns_in_partition_trees(toc))
    outside_tables(toc)
    rewrite(toc_data, lambda entry: dataclasses.replace(entry, owner="other"))
    roles = {role for entry in toc.entries for role in roles_of(entry)}
    rename_roles(toc_data, dict.fromkeys(roles, "other"))
    choose_entries(toc, ["*"], ["*"])
    names_money(toc.entries)
    named_extensions(toc)
    attachments_left_out(toc, ids)
    database_statements(toc, "other")
    assert toc.encoding
    assert toc.backslashes_escape in {True, False}
    assert [entry.columns for entry in toc.entries]


def entry(description: str, **fields: Any) -> TocEntry:
    """Return an entry, as in an archive made by hand."""
    made: dict[str, Any] = dict.fromkeys((field.name for field in dataclasses.fields(TocEntry)), "")
    made |= {"dump_id": 1, "oid": 1, "section": Section.PRE_DATA, "dependencies": (), "description": description}
    return TocEntry(**{**made, **fields})


@pytest.mark.parametrize(
    ("kind", "definition", "has"),
    [
        ("TABLE", "CREATE TABLE public.t (\n    m money\n);", True),
        ("TABLE", 'CREATE TABLE "public"."t" (\n    "m" "money"[]\n);', True),
        ("TABLE", 'CREATE TABLE "public"."t" (\n    "money" "text"\n);', False),
        ("TABLE", 'CREATE TABLE "public"."t" (\n    "m" "money"."coin"\n);', False),
        ("TABLE", 'CREATE TABLE "public"."t" (\n    "m" "public"."money"\n);', False),
        ("TYPE", 'CREATE TYPE "public"."r" AS RANGE (\n    subtype = "money"\n);', True),
        ("DOMAIN", 'CREATE DOMAIN "public"."d" AS "money";', True),
        ("VIEW", """CREATE VIEW "public"."v" AS\n SELECT '1'::"money" AS "m";""", True),
    ],
)
def test_money_is_found_with_and_without_quotes(kind: str, definition: str, has: bool) -> None:
    """--quote-all-identifiers also quotes the names of types."""
    assert names_money([entry(kind, definition=definition)]) is has


@pytest.mark.parametrize("end", ["", "'", '"', "money", ";"])
@pytest.mark.parametrize("word", ["\n", " ", "a", "'", '"', '\n"', '""', "a.", "(", "$a$", "money", " money"])
def test_the_time_for_long_text_grows_with_its_length(word: str, end: str) -> None:
    """If the time grew with the square of the length, this test would run for hours."""
    text = "money" + word * 200_000 + end
    names_money([entry(kind, definition=text) for kind in ("TABLE", "TYPE", "DOMAIN", "VIEW")])
    toc = Toc("15", (entry("DATABASE", tag="x"), entry("DATABASE PROPERTIES", definition=text)))
    database_statements(toc, "other")
    assert entry("TABLE DATA", copy_statement=f"COPY {text}").columns in {"", "(" * 200_000}
    turns_in_partition_trees(Toc("15", (entry("TABLE DATA", copy_statement=f"COPY {text}", dependencies=(1,)),)))
    attachments_left_out(Toc("15", (entry("TABLE"), entry("TABLE ATTACH", definition=text, dump_id=2))), [1])
    named = Toc("15", (entry("TABLE", tag="t"), entry("CONSTRAINT", tag=text, dump_id=2, dependencies=(1,))))
    assert choose_entries(named, ["t"], []) == {1}


@pytest.mark.parametrize(
    "change", [{"name": "\udcff"}, {"size": -1}, {"name": "x" * 99}, {"type": b"2", "linkname": "/etc/passwd"}], ids=str
)
def test_a_tar_archive_with_an_odd_beginning_is_refused(change: dict[str, Any]) -> None:
    """pgstow never unpacks a tar archive. Its first file must be the table of contents."""
    header = tarfile.TarInfo("toc.dat")
    for name, value in change.items():
        setattr(header, name, value)
    with pytest.raises(DumpFailed):
        parse_head(header.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape") + bytes(1024), "tar")


def test_a_new_name_must_be_in_the_archives_encoding(postgres: ThrowawayCluster, tmp_path: Path) -> None:
    server = Database("postgres", postgres.conninfo())
    server.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        Database("latin", postgres.conninfo("latin")).execute("CREATE TABLE t ()")
        toc_data = dump(postgres, postgres.conninfo("latin"), tmp_path / "latin")
    finally:
        server.execute("DROP DATABASE latin")
    with pytest.raises(InvalidRequest, match=r"LATIN1.*'€'"):
        rename_roles(toc_data, {"postgres": "neu€"})


@pytest.fixture(scope="session")
def toc_once(postgres: ThrowawayCluster, _sample_template: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return dump(postgres, postgres.conninfo(_sample_template), tmp_path_factory.mktemp("toc") / "archive")


@pytest.mark.parametrize("data", [b"", b"PGDMP", b"not an archive at all", b"PGDMX" + bytes(100), bytes(1000)])
def test_bytes_that_are_not_an_archive_are_refused(data: bytes) -> None:
    with pytest.raises(DumpFailed, match=r"toc\.dat"):
        read_toc(data)


def test_a_newer_format_is_refused_by_its_number(sample_toc: bytes) -> None:
    with pytest.raises(DumpFailed, match=r"format 1\.99 is not known.*newer pgstow"):
        read_toc(sample_toc[:6] + bytes([99]) + sample_toc[7:])
