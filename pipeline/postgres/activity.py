"""The running statements of a dump's sessions, and the number of these sessions."""

from dataclasses import dataclass

from pipeline.postgres.server import Server


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that a session is executing."""

    text: str
    """The first 200 characters of the statement."""
    seconds: float
    """Seconds since the statement began, by the server's clock."""


def activity_is_tracked(server: Server) -> bool:
    """True if the server shows the statements of the sessions of this role and database. Raises ConnectionFailed."""
    [(setting,)] = server.fetch("SELECT pg_catalog.current_setting('track_activities')")
    return bool(setting == "on")


def longest_statement(server: Server, name: str) -> Statement | None:
    """Return the longest-running statement of the other sessions with this application name; None if all are idle.

    Raises ConnectionFailed.
    """
    # Within a transaction, the view would show what it showed at the first query.
    server.fetch("SELECT pg_catalog.pg_stat_clear_snapshot()")
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
