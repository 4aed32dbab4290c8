"""psql's messages on a script: pgstow tells errors from notices and warnings by structure, not by words."""

from pathlib import Path

import pytest

from pipeline.postgres.psql import ScriptError, ScriptMessages

PATH = Path("/spool/a: b/script")


def said(*lines: str) -> str:
    return "".join(f"{line}\n".replace("@", f"psql:{PATH}:7") for line in lines)


@pytest.mark.parametrize(
    ("lines", "errors"),
    [
        (['@: NOTICE:  42704: tablespace "fast" does not exist', "LOCATION:  check, tablespace.c:1"], []),
        (["@: HINWEIS:  42704: Tablespace »fast« existiert nicht", "ORT:  check, tablespace.c:1"], []),
        (["@: WARNUNG:  55000: wal_level ist nicht ausreichend", "TIPP:  Setzen Sie es."], []),
        (["@: ADVERTENCIA:  01006: no se pudieron revocar privilegios"], []),
        (
            [
                '@: ERROR:  42P01: relation "a" does not exist',
                "LOCATION:  r, n.c:1",
                "@: STATEMENT:  COPY a FROM stdin;",
            ],
            [ScriptError("42P01", 'relation "a" does not exist', "COPY a FROM stdin;")],
        ),
        (
            [
                "@: WARNUNG:  01000: erst eine Warnung",
                "@: FEHLER:  22012: Division durch Null",
                "@: STATEMENT:  SELECT",
                "1/0;",
                "@: HINWEIS:  42704: weiter",
            ],
            [ScriptError("22012", "Division durch Null", "SELECT")],
        ),
        (
            [
                "@: ERROR:  53200: out of shared memory",
                "HINT:  Raise it.",
                "LOCATION:  l, lock.c:1",
                "@: STATEMENT:  LOCK TABLE a",
                "@: ERROR:  22012: no",
                "@: STATEMENT:  SELECT",
            ],
            [
                ScriptError("53200", "out of shared memory", "LOCK TABLE a", "Raise it."),
                ScriptError("22012", "no", "SELECT"),
            ],
        ),
        (["@: error: \\connect: no such database"], [ScriptError("", "\\connect: no such database")]),
        (
            ["@: FATAL:  57P01: terminating", "@: server closed it", "@: error: connection to server was lost"],
            [ScriptError("", "connection to server was lost (terminating)")],
        ),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_errors_are_told_from_notices_by_their_structure(
    lines: list[str], errors: list[ScriptError], at_once: bool
) -> None:
    messages = ScriptMessages(PATH)
    parts = [said(*lines)] if at_once else [said(line) for line in lines]
    assert [error for part in parts for error in messages.errors(part)] == errors
