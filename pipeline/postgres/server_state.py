"""Facts about a server that matter for a dump: limits on sessions, encryption, settings of a standby, the clock."""

from dataclasses import dataclass

from pipeline.postgres.server import Server


@dataclass(frozen=True, slots=True)
class SessionLimit:
    """A limit on the number of sessions, and the number of sessions that count towards it."""

    of: str
    """The kind of object that has the limit: ``server``, ``role`` or ``database``."""
    most: int
    """The most sessions that the limit allows at once."""
    used: int
    """The number of sessions now, including pgstow's session."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """Facts about the session's role, the login and the server that matter for a dump that begins now."""

    sessions: tuple[SessionLimit, ...]
    """The limits on sessions of the login."""
    role: str
    """The role that the session acts as. It may differ from the login."""
    quoted_role: str
    """The role's name as in SQL."""
    encryption: str | None
    """TLS's version, or ``GSSAPI``; None if the session isn't encrypted."""
    same_machine: bool
    """True if the session comes through a socket, or from an address that is the server's own."""
    standby: bool
    standby_feedback: bool
    """True if a standby tells its primary which rows its queries still need (``hot_standby_feedback``)."""
    standby_delay: int
    """Milliseconds for which a standby lets a query delay replay (``max_standby_streaming_delay``); -1 for ever."""
    snapshot_threshold: int
    """Minutes after which a snapshot may be too old (``old_snapshot_threshold``); -1 for never."""
    clock: float
    """The time by the server's clock, in seconds since 1970-01-01 UTC."""


def read_server_state(server: Server) -> ServerState:
    """Return the server's state, as the session sees it. Raises ConnectionFailed."""
    [names] = server.fetch("SELECT current_user, pg_catalog.quote_ident(current_user)")
    with server.as_login():  # the limits concern the login, and another role may not see how the login is connected
        [row] = server.fetch(_STATE)
    *facts, superuser, max_connections, reserved, used, role_limit, used_by_role, database_limit, used_in_database = row
    if superuser:  # a superuser is subject to no other limit, and may take the reserved connections
        limits = [SessionLimit("server", max_connections, used)]
    else:
        limits = [
            SessionLimit("server", max_connections - reserved, used),
            SessionLimit("role", role_limit, used_by_role),
            SessionLimit("database", database_limit, used_in_database),
        ]
    return ServerState(tuple(limit for limit in limits if limit.most >= 0), *names, *facts)


# Of other roles' sessions, pg_stat_activity shows everyone only the database and the user.
_STATE = """
SELECT coalesce((SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid() AND ssl),
                (SELECT 'GSSAPI' FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_catalog.pg_backend_pid() AND encrypted)),
       pg_catalog.inet_server_addr() IS NULL OR pg_catalog.inet_server_addr() = pg_catalog.inet_client_addr(),
       pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('hot_standby_feedback')::boolean,
       (SELECT setting::integer FROM pg_catalog.pg_settings WHERE name = 'max_standby_streaming_delay'),
       coalesce((SELECT setting::integer FROM pg_catalog.pg_settings WHERE name = 'old_snapshot_threshold'), -1),
       extract(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.float8,
       r.rolsuper, pg_catalog.current_setting('max_connections')::integer,
       pg_catalog.current_setting('superuser_reserved_connections')::integer
           + coalesce(pg_catalog.current_setting('reserved_connections', true)::integer, 0),
       pg_catalog.count(*), r.rolconnlimit, pg_catalog.count(*) FILTER (WHERE a.usesysid = r.oid),
       d.datconnlimit, pg_catalog.count(*) FILTER (WHERE a.datid = d.oid)
FROM pg_catalog.pg_roles r, pg_catalog.pg_database d, pg_catalog.pg_stat_activity a
WHERE r.rolname = session_user AND d.datname = pg_catalog.current_database() AND a.datid IS NOT NULL AND a.usesysid IS NOT NULL
GROUP BY r.oid, r.rolsuper, r.rolconnlimit, d.datconnlimit
"""
