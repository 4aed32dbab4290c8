"""The database to connect to for work on a whole server, and how to drop a database that pgstow made."""

from contextlib import suppress

from psycopg import sql

from pipeline.errors import ConnectionFailed, ServerUnavailable
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

_USUAL = ("postgres", "template1")
"""The databases that createdb and dropdb try to connect to, in this order (``connectMaintenanceDatabase`` in connect_utils.c)."""


def maintenance_database(server: Conninfo) -> Conninfo:
    """Return the connection string of the maintenance database that the user named.

    If the user named none, try postgres, template1 and the connection string's own database, in this order. The first that accepts a
    connection is used. A managed service may lack the usual databases. Raises ConnectionFailed if no database accepts a connection.
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
        except (
            ConnectionFailed
        ) as exc:  # pgstow can't tell the reasons apart, since the message is in the server's language
            failures.append(exc)
        else:
            return candidate
    raise ConnectionFailed(
        f"{failures[0]} pgstow needs a database to connect to, and tried {', '.join(names)}. Name a database in the connection string, "
        "or with the option --maintenance-db of pgstow restore."
    ) from failures[0]


def any_database(server: Conninfo) -> Conninfo:
    """Return the connection string unchanged if it names a database, or else the string of a maintenance database.

    Raises ConnectionFailed.
    """
    return server if server.database else maintenance_database(server)


def make_usual_database(maintenance: Conninfo, name: str) -> None:
    """Make one of initdb's databases if the server lacks it. Raises ConnectionFailed."""
    with Server(maintenance) as server:
        if not server.fetch("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [name]):
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(server.quoted(name)))


def drop_database(maintenance: Conninfo, name: str) -> None:
    """Drop a database that pgstow made, if it exists. From PostgreSQL 13 on, also end all sessions in it. Raises ConnectionFailed.

    If the server refuses, first drop the database's subscriptions, without contact to the publishers. Their replication slots stay.
    """
    with Server(maintenance) as server:
        try:
            server.drop_database(name)
        except ConnectionFailed:
            _make_droppable(server, maintenance.with_database(name), name)
            server.drop_database(name)


def _make_droppable(server: Server, database: Conninfo, name: str) -> None:
    """Remove the obstacles to a drop of the database, as far as possible. If an obstacle is left, the server names it at the drop."""
    # A template can't be dropped. The other properties may keep out the session that drops the subscriptions.
    for change in ("IS_TEMPLATE false", "ALLOW_CONNECTIONS true", "CONNECTION LIMIT -1", "RESET ALL"):
        with suppress(ConnectionFailed):
            server.execute(sql.SQL("ALTER DATABASE {} " + change).format(server.quoted(name)))
    subscriptions = server.fetch(
        "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = %s",
        [name],
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
