"""The statements and the number of a dump's sessions."""

from dataclasses import dataclass

from pipeline.postgres.server import Server


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that a session is executing."""

    text: str
    """The beginning of the statement: 200 characters at most."""
    seconds: float
    """Seconds since the statement began, by the server's clock."""


def activity_is_tracked(server: Server) -> bool:
    """True if the server shows the statements of the sessions of this role and database. Raises ConnectionFailed."""
    [(setting,)] = server.fetch("SELECT pg_catalog.current_setting('track_activities')")
    return bool(setting == "on")


def longest_statement(server: Server, name: str) -> Statement | None:
    """Return the statement that has run longest in the other sessions with this application name; None if all are idle.

    Raises ConnectionFailed.
    """
    server.fetch(
        "SELECT pg_catalog.pg_stat_clear_snapshot()"
    )  # within a transaction, the view would stay as it was when first asked
    rows = server.fetch(
        "SELECT pg_catalog.left(query, 200), extract(epoch FROM pg_catalog.clock_timestamp() - query_start)::pg_catalog.float8 "
        "FROM pg_catalog.pg_stat_activity "
        "WHERE application_name = %s AND pid <> pg_catalog.pg_backend_pid() AND state = 'active' ORDER BY query_start LIMIT 1",
        [name],
    )
    return Statement(*rows[0]) if rows else None


def count_sessions(server: Server, name: str) -> int:
    """Return the number of other sessions with this application name. Raises ConnectionFailed."""
    server.fetch("SELECT pg_catalog.pg_stat_clear_snapshot()")
    [(count,)] = server.fetch(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE application_name = %s AND pid <> pg_catalog.pg_backend_pid()",
        [name],
    )
    return int(count)
