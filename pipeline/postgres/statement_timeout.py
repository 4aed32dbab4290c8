"""Limits the time of pg_dump's statements, since pg_dump turns off the server's own timeout."""

import math
import textwrap
import time
from functools import partial

from pipeline.concurrency import Workers
from pipeline.errors import DumpFailed, InvalidRequest
from pipeline.postgres.activity import Statement, activity_is_tracked, longest_statement
from pipeline.postgres.server import Server

_INTERVAL = 1.0  # seconds
_LONGEST_QUOTE = 120  # characters


class StatementTimeout:
    """Looks for statements that run longer than ``timeout`` seconds in the sessions with the application name ``name``; 0 for no limit.

    The caller must call :meth:`look` often. It asks the server once a second. If a statement runs too long, ``workers.collect`` raises
    DumpFailed.

    Raises:
        InvalidRequest: the server doesn't show its sessions' statements.
        ConnectionFailed: the query fails, or the connection ends.
    """

    def __init__(self, server: Server, name: str, timeout: int, workers: Workers) -> None:
        if timeout and not activity_is_tracked(server):
            raise InvalidRequest(
                "--statement-timeout needs the server's setting track_activities, which is off: turn the setting on, or leave out the option."
            )
        self._ask = partial(longest_statement, server, name)
        self._timeout = timeout
        self._asking = workers.pool(1, "watch")
        self._next = 0.0 if timeout else math.inf

    @property
    def asking(self) -> bool:
        """True if a query is running."""
        return self._asking.pending > 0

    def look(self) -> None:
        """Ask the server, if the last query was a second ago or more. Another thread runs the query, since the answer may take long."""
        if time.monotonic() >= self._next and not self.asking:
            self._next = time.monotonic() + _INTERVAL
            self._asking.submit(self._ask, self._judge)

    def _judge(self, statement: Statement | None) -> None:
        if statement is not None and statement.seconds > self._timeout:
            quoted = textwrap.shorten(statement.text.rstrip("; "), _LONGEST_QUOTE, placeholder=" …")
            raise DumpFailed(
                f"A statement of pg_dump ran for longer than {self._timeout:,} s, so the dump was stopped ({quoted}): "
                "raise --statement-timeout, or leave out the objects that take so long."
            )
