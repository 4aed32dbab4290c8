"""Failures of a restore that are no evidence against the backup."""

import pytest

from pipeline.errors import RefusedStatement
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.pg_restore import find_refused
from pipeline.postgres.server import Server
from pipeline.postgres.shortage import is_shortage
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import Section, Toc, TocEntry


def entry(dump_id: int, description: str, tag: str, definition: str, *dependencies: int) -> TocEntry:
    return TocEntry(
        dump_id, 0, description, Section.PRE_DATA, "public", tag, "", dependencies, "me", definition, "", ""
    )


TOC = Toc(
    "15.0",
    (
        entry(1, "EXTENSION", "plpgsql", "CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;\n\n\n"),
        entry(2, "FUNCTION", "f()", "CREATE FUNCTION public.f() RETURNS integer;\n", 1),
        entry(3, "VIEW", "v", "CREATE VIEW public.v AS\n SELECT public.f();\n", 2),
        entry(4, "TABLE", "t", "CREATE TABLE public.t (\n    i integer\n);\n"),
        entry(5, "TABLE DATA", "t", "", 4),
        entry(6, "TABLE DATA", "config", "", 1),
    ),
)
VIEW, TABLE = "CREATE VIEW public.v AS\n SELECT public.f();", "CREATE TABLE public.t (\n    i integer\n);"


def refused(message: str, statement: str = "", relation: str = "", sqlstate: str = "") -> RefusedStatement:
    words = f'COPY failed for table "{relation}": ' if relation else "could not execute query: "
    return RefusedStatement(f"{words if not sqlstate else ''}{message}", statement, relation, sqlstate)


ANYWHERE = [
    refused("ERROR:  in any words", "CREATE EXTENSION IF NOT EXISTS pg_cron WITH SCHEMA pg_catalog;"),
    refused("FEHLER:  nicht da", "CREATE COLLATION public.c (provider = libc, locale = 'de_DE.UTF-8');"),
    refused("FEHLER:  nicht da", 'CREATE TABLE t (\n    x text COLLATE pg_catalog."de_DE.utf8"\n);'),
    refused("FEHLER:  nicht da", "SECURITY LABEL FOR anon ON COLUMN public.t.i IS 'MASKED';"),
    refused("FEHLER:  nicht da", "CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE plsh HANDLER h;"),
    refused("FEHLER:  nicht da", "CREATE FUNCTION f() RETURNS integer\n    LANGUAGE c\n    AS 'lib', 'f';"),
    refused("FEHLER:  nicht da", "CREATE TEXT SEARCH DICTIONARY d (\n    TEMPLATE = ispell);"),
    refused('ERROR:  could not load library "/x.so": no', "CREATE INDEX i ON t USING gin (x);"),
    refused('ERROR:  could not access file "$libdir/x": no', relation="t"),
    refused("kein Platz", "COPY public.t FROM stdin;", sqlstate="53100"),
    refused("nicht da", "CREATE FUNCTION f() RETURNS integer", sqlstate="58P01"),
]
EVIDENCE = [
    refused('ERROR:  type "x" does not exist', TABLE),
    refused("ERROR:  relation already exists", "CREATE FUNCTION f() RETURNS integer\n    LANGUAGE plpgsql\n    AS '';"),
    refused('ERROR:  invalid input syntax for type integer: "could not load library"', relation="t"),
    refused("ERROR:  could not open relation with OID 1", "CREATE INDEX i ON t (i);"),
    refused('ERROR:  unrecognized configuration parameter "app.tenant"', "REFRESH MATERIALIZED VIEW m;"),
    refused("unbekannt", "CREATE TABLE public.t (", sqlstate="42704"),
]


@pytest.fixture(scope="module")
def server(postgres: ThrowawayCluster):
    with Server(Conninfo.parse(postgres.conninfo())) as session:
        yield session


@pytest.mark.parametrize(("one", "expected"), [(one, True) for one in ANYWHERE] + [(one, False) for one in EVIDENCE])
def test_failures_by_a_shortage_are_told_from_evidence(server: Server, one: RefusedStatement, expected: bool) -> None:
    assert is_shortage("pg_restore failed.", one, TOC, {}, server) is expected


def test_a_missing_right_is_a_shortage(server: Server) -> None:
    for one in (
        refused("ERROR:  permission denied to create event trigger", "CREATE EVENT TRIGGER e"),
        refused("ERROR:  must be owner of table t", "ALTER TABLE public.t OWNER TO you;"),
        refused("keine Rechte", "CREATE EVENT TRIGGER e", sqlstate="42501"),
    ):
        assert is_shortage("pg_restore failed.", one, TOC, {}, server)


def test_another_version_of_an_extension_is_a_shortage_for_its_dependents(server: Server) -> None:
    """Another version explains only failures of objects that depend on the extension, and of rows whose table the extension makes."""
    other = {"plpgsql": "9.9"}
    depends, alone = refused("ERROR:  no function", VIEW), refused("ERROR:  no type", TABLE)
    assert is_shortage("", depends, TOC, other, server)
    assert not is_shortage("", depends, TOC, {"plpgsql": "1.0"}, server)
    assert not is_shortage("", alone, TOC, other, server)
    assert is_shortage("", refused("ERROR:  no column", relation="config"), TOC, other, server)
    assert not is_shortage("", refused("ERROR:  check", relation="t"), TOC, other, server)
    script = Toc("", ())
    assert is_shortage("", refused("no", "CREATE VIEW v AS", sqlstate="42883"), script, other, server)
    assert not is_shortage("", refused("no", "COPY t FROM stdin;", sqlstate="23514"), script, other, server)


def test_a_failure_to_connect_is_a_shortage(server: Server) -> None:
    said = "pg_restore failed: connection to server on socket failed: FATAL: could not access file."
    assert is_shortage(said, None, TOC, {}, server)
    assert not is_shortage("pg_restore failed: could not read from input file.", None, TOC, {}, server)


def test_the_first_refused_statement_is_found_in_pg_restores_messages() -> None:
    older = "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 4; 1259 1 TABLE t me\n"
    said = f"pg_restore: error: could not execute query: ERROR:  no type\nDETAIL:  d\nCommand was: {TABLE}\n\n\n"
    for messages in (said, older + said, said + "pg_restore: error: a worker process died unexpectedly\n"):
        found = find_refused(messages)
        assert found is not None
        assert found.message == "could not execute query: ERROR:  no type"
        assert found.statement.startswith(TABLE)
    rows = find_refused('pg_restore: error: COPY failed for table "t": ERROR:  x\nCONTEXT:  COPY t, line 1\n')
    assert rows is not None
    assert (rows.relation, rows.statement) == ("t", "")
    assert find_refused("pg_restore: error: connection to server failed: FATAL:  no\n") is None
