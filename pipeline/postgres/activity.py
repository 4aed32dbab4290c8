"""What the sessions of a dump are at."""

from dataclasses import dataclass

from pipeline.postgres.server import Server


@dataclass(frozen=True, slots=True)
class Statement:
    """One that a session is executing."""

    text: str
    """Its beginning."""
    seconds: float
    """Since it began, by the server's clock."""


def activity_is_tracked(server: Server) -> bool:
    """Whether the server shows what its sessions of this role and database are executing."""
    [(setting,)] = server.fetch("SELECT pg_catalog.current_setting('track_activities')")
    return bool(setting == "on")


def longest_statement(server: Server, name: str) -> Statement | None:
    """Of the other sessions with this application name, the statement that has run longest; None where all are idle."""
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
    """Return how many other sessions have this application name."""
    server.fetch("SELECT pg_catalog.pg_stat_clear_snapshot()")
    [(count,)] = server.fetch(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE application_name = %s AND pid <> pg_catalog.pg_backend_pid()",
        [name],
    )
    return int(count)
