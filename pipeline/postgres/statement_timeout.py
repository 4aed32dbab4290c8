"""Watches the statements of pg_dump's sessions, for which pg_dump turns the server's own timeout off."""

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

    Asks the server every second, while :meth:`look` is called. If a statement runs too long, ``workers.collect`` raises DumpFailed.

    Raises:
        InvalidRequest: the server doesn't show its sessions' statements.
        ConnectionFailed: the server refuses or goes away.
    """

    def __init__(self, server: Server, name: str, timeout: int, workers: Workers) -> None:
        if timeout and not activity_is_tracked(server):
            raise InvalidRequest(
                "--statement-timeout can't be kept where the server's track_activities is off: turn it on, or leave the option out."
            )
        self._ask = partial(longest_statement, server, name)
        self._timeout = timeout
        self._asking = workers.pool(1, "watch")
        self._next = 0.0 if timeout else math.inf

    @property
    def asking(self) -> bool:
        """True if the server is being asked."""
        return self._asking.pending > 0

    def look(self) -> None:
        """Ask the server if a second has passed since the last question. Another thread asks, since the answer may take its time."""
        if time.monotonic() >= self._next and not self.asking:
            self._next = time.monotonic() + _INTERVAL
            self._asking.submit(self._ask, self._judge)

    def _judge(self, statement: Statement | None) -> None:
        if statement is not None and statement.seconds > self._timeout:
            quoted = textwrap.shorten(statement.text.rstrip("; "), _LONGEST_QUOTE, placeholder=" …")
            raise DumpFailed(
                f"A statement of pg_dump ran for longer than {self._timeout:,} s, so the dump was stopped ({quoted}): "
                "raise --statement-timeout, or leave out what takes so long."
            )
