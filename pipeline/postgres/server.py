"""A session on a server, with queries on the server and its databases."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from pipeline.catalog.origin import Extension, Source
from pipeline.errors import (
    ConnectionFailed,
    PipelineError,
    RestoreFailed,
    StatementRefused,
)
from pipeline.postgres.locales import locale_options
from pipeline.postgres.relations import Relations
from pipeline.postgres.session import quoted_text

_EPOCH = datetime.fromtimestamp(0, UTC)
_BATCH = 256 * 1024  # bytes of rows that are passed on at once
_CANCEL_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot, its time, and its position in the write-ahead log."""

    name: str
    """The snapshot's name for ``pg_dump --snapshot``; valid until :meth:`Server.release_snapshot`."""
    taken_at: datetime
    """The time when the transaction began, in UTC, by the server's clock."""
    wal_lsn: str | None
    """The position in the write-ahead log; on a standby, the last replayed position. None if the role may not read it."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The properties of a database that a manifest records. CREATE DATABASE needs some of them, and auditors may want the others."""

    name: str
    encoding: str
    collation: str
    character_type: str
    locale_provider: str
    """``c`` (libc), ``i`` (ICU) or ``b`` (builtin)."""
    locale: str | None
    """The locale of ICU or of the builtin provider; None for libc."""
    icu_rules: str | None
    """ICU's additional rules; None if there are none."""
    tablespace: str | None
    """The database's default tablespace; None for pg_default."""
    system_identifier: str | None
    """The cluster's identifier; None if the role may not read it."""
    standby: bool
    time_zone: str
    bytea_output: str
    extensions: tuple[Extension, ...]


