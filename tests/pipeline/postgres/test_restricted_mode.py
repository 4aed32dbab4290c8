r"""psql runs no hostile backslash command of a script, not even a command that pgstow's lexer misses."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.pgstow import wait_until
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.errors import BackupDamaged, DumpFailed, ProgramMissing, RestoreFailed
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.psql import Psql, run_script
from pipeline.postgres.restricted_mode import ENDS_THE_MODE, RestrictedMode, find_psql
from pipeline.postgres.script import ScriptReader
from pipeline.postgres.workspace import Workspace

HOSTILE = [
    "\\! touch @",
    "\\!touch @",
    "SELECT 1; \\! touch @",
    "SELECT '' \\! touch @",
    "SELECT 1 \\g |touch @",
    "SELECT 1 \\gx |touch @",
    "SELECT 'touch @' \\gexec",
    "\\o |touch @",
    "\\w |touch @",
    "\\copy (SELECT 1) TO PROGRAM 'touch @'",
    "\\copy (SELECT 1) TO '@'",
    "\\set x `touch @`",
    "\\echo `touch @`",
    "\\if `touch @`\n\\endif",
    "\\setenv PAGER 'touch @'",
    "\\lo_export 1 '@'",
    "\\s '@'",
    "\\i @.sql",
    "\\include_relative @.sql",
    "\\unrestrict 0\n\\! touch @",
    "\\restrict 0\n\\unrestrict 0\n\\! touch @",
    "SET standard_conforming_strings = off;\nSELECT '\\'; \\! touch @\n';\nSELECT 1 \\! touch @",
    "SELECT $a$ $b$ $a$ \\! touch @",
    'SELECT 1 AS "" \\! touch @',
    "/* /* */ */ \\! touch @",
    "-- \n\\! touch @",
    "-- \r\\! touch @",
    "COPY public.t FROM stdin;\n1\n\\.\n\\! touch @",
    "COPY public.t FROM stdin;\n\\.\n\\! touch @",
    "\\connect postgres\n\\! touch @",
    "\\connect -reuse-previous=on \"dbname='postgres' host='/nonexistent'\"",
    "\\connect postgres somebody example.com 5432",
    "\\connect - - example.com -",
    "\\connect postgresql://example.com/postgres",
    "\\connect \"host=example.com dbname='postgres'\"",
    "\\c postgres",
    "\\connect postgres \\! touch @",
    "\\encoding SQL_ASCII \\! touch @",
    "\\password",
]
"""Scripts that run a program, write a file or connect elsewhere. @ stands for the file that a script would make."""

ONLY_FOR_PSQL = [
    "COPY public.none FROM stdin;\n\\! touch @\n\\.\n",
    "copy public.t from stdin;\n7\n\\.\n\\! touch @",
    "SET client_encoding = 'SJIS';\nSELECT '\x95\\'; \\! touch @",
    "SELECT :'\n\\! touch @\n';",
    "SELECT 1 \\! touch @ '",
]
"""More such scripts, in which psql may see a command that pgstow doesn't see."""

LEAVING = [
    "SET standard_conforming_strings = off;\nset standard_conforming_strings = on;\nSELECT '\\'; \\unrestrict `touch @`\n--';\n",
    "COPY public.none FROM stdin;\n\\unrestrict `touch @`\n\\.\n",
    "COPY public.none FROM stdin;\n\\unre\0\nstrict `touch @`\n\\.\n",
    "DO $$BEGIN RAISE EXCEPTION '%', '\\' || 'unrestrict `touch @`'; END$$;\nSELECT 1 :LAST_ERROR_MESSAGE\n;\n",
    """\\connect -reuse-previous=on "dbname='\\\\unrestrict `touch @`'"\nSELECT 1 :DBNAME\n;\n""",
]
"""Scripts that try the ways in which psql itself leaves the restricted mode."""


@pytest.mark.parametrize("script", HOSTILE)
def test_a_command_in_the_script_is_refused(script: str) -> None:
    restricted = RestrictedMode({"shop"})
    with pytest.raises(BackupDamaged, match=r"The rest of the script is not run\.$"):
        for _ in restricted.of([b"SELECT 1;\n", script.encode(), b"\n"]):
            pass


