"""A script is read as a stream, in pieces of any size."""

import hashlib
import subprocess

import pytest
from support.stored_sample import StoredSample

from pipeline.errors import DumpFailed
from pipeline.postgres.script import ScriptReader
from pipeline.postgres.throwaway import ThrowawayCluster

HEAD = b"--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n"
END = b"--\n-- PostgreSQL database dump complete\n--\n\n"


def data(schema: str, name: str, statement: str, rows: bytes) -> bytes:
    head = (
        f"--\n-- Data for Name: {name}; Type: TABLE DATA; Schema: {schema}; Owner: me\n--\n\n{statement} FROM stdin;\n"
    )
    return head.encode() + rows + b"\\.\n\n\n"


@pytest.fixture(scope="module")
def dumped(postgres: ThrowawayCluster, _sample_template: str) -> bytes:
    """A script that stock pg_dump wrote of the sample database."""
    command = [postgres.bin_dir / "pg_dump", "-d", postgres.conninfo(_sample_template)]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 30])
def test_the_result_is_the_same_for_pieces_of_any_size(dumped: bytes, stored_sample: StoredSample, size: int) -> None:
    if size == 1:
        start, end = dumped.index(b"Schema: shop; Owner") - 200, dumped.index(b"Name: order_item; Type: TABLE DATA")
        dumped = HEAD + dumped[start:end] + END
    reader = ScriptReader()
    for start in range(0, len(dumped), size):
        reader.write(dumped[start : start + size])
    found = {f"{table.schema_name}.{table.relation}": table for table in reader.finish()}
    files = {
        f"{file.schema_name}.{file.relation}": file for file in stored_sample.manifest.files if file.kind == "table"
    }
    assert found
    assert size == 1 or found.keys() == files.keys()
    for name, table in found.items():
        assert (table.rows, table.size, table.checksum) == (files[name].rows, files[name].size, files[name].checksum)


def test_names_columns_and_rows_are_read() -> None:
    rows = b"1\t-- Data for Name: x; Type: TABLE DATA; Schema: y; Owner: z\n\\N\t\\\\.\n"
    script = HEAD + b"".join(
        [
            data("s", "plain", "COPY s.plain (id, note)", rows),
            data("s", "none", "COPY s.none ", b""),
            data("o s", "a b", 'COPY "o.s"."a ""b"" (c);" (id, "x) FROM stdin;", "new\nline")', b"1\t2\t3\n"),
            b"--\n-- Data for Name: BLOBS; Type: BLOBS; Schema: -; Owner: -\n--\n\nBEGIN;\nCOMMIT;\n\n",
            b"--\n-- Name: f(); Type: FUNCTION; Schema: s; Owner: me\n--\n\nCREATE FUNCTION s.f() AS $$\nCOPY s.plain (id) FROM stdin;\n$$;\n",
            data("s", "leaf 1", "-- load via partition root s.root\n\nCOPY s.root (id)", b"7\n"),
        ]
    )
    taken: list[tuple[str, str, bytes]] = []
    reader = ScriptReader(take=lambda *got: taken.append(got))
    reader.write(script + END)
    found = reader.finish()
    assert [(table.schema_name, table.relation, table.columns, table.rows) for table in found] == [
        ("s", "plain", "(id, note)", 2),
        ("s", "none", "", 0),
        ("o.s", 'a "b" (c);', '(id, "x) FROM stdin;", "new\nline")', 1),
        ("s", "leaf 1", "(id)", 1),
    ]
    assert found[0].checksum == hashlib.sha256(rows + b"\\.\n\n\n").hexdigest()
    assert [got for got in taken if got[2]] == [
        ("s", "plain", rows),
        ("o.s", 'a "b" (c);', b"1\t2\t3\n"),
        ("s", "leaf 1", b"7\n"),
    ]


