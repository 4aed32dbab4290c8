"""A database to connect to for what concerns a server as a whole, and how a database that pgstow made is dropped again."""

from contextlib import suppress

from psycopg import sql

from pipeline.errors import ConnectionFailed, ServerUnavailable
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

_USUAL = ("postgres", "template1")
"""Where createdb and dropdb connect to, in this order (``connectMaintenanceDatabase`` in connect_utils.c)."""


def maintenance_database(server: Conninfo) -> Conninfo:
    """The database that is named for this, or else the first of postgres, template1 and the connection string's own that lets us in.

    A server need not have any of the usual ones, as managed services show. Raises ConnectionFailed where there is none.
    """
    own = server.database
    usual = [*_USUAL, *([own] if own and own not in _USUAL else [])]
    names = [server.maintenance] if server.maintenance else usual
    failures = list[ConnectionFailed]()
    for name in names:
        candidate = server.with_database(name)
        try:
            Server(candidate).close()
        except ServerUnavailable:
            raise
        except ConnectionFailed as exc:  # in the server's language, so the reason can't be told
            failures.append(exc)
        else:
            return candidate
    raise ConnectionFailed(
        f"{failures[0]} pgstow needs a database that is there, and tried {', '.join(names)}: name one in the connection string, or for a "
        "new database with --maintenance-db."
    ) from failures[0]


def any_database(server: Conninfo) -> Conninfo:
    """The same where it names a database, and otherwise with one to connect to. Raises ConnectionFailed."""
    return server if server.database else maintenance_database(server)


def make_usual_database(maintenance: Conninfo, name: str) -> None:
    """Make a database that initdb makes on every server, where this one lacks it. Raises ConnectionFailed."""
    with Server(maintenance) as server:
        if not server.fetch("SELECT FROM pg_database WHERE datname = %s", [name]):
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(server.quoted(name)))


def drop_database(maintenance: Conninfo, name: str) -> None:
    """Drop a database that pgstow made, if it is there, and whoever is connected to it. Raises ConnectionFailed.

    Its subscriptions go first, without a word to their publishers, whose replication slots stay.
    """
    with Server(maintenance) as server:
        try:
            server.drop_database(name)
        except ConnectionFailed:
            _make_droppable(server, maintenance.with_database(name), name)
            server.drop_database(name)


def _make_droppable(server: Server, database: Conninfo, name: str) -> None:
    """As far as that is possible; what is still in the way, the server says when the database is dropped."""
    for change in ("IS_TEMPLATE false", "ALLOW_CONNECTIONS true", "CONNECTION LIMIT -1", "RESET ALL"):
        with suppress(ConnectionFailed):  # a setting may keep everybody out
            server.execute(sql.SQL("ALTER DATABASE {} " + change).format(server.quoted(name)))
    subscriptions = server.fetch(
        "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = %s", [name]
    )
    if not subscriptions:
        return
    with suppress(ConnectionFailed), Server(database) as inside:
        for (subscription,) in subscriptions:
            for statement in (
                "ALTER SUBSCRIPTION {} DISABLE",
                "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                "DROP SUBSCRIPTION {}",
            ):
                inside.execute(sql.SQL(statement).format(inside.quoted(subscription)))
