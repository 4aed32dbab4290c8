"""A psql that dumps ranges of tables, under the snapshot of a dump.

psql passes the rows on in C. psycopg would make an object of Python's for each row.
"""

import fcntl
import os
import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipeline.postgres.dump import Dump, DumpCall
from pipeline.postgres.programs import Program
from pipeline.postgres.session import quoted_text
from pipeline.postgres.session_settings import NO_VIEWS, english_messages, settings_script
from pipeline.postgres.table_ranges import lock_statement

_MARK = b"\r"
"""The byte that ends each range. COPY writes a carriage return of the data as ``\\r``, so the byte is in no row."""
_WRITE_MARK = b"\\echo -n '\\r'\n"
_PIPE_SIZE = 1024 * 1024
"""Bytes. Linux allows every user pipes of this size, unless an administrator has lowered the limit."""
_FILL_RATE = 1_000_000_000
"""Bytes per second that psql writes at most. psql writes 4 KiB at a time, so the reader waits until more has come."""
_LABEL = re.compile(r"^(ERROR|FATAL|PANIC|DETAIL|HINT):\s+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rows:
    """The next rows of a range."""

    parts: Sequence[bytes]
    ended: bool
    """True if the range has ended."""
    closed: bool = False
    """True if psql closed its output, and the range hasn't ended."""


class RangeSession:
    """A psql with a session of its own. It begins with a transaction that has the snapshot, and with locks on the tables.

    The session's settings, role and connection are those of pg_dump's sessions, as far as they matter for rows. The first call of :meth:`read`
    waits for this beginning, and returns no rows. psql ends at the first error.
    """

    def __init__(self, dump: Dump, call: DumpCall, psql: Program, *, snapshot: str, tables: Sequence[str]) -> None:
        self._dump = dump
        self._reading = threading.Lock()
        self._ahead = b""
        """Bytes that were read after the end of a range."""
        commands, self._commands = os.pipe()
        self._output, output = os.pipe()
        self._capacity = _widen(self._output)
        try:
            self._running = call.workspace.start(
                psql,
                [
                    "--no-psqlrc",
                    "--quiet",
                    "--no-align",
                    "--tuples-only",
                    "--no-password",
                    "--variable=ON_ERROR_STOP=1",
                    f"--dbname={dump.connection}",
                ],
                unset=call.source.overrides,
                stdin=commands,
                stdout=output,
            )
        finally:
            os.close(commands)
            os.close(output)
        self._write(_beginning(call, snapshot, tables))

    def send(self, statement: bytes) -> None:
        """Have psql run a statement from :func:`range_statement`. psql may have at most one other range to dump."""
        self._write(statement + b";\n" + _WRITE_MARK)

    def read(self, size: int) -> Rows:
        """Return the next rows of the range in progress: the rest of the range, or ``size`` bytes. Wait for them.

        Call this on any thread, but only one thread at a time.
        """
        with self._reading:
            return self._read(size)

    def _read(self, size: int) -> Rows:
        parts, taken = list[bytes](), 0
        while taken < size:
            data, self._ahead = self._ahead or os.read(self._output, min(self._capacity, size - taken)), b""
            if not data:
                return Rows(parts, ended=False, closed=True)
            end = data.find(_MARK)
            if end >= 0:
                self._ahead = data[end + 1 :]
                return Rows([*parts, data[:end]], ended=True)
            parts.append(data)
            taken += len(data)
            if taken < size and len(data) < self._capacity // 2:
                time.sleep(self._capacity / _FILL_RATE)
        return Rows(parts, ended=False)

    def failure(self) -> Exception | None:
        """Return the exception for a psql that has ended, as :meth:`Dump.failure` does; None while psql runs."""
        status = self._running.poll()
        if status is None:
            return None
        messages = _LABEL.sub(
            lambda label: f"psql: {label[1].lower().replace('fatal', 'error')}: ", self._running.messages()
        )
        return self._dump.failure("psql", status, messages)

    def finish(self) -> None:
        """Let psql end after the ranges that it has."""
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def close(self) -> None:
        """End psql and its session on the server. Call this once, and :meth:`read` no more. A thread that still reads gets no more rows."""
        self.finish()
        self._running.stop()
        with self._reading:
            os.close(self._output)

    def _write(self, script: bytes) -> None:
        with suppress(BrokenPipeError):  # psql has ended: failure() says why
            os.write(self._commands, script)


def _beginning(call: DumpCall, snapshot: str, tables: Sequence[str]) -> bytes:
    server = call.server
    role = [f"SET ROLE {quoted_text(call.source.role)}"] if call.source.role else []
    statements = [
        f"SET client_encoding = '{server.client_encoding}'",
        settings_script(server.major, users=False).rstrip(";"),
        "SET enable_tidscan = on",
        "SET enable_seqscan = off",
        # The rows of a parallel scan come in no order.
        "SET max_parallel_workers_per_gather = 0",
        # The server locks a table's indexes when it plans a range. REINDEX in another session may hold such a lock for long.
        f"SET lock_timeout = {call.lock_wait_timeout * 1000}",
        f"\\o /dev/null\n{english_messages(server.major)} UNION ALL {NO_VIEWS}",
        "\\o\nBEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        f"SET TRANSACTION SNAPSHOT '{snapshot}'",
        *role,
        lock_statement(tables),
    ]
    script = "".join(f"{statement};\n" for statement in statements)
    return bytes(server.encoded(script).as_bytes(None)) + _WRITE_MARK


def _widen(pipe: int) -> int:
    """Make the pipe as large as the kernel allows, up to 1 MiB. Return its size in bytes."""
    with suppress(OSError):
        return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