def test_names_are_read_in_the_scripts_encoding() -> None:
    reader = ScriptReader()
    latin = data("s", "größe", "COPY s.größe (id)", b"").decode().encode("latin-1")
    reader.write(b"SET client_encoding = 'LATIN1';\n" + latin + END)
    [table] = reader.finish()
    assert table.relation == "größe"


def test_the_databases_of_a_clusters_script_are_read() -> None:
    reader = ScriptReader(of_cluster=True)
    for database in ("one", "the 'other'"):
        reader.write(
            f'--\n-- Database "{database}" dump\n--\n\n\\connect "{database}"\n\n'.encode()
            + data("s", "t", "COPY s.t (i)", b"1\n")
            + END
        )
    reader.write(b"--\n-- PostgreSQL database cluster dump complete\n--\n\n")
    assert [(table.database, table.rows) for table in reader.finish()] == [("one", 1), ("the 'other'", 1)]


@pytest.mark.parametrize("of_cluster", [False, True])
def test_a_script_that_is_cut_short_is_refused(*, of_cluster: bool) -> None:
    reader = ScriptReader(of_cluster=of_cluster)
    reader.write(HEAD + data("s", "t", "COPY s.t (i)", b"1\n") + (END if of_cluster else b""))
    with pytest.raises(DumpFailed, match=r"^The script is cut short\.$"):
        reader.finish()


def test_a_script_that_ends_within_a_table_is_refused(dumped: bytes) -> None:
    reader = ScriptReader()
    reader.write(dumped[: dumped.index(b"COPY shop.review") + 10_000])
    assert reader.current == "shop.review"
    with pytest.raises(DumpFailed, match=r"cut short in the data of shop\.review"):
        reader.finish()


ONE = data("s", "one", "COPY s.one (i)", b"1\n")
TWO = data("s", "two", "COPY s.two (i)", b"2\n")
VIA_ROOT = data("s", "two", "-- load via partition root s.root\n\nCOPY s.root (i)", b"2\n")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (ONE + TWO, None),
        (ONE + VIA_ROOT, None),
        (ONE, r"lacks the data of s\.two\."),
        (TWO + ONE, "has data of s.two in the place of the data of s.one"),
        (ONE + ONE + TWO, "has data of s.one in the place of the data of s.two"),
        (ONE + TWO + TWO, "has data of s.two in the place of the script's end"),
        (ONE + b"SELECT '" + TWO + b"';\n", "lacks the data of s.two"),
        (ONE + TWO + b"SELECT $$\n", "is cut short"),
        (ONE + TWO + b"SELECT 1\n", "is cut short"),
        (ONE + TWO + b"/*\n", "is cut short"),
        (ONE + b"-- Name: a\n\\! touch b; Type: TABLE\n" + TWO, "has psql's command \\\\! outside of quotes and rows"),
        (ONE + b"\\connect x\n" + TWO, "has psql's command \\\\connect outside"),
        (ONE + b"\\restrict x\n\\unrestrict x\n" + TWO, None),
    ],
)
def test_a_script_without_exactly_the_expected_tables_is_refused(script: bytes, problem: str | None) -> None:
    reader = ScriptReader()
    reader.expect([(None, "s", "one"), (None, "s", "two")])

    def read() -> list[tuple[str, int]]:
        reader.write(HEAD + script + END)
        return [(table.relation, table.rows) for table in reader.finish()]

    if problem is None:
        assert read() == [("one", 1), ("two", 1)]
    else:
        with pytest.raises(DumpFailed, match=problem):
            read()


@pytest.mark.parametrize("encoding", [b"zlib", b"undefined", b"idna", b"../x", b"UTF8\xff", b""])
def test_an_unknown_encoding_is_read_as_utf_8(encoding: bytes) -> None:
    """Python has codecs with some of these names, and not all of them are for text."""
    reader = ScriptReader()
    reader.write(b"SET client_encoding = '%b';\n" % encoding + data("s", "t\xe9", "COPY s.t\xe9 (i)", b"1\n") + END)
    assert [table.rows for table in reader.finish()] == [1]
