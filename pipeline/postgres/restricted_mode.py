r"""psql's restricted mode, in which it runs none of the commands in a script (CVE-2025-8714).

A script from a store may be an attacker's. A command of psql in it, such as ``\!``, would run a program on this machine.

Since August 2025, psql has a restricted mode: after ``\restrict KEY``, it refuses each command until ``\unrestrict KEY``. pgstow enters the
mode with its own key before psql reads the script. It removes the script's own ``\restrict`` and ``\unrestrict``, since psql would refuse
them, too. It replaces each ``\connect`` of the script by its own, with the user's connection string and only to databases of the backup.

psql alone decides which lines are commands, and may disagree with pgstow's lexer about a line. In the restricted mode, psql still reads the
argument of ``\unrestrict``: it runs a program that stands between backquotes there. The script's author may also have found the key. So
pgstow lets no ``\unrestrict`` except its own reach psql, anywhere in the script (``ENDS_THE_MODE``). pgstow's own lines leave the mode only to
connect to another database, and then enter it again.

https://www.postgresql.org/docs/current/app-psql.html, HandleSlashCmds() in command.c.
"""

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import BackupDamaged, DumpFailed
from pipeline.postgres.encodings import shown
from pipeline.postgres.programs import Program, find_program
from pipeline.postgres.script_lexer import Kind, ScriptLexer

ENDS_THE_MODE = (rb"\unrestrict", b":LAST_ERROR_MESSAGE", b"\0")
r"""Texts that a script may hold only in rows.

psql replaces ``:LAST_ERROR_MESSAGE`` by the last error's message. The server chooses this message, which may hold ``\unrestrict``. psql ignores
all bytes from a NUL to the end of the line, so a NUL could hide any of these texts."""

_FIRST_MINORS = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
"""The first minor version of each major version that has the restricted mode. 18 and later have it from the start."""
_OF_A_DUMP = re.compile(rb"\\(?:(?:un)?restrict [0-9A-Za-z]+|encoding SQL_ASCII)[ \r]*\n?")
_CONNECT = re.compile(
    rb'\\connect (?:(?P<bare>[a-z_0-9]+)|"(?P<quoted>(?:[^"]|"")+)"|-reuse-previous=on "dbname=(?P<string>(?:[^"]|"")+)")[ \r]*\n?'
)
"""appendPsqlMetaConnect() in string_utils.c."""
_VALUE = re.compile(rb"[0-9A-Za-z_.]+|'(?P<quoted>(?:[^'\\]|\\.)*)'", re.DOTALL)
"""appendConnStrVal()."""
_KEY_SIZE = 24  # bytes
_LONGEST = 40  # characters of a command that is shown


def find_psql(*, at_least_major: int, search: Sequence[Path] = ()) -> Program:
    """Return a psql that has the restricted mode; see :func:`find_program`. Raises ProgramMissing if there is none."""
    firsts = [f"{major}.{minor}" for major, minor in _FIRST_MINORS.items() if major >= at_least_major]
    return find_program(
        "psql",
        at_least_major=at_least_major,
        search=search,
        fits=_knows_the_mode,
        versions=f"{', '.join([*firsts, str(max(18, at_least_major))])} or newer",
    )


def connected_database(command: bytes) -> bytes | None:
    """Return the name of the database that this command of a pg_dumpall script connects to; None for any other command."""
    match = _CONNECT.fullmatch(command)
    if match is None:
        return None
    if match["string"] is None:
        return match["bare"] or match["quoted"].replace(b'""', b'"')
    value = _VALUE.fullmatch(match["string"].replace(b'""', b'"'))
    if value is None:
        return None
    return value[0] if value["quoted"] is None else re.sub(rb"\\(.)", rb"\1", value["quoted"], flags=re.DOTALL)


def is_of_a_dump(command: bytes) -> bool:
    """True if pg_dump or pg_dumpall may have written the command into a script."""
    return bool(_OF_A_DUMP.fullmatch(command)) or connected_database(command) is not None


def describe(command: bytes) -> str:
    """Return the first word of a command, cut to 40 characters, to quote it in an error."""
    return re.split(r"\s", command.decode("utf-8", "replace"), maxsplit=1)[0][:_LONGEST]


