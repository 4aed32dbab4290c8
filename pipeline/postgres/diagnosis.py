"""Reads the messages of servers and of pg_dump: says if a failure may be temporary, and what to do.

Programs write English, since pgstow sets their LC_MESSAGES (``environment.py``). A server writes in the language of its ``lc_messages``,
which only a superuser may change. If a message is in another language, pgstow shows it, and assumes that the failure isn't temporary.
"""

import errno
import os
import re

_NO_SESSION = "too many clients already|remaining connection slots are reserved|too many connections for"
_MAY_PASS = re.compile(
    "|".join(
        (
            "Is the server running",  # from libpq, if no server listens, for example during a restart
            "the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)",
            _NO_SESSION,
            "terminating connection due to administrator command",
            "terminating connection due to immediate shutdown command",
            "terminating connection due to unexpected postmaster exit",
            "terminating connection because of crash of another server process",
            "server closed the connection unexpectedly",
            "SSL connection has been closed unexpectedly",
            "SSL (SYSCALL error: EOF detected|error: unexpected eof while reading)",
            "Connection reset by peer",
            "the connection is (closed|lost)",  # from psycopg, if the session had already ended
        )
    )
)
_HINT = re.compile(r"^(?:\w+: )?hint: +(?P<hint>.+)$", re.MULTILINE | re.IGNORECASE)
"""libpq's label is English, even if the server's hint isn't."""
_LABEL = re.compile(r"\.?\n(?P<label>LINE \d+|DETAIL|HINT|QUERY|CONTEXT):\s+")
_CARET = re.compile(r"\n *\^(?=\n|\Z)")
_ALL_ATTEMPTS = "All failures were:\n- "
"""psycopg's text before the list of attempts, if the server's name has several addresses."""
_ATTEMPT = re.compile(
    r"(?:host: '(?P<host>.*?)', port: '(?P<port>\d+)', hostaddr: '.*?': )?(?:connection (?:failed|is bad): )?(?P<words>.*)",
    re.DOTALL,
)
_TO_SERVER = re.compile(r"connection to server (?P<where>(?:at|on) .+?) failed: ")
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_NO_PASSWORD = re.compile("no password supplied")
_KEEP_PASSWORD = (
    "Keep the password in ~/.pgpass, in the file that PGPASSFILE names, or in a password_file of pgstow.toml."  # noqa: S105
)
_FREE_SESSIONS = "Give fewer --jobs, end other sessions, or raise the limit on connections."
_OF_SERVER = re.compile("(?:ERROR|FATAL|PANIC):  ")
_MISSING_DATABASE = re.compile('database ".*" does not exist')
_CONFLICT = re.compile(r"due to conflict with recovery(?:\s+DETAIL:\s+(?P<detail>[^\n]*?\.))?")


def on_one_line(said: str) -> str:
    """Return a server's message as sentences on one line. Its detail and its hint become separate sentences."""
    return _ended(_LABEL.sub(lambda match: f". {match['label'].capitalize()}: ", _CARET.sub("", said)))


def with_hint(sentence: str, said: str) -> str:
    """Return the sentence, followed by the first hint in a program's messages, and by advice if the server has no free session."""
    hint = _HINT.search(said)
    told = f"{sentence} Hint: {_ended(hint['hint'])}" if hint else sentence
    return f"{told} {_FREE_SESSIONS}" if lacks_session(said) else told


def explain_connection(said: str) -> str:
    """Return sentences on a failed connection, from psycopg's message.

    They name each address, and say where to keep a missing password, or how to get a free session.
    """
    words = _ERRNO.sub("", said)
    attempts = words.partition(_ALL_ATTEMPTS)[2] or words
    reasons = [reason for attempt in attempts.split("\n- ") for reason in _reasons(attempt)]
    sentence = _ended(f"Cannot connect to the server {'; '.join(dict.fromkeys(reasons))}")
    if _NO_PASSWORD.search(said):
        return f"{sentence} {_KEEP_PASSWORD}"
    return f"{sentence} {_FREE_SESSIONS}" if lacks_session(said) else sentence


def is_missing_database(said: str) -> bool:
    """True if the message says that the database to connect to doesn't exist."""
    return _MISSING_DATABASE.search(said) is not None


def _reasons(attempt: str) -> list[str]:
    """Return the address and the reason of each failure. libpq may try one address twice, with and without encryption."""
    match = _ATTEMPT.fullmatch(attempt)
    words = match["words"] if match else attempt
    first, *tried = _TO_SERVER.split(words.replace("\n\t", ". "))
    if tried:
        return [f"{where}: {why.strip()}" for where, why in zip(tried[::2], tried[1::2], strict=True)]
    where = f'at "{match["host"]}", port {match["port"]}' if match and match["host"] else ""
    return [f"{where}: {first.strip()}"]


def _ended(text: str) -> str:
    """Return the text on one line, with a full stop."""
    text = " ".join(text.split()).replace(" : ", ": ")
    return text if text.endswith((".", "?", "!")) else f"{text}."


def tells_of_full_disk(said: str) -> bool:
    """True if a program's messages say that a disk of this machine is full. Errors of the server are ignored: they concern its own disk."""
    full = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
    return any(words in line for words in full for line in said.splitlines() if not _OF_SERVER.search(line))


def may_pass(said: str) -> bool:
    """True if the message says that the server is unavailable only for a while: it starts, stops, has crashed, or has no free session."""
    return _MAY_PASS.search(said) is not None


def lacks_session(said: str) -> bool:
    """True if the message says that the server, the role or the database has as many sessions as its limit allows."""
    return re.search(f"FATAL:  (?:sorry, )?(?:{_NO_SESSION})", said) is not None


def explain_conflict(said: str) -> str | None:
    """Return a sentence if a standby ended a statement or a session because of recovery; None for other messages.

    https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT
    """
    match = _CONFLICT.search(said)
    if match is None:
        return None
    detail = f" ({match['detail'].rstrip('.')})" if match["detail"] else ""
    return (
        f"The standby cancelled the dump, which was in conflict with recovery{detail}: turn on the standby's hot_standby_feedback, "
        "raise its max_standby_streaming_delay, or back up from the primary."
    )
