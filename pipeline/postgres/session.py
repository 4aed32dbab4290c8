"""A session on a server: sends statements, returns rows, and turns psycopg's errors into the pipeline's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.pq.abc import PGresult
from psycopg.types.string import StrDumperUnknown

from pipeline.errors import (
    ConnectionFailed,
    DumpFailed,
    InvalidRequest,
    RestoreFailed,
    ServerUnavailable,
    StatementRefused,
    TargetNotEmpty,
)
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.diagnosis import explain_conflict, explain_connection, may_pass, on_one_line
from pipeline.postgres.encodings import ANY_BYTES, shown, unshown
from pipeline.postgres.session_settings import NO_VIEWS, english_messages, settings_script

_TRIES = 100
"""The most tries of the first statements: they turn off a timeout that may cancel them."""
_BOOL = 16
"""The OID of the type boolean."""
_TEXTS = ("text", "name", "varchar", "bpchar", '"char"')


class _LenientText(psycopg.adapt.Loader):
    """Loads text that should be UTF-8. Names of databases and roles may be in other encodings, since all databases share them."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "backslashreplace")


class _ShownText(psycopg.adapt.Loader):
    """Loads text of a database that takes any bytes. Escapes bytes that aren't UTF-8, as :func:`read_toc` does."""

    def load(self, data: Buffer) -> str:
        return shown(bytes(data), ANY_BYTES)


class _TakenText(StrDumperUnknown):
    """Sends the original bytes of a text from :class:`_ShownText` as a parameter."""

    def dump(self, obj: str) -> Buffer:
        return unshown(obj)


class _Bytes(sql.Composable):
    """A piece of SQL in bytes. psycopg sends it unchanged."""

    def as_bytes(self, context: object = None) -> bytes:
        return bytes(self._obj)


