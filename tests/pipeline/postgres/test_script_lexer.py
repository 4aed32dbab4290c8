"""A script is divided as psql divides it, whatever the size of the parts in which it arrives."""

import os
import random
import re
import subprocess
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.postgres_fixtures import Database

from pipeline.errors import BackupDamaged, DumpFailed
from pipeline.postgres.restricted_mode import RestrictedMode, find_psql
from pipeline.postgres.script import ScriptReader
from pipeline.postgres.script_lexer import LONGEST, Kind, ScriptLexer

Pieces = list[tuple[Kind, bytes]]


def split(script: bytes, *ends: int) -> Pieces:
    """Return the pieces of a script that comes in parts with these ends. Neighbouring pieces of one kind are joined."""
    lexer, found = ScriptLexer(), Pieces()
    parts = [script[start:end] for start, end in zip((0, *ends), (*ends, len(script)), strict=True)]
    for kind, piece in lexer.split_all(parts):
        if found and found[-1][0] is kind and kind in {Kind.SQL, Kind.ROWS}:
            found[-1] = kind, found[-1][1] + piece
        else:
            found.append((kind, piece))
    return found


def kinds(script: bytes) -> list[Kind]:
    return [kind for kind, _ in split(script)]


FAKE = rb"""' '' " "" $$ $a$ E' -- /* */ ; \! x
\restrict y
COPY public.t (i) FROM stdin;
7
\.

COPY a.b FROM stdin;
SET standard_conforming_strings = off;
SET client_encoding = 'SJIS';
"""
"""Text that looks like the beginning or the end of all other parts of a script."""
WITHOUT = {quote: FAKE.replace(quote, b"") for quote in (b"'", b'"', b"*/", b"$q$", b"$$")}
QUOTED = {
    "string": b"'%b'" % FAKE.replace(b"'", b"''"),
    "escaped string": b"E'%b'" % FAKE.replace(b"\\", b"\\\\").replace(b"'", b"\\'"),
    "escaped string, doubled": b"e'%b'" % FAKE.replace(b"\\", b"\\\\").replace(b"'", b"''"),
    "unicode string": b"U&'%b'" % FAKE.replace(b"'", b"''"),
    "identifier": b'"%b"' % FAKE.replace(b'"', b'""'),
    "dollar quote": b"$$%b$$" % WITHOUT[b"$$"],
    "tagged dollar quote": b"$q$%b$q$" % FAKE,
    "another tagged dollar quote": b"$_1$%b$_$_1$" % FAKE,
    "nested dollar quote": b"$q$ $$%b$$ $a$ $q$" % FAKE,
    "comment": b"/*%b*/" % WITHOUT[b"*/"].replace(b"/*", b""),
    "nested comment": b"/* /*/ */ %b */ /* */" % WITHOUT[b"*/"].replace(b"/*", b""),
    "line comments": b"".join(b"--%b\n" % line for line in FAKE.splitlines()) + b"",
    "continued string": b"E'a\\''  \n -- x'\n  '%b'" % FAKE.replace(b"\\", b"\\\\").replace(b"'", b"''"),
    "identifier with dollars": b"a$b$ || b$$ || '%b' || a$b$" % FAKE.replace(b"'", b"''"),
    "parameters": b"$1$q$%b$q$ || $2" % FAKE,
    "numbers": b"12$q$%b$q$ - 3 / 4" % FAKE,
    "end of a word": b"typE'%b'" % FAKE.replace(b"'", b"''"),
    "adjacent strings": b"'E'/**/'%b' || E'\\\\' || '\\'" % FAKE.replace(b"'", b"''"),
    "dollar in a string": b"'$q$' || '%b' || '$q$'" % FAKE.replace(b"'", b"''"),
    "operators": b"a -> b - - c * / d /  '%b'" % FAKE.replace(b"'", b"''"),
}


@pytest.mark.parametrize("quoted", QUOTED.values(), ids=QUOTED)
def test_quoted_text_stays_text_wherever_it_is_split(quoted: bytes) -> None:
    script = b'SELECT %b;\nCOPY s.t (a, "b;") FROM stdin;\n1\n\\.\n\\connect x\nSELECT 1;\n' % quoted
    whole = split(script)
    assert [kind for kind, _ in whole] == [Kind.SQL, Kind.COPY, Kind.ROWS, Kind.END_OF_ROWS, Kind.COMMAND, Kind.SQL]
    assert b"".join(piece for _, piece in whole) == script
    for end in range(len(script)):
        assert split(script, end) == whole
    assert split(script, *range(1, len(script))) == whole


