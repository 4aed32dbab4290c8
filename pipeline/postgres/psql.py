"""Runs a script on a server by psql, in psql's restricted mode."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import RefusedStatement, RestoreFailed, ServerUnavailable
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.diagnosis import lacks_session
from pipeline.postgres.pg_restore import IgnoredError
from pipeline.postgres.programs import Program
from pipeline.postgres.restricted_mode import RestrictedMode
from pipeline.postgres.workspace import Workspace, describe_failure

_DUPLICATE_OBJECT = "42710"
_LOST = "connection to server was lost"
"""psql's message if the server ended the connection. The server's own message comes before."""
_ENTRY = "restrict.sql"


@dataclass(frozen=True, slots=True)
class ScriptError:
    """An error of the server, with the refused statement, or a failure of psql itself."""

    sqlstate: str
    """Empty for a failure of psql itself."""
    message: str
    statement: str = field(default="", repr=False)
    """The first line of the SQL, which may hold the hash of a password; empty for a failure of psql itself."""
    hint: str = ""
    """The server's hint; empty if there is none."""

    @property
    def sentence(self) -> str:
        """The message with a full stop, and then the hint."""
        return f"{self.message.rstrip('.')}.{f' Hint: {self.hint}' if self.hint else ''}"

    @property
    def is_presence(self) -> bool:
        """True if the object already exists. For example, each script of pg_dumpall makes the superuser that initdb has already made."""
        return self.sqlstate == _DUPLICATE_OBJECT


class ScriptMessages:
    """Finds the errors in psql's messages on the script at ``path``. psql runs with ``--echo-errors`` and ``VERBOSITY=verbose``.

    The server writes severities in its own language, and notices and warnings may have any SQLSTATE. So pgstow finds an error by the
    statement after it: psql echoes failed statements, and no others (``SendQuery`` in psql's common.c). psql's own messages are in English.
    """

    def __init__(self, path: Path) -> None:
        self._line = re.compile(
            rf"^psql:{re.escape(str(path))}:\d+: (?:error: (?P<own>.*)|STATEMENT:  (?P<statement>.*)"
            r"|[^:\n]+:\s+(?P<sqlstate>\w{5}): (?P<message>.*))$|^HINT:\s+(?P<hint>.*)$",
            re.MULTILINE,
        )
        self._last = ("", "")
        self._hint = ""

    def errors(self, lines: str) -> list[ScriptError]:
        """Return the errors in the next lines. The last line must be whole."""
        found = []
        for match in self._line.finditer(lines):
            if match["message"] is not None:
                self._last, self._hint = (match["sqlstate"], match["message"]), ""
            elif match["hint"] is not None:
                self._hint = match["hint"]
            elif match["statement"] is not None:
                found.append(ScriptError(*self._last, match["statement"], self._hint))
                self._last, self._hint = ("", ""), ""
            else:
                reason = f" ({self._last[1]})" if self._last[1] and match["own"] == _LOST else ""
                found.append(ScriptError("", f"{match['own']}{reason}"))
        return found


class Psql:
    """A running psql of the script at ``path``. It never asks for a password.

    ``connection`` and ``unset`` are :meth:`Conninfo.for_program` and :attr:`Conninfo.overrides`. psql gets the descriptors to ``inherit``.

    ``restricted`` must have changed the script (:meth:`RestrictedMode.of`), so that psql runs no backslash command of the script's author.
    psql stops at the first error (``ON_ERROR_STOP``), and with ``single_transaction`` undoes all statements. If ``passes`` is given, psql goes
    on after errors, and :meth:`has_ended` raises RestoreFailed for an error if ``passes`` returns False.
    """

    def __init__(
        self,
        program: Program,
        connection: str,
        workspace: Workspace,
        path: Path,
        restricted: RestrictedMode,
        *,
        unset: Sequence[str],
        inherit: Sequence[int] = (),
        single_transaction: bool = False,
        passes: Callable[[ScriptError], bool] | None = None,
    ) -> None:
        self._passes = passes
        self._messages = ScriptMessages(path)
        self._refused: list[ScriptError] = []
        self._read = 0  # bytes of psql's messages
        self._running = workspace.start(
            program,
            [
                "--no-psqlrc",
                "--quiet",
                "--no-password",
                "--variable=VERBOSITY=verbose",
                "--echo-errors",
                *(["--single-transaction"] if single_transaction else []),
                f"--file={workspace.write_private(_ENTRY, restricted.entry(stops_at_errors=passes is None))}",
                f"--file={path}",
                f"--dbname={connection}",
            ],
            unset=unset,
            inherit=inherit,
        )

    def has_ended(self) -> bool:
        """True if psql has run the whole script; False while it runs.

        Raises RestoreFailed with the server's or psql's message, or ServerUnavailable if the server has no free session for psql.
        """
        status = self._running.poll()
        told = self._running.lines(self._read)
        self._read += len(told)
        errors = self._messages.errors(told.decode("utf-8", "replace"))
        self._refused += errors
        if refused := [error for error in errors if not (self._passes and self._passes(error))]:
            first = refused[0]
            raise RestoreFailed(
                f"psql failed: {first.sentence}",
                RefusedStatement(first.message, statement=first.statement, sqlstate=first.sqlstate),
            )
        if status:
            said = "" if self._refused else self._running.messages()  # an echoed statement may hold secrets
            reason = describe_failure("psql", status, said)
            raise ServerUnavailable(reason) if lacks_session(said) else RestoreFailed(reason)
        return status is not None

    def wait(self) -> None:
        """Wait for the end of psql. Raises RestoreFailed as :meth:`has_ended` does."""
        self._running.wait()
        self.has_ended()

    def ignored_errors(self) -> list[IgnoredError]:
        """Return an empty list: an error that ``passes`` accepts doesn't count as an error."""
        return []

    def refused(self) -> Sequence[ScriptError]:
        """Return the statements that the server refused, as far as :meth:`has_ended` has seen them."""
        return self._refused

    def stop(self) -> None:
        """End psql and its session on the server."""
        self._running.stop()


def run_script(
    program: Program, conninfo: Conninfo, workspace: Workspace, script: bytes, name: str
) -> Sequence[ScriptError]:
    """Have psql run all statements of a script, and return the statements that the server refused.

    Raises RestoreFailed if psql itself fails, or BackupDamaged if the script has one of psql's commands.
    """
    restricted = RestrictedMode()
    path = workspace.write_private("script.sql", b"".join(restricted.of([script])))
    connection = conninfo.for_program(workspace, name)
    running = Psql(program, connection, workspace, path, restricted, unset=conninfo.overrides, passes=lambda _: True)
    running.wait()
    return running.refused()