class Server(Relations):
    """A session with queries on the server and its databases. Methods raise ConnectionFailed if a query fails or the connection ends."""

    def describe(self) -> DatabaseFacts:
        """Return the properties of the session's database."""
        locale = {15: "d.daticulocale", 16: "d.daticulocale"}.get(
            self.major, "d.datlocale" if self.major > 16 else "NULL"
        )
        provider = "d.datlocprovider::pg_catalog.text" if self.major >= 15 else "'c'"
        rules = "d.daticurules" if self.major >= 16 else "NULL"
        name, encoding, collate, ctype, locprovider, icu, icu_rules, tablespace, standby, time_zone, bytea_output = (
            self.fetch(
                f"SELECT d.datname, pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, {provider}, {locale}, {rules}, "  # noqa: S608 - constants
                "nullif(t.spcname, 'pg_default'), pg_catalog.pg_is_in_recovery(), "
                "pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('bytea_output') "
                "FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace "
                "WHERE d.datname = pg_catalog.current_database()"
            )[0]
        )
        extensions = self.fetch("SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY extname")
        return DatabaseFacts(
            name=name,
            encoding=encoding,
            collation=collate,
            character_type=ctype,
            locale_provider=locprovider,
            locale=icu,
            icu_rules=icu_rules,
            tablespace=tablespace,
            system_identifier=self._system_identifier(),
            standby=standby,
            time_zone=time_zone,
            bytea_output=bytea_output,
            extensions=tuple(Extension(name=extname, version=version) for extname, version in extensions),
        )

    def export_snapshot(self, *, serializable: bool = False) -> Snapshot:
        """Begin a transaction that lasts until :meth:`release_snapshot`. Return its snapshot, which other sessions can use, too.

        With ``serializable``, wait for a snapshot without serialization anomalies. A standby has no such snapshot.
        """
        level = "SERIALIZABLE READ ONLY DEFERRABLE" if serializable else "REPEATABLE READ READ ONLY"
        self.execute(f"BEGIN ISOLATION LEVEL {level}")
        with self._cancelled_by_signals():
            [(name, microseconds, standby)] = self.fetch(
                "SELECT pg_catalog.pg_export_snapshot(), (extract(epoch FROM pg_catalog.now()) * 1000000)::bigint, "
                "pg_catalog.pg_is_in_recovery()"
            )
        position = "pg_catalog.pg_last_wal_replay_lsn()" if standby else "pg_catalog.pg_current_wal_lsn()"
        taken_at = _EPOCH + timedelta(microseconds=microseconds)
        return Snapshot(name, taken_at, self.fetch_if_allowed(f"SELECT {position}::pg_catalog.text"))

    def release_snapshot(self) -> None:
        """End the snapshot's transaction, unless the session itself has ended."""
        with suppress(ConnectionFailed):
            self.execute("COMMIT")

    def databases(self) -> list[str]:
        """Return the names of the databases that allow connections, template1 first, as pg_dumpall does."""
        rows = self.fetch(
            "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname <> 'template1', datname"
        )
        return [name for (name,) in rows]

    def roles(self) -> list[str]:
        """Return the names of the cluster's roles, without PostgreSQL's own roles (``pg_…``)."""
        return [
            name for (name,) in self.fetch("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")
        ]

    def superusers(self) -> list[str]:
        """Return the names of the roles that are superusers."""
        return [name for (name,) in self.fetch("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper ORDER BY 1")]

    def tablespaces(self) -> list[str]:
        """Return the names of the cluster's tablespaces, without PostgreSQL's own tablespaces (``pg_…``)."""
        return [
            name
            for (name,) in self.fetch("SELECT spcname FROM pg_catalog.pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1")
        ]

    def may_read_passwords(self) -> bool:
        """True if the role may read the hashes of roles' passwords."""
        [(readable,)] = self.fetch("SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')")
        return bool(readable)

    def large_object_sizes(self, oids: Sequence[int]) -> dict[int, int]:
        """Return the bytes of each large object, by OID. The role must be allowed to read them. The query works on a standby, too.

        lo_open(…, INV_READ) uses the transaction's snapshot. lo_lseek64(…, SEEK_END) reads only the last page of the large object.
        """
        rows = self.fetch(
            "SELECT oid::bigint, pg_catalog.lo_lseek64(fd, 0, 2), pg_catalog.lo_close(fd) FROM "
            "(SELECT oid, pg_catalog.lo_open(oid, 262144) AS fd FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS oid OFFSET 0) AS opened",
            [list(oids)],
        )
        return {oid: size for oid, size, _ in rows}

    def count_large_objects(self) -> int:
        """Return the number of large objects in the database, of all owners."""
        [(count,)] = self.fetch("SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata")
        return int(count)

    def create_database(self, name: str, like: Source, *, in_tablespace: bool = False) -> None:
        """Make an empty database with the encoding and locale of ``like``. With ``in_tablespace``, put it into the tablespace of ``like``.

        Raises RestoreFailed if there is no such tablespace, TargetNotEmpty if the database exists, or ConnectionFailed if the server refuses.
        """
        options = locale_options(like, self.major)
        if in_tablespace and like.tablespace is not None:
            if like.tablespace not in self.tablespaces():
                raise RestoreFailed(
                    f"The database was in the tablespace {like.tablespace}, which the server doesn't have. Make the tablespace "
                    "(pgstow restore --globals-only makes all tablespaces), or leave out tablespaces with --no-tablespaces."
                )
            options.append(sql.SQL("TABLESPACE {}").format(self.quoted(like.tablespace)))
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}")
        try:
            # Without the cancellation, the server would go on making the database, and a drop would come too early.
            with self._cancelled_by_signals():
                self.execute(statement.format(self.quoted(name), sql.SQL(" ").join(options)))
        except StatementRefused as exc:
            if "permission denied to create database" in str(exc):
                raise StatementRefused(f"{exc} The role needs CREATEDB to make a database.") from exc
            raise

    @contextmanager
    def _cancelled_by_signals(self) -> Iterator[None]:
        """If a signal ends the block, cancel its statement on the server. Otherwise the server would go on until the statement ends."""
        try:
            yield
        except PipelineError:
            raise
        except BaseException:
            with suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_CANCEL_TIMEOUT)
                while self._connection.pgconn.get_result():
                    pass
            raise

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists. From PostgreSQL 13 on, end all sessions in it. Raises ConnectionFailed."""
        force = " WITH (FORCE)" if self.major >= 13 else ""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {}" + force).format(self.quoted(name)))

    def count_rows(self, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Return the number of rows of each table, without its children, by schema and name. All tables are locked at the same time.

        Raises RestoreFailed if there is no such table.
        """
        counts = [sql.SQL("(SELECT pg_catalog.count(*) FROM ONLY {})").format(self.quoted(*table)) for table in tables]
        query = sql.SQL("SELECT {}").format(sql.SQL(", ").join(counts))
        try:
            with self.errors(), self._held(tables):
                row = self._connection.execute(query).fetchone() or ()
        except (RestoreFailed, StatementRefused):
            if len(tables) == 1:
                raise
            # One by one, the tables need fewer locks and may be waited for, and the error names the table.
            return {table: count for one in tables for table, count in self.count_rows([one]).items()}
        return dict(zip(tables, map(int, row), strict=True))

    def copy_rows(self, schema: str, relation: str, columns: str, encoding: str) -> Iterator[bytes]:
        """Yield the rows of one table, without its children, as COPY's text in ``encoding``, in batches of about 256 KiB.

        ``columns`` is a list in parentheses, or empty for a table without columns. Raises RestoreFailed if there is no such table.
        """
        rows = sql.SQL("{} {}").format(self.quoted(schema, relation), self.encoded(columns))
        with self._held([(schema, relation)]):
            yield from self._copy(sql.SQL("COPY {} TO STDOUT (ENCODING {})").format(rows, encoding))

    def copy_view(self, schema: str, view: str) -> Iterator[bytes]:
        """Yield the rows of a view or a materialized view, as COPY's text in the session's encoding, in batches of about 256 KiB."""
        return self._copy(sql.SQL("COPY (TABLE {}) TO STDOUT").format(self.quoted(schema, view)))

    @contextmanager
    def _held(self, tables: Sequence[tuple[str, str]]) -> Iterator[None]:
        """Lock the relations, so that nobody can replace them. Raises RestoreFailed unless all are tables: a view would run functions.

        ``tables`` has schema and name of each relation. The error names the first. Raises StatementRefused if one of several relations is
        locked by somebody else. Somebody can still rename the schema. ``restrict_nonsystem_relation_kind`` protects against a renamed schema.
        """
        name = ".".join(tables[0])
        # A session that waits for one table while it holds others could deadlock with a user's transaction, which might then fail.
        wait = " NOWAIT" if len(tables) > 1 else ""
        locked = sql.SQL(", ").join(sql.SQL("ONLY {}").format(self.quoted(*table)) for table in tables)
        with self.errors(), self._connection.transaction():
            try:
                self.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE" + wait).format(locked))
            except ConnectionFailed as exc:
                missing = isinstance(exc.__cause__, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName)
                if not missing and not isinstance(exc.__cause__, psycopg.errors.WrongObjectType):
                    raise
                raise RestoreFailed(f"The database {self.name} has no table {name}.") from exc
            kinds = self.fetch(
                "SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::pg_catalog.regclass[]::pg_catalog.oid[])",
                [[quoted_text(*table) for table in tables]],
            )
            if len(kinds) != len(tables) or not {kind for (kind,) in kinds} <= {"r", "p"}:
                raise RestoreFailed(f"{name} in the database {self.name} is not a table.")
            yield

    def _copy(self, query: sql.Composed) -> Iterator[bytes]:
        with self.errors(), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            batch = bytearray()
            for row in copy:
                batch += row
                if len(batch) >= _BATCH:
                    yield bytes(batch)
                    batch.clear()
            yield bytes(batch)

    def _system_identifier(self) -> str | None:
        return self.fetch_if_allowed("SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()")
