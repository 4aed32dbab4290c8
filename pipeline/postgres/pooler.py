"""Tells if a pooler in transaction mode stands between pgstow and the server.

Such a pooler gives a session on the server to another client after each transaction.
"""

from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

_ROUNDS = 5


def shares_sessions(server: Server, source: Conninfo) -> bool:
    """True if the session of ``server`` surely has no process of its own on the server. ``source`` is its connection string.

    A server has one process for each session, until the session ends. So a pooler shows if a session meets two processes, or if two open
    sessions meet the same process. A pooler that many others use at the same moment may stay unseen. Raises ConnectionFailed.
    """
    with Server(source) as other:
        for _ in range(_ROUNDS):
            # The third question makes a difference to a pooler that takes its processes in turn.
            one, two, two_again = _process(server), _process(other), _process(other)
            if one == two or two != two_again:
                return True
    return False


def _process(server: Server) -> tuple[object, ...]:
    """Return the process ID and the server's start. Behind a balancer, each session may be on a server of its own."""
    [row] = server.fetch("SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_postmaster_start_time()")
    return row
