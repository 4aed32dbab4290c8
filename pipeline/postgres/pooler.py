"""Finds out if a pooler in transaction mode stands between pgstow and the server.

After each transaction, the pooler may give the session on the server to another client.
"""

from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

_ROUNDS = 5


def shares_sessions(server: Server, source: Conninfo) -> bool:
    """True if a pooler certainly shares the session of ``server`` with other clients. ``source`` is the session's connection string.

    Without a pooler, each session has its own process on the server until it ends. So there is a pooler if one session gets two processes,
    or if two open sessions get the same process. A pooler may go unnoticed while many other clients use it. Raises ConnectionFailed.
    """
    with Server(source) as other:
        for _ in range(_ROUNDS):
            # The third query finds a pooler that uses its processes in turn.
            one, two, two_again = _process(server), _process(other), _process(other)
            if one == two or two != two_again:
                return True
    return False


def _process(server: Server) -> tuple[object, ...]:
    """Return the process ID and the server's start time. Behind a load balancer, each session may be on another server."""
    [row] = server.fetch("SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_postmaster_start_time()")
    return row