def test_backslashes_escape_in_strings_if_the_script_says_so() -> None:
    script = b"SET standard_conforming_strings = off;\nSELECT 'a\\'; \\! x', 'b''\\'' \n 'c\\'';\n\\q\n"
    on = b"SET standard_conforming_strings = on;\nSELECT 'a\\', ';';\n"
    assert kinds(script + on) == [Kind.SQL, Kind.COMMAND, Kind.SQL]
    assert split(script + on, *range(1, len(script + on))) == split(script + on)


@pytest.mark.parametrize("encoding", ["SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "JOHAB", "GB18030"])
def test_a_character_that_ends_in_an_ascii_byte_is_read_whole(encoding: str) -> None:
    r"""A backslash as the last byte escapes nothing and begins no command. Rows are read as bytes, in any encoding."""
    wide = b"\x95\\" if encoding != "GB18030" else b"\x95\\\x81\x30\x81\x30"
    quoted = b"SELECT E'@', '\xb1@', \"@\", $@$@@$@$;\n-- @\nCOPY s.t (i) FROM stdin;\n\x95\n\\.\nSELECT E'@';\n\\q\n"
    script = b"SET client_encoding = '%b';\n%b" % (encoding.encode(), quoted.replace(b"@", wide))
    script = script.replace(b"\xb1", b"") if encoding not in {"SJIS", "SHIFT_JIS_2004"} else script
    whole = split(script)
    assert [kind for kind, _ in whole] == [Kind.SQL, Kind.COPY, Kind.ROWS, Kind.END_OF_ROWS, Kind.SQL, Kind.COMMAND]
    for end in range(len(script)):
        assert split(script, end) == whole


def test_a_script_may_change_its_encoding() -> None:
    """In the script of a whole server, each database has its own encoding."""
    in_sjis = b"SET client_encoding = 'SJIS';\nSELECT E'\x95\\';\n\\connect a\n"
    script = in_sjis + "SET client_encoding = 'UTF8';\nSELECT 'あ', 'あ';\n\\connect b\n".encode() + in_sjis
    whole = split(script)
    assert [piece for kind, piece in whole if kind is Kind.COMMAND] == [
        b"\\connect a\n",
        b"\\connect b\n",
        b"\\connect a\n",
    ]
    for end in range(len(script)):
        assert split(script, end) == whole


@pytest.mark.parametrize(
    ("script", "command"),
    [
        (b"-- Name: a\n\\! b; Type: TABLE\n", b"\\! b; Type: TABLE\n"),
        (b"-- Name: a\r\\! b\n", b"\\! b\n"),
        (b"SELECT 1 \\g |x\n;", b"\\g |x\n"),
        (b"SELECT 1; \\x", b"\\x"),
        (b"SELECT (1; \\x\n", b"\\x\n"),
        (b"SELECT 1 \\; SELECT 2 \\: \\x\n", b"\\x\n"),
        (b"SELECT 'a' \\x\n", b"\\x\n"),
        (b'SELECT "" \\x\n', b"\\x\n"),
        (b"SELECT $$$$ \\x\n", b"\\x\n"),
        (b"SELECT E'\\\\' \\x\n", b"\\x\n"),
        (b"/* /* */ */ \\x\n", b"\\x\n"),
        (b"COPY s.t FROM stdin;\n\\.\n\\x\n", b"\\x\n"),
        (b"COPY s.t FROM stdin;\n\\.x\n.\\.\n\\.\n\\x\n", b"\\x\n"),
    ],
)
def test_psqls_commands_are_found(script: bytes, command: bytes) -> None:
    for end in range(len(script)):
        assert [piece for kind, piece in split(script, end) if kind is Kind.COMMAND] == [command]


PARTS = st.sampled_from(
    [
        b"'",
        b'"',
        b"$",
        b"$$",
        b"$a$",
        b"\\",
        b"\\.",
        b"\n",
        b" ",
        b";",
        b"--",
        b"/*",
        b"*/",
        b"E'",
        b"a",
        b"1",
        b"\x95",
        b"-",
    ]
    + [
        b"COPY a.b FROM stdin;\n",
        b"SET standard_conforming_strings = off;",
        b"SET client_encoding = 'SJIS';",
        b"\\connect x\n",
    ]
)


@given(st.lists(PARTS, max_size=40).map(b"".join), st.data())
def test_the_pieces_are_the_same_wherever_the_text_is_split(script: bytes, data: st.DataObject) -> None:
    ends = sorted(data.draw(st.lists(st.integers(0, len(script)), max_size=6)))
    whole = split(script)
    assert split(script, *ends) == whole
    assert b"".join(piece for _, piece in whole) == script
    reader = ScriptReader()
    with suppress(DumpFailed):
        reader.write(script)
        reader.finish()
    with suppress(BackupDamaged):
        deque(RestrictedMode(["x"]).of([script]), maxlen=0)


RESET = b"ROLLBACK;\nSET standard_conforming_strings = on;\nSET client_encoding = 'UTF8';\n"
SINGLE = [bytes([byte]) for byte in b"'\"$\n\r ;eEa1-/*()"]
MORE_PARTS = [
    *SINGLE,
    *(
        b"$$",
        b"$a$",
        b"\\x",
        b"\\\\",
        b"--",
        b"/*",
        b"*/",
        b"E'",
        b"''",
        b"\\'",
        b"'\n'",
        b"U&'",
        b"N'",
        b":'",
        b"\\;",
        b"\\:",
    ),
    *(b"$1", b"a$", b"\xc3\xa9", b"\x95\\", b"\xb1", b"\nSET client_encoding = 'SJIS';\n"),
    *(b"\nSET standard_conforming_strings = off;\n", b"\nSET standard_conforming_strings = on;\n"),
]


def test_psql_finds_the_same_commands(database: Database, tmp_path: Path) -> None:
    """For random scripts, psql refuses as many commands as the lexer finds."""
    choose = random.Random(7)
    scripts = [RESET + b"".join(choose.choices(MORE_PARTS, k=choose.randint(3, 30))) + b"\n" for _ in range(300)]
    for between in (b"", b" ", b"--", b" -- x", b"-", b"\r", b" -- x\r", b"/**/"):
        scripts += [RESET + b"SELECT E'a'%b%b'b\\' \\x\n\\x\n'\n" % (between, end) for end in (b"\n", b"\r", b"")]
    (tmp_path / "restrict.sql").write_bytes(b"\\restrict key\n")
    for number, script in enumerate(scripts):
        (tmp_path / f"{number}.sql").write_bytes(script)
    files = [f"--file={tmp_path}/{name}.sql" for name in ("restrict", *range(len(scripts)))]
    psql = find_psql(at_least_major=12).path
    done = subprocess.run([psql, "-Xq", *files, "-d", database.conninfo], capture_output=True, check=True)
    refused = Counter(re.findall(rb"/(\d+)\.sql:\d+: error: backslash commands are restricted", done.stderr))
    assert sum(refused.values()) > len(scripts) / 4
    for number, script in enumerate(scripts):
        assert refused[b"%d" % number] == kinds(script).count(Kind.COMMAND), script


def endless(first: bytes, part: bytes, size: int) -> Iterator[bytes]:
    return chain([first], (part for _ in range(size // len(part))))


@pytest.mark.parametrize(
    ("first", "part", "ends"),
    [
        (b"SELECT '", os.urandom(1 << 16).replace(b"'", b"") or b"x", False),
        (b"SELECT E'", b"\\'" * (1 << 15), False),
        (b"SELECT $a$", b"$b$ $a %b" % bytes(1000), False),
        (b"/*", b"/* * /%b" % bytes(1000), False),
        (b"--", b"-" * (1 << 16), False),
        (b"COPY a.b FROM stdin;\n", b"\\.x\n" * (1 << 14), False),
        (b"", b";\n" * (1 << 15), False),
        (b"x ", b"word" * (1 << 14), True),
        (b"$", b"tag" * (1 << 14), True),
        (b"\\! ", b"x" * (1 << 16), True),
    ],
)
def test_endless_text_takes_bounded_memory(first: bytes, part: bytes, *, ends: bool) -> None:
    lexer, longest = ScriptLexer(), 0

    def read() -> None:
        nonlocal longest
        for _, piece in lexer.split_all(endless(first, part, 4 * LONGEST)):
            longest = max(longest, len(piece))

    if ends:
        with pytest.raises(DumpFailed, match="has a word, a command or a COPY statement of more than"):
            read()
    else:
        read()
        assert longest < LONGEST