def test_psql_refuses_each_command_that_reaches_it(database: Database, tmp_path: Path) -> None:
    """psql's own mode refuses the commands even if pgstow's lexer misses all of them."""
    database.execute("CREATE TABLE public.t (i integer)")
    marker = tmp_path / "ran"
    marker.with_suffix(".sql").write_text(f"\\! touch {marker}\n")
    script = "\n;\n".join([*HOSTILE, *ONLY_FOR_PSQL]).replace("@", str(marker)) + "\n"
    with Workspace(tmp_path) as workspace:
        path = workspace.write_private("hostile.sql", script.encode("latin-1"))
        where = database.conninfo, workspace, path, RestrictedMode()
        run = Psql(find_psql(at_least_major=12), *where, unset=(), passes=lambda _: True)
        wait_until(run.has_ended, "psql ends")
    refused = [error for error in run.refused() if "backslash commands are restricted" in error.message]
    assert len(refused) > len(HOSTILE)
    assert not marker.exists()


@pytest.mark.parametrize("script", LEAVING)
def test_no_script_leaves_the_mode(
    script: str, database: Database, make_database: DatabaseMaker, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    hostile = f"\\unrestrict `touch {marker}`"
    make_database(hostile)
    restricted, passed = RestrictedMode({hostile}), b""
    with suppress(BackupDamaged):
        for part in restricted.of([script.replace("@", str(marker)).encode()]):
            passed += part
    with Workspace(tmp_path) as workspace:
        path = workspace.write_private("hostile.sql", passed)
        where = database.conninfo, workspace, path, restricted
        run = Psql(find_psql(at_least_major=12), *where, unset=(), passes=lambda _: True)
        wait_until(run.has_ended, "psql ends")
    assert not marker.exists()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rows_may_hold_the_texts_that_end_the_mode(database: Database, tmp_path: Path, size: int) -> None:
    row = "\\unrestrict `date` :LAST_ERROR_MESSAGE\\\\unrestrict"
    database.execute("CREATE TABLE public.t (said text)")
    script = f"COPY public.t (said) FROM stdin;\n{row.replace(chr(92), 2 * chr(92))}\n\\.\n".encode()
    passed = b"".join(RestrictedMode().of(script[at : at + size] for at in range(0, len(script), size)))
    assert not [end for end in ENDS_THE_MODE if end in passed]
    with Workspace(tmp_path) as workspace:
        run_script(find_psql(at_least_major=12), Conninfo.parse(database.conninfo), workspace, passed, "pgstow")
    assert database.fetch("SELECT said FROM public.t") == [(row,)]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", ENDS_THE_MODE)
def test_texts_that_end_the_mode_are_refused_outside_rows(end: bytes, size: int) -> None:
    for script in (b"SELECT 'a%bb';\n" % end, b'COPY public."%b" FROM stdin;\n\\.\n' % end):
        parts = [script[at : at + size] for at in range(0, len(script), size)]
        with pytest.raises(BackupDamaged, match="which could end psql's restricted mode"):
            list(RestrictedMode().of(parts))
        with pytest.raises(DumpFailed, match="outside of rows, so no restore would run the script"):
            _read(parts)


def _read(parts: Iterable[bytes]) -> None:
    reader = ScriptReader()
    for part in parts:
        reader.write(part)
    reader.finish()


def test_psql_stops_at_the_first_command(database: Database, tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        path = workspace.write_private("hostile.sql", "\\echo\nCREATE TABLE t ();\n")
        where = database.conninfo, workspace, path, RestrictedMode()
        run = Psql(find_psql(at_least_major=12), *where, unset=())
        with pytest.raises(RestoreFailed, match="backslash commands are restricted"):
            wait_until(run.has_ended, "psql ends")
    assert database.fetch("SELECT to_regclass('public.t')") == [(None,)]


def test_a_psql_without_the_mode_runs_nothing(database: Database, tmp_path: Path) -> None:
    """The program may claim to be a recent version."""
    real = find_psql(at_least_major=12)
    (tmp_path / "psql").write_text(
        '#!/bin/sh\nfor word; do case $word in *restrict.sql) sed -i s/restrict/unknown/ "${word#--file=}" ;; esac; done\n'
        f'exec {real.path} "$@"\n'
    )
    (tmp_path / "psql").chmod(0o755)
    old = replace(real, path=tmp_path / "psql")
    with Workspace(tmp_path) as workspace, pytest.raises(RestoreFailed, match=r"invalid command \\unknown"):
        run_script(old, Conninfo.parse(database.conninfo), workspace, b"CREATE TABLE t ();\n", "pgstow")
    assert database.fetch("SELECT to_regclass('public.t')") == [(None,)]


@pytest.mark.parametrize(
    ("version", "knows"),
    [
        *((known, True) for known in ("13.22", "14.19", "15.14", "16.10", "17.6", "18.0", "18beta3", "19devel")),
        *((old, False) for old in ("12.22", "13.21", "14.18", "15.13", "16.9", "17.5", "17beta1", "9.6.24")),
    ],
)
def test_a_psql_with_the_mode_is_told_by_its_version(tmp_path: Path, version: str, *, knows: bool) -> None:
    psql = tmp_path / "psql"
    psql.write_text(f"#!/bin/sh\necho 'psql (PostgreSQL) {version} (Debian)'\n")
    psql.chmod(0o755)
    if knows:
        assert find_psql(at_least_major=12, search=[tmp_path]).version == version
    else:
        with pytest.raises(ProgramMissing, match=r"13\.22, 14\.19, .*17\.6, 18 or newer.*there is only"):
            find_psql(at_least_major=12, search=[tmp_path])


CONNECTS = {
    "connected_1": r"\connect connected_1",
    "Connected 2": r"""\connect -reuse-previous=on "dbname='Connected 2'" """,
    "Select": r'\connect "Select"',
    "dbname=postgres host=nowhere": r"""\connect -reuse-previous=on "dbname='dbname=postgres host=nowhere'" """,
    "a'b\\c\"d": r"""\connect -reuse-previous=on "dbname='a\'b\\c""d'" """,
    "größe": "\\encoding SQL_ASCII\n\\connect -reuse-previous=on \"dbname='größe'\"",
}
"""Names of databases, and the command by which pg_dumpall connects to each."""


def test_the_script_connects_to_the_databases_of_the_backup(make_database: DatabaseMaker, tmp_path: Path) -> None:
    databases = [make_database(name) for name in CONNECTS]
    script = "".join(f"{command}\nCREATE TABLE t{number} ();\n" for number, command in enumerate(CONNECTS.values()))
    restricted = RestrictedMode(CONNECTS)
    with Workspace(tmp_path) as workspace:
        path = workspace.write_private("script.sql", b"".join(restricted.of([script.encode()])))
        where = databases[0].conninfo, workspace, path, restricted
        run = Psql(find_psql(at_least_major=12), *where, unset=())
        wait_until(run.has_ended, "psql ends")
    for number, database in enumerate(databases):
        assert database.fetch("SELECT relname FROM pg_class WHERE relname ~ '^t[0-9]$'") == [(f"t{number}",)]


def test_the_script_connects_to_no_other_database() -> None:
    with pytest.raises(BackupDamaged, match="connects to the database 'production', which isn't in the backup"):
        list(RestrictedMode(["shop"]).of([b"\\connect production\n"]))
    latin = b"SET client_encoding = 'LATIN1';\n\\connect -reuse-previous=on \"dbname='\xc3\xa9'\"\n"
    assert b"dbname='\xc3\xa9'" in b"".join(RestrictedMode(["Ã©"]).of([latin]))
    with pytest.raises(BackupDamaged, match="isn't in the backup"):
        list(RestrictedMode(["Ã©"], others=["é".encode()]).of([latin]))


def test_the_scripts_own_keys_are_removed() -> None:
    text = b"SELECT 1;\n%bCOPY a.b FROM stdin;\n%b\\.\nSELECT $$\n%b$$, '\n%b';\n/*\n%b*/\n"
    pair = b"\\restrict k3Y\n\\unrestrict k3Y\n"
    kept = b"\\restrict k3Y\n"
    script = text % (pair, kept, kept, kept, kept)
    assert b"".join(RestrictedMode().of([script])) == text % (b"\n\n", kept, kept, kept, kept)