class Session:
    """One connection to a server, for a ``with`` block.

    Failures raise StatementRefused if the session goes on, ServerUnavailable if the failure may be temporary, or else ConnectionFailed.
    The constructor also raises InvalidRequest, if the host's name isn't valid.

    The session has pgstow's settings (``session_settings.py``). With ``users_settings``, it has the settings of the database's users, but no
    timeouts. Use such a session for the user's own SQL. Before any other SQL, call :meth:`leave_users_path`.
    """

    def __init__(self, conninfo: Conninfo, *, users_settings: bool = False) -> None:
        try:
            self._connection = psycopg.connect(conninfo.for_psycopg(), autocommit=True)
        except psycopg.Error as exc:
            raise _failed(explain_connection(str(exc)), exc) from exc
        except UnicodeError as exc:  # Python resolves the host's name before libpq does
            raise InvalidRequest(
                "The host's name isn't valid: a part of the name is empty, or longer than 63 characters."
            ) from exc
        info = self._connection.info
        self.host: str = info.host
        """The host of the connection; for a socket, the socket's folder."""
        self.hostaddr: str = info.hostaddr
        """The address of the host; empty for a socket."""
        self.port: int = info.port
        self.name: str = info.dbname
        """The database's name."""
        self.version: str = info.parameter_status("server_version") or "unknown"
        """The server's version in its own words: ``15.18``, with the vendor's additions."""
        self.major: int = info.server_version // 10000
        self._settle(users_settings=users_settings)
        self._takes_any_bytes = info.parameter_status("server_encoding") == ANY_BYTES
        for name in _TEXTS:
            self._connection.adapters.register_loader(name, _ShownText if self._takes_any_bytes else _LenientText)
        if self._takes_any_bytes:
            self.execute("SET client_encoding = 'SQL_ASCII'")
            self._connection.adapters.register_dumper(str, _TakenText)
        self._role = conninfo.role
        self._act()

    def _act(self) -> None:
        if self._role:
            self.execute(sql.SQL("SET ROLE {}").format(self.quoted(self._role)))

    @contextmanager
    def as_login(self) -> Iterator[None]:
        """Act as the role that logged in while the block lasts. No other thread may use the session meanwhile."""
        self.execute("RESET ROLE")
        yield
        self._act()

    def _settle(self, *, users_settings: bool) -> None:
        script = settings_script(self.major, users=users_settings).encode()
        with self.errors():
            for tries_left in reversed(range(_TRIES)):
                try:
                    self._connection.execute(script)
                    break
                except psycopg.errors.QueryCanceled:
                    if not tries_left:
                        raise
        if not users_settings:
            self.fetch(f"{english_messages(self.major)} UNION ALL {NO_VIEWS}")

    def leave_users_path(self) -> None:
        """Change a session with ``users_settings``, so that it can run statements of pgstow and of an archive.

        Other sessions can run these statements without a change.
        """
        self.execute("SET search_path = ''; SET standard_conforming_strings = on; SET row_security = off")
        self.fetch(NO_VIEWS)

    @property
    def client_encoding(self) -> str:
        """The encoding of the session's statements and of :meth:`encoded`, by PostgreSQL's name."""
        return ANY_BYTES if self._takes_any_bytes else "UTF8"

    def is_direct(self) -> bool:
        """True if no pooler is between pgstow and the server. A pooler makes up the process ID that it sends at the session's start.

        Poolers refuse sessions with settings that they don't know.
        """
        [(process,)] = self.fetch("SELECT pg_catalog.pg_backend_pid()")
        return bool(process == self._connection.info.backend_pid)

    def fetch(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self.errors():
            return self._connection.execute(query.encode(), parameters or None).fetchall()

    def execute(self, statement: sql.Composable | str) -> None:
        """Run a statement for its effect. Raises TargetNotEmpty if it creates a database that exists."""
        with self.errors():
            self._connection.execute(
                statement.encode() if isinstance(statement, str) else statement.as_bytes(self._connection)
            )

    def run_script(self, script: str) -> list[list[tuple[bool | str | None, ...]]]:
        """Run a script, and return the rows of each statement. Booleans are bool. Other values are text, as the server writes it.

        Raises InvalidRequest if a statement fails.
        """
        with self.errors():
            try:
                cursor = self._connection.execute(script.encode())
            except psycopg.Error as exc:
                if self._connection.closed:
                    raise
                raise InvalidRequest(on_one_line(str(exc))) from exc
            results = []
            while True:
                results.append(_rows(cursor.pgresult) if cursor.pgresult else [])
                if not cursor.nextset():
                    return results

    def fetch_if_allowed(self, query: str) -> str | None:
        """Return one value as text; None if it is NULL, or if the role may not read it, as on managed services."""
        refusals = (
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.UndefinedFunction,
            psycopg.errors.FeatureNotSupported,
        )
        with self.errors():
            try:
                with self._connection.transaction():
                    row = self._connection.execute(query.encode()).fetchone()
            except refusals:
                return None
        return str(row[0]) if row and row[0] is not None else None

    def quoted(self, *names: str) -> sql.Composable:
        """Return the names quoted for a statement, with dots between them: a schema and a table, or a single name."""
        return self.encoded(quoted_text(*names))

    def encoded(self, text: str) -> sql.Composable:
        """Return the text as SQL. In a database that takes any bytes, ``\\xe9`` in the text stands for a byte, as in fetched text."""
        return _Bytes(unshown(text) if self._takes_any_bytes else text.encode())

    def close(self) -> None:
        """End the session, and any transaction in it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check_alive(self) -> None:
        """Raise ConnectionFailed if the session has ended."""
        self.execute("SELECT")

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Run the block, in which a program works on the same server. If the program fails, find out if the server went away.

        If this session has ended too, the server went away: raise ConnectionFailed instead of the program's error.
        """
        try:
            yield
        except (DumpFailed, RestoreFailed):
            self.check_alive()
            raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn psycopg's exceptions into TargetNotEmpty, if the database to create exists, or into the errors of this class."""
        try:
            yield
        except psycopg.errors.DuplicateDatabase as exc:
            raise TargetNotEmpty(
                f"Cannot create the database: {on_one_line(str(exc))} Drop it first, or restore without --create."
            ) from exc
        except psycopg.Error as exc:
            if not self._connection.closed and not explain_conflict(str(exc)):
                raise StatementRefused(f"The server refused a statement: {on_one_line(str(exc))}") from exc
            raise _failed(f"The server went away: {on_one_line(str(exc))}", exc) from exc


def quoted_text(*names: str) -> str:
    """Return the names quoted, with dots between them, as SQL and regclass take them."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def _rows(result: PGresult) -> list[tuple[bool | str | None, ...]]:
    """Return the rows without psycopg's loaders, which fail on some dates, and on some styles of dates."""

    def value(row: int, column: int) -> bool | str | None:
        if (data := result.get_value(row, column)) is None:
            return None
        return data == b"t" if result.ftype(column) == _BOOL else data.decode("utf-8", "backslashreplace")

    return [tuple(value(row, column) for column in range(result.nfields)) for row in range(result.ntuples)]


def _failed(sentence: str, error: psycopg.Error) -> ConnectionFailed:
    if conflict := explain_conflict(str(error)):
        return ServerUnavailable(conflict)
    kind = ServerUnavailable if may_pass(str(error)) else ConnectionFailed
    return kind(sentence)
