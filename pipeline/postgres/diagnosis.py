"""What the words of a server, and of pg_dump about it, mean: whether a failure may pass, and what to do about it.

Programs speak English, since pgstow's command sets LC_MESSAGES. A server speaks as its ``lc_messages`` says, which only a superuser may
change: in another language than English, a failure is told in the server's words and taken for one that doesn't pass.
"""

import re

_MAY_PASS = re.compile(
    "|".join(
        (
            "Is the server running",  # libpq, where nobody listens, as between a server's stop and its start
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
    """Whether the server is or was only away for a while: being started or stopped, crashed, or with no session to spare."""
    return _MAY_PASS.search(said) is not None


def explain_conflict(said: str) -> str | None:
    """One sentence, where a standby ended a statement or a session to go on with recovery; else None.

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
