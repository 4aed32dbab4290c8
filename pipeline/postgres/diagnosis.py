"""Reads the messages of a server, and of pg_dump. Tells if a failure may pass, and gives advice.

Programs speak English, by LC_MESSAGES (``environment.py``). A server speaks the language of its ``lc_messages``, which only a superuser
may change. pgstow takes a failure in another language for a failure that doesn't pass, and shows the server's words.
"""

import re

_MAY_PASS = re.compile(
    "|".join(
        (
            "Is the server running",  # libpq, if nobody listens, as between a server's stop and its start
            "the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)",
            "too many clients already",
            "remaining connection slots are reserved",
            "too many connections for",
            "terminating connection due to administrator command",
            "terminating connection due to immediate shutdown command",
            "terminating connection due to unexpected postmaster exit",
            "terminating connection because of crash of another server process",
            "server closed the connection unexpectedly",
            "SSL connection has been closed unexpectedly",
            "SSL (SYSCALL error: EOF detected|error: unexpected eof while reading)",
            "Connection reset by peer",
            "the connection is (closed|lost)",  # psycopg, of a session that had ended before
        )
    )
)
_CONFLICT = re.compile(r"due to conflict with recovery(?:\s+DETAIL:\s+(?P<detail>[^\n]*?\.))?")


def may_pass(said: str) -> bool:
    """True if the message says that the server is away only for a while: it starts, stops, has crashed, or has no session to spare."""
    return _MAY_PASS.search(said) is not None


def explain_conflict(said: str) -> str | None:
    """Return a sentence if a standby ended a statement or a session to go on with recovery; else None.

    https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT
    """
    match = _CONFLICT.search(said)
    if match is None:
        return None
    detail = f" ({match['detail'].rstrip('.')})" if match["detail"] else ""
    return (
        f"The standby cancelled the dump, which was in conflict with recovery{detail}: set hot_standby_feedback = on there, "
        "raise its max_standby_streaming_delay, or back up from the primary."
    )