class RestrictedMode:
    r"""The restricted mode of one psql. A script of pg_dumpall may connect psql to databases, but only to those in ``databases``.

    ``others`` has the names of databases that were on the server before, as the bytes that the server stores. psql never connects to these
    databases. In another encoding, the same bytes could be the name of an allowed database.
    """

    def __init__(self, databases: Collection[str] = (), others: Collection[bytes] = ()) -> None:
        self._others = others
        self._key = secrets.token_hex(_KEY_SIZE)
        self._databases = frozenset(databases)

    def entry(self, *, stops_at_errors: bool) -> str:
        """Return a script that psql must run first. It enters the mode. psql ends if it doesn't have the mode."""
        enter = f"\\set ON_ERROR_STOP on\n\\restrict {self._key}\n"
        if stops_at_errors:
            return enter
        return f"{enter}\\unrestrict {self._key}\n\\set ON_ERROR_STOP off\n\\restrict {self._key}\n"

    def of(self, script: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the script in parts, changed so that psql may run it.

        Raises BackupDamaged at a command that pg_dump doesn't write, and at a text of ``ENDS_THE_MODE`` outside rows.
        """
        lexer, key = ScriptLexer(), self._key
        try:
            for kind, piece in _without_ends(lexer.split_all(script)):
                if kind is not Kind.COMMAND:
                    yield piece
                elif _OF_A_DUMP.fullmatch(piece):
                    yield b"\n"
                else:
                    left, key = key, secrets.token_hex(_KEY_SIZE)
                    yield _connect(self._database(piece, lexer.first_encoding), left, key)
        except DumpFailed as exc:
            raise BackupDamaged(str(exc)) from exc

    def _database(self, command: bytes, encoding: str) -> bytes:
        """Return the name of the database that the command connects to, in bytes. Raises BackupDamaged if the backup lacks the database."""
        name = connected_database(command)
        if name is None:
            raise BackupDamaged(
                f"The script has psql's command {describe(command)}, which pg_dump doesn't write there. The rest of the script is not run."
            )
        _refuse_ends(name)  # psql puts the name into a variable
        meant = {name.decode("utf-8", "replace"), shown(name, encoding)}
        if name in self._others or self._databases.isdisjoint(meant):
            raise BackupDamaged(
                f"The script connects to the database {shown(name, encoding)!r}, which isn't in the backup. The rest of the script is not run."
            )
        return name


def find_end(sql: bytes) -> str | None:
    """Return the first text of ``ENDS_THE_MODE`` in a part of a script, to quote it in an error; None if there is none."""
    return next((end.decode().replace("\0", "a NUL") for end in ENDS_THE_MODE if end in sql), None)


def _without_ends(pieces: Iterable[tuple[Kind, bytes]]) -> Iterator[tuple[Kind, bytes]]:
    """Yield pieces with the same meaning, but without the texts of ``ENDS_THE_MODE``. Raises BackupDamaged at one outside rows."""
    kept = max(map(len, ENDS_THE_MODE)) - 1
    before, text = Kind.SQL, b""  # the end of a piece is kept, since a text may continue in the next piece
    for kind, piece in pieces:
        if kind is not before or kind is Kind.COMMAND:
            yield before, text
            before, text = kind, b""
        text += piece
        if kind is Kind.ROWS:
            text = _escape_ends(text)
        if kind is not Kind.COMMAND:
            _refuse_ends(text)
            yield kind, text[:-kept]
            text = text[-kept:]
    yield before, text


def _escape_ends(rows: bytes) -> bytes:
    r"""Return the same rows, with the second character of each text as an octal escape, such as ``\165`` for ``u``.

    pg_dump doubles each backslash in a value. So the second character is no part of an escape, and COPY reads the octal escape as the same
    character.
    """
    for end in ENDS_THE_MODE:
        if len(end) > 1 and end in rows:
            rows = rows.replace(end, b"%b\\%03o%b" % (end[:1], end[1], end[2:]))
    return rows


def _refuse_ends(text: bytes) -> None:
    if end := find_end(text):
        raise BackupDamaged(
            f"The script has {end}, which could end psql's restricted mode. The rest of the script is not run."
        )


def _connect(database: bytes, left: str, entered: str) -> bytes:
    """Return lines by which psql leaves the mode, connects to another database of the same server, and enters the mode again."""
    value = database.replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b'"', b'""')
    encoding = b"" if database.isascii() else b"\\encoding SQL_ASCII\n"
    connect = b"\\connect -reuse-previous=on \"dbname='%b'\"\n" % value
    return b"\\unrestrict %b\n%b%b\\restrict %b\n" % (left.encode(), encoding, connect, entered.encode())


def _knows_the_mode(psql: Program) -> bool:
    minor = re.match(r"\d+\.(\d+)", psql.version)
    first = _FIRST_MINORS.get(psql.major)
    return psql.major >= 18 if first is None else minor is not None and int(minor[1]) >= first
